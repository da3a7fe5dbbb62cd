/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One-way delays, kept as counts in buckets: 64 to every power of two, so a quantile is at most 1/64 too high.
 * Minimum, mean and maximum are exact.
 */
#ifndef RNIC_DELAY_H
#define RNIC_DELAY_H

#include <stdint.h>

#define DELAY_STEPS 64u
#define DELAY_OCTAVES 34u /* up to 2^39 ns: nine minutes */
#define DELAY_BUCKETS (DELAY_STEPS * DELAY_OCTAVES)

struct delays {
	uint64_t count;
	uint64_t sum_ns;
	uint64_t min_ns;
	uint64_t max_ns;
	uint32_t buckets[DELAY_BUCKETS];
};

static inline uint32_t delay_bucket(uint64_t ns)
{
	uint32_t octave, bucket;

	if (ns < DELAY_STEPS)
		return (uint32_t)ns;
	octave = 63u - (uint32_t)__builtin_clzll(ns) - 5u;
	bucket = octave * DELAY_STEPS + (uint32_t)(ns >> (octave - 1)) - DELAY_STEPS;
	return octave < DELAY_OCTAVES ? bucket : DELAY_BUCKETS - 1;
}

/* The highest delay a bucket holds. */
static inline uint64_t delay_bucket_top(uint32_t bucket)
{
	uint32_t octave = bucket / DELAY_STEPS;

	if (!octave)
		return bucket;
	return ((uint64_t)(bucket % DELAY_STEPS + DELAY_STEPS + 1) << (octave - 1)) - 1;
}

static inline void delay_add(struct delays *d, uint64_t ns)
{
	if (!d->count || ns < d->min_ns)
		d->min_ns = ns;
	if (ns > d->max_ns)
		d->max_ns = ns;
	d->count++;
	d->sum_ns += ns;
	d->buckets[delay_bucket(ns)]++;
}

static inline uint64_t delay_mean(const struct delays *d)
{
	return d->count ? d->sum_ns / d->count : 0;
}

/* The smallest delay that `percent` of the packets did not exceed, as its bucket's top. */
static inline uint64_t delay_quantile(const struct delays *d, uint32_t percent)
{
	uint64_t rank = (d->count * percent + 99) / 100, seen = 0;

	for (uint32_t bucket = 0; bucket < DELAY_BUCKETS && d->count; bucket++) {
		seen += d->buckets[bucket];
		if (seen >= rank && seen) {
			uint64_t top = delay_bucket_top(bucket);

			return top < d->max_ns ? top : d->max_ns;
		}
	}
	return d->max_ns;
}

#endif
