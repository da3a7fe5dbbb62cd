/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which hash makes the kernel take which next hop. Pure.
 *
 * The kernel's 31-bit hash (skb->hash >> 1) is parted among next hops by weight: fib_rebalance of IPv4 and
 * rt6_multipath_rebalance of IPv6 leave out those that are dead. A group of nexthop objects
 * (nh_hthr_group_rebalance) leaves out none, and one that is no good is passed over when its turn comes.
 */
#ifndef RAILBED_GROUPS_H
#define RAILBED_GROUPS_H

#include <linux/bpf.h>
#include <stdint.h>

#include "../bpf/asic.h"

/* One next hop, as the kernel tells of it. */
struct way {
	unsigned ifindex;
	uint32_t weight;
	int dead;	/* RTNH_F_DEAD: down, or without a carrier where such ones are ignored */
};

/* The hash of each next hop: in the middle of its range, never 0; 0 for one that is dead. `object`: of nexthop objects. */
static inline void group_hashes(const struct way *way, unsigned count, int object, uint32_t *hash)
{
	uint64_t total = 0, reached = 0, lower = 0;

	for (unsigned i = 0; i < count; i++)
		total += object || !way[i].dead ? way[i].weight : 0;
	for (unsigned i = 0; i < count; i++) {
		uint64_t end;

		hash[i] = 0;
		if ((way[i].dead && !object) || !total)
			continue;
		reached += way[i].weight;
		end = ((reached << 31) + total / 2) / total;
		if (!way[i].dead)
			hash[i] = (uint32_t)((lower + end - 1) / 2) << 1 | 1;
		lower = end;
	}
}

/* The last 32-bit hash of each member by the rates of their ports; ports of no known rate count as next to nothing. */
static inline void group_shares(const uint64_t *rates, unsigned count, uint32_t *share)
{
	unsigned __int128 total = 0, reached = 0;

	for (unsigned i = 0; i < count; i++)
		total += rates[i] ? rates[i] : 1;
	for (unsigned i = 0; i < count; i++) {
		uint64_t end;

		reached += rates[i] ? rates[i] : 1;
		end = (reached << 32) / total;
		share[i] = end ? end - 1 : 0;
	}
}

#endif
