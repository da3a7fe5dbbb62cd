// SPDX-License-Identifier: Apache-2.0
/* CRC and frames. With an argument it prints a frame of every kind in hex, for another implementation to judge. */
#undef NDEBUG
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "../roce.h"

static uint8_t data[ROCE_PAYLOAD_MAX];

static const uint8_t opcodes[] = {
	ROCE_WRITE_FIRST, ROCE_WRITE_MIDDLE,   ROCE_WRITE_LAST,	 ROCE_WRITE_LAST_IMM,
	ROCE_WRITE_ONLY,  ROCE_WRITE_ONLY_IMM, ROCE_ACKNOWLEDGE, ROCE_CNP,
};

static struct roce_path a_path(bool v6)
{
	struct roce_path path = {
		.v6 = v6, .to_mac = { 2, 0, 0, 0, 0, 1 }, .from_mac = { 2, 0, 0, 0, 0, 2 }, .sport = 0xc123,
		.ip_id = 0xfffe, .tos = 26 << 2 | 2,
	};

	memcpy(path.src, v6 ? "\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1" : "\x0a\0\0\1", v6 ? 16 : 4);
	memcpy(path.dst, v6 ? "\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\2" : "\x0a\0\0\2", v6 ? 16 : 4);
	return path;
}

static struct roce_packet a_packet(uint8_t opcode, size_t bytes)
{
	return (struct roce_packet){
		.opcode = opcode, .ack_request = roce_ends_message(opcode), .becn = opcode == ROCE_CNP,
		.queue_pair = 0xabcdef, .psn = 0x123456, .address = 0x1122334455667788, .key = 0x99aabbcc,
		.bytes = 1 << 20, .syndrome = ROCE_NAK_SEQUENCE, .message_sequence = 0x010203, .immediate = 0xdeadbeef,
		.payload = data, .payload_bytes = roce_is_write(opcode) ? bytes : 0,
	};
}

static void test_the_crc_is_ethernets_both_ways(void)
{
	assert(~crc32_by_table(CRC32_START, (const uint8_t *)"123456789", 9) == 0xcbf43926);
	for (size_t bytes = 0; bytes <= 300; bytes++)
		for (size_t cut = 0; cut <= bytes; cut += 37)
			assert(crc32_add(crc32_add(CRC32_START, data, cut), data + cut, bytes - cut) ==
			       crc32_by_table(CRC32_START, data, bytes));
	assert(crc32_add(7, data, sizeof(data)) == crc32_by_table(7, data, sizeof(data)));
}

static void test_what_is_written_is_read(uint8_t opcode, size_t bytes, bool v6)
{
	uint8_t frame[ROCE_FRAME_MAX];
	struct roce_path path = a_path(v6), came;
	struct roce_packet sent = a_packet(opcode, bytes), got;
	uint32_t length = roce_write(frame, &path, &sent);

	assert(path.ip_id == 0xffff);
	assert(length + 24 == roce_wire_bytes(opcode, (uint32_t)sent.payload_bytes, v6));
	assert(roce_read(&got, &came, frame + ROCE_ETHERNET, length - ROCE_ETHERNET) == ROCE_FINE);
	assert(got.opcode == opcode && got.psn == sent.psn && got.queue_pair == sent.queue_pair);
	assert(got.ack_request == sent.ack_request && got.becn == sent.becn);
	assert(!roce_has_reth(opcode) || (got.address == sent.address && got.key == sent.key && got.bytes == 1 << 20));
	assert(!roce_has_immediate(opcode) || got.immediate == sent.immediate);
	assert(opcode != ROCE_ACKNOWLEDGE || (got.syndrome == sent.syndrome && got.message_sequence == 0x010203));
	assert(got.payload_bytes == sent.payload_bytes && !memcmp(got.payload, data, got.payload_bytes));
	assert(came.v6 == v6 && came.tos == path.tos && came.sport == path.sport && !memcmp(came.src, path.src, 16));
	/* A link pads short frames. */
	if (length + 6 <= sizeof(frame))
		assert(roce_read(&got, &came, frame + ROCE_ETHERNET, length - ROCE_ETHERNET + 6) == ROCE_FINE);
}

