// SPDX-License-Identifier: Apache-2.0
/*
 * Whatever comes from the network or stands in a plan: with libFuzzer (clang -fsanitize=fuzzer), or without it as a
 * program that makes bytes up by itself. What is read must stay inside what was given, and what was written is read.
 *
 *	scripts/fuzz_rnic --seconds 600		builds and runs either, and says which seed it had
 *	fuzz SECONDS SEED			the program without libFuzzer: the same seed makes up the same bytes
 *	fuzz SECONDS SEED FOLDER		and leaves the first of them there, for libFuzzer to begin with
 */
#undef NDEBUG
#include <assert.h>
#include <time.h>

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

/* A plan that was taken is played: what may begin is done at once, and messages come that somebody made up. */
static void feed_graph(struct graph *g, const uint8_t *data, size_t bytes)
{
	static const uint8_t payload[256];
	uint32_t task;

	graph_prepare(g);
	graph_begin(g, 1);
	for (size_t at = 0; at + 4 <= bytes; at += 4) {
		uint32_t number = data[at] % 10u + data[at + 1] % 3u * g->numbers, qp = data[at + 1] % 4u ? 0 : GRAPH_NONE;

		while ((task = graph_next(g, UINT64_MAX - 1)) != GRAPH_NONE)
			graph_done(g, task, 2);
		if (!g->left && g->iteration + 1 < g->iterations) {
			g->iteration++;
			graph_prepare(g);
			graph_begin(g, 2);
		}
		graph_place(g, qp, number, data[at + 2] * 2u, payload, data[at + 3]);
		if (data[at + 3] & 1)
			graph_arrived(g, qp, number, 3);
		assert(g->left <= g->count);
	}
}

static void feed_plan(const uint8_t *data, size_t bytes)
{
	static const char *const words[] = { "host ", "nic 0 ", "qp 5 ", "send 1 ", "expect 2 ", "copy 3 ", "check ", "" };
	/* What a plan begins with, so that the lines after it are more than refused. */
	static const char *const head[] = { "host rank=1 numbers=9 iterations=3", "buffer input 4000", "buffer output 4000",
					    "nic 0 src=10.0.0.1", "qp 5 nic=0 dst=10.0.0.2 dqpn=6 sport=50000" };
	struct rc_plan plan = { 0 };
	struct plan_error e;
	char line[RC_LINE];

	for (size_t i = 0; bytes && data[0] & 1 && i < sizeof(head) / sizeof(*head); i++)
		assert(rc_read_line(&plan, strcpy(line, head[i]), &e));
	for (size_t at = 1; at < bytes;) {
		const uint8_t *end = memchr(data + at, '\n', bytes - at);
		size_t length = end ? (size_t)(end - data) - at : bytes - at;

		/* A line's first byte is a word to begin with. */
		snprintf(line, sizeof(line), "%s%.*s", words[data[at] % 8], length ? (int)(length < 3000 ? length - 1 : 3000) : 0,
			 data + at + 1);
		if (!rc_read_line(&plan, line, &e))
			break;
		at += length + 1;
	}
	/* Plans are the caller's own: one that asks for much memory has it. */
	for (int i = 0; i < BUFFERS; i++)
		plan.graph.bytes[i] %= 4096;
	if (rc_plan_whole(&plan, &e))
		feed_graph(&plan.graph, data, bytes);
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
#define KEPT 200u

static uint64_t state;

static uint32_t dice(uint32_t sides)
{
	state = state * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(state >> 33) % sides;
}

/* Bytes at random mostly die at the first check: half of the packets begin as one of ours, then some bytes change. */
static size_t make_packet(uint8_t *to)
{
	static const uint8_t opcodes[] = { 6, 7, 8, 9, 10, 11, 0x11, 0x81 };
	static const uint8_t payload[300];
	struct roce_path path = { .v6 = dice(2), .sport = 50000 };
	struct roce_packet p = { .opcode = opcodes[dice(8)], .psn = dice(64), .payload = payload };
	uint8_t frame[ROCE_FRAME_MAX];
	size_t bytes;

	p.payload_bytes = p.opcode <= 11 ? dice(257) : 0;
	p.bytes = (uint32_t)p.payload_bytes;
	bytes = roce_write(frame, &path, &p) - ROCE_ETHERNET;
	memcpy(to + 1, frame + ROCE_ETHERNET, bytes);
	to[0] = 0;
	for (uint32_t changes = dice(6); changes; changes--)
		to[1 + dice((uint32_t)bytes)] = (uint8_t)dice(256);
	return 1 + bytes - dice(2) * dice(60) % bytes;
}

/* Lines as plans have them, their numbers drawn; some are cut and some spoilt. */
static size_t make_plan(uint8_t *to)
{
	static const char *const lines[] = {
		"send %u qp=5 size=%u from=input:%u step=%u compute_ns=%u\n",
		"expect %u qp=5 size=%u to=output:%u reduce=%u\n",
		"copy %u size=%u from=input:%u to=output:%u after=%u,%u\n",
		"check output:%u bytes=%u ranks=0-%u at=%u every=%u\n",
		"holds %u bytes=%u rank=%u\n",
		"qp %u nic=0 dst=fd00::%u dqpn=%u sport=%u psn=%u\n",
		"buffer scratch %u\n",
	};
	uint8_t *at = to;

	*at++ = 2;
	*at++ = (uint8_t)(1 | dice(256));
	for (uint32_t left = 1 + dice(12); left; left--) {
		*at++ = 7; /* no word before it: feed_plan() */
		at += sprintf((char *)at, lines[dice(7)], dice(9), 4 * dice(70), 4 * dice(1200), dice(3), dice(9), dice(9));
	}
	for (uint32_t changes = dice(3); changes; changes--)
		to[1 + dice((uint32_t)(at - to) - 1)] = (uint8_t)dice(256);
	return (size_t)(at - to);
}

static size_t make_up(uint8_t *to)
{
	size_t bytes = 2 + dice(400);

	switch (dice(4)) {
	case 0: return make_packet(to);
	case 1: return make_plan(to);
	}
	for (size_t i = 0; i < bytes; i++)
		to[i] = (uint8_t)dice(256);
	return bytes;
}

static void keep(const char *folder, uint64_t number, const uint8_t *bytes, size_t length)
{
	char path[4096];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%llu", folder, (unsigned long long)number);
	file = fopen(path, "wb");
	assert(file && fwrite(bytes, 1, length, file) == length && !fclose(file));
}

int main(int argc, char **argv)
{
	static uint8_t bytes[ROCE_FRAME_MAX + 1];
	time_t end = time(NULL) + (argc > 1 ? atol(argv[1]) : 1);
	uint64_t rounds = 0;

	for (state = argc > 2 ? strtoull(argv[2], NULL, 10) : 1; rounds < KEPT || rounds % 256 || time(NULL) < end; rounds++) {
		size_t length = make_up(bytes);
		uint8_t *exact = malloc(length);

		memcpy(exact, bytes, length);
		if (argc > 3 && rounds < KEPT)
			keep(argv[3], rounds, exact, length);
		LLVMFuzzerTestOneInput(exact, length);
		free(exact);
	}
	printf("%llu inputs\n", (unsigned long long)rounds);
	return 0;
}
#endif
