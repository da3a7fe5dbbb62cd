// SPDX-License-Identifier: Apache-2.0
/*
 * Whatever comes from the network or stands in a plan: with libFuzzer (clang -fsanitize=fuzzer), or without it as a
 * program that makes bytes up by itself. What is read must stay inside what was given, and what was written is read.
 *
 *	clang -g -O1 -D_GNU_SOURCE -DLIBFUZZER -fsanitize=fuzzer,address,undefined tests/fuzz_rc.c -o fuzz && ./fuzz
 *	gcc -g -O1 -D_GNU_SOURCE -fsanitize=address,undefined tests/fuzz_rc.c -o fuzz && ./fuzz 100000
 */
#undef NDEBUG
#include <assert.h>

#include "../rc_plan.h"
#include "../responder.h"

#define RING 64u

/* The bytes as a packet, as it is and with its ICRC made right: no random bytes have that. */
static void feed_packet(const uint8_t *data, size_t bytes, struct requester *a, struct responder *b)
{
	uint8_t *copy = malloc(bytes + !bytes);
	struct roce_packet p;
	struct roce_path path;
	uint32_t ip, icrc;
	size_t length = bytes;

	memcpy(copy, data, bytes);
	roce_read(&p, &path, copy, bytes);
	ip = roce_read_ip(&path, copy, &length);
	if (ip && length >= ip + ROCE_UDP + ROCE_BTH + ROCE_ICRC) {
		roce_put(copy + ip + 2, ROCE_PORT, 2);
		roce_put(copy + ip + 4, length - ip, 2);
		copy[ip + ROCE_UDP + 1] &= 0xf0;
		icrc = htole32(roce_icrc(copy, ip, length - ROCE_ICRC));
		memcpy(copy + length - ROCE_ICRC, &icrc, sizeof(icrc));
		if (roce_read(&p, &path, copy, bytes) == ROCE_FINE) {
			assert(p.payload >= copy && p.payload + p.payload_bytes + ROCE_ICRC <= copy + length);
			if (p.opcode == ROCE_ACKNOWLEDGE)
				requester_take(a, &p, 1000);
			else if (roce_is_write(p.opcode))
				responder_take(b, &p);
		}
	}
	assert(a->acknowledged <= a->sent && a->sent <= a->end && a->finished <= a->count);
	assert(b->complete_count <= b->ring);
	free(copy);
}

/* Both halves of a queue pair in every mode, told things no peer says; what they send is a packet all the same. */
static void feed_queue_pair(const uint8_t *data, size_t bytes)
{
	static const uint8_t message[5000];
	struct requester_settings set = { .recovery = (enum recovery)(data[0] % 3), .mtu = 256, .window = RING,
					  .ack_every = 4, .reorder = 2, .retries = 3, .timeout_ns = 10 };
	uint64_t now = 1;
	struct requester a;
	struct responder b;

	assert(requester_open(&a, &set) && responder_open(&b, set.recovery, set.mtu, RING, 0));
	assert(requester_post(&a, 0, message, sizeof(message), 0) && requester_post(&a, 1, message, 300, 0));
	for (size_t at = 1; at + 6 <= bytes; at += 6) {
		struct roce_packet p = {
			.opcode = (uint8_t)(ROCE_WRITE_FIRST + data[at + 1] % 6), .psn = roce_get(data + at + 2, 1) % 32,
			.syndrome = data[at + 3], .message_sequence = data[at + 4] % 32u, .key = data[at + 3],
			.bytes = data[at + 4] * 4u, .payload_bytes = data[at + 5] * 2u, .payload = message,
			.ack_request = data[at + 5] & 1,
		};

		responder_take(&b, &p);
		p.syndrome = data[at + 3] % 2 ? ROCE_ACK : data[at + 3] % 8 ? ROCE_NAK_SEQUENCE : data[at + 3];
		requester_take(&a, &p, now);
		now += data[at] & 15;
		if (a.deadline_ns && a.deadline_ns <= now)
			requester_time_out(&a, now);
		for (int i = data[at] >> 4; i && requester_sendable(&a); i--) {
			requester_next(&a, now, &p);
			assert(p.payload_bytes <= set.mtu && p.payload + p.payload_bytes <= message + sizeof(message));
		}
		assert(a.acknowledged <= a.sent && a.next <= a.end && a.lost <= RING && b.complete_count <= b.ring);
	}
	requester_close(&a);
	responder_close(&b);
}