/* Every bit is either covered or one that a switch may change. */
static void test_the_icrc_covers_all_but_what_switches_change(uint8_t opcode, bool v6)
{
	uint8_t frame[ROCE_FRAME_MAX];
	struct roce_path path = a_path(v6), came;
	struct roce_packet sent = a_packet(opcode, 100), got;
	uint32_t bytes = roce_write(frame, &path, &sent) - ROCE_ETHERNET, bth = roce_ip_bytes(v6) + ROCE_UDP;
	uint8_t *ip = frame + ROCE_ETHERNET;

	for (uint32_t bit = 0; bit < bytes * 8; bit++) {
		uint32_t at = bit / 8;
		bool mutable = at == bth - 1 || at == bth - 2 || at == bth + 4;
		enum roce_fault fault;

		mutable |= v6 ? at == 1 || at == 2 || at == 3 || at == 7 : at == 1 || at == 8 || at == 10 || at == 11;
		mutable |= v6 && at == 0 && bit % 8 < 4;
		ip[at] ^= (uint8_t)(1 << bit % 8);
		fault = roce_read(&got, &came, ip, bytes);
		ip[at] ^= (uint8_t)(1 << bit % 8);
		assert((fault == ROCE_FINE) == mutable);
	}
}

static void test_every_shorter_packet_is_refused(uint8_t opcode, bool v6)
{
	uint8_t frame[ROCE_FRAME_MAX];
	struct roce_path path = a_path(v6), came;
	struct roce_packet sent = a_packet(opcode, 6), got;
	uint32_t bytes = roce_write(frame, &path, &sent) - ROCE_ETHERNET;

	for (uint32_t cut = 0; cut < bytes; cut++) {
		uint8_t *exact = malloc(cut + !cut); /* so that the sanitizer sees a read beyond it */

		memcpy(exact, frame + ROCE_ETHERNET, cut);
		assert(roce_read(&got, &came, exact, cut) != ROCE_FINE);
		free(exact);
	}
}

static void test_strangers_are_told_apart(void)
{
	uint8_t frame[ROCE_FRAME_MAX], *ip = frame + ROCE_ETHERNET;
	struct roce_path path = a_path(false), came;
	struct roce_packet sent = a_packet(ROCE_WRITE_ONLY, 64), got;
	uint32_t bytes = roce_write(frame, &path, &sent) - ROCE_ETHERNET;

	ip[9] = 6;
	assert(roce_read(&got, &came, ip, bytes) == ROCE_FOREIGN);
	ip[9] = 17;
	ip[6] = 0x20;
	assert(roce_read(&got, &came, ip, bytes) == ROCE_FOREIGN);
	ip[6] = 0x40;
	ip[28] = 0x04;
	assert(roce_read(&got, &came, ip, bytes) == ROCE_UNKNOWN);
	ip[28] = ROCE_WRITE_ONLY;
	ip[29] |= 1;
	assert(roce_read(&got, &came, ip, bytes) == ROCE_MALFORMED);
	ip[29] &= 0xf0;
	ip[bytes - 1] ^= 1;
	assert(roce_read(&got, &came, ip, bytes) == ROCE_CORRUPT);
}

static void print_frames(void)
{
	static const uint32_t sizes[] = { 0, 1, 64, 1023, 4096 };

	for (size_t i = 0; i < 2 * sizeof(opcodes) * 5; i++) {
		uint8_t opcode = opcodes[i / 10];
		uint8_t frame[ROCE_FRAME_MAX];
		struct roce_path path = a_path(i & 1);
		struct roce_packet packet = a_packet(opcode, sizes[i / 2 % 5]);
		uint32_t length = roce_write(frame, &path, &packet);

		for (uint32_t at = 0; at < length; at++)
			printf("%02x", frame[at]);
		putchar('\n');
	}
}

int main(int argc, char **argv)
{
	(void)argv;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 167 + (i >> 8));
	if (argc > 1) {
		print_frames();
		return 0;
	}
	test_the_crc_is_ethernets_both_ways();
	for (size_t i = 0; i < sizeof(opcodes); i++) {
		for (int v6 = 0; v6 < 2; v6++) {
			for (size_t bytes = 0; bytes <= ROCE_PAYLOAD_MAX; bytes = bytes * 2 + 1)
				test_what_is_written_is_read(opcodes[i], bytes, v6);
			test_what_is_written_is_read(opcodes[i], ROCE_PAYLOAD_MAX, v6);
			test_the_icrc_covers_all_but_what_switches_change(opcodes[i], v6);
			test_every_shorter_packet_is_refused(opcodes[i], v6);
		}
	}
	test_strangers_are_told_apart();
	return 0;
}
