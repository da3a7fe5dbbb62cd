/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A packet's place in its queue pair's stream: 0, 1, 2 … in 64 bits, of which the wire carries 24 as the PSN. Nothing
 * in flight is further than half of 2^24 from where either end stands, so 24 bits and a place nearby give the place.
 */
#ifndef RNIC_PLACE_H
#define RNIC_PLACE_H

#include "roce.h"

/* What is done about a packet that is missing. Both ends of a queue pair play the same. */
enum recovery {
	GO_BACK_N,	  /* everything from the missing packet on is sent again: InfiniBand's own, ConnectX-4 */
	SELECTIVE_REPEAT, /* what is missing is sent again, the rest is placed as it comes: ConnectX-6 Dx, IRN */
	GO_BACK_0,	  /* the message is sent again from its start: early NICs (Guo et al., SIGCOMM 2016) */
};

static inline uint32_t place_psn(uint32_t first_psn, uint64_t place)
{
	return (uint32_t)(first_psn + place) & ROCE_24;
}

/* The place of `psn` nearest to `near`; false when it would be before the first. */
static inline bool place_of(uint32_t first_psn, uint64_t near, uint32_t psn, uint64_t *place)
{
	int64_t off = (int64_t)((psn - place_psn(first_psn, near)) & ROCE_24);

	if (off >= 1 << 23)
		off -= 1 << 24;
	if (off < 0 && (uint64_t)-off > near)
		return false;
	*place = near + (uint64_t)off;
	return true;
}

static inline uint32_t places_ring(uint32_t window)
{
	uint32_t size = 1;

	while (size < window)
		size *= 2;
	return size;
}

#endif