static void feed_plan(const uint8_t *data, size_t bytes)
{
	static const char *const words[] = { "host ", "nic 0 ", "qp 5 ", "send 1 ", "expect 2 ", "copy 3 ", "check ", "" };
	struct rc_plan plan = { 0 };
	struct plan_error e;
	char line[RC_LINE];

	for (size_t at = 0; at < bytes;) {
		const uint8_t *end = memchr(data + at, '\n', bytes - at);
		size_t length = end ? (size_t)(end - data) - at : bytes - at;

		snprintf(line, sizeof(line), "%s%.*s", words[data[at] % 8], (int)(length < 3000 ? length : 3000), data + at);
		if (!rc_read_line(&plan, line, &e))
			break;
		at += length + 1;
	}
	/* Plans are the caller's own: one that asks for much memory has it. */
	for (int i = 0; i < BUFFERS; i++)
		plan.graph.bytes[i] %= 4096;
	if (rc_plan_whole(&plan, &e) && !plan.graph.bytes[0])
		assert(!plan.graph.left);
	graph_close(&plan.graph);
	free(plan.qps);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct requester_settings set = { .mtu = 256, .window = RING, .ack_every = 4, .reorder = 2, .timeout_ns = 10 };
	struct requester a;
	struct responder b;

	if (bytes < 2)
		return 0;
	set.recovery = (enum recovery)(data[1] % 3);
	switch (data[0] % 3) {
	case 0:
		assert(requester_open(&a, &set) && responder_open(&b, set.recovery, set.mtu, RING, 0));
		feed_packet(data + 1, bytes - 1, &a, &b);
		requester_close(&a);
		responder_close(&b);
		break;
	case 1: feed_queue_pair(data + 1, bytes - 1); break;
	default: feed_plan(data + 1, bytes - 1);
	}
	return 0;
}

#ifndef LIBFUZZER
static uint64_t state = 1;

static uint32_t dice(uint32_t sides)
{
	state = state * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(state >> 33) % sides;
}

/* Bytes at random mostly die at the first check: half of the packets begin as one of ours, then some bytes change. */
static size_t make_up(uint8_t *to)
{
	static const uint8_t opcodes[] = { 6, 7, 8, 9, 10, 11, 0x11, 0x81 };
	static const uint8_t payload[300];
	struct roce_path path = { .v6 = dice(2), .sport = 50000 };
	struct roce_packet p = { .opcode = opcodes[dice(8)], .psn = dice(64), .payload = payload };
	uint8_t frame[ROCE_FRAME_MAX];
	size_t bytes = 2 + dice(400);

	for (size_t i = 0; i < bytes; i++)
		to[i] = (uint8_t)dice(256);
	if (dice(2))
		return bytes;
	p.payload_bytes = p.opcode <= 11 ? dice(257) : 0;
	p.bytes = (uint32_t)p.payload_bytes;
	bytes = roce_write(frame, &path, &p) - ROCE_ETHERNET;
	memcpy(to + 1, frame + ROCE_ETHERNET, bytes);
	to[0] = 0;
	for (uint32_t changes = dice(6); changes; changes--)
		to[1 + dice((uint32_t)bytes)] = (uint8_t)dice(256);
	return 1 + bytes - dice(2) * dice(60) % bytes;
}

int main(int argc, char **argv)
{
	static uint8_t bytes[ROCE_FRAME_MAX + 1];
	long rounds = argc > 1 ? atol(argv[1]) : 20000;

	for (; rounds; rounds--) {
		size_t length = make_up(bytes);
		uint8_t *exact = malloc(length);

		memcpy(exact, bytes, length);
		LLVMFuzzerTestOneInput(exact, length);
		free(exact);
	}
	return 0;
}
#endif
