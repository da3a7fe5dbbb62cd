/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The head of every raw packet's payload, and the pattern that may follow it. Network byte order.
 *
 *	magic 4 | version 1 | check and flags 1 | payload bytes 2 | flow 4 | sequence 8 | sent 8	= 28 bytes
 *
 * The check (4 bits) makes the exclusive or of all half bytes 0, so no bit of the head can flip unseen: a sequence number
 * from nowhere would be taken for a loss of all before it.
 * `sent` is the sender's CLOCK_MONOTONIC, so a delay is only meaningful on the workstation it was sent on.
 */
#ifndef RNIC_PACKET_H
#define RNIC_PACKET_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define RAW_MAGIC 0x524e4943u /* "RNIC" */
#define RAW_VERSION 2
#define RAW_FLAGS 0x0fu
#define RAW_PATTERN 0x01 /* flag: the rest of the payload is raw_pattern() of flow and sequence */

/* What a packet costs on a real link beside its payload: preamble 8, gap 12, FCS 4, Ethernet 14, then IP and UDP. */
#define WIRE_ETHERNET (24 + 14)
#define WIRE_UDP 8
#define WIRE_IPV4 20
#define WIRE_IPV6 40

struct raw_header {
	uint32_t magic;
	uint8_t version;
	uint8_t flags;
	uint16_t length;
	uint32_t flow;
	uint64_t sequence;
	uint64_t sent_ns;
} __attribute__((packed));

_Static_assert(sizeof(struct raw_header) == 28, "the raw header's layout is an ABI");

static inline uint32_t ip_udp_bytes(bool ipv6)
{
	return (ipv6 ? WIRE_IPV6 : WIRE_IPV4) + WIRE_UDP;
}

static inline uint64_t wire_bytes(uint32_t payload, bool ipv6)
{
	return (uint64_t)payload + ip_udp_bytes(ipv6) + WIRE_ETHERNET;
}

/* 0 for a head as it was written; the check to write, for one with none yet. */
static inline uint8_t raw_fold(const struct raw_header *wire)
{
	unsigned char bytes[sizeof(*wire)], all = 0;

	memcpy(bytes, wire, sizeof(bytes));
	for (size_t i = 0; i < sizeof(bytes); i++)
		all ^= bytes[i];
	return (all ^ all >> 4) & 0x0f;
}

static inline void raw_write(struct raw_header *to, const struct raw_header *host)
{
	to->magic = htobe32(RAW_MAGIC);
	to->version = RAW_VERSION;
	to->flags = host->flags & RAW_FLAGS;
	to->length = htobe16(host->length);
	to->flow = htobe32(host->flow);
	to->sequence = htobe64(host->sequence);
	to->sent_ns = htobe64(host->sent_ns);
	to->flags |= (uint8_t)(raw_fold(to) << 4);
}

/* False for what is no raw packet of ours: too short, another magic or version, spoilt, or a length not its own. */
static inline bool raw_read(struct raw_header *host, const void *payload, size_t payload_bytes)
{
	const struct raw_header *from = payload;

	if (payload_bytes < sizeof(*from) || be32toh(from->magic) != RAW_MAGIC || from->version != RAW_VERSION ||
	    raw_fold(from))
		return false;
	host->magic = RAW_MAGIC;
	host->version = from->version;
	host->flags = from->flags & RAW_FLAGS;
	host->length = be16toh(from->length);
	host->flow = be32toh(from->flow);
	host->sequence = be64toh(from->sequence);
	host->sent_ns = be64toh(from->sent_ns);
	return host->length == payload_bytes;
}

/* Word number `i` of a packet's pattern: no two packets, and no two places in one, hold the same by construction. */
static inline uint64_t raw_pattern_word(uint32_t flow, uint64_t sequence, size_t i)
{
	uint64_t seed = (sequence + 1) * 0xff51afd7ed558ccdull ^ ((uint64_t)flow << 32 | flow);

	return htobe64(seed + (uint64_t)i * 0x9e3779b97f4a7c15ull);
}

static inline void raw_pattern_fill(void *to, size_t bytes, uint32_t flow, uint64_t sequence)
{
	for (size_t at = 0; at < bytes; at += sizeof(uint64_t)) {
		uint64_t word = raw_pattern_word(flow, sequence, at / sizeof(word));

		memcpy((char *)to + at, &word, bytes - at < sizeof(word) ? bytes - at : sizeof(word));
	}
}

static inline bool raw_pattern_holds(const void *from, size_t bytes, uint32_t flow, uint64_t sequence)
{
	for (size_t at = 0; at < bytes; at += sizeof(uint64_t)) {
		uint64_t word = raw_pattern_word(flow, sequence, at / sizeof(word));

		if (memcmp((const char *)from + at, &word, bytes - at < sizeof(word) ? bytes - at : sizeof(word)))
			return false;
	}
	return true;
}

#endif
