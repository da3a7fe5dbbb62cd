/* SPDX-License-Identifier: Apache-2.0 */
/* Chance, reproducible: each port draws from its own sequence, seeded from the lab's seed (splitmix64). */
#ifndef RAILBED_CHANCE_H
#define RAILBED_CHANCE_H

static __always_inline __u32 draw(struct port_state *port)
{
	__u64 z = __sync_fetch_and_add(&port->random, 1) + 1;

	z = port->seed + z * 0x9e3779b97f4a7c15ULL;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return (z ^ (z >> 31)) >> 32;
}

/* True with `probability`, a fraction of 2^32; nothing is drawn where the answer is known. */
static __always_inline int chance(struct port_state *port, __u64 probability)
{
	if (!probability)
		return 0;
	return probability >> 32 || draw(port) < (__u32)probability;
}

#endif
