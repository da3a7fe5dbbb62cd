/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A resilient group's buckets: what moves when members go and come, and what stays. Pure; topologies/resilient.py is
 * the same in Python, and tests compare the two.
 */
#ifndef RAILBED_BUCKETS_H
#define RAILBED_BUCKETS_H

#include <linux/bpf.h>
#include <stdint.h>
#include <string.h>

#include "../bpf/asic.h"

#define NO_PLACE	0xff	/* no member's: members are fewer */

/* The buckets that went to another member, in their order. */
struct moves {
	unsigned count;
	uint8_t bucket[ECMP_BUCKETS];
};

/* The table of a new group. */
static inline void buckets_fresh(uint8_t *bucket, unsigned members)
{
	for (unsigned b = 0; b < ECMP_BUCKETS; b++)
		bucket[b] = b % members;
}

static inline void buckets_count(const uint8_t *bucket, unsigned members, unsigned *has)
{
	memset(has, 0, members * sizeof(*has));
	for (unsigned b = 0; b < ECMP_BUCKETS; b++)
		if (bucket[b] < members)
			has[bucket[b]]++;
}

static inline unsigned buckets_least(const unsigned *has, unsigned members)
{
	unsigned least = 0;

	for (unsigned i = 1; i < members; i++)
		if (has[i] < has[least])
			least = i;
	return least;
}

/* Where the member `place` of `was` stands in `is`: by its port, and by occurrence where several have the same. */
static inline uint8_t buckets_again(const uint32_t *was, unsigned place, const uint32_t *is, unsigned members)
{
	unsigned before = 0;

	for (unsigned i = 0; i < place; i++)
		before += was[i] == was[place];
	for (unsigned i = 0; i < members; i++)
		if (is[i] == was[place] && !before--)
			return i;
	return NO_PLACE;
}

/*
 * The members have changed from `was` to `is` (ports): buckets whose member stays keep it, those of members that are
 * gone go, in their order, each to the member that has the fewest then.
 */
static inline void buckets_change(uint8_t *bucket, const uint32_t *was, unsigned were, const uint32_t *is,
				  unsigned members, struct moves *moves)
{
	uint8_t again[ECMP_MEMBERS];
	unsigned has[ECMP_MEMBERS];

	for (unsigned i = 0; i < were; i++)
		again[i] = buckets_again(was, i, is, members);
	for (unsigned b = 0; b < ECMP_BUCKETS; b++)
		bucket[b] = bucket[b] < were ? again[bucket[b]] : NO_PLACE;
	buckets_count(bucket, members, has);
	moves->count = 0;
	for (unsigned b = 0; b < ECMP_BUCKETS; b++) {
		if (bucket[b] != NO_PLACE)
			continue;
		bucket[b] = buckets_least(has, members);
		has[bucket[b]]++;
		moves->bucket[moves->count++] = b;
	}
}

/* True when some member has fewer buckets than its whole part. */
static inline int buckets_unbalanced(const uint8_t *bucket, unsigned members)
{
	unsigned has[ECMP_MEMBERS];

	buckets_count(bucket, members, has);
	return has[buckets_least(has, members)] < ECMP_BUCKETS / members;
}

/* A bucket is idle when it was hit then, or before. A workstation may be up for less than `idle_ns`. */
static inline uint64_t buckets_idle_before(uint64_t now, uint64_t idle_ns)
{
	return now > idle_ns ? now - idle_ns : 0;
}

/*
 * Give members that have too few buckets some that nothing hit since `before` (`seen`, ns; NULL: whichever).
 * A bucket moves from a member with more than its part rounded up (where none has that: rounded down) to the one with
 * the fewest, as long as that has fewer than its part rounded down.
 */
static inline void buckets_refill(uint8_t *bucket, unsigned members, const volatile uint64_t *seen, uint64_t before,
				  struct moves *moves)
{
	unsigned floor = ECMP_BUCKETS / members, ceiling = (ECMP_BUCKETS + members - 1) / members;
	unsigned has[ECMP_MEMBERS];

	buckets_count(bucket, members, has);
	moves->count = 0;
	for (unsigned b = 0; b < ECMP_BUCKETS; b++) {
		unsigned to = buckets_least(has, members), most = floor;

		if (has[to] >= floor)
			return;
		for (unsigned i = 0; i < members; i++)
			if (has[i] > ceiling)
				most = ceiling;
		if (has[bucket[b]] <= most || (seen && seen[b] > before))
			continue;
		has[bucket[b]]--;
		has[to]++;
		bucket[b] = to;
		moves->bucket[moves->count++] = b;
	}
}

#endif
