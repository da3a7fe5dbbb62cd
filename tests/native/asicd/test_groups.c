// SPDX-License-Identifier: Apache-2.0
/*
 * The hashes of a group's members against the kernel's own choice, as net/ipv4/fib_semantics.c, net/ipv6/route.c and
 * net/ipv4/nexthop.c make it: the ranges, and the walk along them.
 */
#undef NDEBUG
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "asicd/groups.h"

#define GROUPS	50000

static uint32_t draw(uint32_t below)
{
	static uint64_t state = 1;
	uint64_t z = state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return (z ^ (z >> 31)) % below;
}

/* The kernel's: -1 is the bound of a next hop that owns nothing. */
static void kernel_bounds(const struct way *way, unsigned count, int object, int *bound)
{
	int total = 0, w = 0;

	for (unsigned i = 0; i < count; i++)
		if (object || !way[i].dead)
			total += way[i].weight;
	for (unsigned i = 0; i < count; i++) {
		bound[i] = -1;
		if (!object && way[i].dead)
			continue;
		w += way[i].weight;
		bound[i] = (((uint64_t)w << 31) + total / 2) / total - 1;
	}
}

/* The place of the next hop that a packet with this skb->hash takes. */
static unsigned kernel_choice(const struct way *way, const int *bound, unsigned count, uint32_t skb_hash)
{
	int hash = skb_hash >> 1;

	for (unsigned i = 0; i < count; i++)
		if (!way[i].dead && hash <= bound[i])
			return i;
	abort();
}

static void test_each_hash_is_its_members(void)
{
	for (int turn = 0; turn < GROUPS; turn++) {
		unsigned count = 1 + draw(ECMP_MEMBERS), heaviest = 1 + draw(256);
		struct way way[ECMP_MEMBERS] = {};
		uint32_t hash[ECMP_MEMBERS];
		int bound[ECMP_MEMBERS], object = draw(2);

		for (unsigned i = 0; i < count; i++)
			way[i] = (struct way){.ifindex = i, .weight = 1 + draw(heaviest), .dead = !draw(4)};
		group_hashes(way, count, object, hash);
		kernel_bounds(way, count, object, bound);
		for (unsigned i = 0; i < count; i++) {
			assert((hash[i] == 0) == way[i].dead);
			if (!way[i].dead)
				assert((hash[i] & 1) && kernel_choice(way, bound, count, hash[i]) == i);
		}
	}
}

static void test_in_the_middle(void)
{
	const struct way two[] = {{1, 1, 0}, {2, 1, 0}}, one_dead[] = {{1, 3, 0}, {2, 1, 1}, {3, 1, 0}};
	uint32_t hash[ECMP_MEMBERS];

	group_hashes(two, 2, 0, hash);
	assert(hash[0] == 0x3fffffff && hash[1] == 0xbfffffff);
	group_hashes(one_dead, 3, 0, hash);
	assert(hash[0] == 0x5fffffff && !hash[1] && hash[2] == 0xdfffffff);
	/* Of nexthop objects the dead one keeps its range: 3/5, 1/5, 1/5. */
	group_hashes(one_dead, 3, 1, hash);
	assert(hash[0] == 0x4ccccccd && !hash[1] && hash[2] == 0xe6666665);
}

static void test_all_dead(void)
{
	const struct way way[] = {{1, 1, 1}, {2, 1, 1}};
	uint32_t hash[2];

	group_hashes(way, 2, 0, hash);
	assert(!hash[0] && !hash[1]);
}

static void test_shares(void)
{
	const uint64_t even[] = {100, 100, 100, 100}, uneven[] = {30, 10}, unknown[] = {0, 0}, none[] = {0, 400000000000ULL};
	uint64_t rates[ECMP_MEMBERS];
	uint32_t share[ECMP_MEMBERS];

	group_shares(even, 4, share);
	assert(share[0] == 0x3fffffff && share[1] == 0x7fffffff && share[2] == 0xbfffffff && share[3] == 0xffffffff);
	group_shares(uneven, 2, share);
	assert(share[0] == 0xbfffffff && share[1] == 0xffffffff);
	group_shares(unknown, 2, share);
	assert(share[0] == 0x7fffffff && share[1] == 0xffffffff);
	/* A port of no known rate takes one hash at most, not all. */
	group_shares(none, 2, share);
	assert(!share[0] && share[1] == 0xffffffff);
	/* The fastest ports there may be, and as many: no overflow. */
	for (unsigned i = 0; i < ECMP_MEMBERS; i++)
		rates[i] = 1ULL << 40;
	group_shares(rates, ECMP_MEMBERS, share);
	for (unsigned i = 0; i < ECMP_MEMBERS; i++)
		assert(share[i] == (uint32_t)((((uint64_t)i + 1) << 26) - 1));
}

int main(void)
{
	test_each_hash_is_its_members();
	test_in_the_middle();
	test_all_dead();
	test_shares();
	return 0;
}
