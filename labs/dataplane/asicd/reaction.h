/* SPDX-License-Identifier: Apache-2.0 */
/* The histogram of reaction times. Pure. */
#ifndef RAILBED_REACTION_H
#define RAILBED_REACTION_H

#include <stdint.h>

static inline void reaction_add(uint64_t *buckets, unsigned count, uint64_t step_ns, uint64_t took_ns)
{
	uint64_t at = took_ns / step_ns;

	buckets[at < count ? at : count - 1]++;
}

#endif
