/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SONiC's WRED curve on the instantaneous depth q (weight 0):
 *   q < min: 0     min <= q <= max: P (q - min) / (max - min)     q > max: 1
 * The step from P to 1 at max is meant. Tested against a model in tests/dataplane.
 */
#ifndef RAILBED_WRED_H
#define RAILBED_WRED_H

/* The curve at `depth`, as a fraction of 2^32. */
static __always_inline __u64 wred_probability(const struct wred_profile *wred, __s64 depth)
{
	__u64 above, span;

	if (!wred->max_bytes || depth < (__s64)wred->min_bytes)
		return 0;
	if (depth > (__s64)wred->max_bytes)
		return 1ULL << 32;
	above = depth - wred->min_bytes;
	span = wred->max_bytes - wred->min_bytes;
	if (!span)
		return wred->probability;
	/* Both below 2^32: the product fits. Probability 2^32 itself would not: it is 100 %, taken apart. */
	if (wred->probability >> 32)
		return (above << 32) / span;
	return wred->probability * above / span;
}

#endif
