// SPDX-License-Identifier: Apache-2.0
/* SONiC's WRED curve against the formula in numbers wide enough for it. */
#undef NDEBUG
#include <assert.h>
#include <linux/bpf.h>
#include <stdint.h>

#include "bpf/asic.h"

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif
#include "bpf/wred.h"

#define ONE	(1ULL << 32)

static uint64_t draw(void)
{
	static uint64_t state = 1;

	state ^= state << 13;
	state ^= state >> 7;
	return state ^= state << 17;
}

static uint64_t model(const struct wred_profile *wred, int64_t depth)
{
	unsigned __int128 product;

	if (!wred->max_bytes || depth < (int64_t)wred->min_bytes)
		return 0;
	if (depth > (int64_t)wred->max_bytes)
		return ONE;
	if (wred->max_bytes == wred->min_bytes)
		return wred->probability;
	product = (unsigned __int128)wred->probability * (uint64_t)(depth - wred->min_bytes);
	return product / (wred->max_bytes - wred->min_bytes);
}

static void expect(const struct wred_profile *wred, int64_t depth)
{
	uint64_t is = wred_probability(wred, depth);

	assert(is == model(wred, depth));
	assert(is <= ONE);
}

static void test_the_points_of_the_curve(void)
{
	struct wred_profile wred = {.min_bytes = 1000, .max_bytes = 3000, .probability = ONE / 4};

	assert(wred_probability(&wred, -5) == 0);
	assert(wred_probability(&wred, 999) == 0);
	assert(wred_probability(&wred, 1000) == 0);
	assert(wred_probability(&wred, 2000) == ONE / 8);
	assert(wred_probability(&wred, 3000) == ONE / 4);
	assert(wred_probability(&wred, 3001) == ONE);
	wred.max_bytes = 0;
	assert(wred_probability(&wred, 1 << 30) == 0);
}

static void test_no_numbers_are_too_large(void)
{
	for (int i = 0; i < 300000; i++) {
		uint32_t a = draw() >> (draw() % 32 + 32), b = draw() >> (draw() % 32 + 32);
		struct wred_profile wred = {.min_bytes = a < b ? a : b, .max_bytes = a < b ? b : a};
		int64_t depth = draw() >> (draw() % 40 + 24);

		wred.probability = i % 3 ? draw() >> 32 : i % 2 ? ONE : ONE - 1;
		expect(&wred, depth);
		expect(&wred, -depth);
		expect(&wred, wred.min_bytes);
		expect(&wred, wred.max_bytes);
		expect(&wred, (int64_t)wred.min_bytes - 1);
		expect(&wred, (int64_t)wred.max_bytes + 1);
		expect(&wred, ((int64_t)wred.min_bytes + wred.max_bytes) / 2);
	}
}

static void test_the_curve_never_falls(void)
{
	struct wred_profile wred = {.min_bytes = 77, .max_bytes = 5003, .probability = ONE / 3};

	for (int64_t depth = -10; depth < 6000; depth++)
		assert(wred_probability(&wred, depth) <= wred_probability(&wred, depth + 1));
}

int main(void)
{
	test_the_points_of_the_curve();
	test_no_numbers_are_too_large();
	test_the_curve_never_falls();
	return 0;
}
