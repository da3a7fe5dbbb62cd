// SPDX-License-Identifier: Apache-2.0
/* The histogram of reaction times: each in its bucket, all that is longer in the last. */
#undef NDEBUG
#include <assert.h>

#include "asicd/reaction.h"

#define COUNT	513
#define STEP	4000

int main(void)
{
	static uint64_t buckets[COUNT + 1];

	for (uint64_t i = 0; i < COUNT; i++) {
		reaction_add(buckets, COUNT, STEP, i * STEP);
		reaction_add(buckets, COUNT, STEP, i * STEP + STEP - 1);
	}
	for (int i = 0; i < COUNT; i++)
		assert(buckets[i] == 2);
	reaction_add(buckets, COUNT, STEP, (uint64_t)COUNT * STEP);
	reaction_add(buckets, COUNT, STEP, UINT64_MAX);
	assert(buckets[COUNT - 1] == 4);
	assert(!buckets[COUNT]);
	return 0;
}
