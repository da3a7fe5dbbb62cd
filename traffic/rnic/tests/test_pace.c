// SPDX-License-Identifier: Apache-2.0
/* Whether a NIC kept its schedule: each part of the law kept to its edge, and seen broken. */
#undef NDEBUG
#include <assert.h>
#include <string.h>

#include "../pace.h"

#define FRAME_NS 66592u /* 4096 bytes on IPv4 at 500 Mbit/s, so that two are less than 200 us */
#define SLOW_NS 332960u /* at 100 Mbit/s: two are more */

/* `count` packets of a stretch from `begin` on, each `late` after it was due. */
static void add(struct pace *p, uint64_t begin, uint32_t count, uint64_t frame_ns, uint64_t late)
{
	for (uint32_t i = 0; i < count; i++) {
		struct due due = { .at_ns = begin + i * frame_ns, .frame_ns = frame_ns, .begins = !i };

		pace_add(p, &due, due.at_ns + late);
	}
}

static void test_the_bound_is_two_packets_or_200_us(void)
{
	struct pace fast = { 0 }, slow = { 0 };

	assert(pace_bound(FRAME_NS) == 200000 && pace_bound(SLOW_NS) == 2 * SLOW_NS);
	add(&fast, 1000, 1, FRAME_NS, 200000);
	add(&slow, 1000, 1, SLOW_NS, 2 * SLOW_NS);
	assert(!fast.late && !slow.late);
	add(&fast, 1000, 1, FRAME_NS, 200001);
	add(&slow, 1000, 1, SLOW_NS, 2 * SLOW_NS + 1);
	assert(fast.late == 1 && slow.late == 1 && fast.worst_ns == 200001);
}

static void test_early_is_off_schedule_too(void)
{
	struct pace p = { 0 };
	struct due due = { .at_ns = 1000000, .frame_ns = FRAME_NS, .begins = true };

	pace_add(&p, &due, 1000000 - 200000);
	assert(!p.late);
	pace_add(&p, &due, 1000000 - 200001);
	assert(p.late == 1);
}

static void test_one_in_a_hundred_may_be_off(void)
{
	struct pace p = { 0 };

	add(&p, 1000, 198, FRAME_NS, 0);
	add(&p, 100000000, 2, FRAME_NS, 300000);
	assert(p.packets == 200 && p.late == 2 && pace_kept(&p));
	add(&p, 200000000, 1, FRAME_NS, 300000);
	assert(!pace_kept(&p));
}

/* A second of packets, each a little later than the one before, and none by more than the bound. */
static struct pace drifting(uint64_t parts_of_a_million)
{
	struct pace p = { 0 };
	struct due due = { .at_ns = 1000, .frame_ns = FRAME_NS, .begins = true };

	for (uint32_t i = 0; i < 1000; i++, due.begins = false, due.at_ns += FRAME_NS)
		pace_add(&p, &due, due.at_ns + i * FRAME_NS * parts_of_a_million / 1000000);
	return p;
}

static void test_the_mean_is_judged_once_it_can_be_told(void)
{
	struct pace brief = { 0 }, p;

	add(&brief, 1000, 600, FRAME_NS, 0);
	assert(!pace_mean_judged(&brief) && pace_kept(&brief));
	p = drifting(0);
	assert(pace_mean_judged(&p) && pace_kept(&p) && pace_due_ns(&p) == 999 * FRAME_NS);
	p = drifting(2900);
	assert(!p.late && pace_kept(&p) && pace_took_ns(&p) > pace_due_ns(&p));
	/* With a bound as wide as that nobody is late who drifts by 0.6 %: only the mean tells. */
	p = drifting(6000);
	p.late = 0;
	assert(!pace_kept(&p));
}

static void test_what_is_between_stretches_is_nobodys(void)
{
	struct pace p = { 0 };

	for (uint64_t i = 0; i < 100; i++)
		add(&p, 1000 + i * 1000000000, 11, FRAME_NS, i % 2 * 100000);
	assert(p.stretches == 100 && pace_due_ns(&p) == 100 * 10 * FRAME_NS);
	assert(pace_took_ns(&p) == pace_due_ns(&p) && pace_kept(&p));
	/* Each of so many ends may be off: together they say nothing of a mean. */
	assert(!pace_mean_judged(&p));
}

static void test_what_has_no_schedule_is_not_counted(void)
{
	struct pace p = { 0 };
	struct due none = { .at_ns = 5 };

	pace_add(&p, &none, 1000000000);
	assert(!p.packets && !p.late && pace_kept(&p));
}

int main(void)
{
	test_the_bound_is_two_packets_or_200_us();
	test_early_is_off_schedule_too();
	test_one_in_a_hundred_may_be_off();
	test_the_mean_is_judged_once_it_can_be_told();
	test_what_is_between_stretches_is_nobodys();
	test_what_has_no_schedule_is_not_counted();
	return 0;
}
