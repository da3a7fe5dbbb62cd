/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a receiver counts for each flow it meets, found by (source, source port, destination port, flow id).
 * Open addressing in a table that never grows: a sender that makes flows up cannot exhaust memory.
 */
#ifndef RNIC_TALLY_H
#define RNIC_TALLY_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "delay.h"
#include "sequence.h"

#define TALLY_SLOTS 8192u /* a power of two */
#define TALLY_FLOWS 4096u

enum ecn { ECN_NOT_ECT = 0, ECN_ECT1 = 1, ECN_ECT0 = 2, ECN_CE = 3 };

struct flow_key {
	struct in6_addr src; /* IPv4 as ::ffff:a.b.c.d */
	uint32_t flow;
	uint16_t sport, dport;
};

struct tally {
	struct flow_key key;
	uint64_t packets, bytes, corrupted;
	uint64_t ecn[4];
	uint64_t dscp[64];
	uint64_t first_ns, last_ns;
	struct sequence sequence;
	struct delays delays;
};

struct tallies {
	struct tally *slots[TALLY_SLOTS];
	struct tally *in_order[TALLY_FLOWS];
	uint32_t count;
};

static inline uint32_t flow_key_hash(const struct flow_key *key)
{
	const unsigned char *bytes = (const unsigned char *)key;
	uint32_t hash = 2166136261u; /* FNV-1a */

	for (size_t i = 0; i < sizeof(*key); i++)
		hash = (hash ^ bytes[i]) * 16777619u;
	return hash;
}

_Static_assert(sizeof(struct flow_key) == 24, "a key without padding is compared as bytes");

/* The flow's tally, made when it is new; NULL when the table is full. */
static inline struct tally *tally_of(struct tallies *t, const struct flow_key *key)
{
	uint32_t at = flow_key_hash(key) % TALLY_SLOTS;

	/* Half the slots stay empty, so this ends. */
	for (; t->slots[at]; at = (at + 1) % TALLY_SLOTS)
		if (!memcmp(&t->slots[at]->key, key, sizeof(*key)))
			return t->slots[at];
	if (t->count == TALLY_FLOWS || !(t->slots[at] = calloc(1, sizeof(struct tally))))
		return NULL;
	t->slots[at]->key = *key;
	t->in_order[t->count++] = t->slots[at];
	return t->slots[at];
}

static inline void tally_add(struct tally *t, uint64_t sequence, uint64_t bytes, uint8_t tos, uint64_t sent_ns,
			     uint64_t arrived_ns)
{
	if (!t->packets++)
		t->first_ns = arrived_ns;
	t->last_ns = arrived_ns;
	t->bytes += bytes;
	t->ecn[tos & 3]++;
	t->dscp[tos >> 2]++;
	sequence_add(&t->sequence, sequence);
	delay_add(&t->delays, arrived_ns > sent_ns ? arrived_ns - sent_ns : 0);
}

#endif
