// SPDX-License-Identifier: Apache-2.0
/* What a receiver counts: sequence numbers, delays, and flows told apart. */
#undef NDEBUG
#include <assert.h>

#include "../tally.h"

static void expect(const struct sequence *s, uint64_t lost, uint64_t reordered, uint64_t duplicates, uint64_t unclear)
{
	assert(sequence_lost(s) == lost);
	assert(s->reordered == reordered);
	assert(s->duplicates == duplicates);
	assert(s->unclear == unclear);
}

static void test_in_order_nothing_is_amiss(void)
{
	struct sequence s = { 0 };

	for (uint64_t i = 0; i < 5 * SEQUENCE_WINDOW; i++)
		sequence_add(&s, i);
	expect(&s, 0, 0, 0, 0);
	assert(s.unique == 5 * SEQUENCE_WINDOW);
}

static void test_a_gap_is_lost_until_it_is_filled(void)
{
	struct sequence s = { 0 };

	sequence_add(&s, 0);
	sequence_add(&s, 3);
	expect(&s, 2, 0, 0, 0);
	sequence_add(&s, 1);
	expect(&s, 1, 1, 0, 0);
	sequence_add(&s, 1);
	expect(&s, 1, 1, 1, 0);
	sequence_add(&s, 3);
	expect(&s, 1, 1, 2, 0);
}

static void test_the_first_packets_may_be_lost_too(void)
{
	struct sequence s = { 0 };

	sequence_add(&s, 5);
	expect(&s, 5, 0, 0, 0);
	sequence_add(&s, 0);
	expect(&s, 4, 1, 0, 0);
}

static void test_the_window_forgets_what_it_has_passed(void)
{
	struct sequence s = { 0 };

	for (uint64_t i = 0; i < SEQUENCE_WINDOW; i++)
		sequence_add(&s, i);
	/* Number 0 is the oldest still known; then its place is taken by the next. */
	sequence_add(&s, 0);
	expect(&s, 0, 0, 1, 0);
	sequence_add(&s, SEQUENCE_WINDOW);
	sequence_add(&s, 0);
	expect(&s, 0, 0, 1, 1);
	/* A place used before holds no memory of who had it. */
	sequence_add(&s, SEQUENCE_WINDOW + 7);
	expect(&s, 6, 0, 1, 1);
	sequence_add(&s, SEQUENCE_WINDOW + 3);
	expect(&s, 5, 1, 1, 1);
}

static void test_a_leap_past_the_window(void)
{
	struct sequence s = { 0 };

	sequence_add(&s, 0);
	sequence_add(&s, 10 * (uint64_t)SEQUENCE_WINDOW);
	expect(&s, 10 * (uint64_t)SEQUENCE_WINDOW - 1, 0, 0, 0);
	sequence_add(&s, 9 * (uint64_t)SEQUENCE_WINDOW + 1);
	expect(&s, 10 * (uint64_t)SEQUENCE_WINDOW - 2, 1, 0, 0);
	sequence_add(&s, 1);
	expect(&s, 10 * (uint64_t)SEQUENCE_WINDOW - 2, 1, 0, 1);
	/* A number nobody sends must not hang or overrun anything either. */
	sequence_add(&s, UINT64_MAX - 1);
	sequence_add(&s, UINT64_MAX);
	assert(s.next == UINT64_MAX && s.unclear == 2);
}

static void test_buckets_follow_one_another(void)
{
	for (uint64_t ns = 1; ns < 1 << 20; ns++) {
		uint32_t bucket = delay_bucket(ns);

		assert(bucket == delay_bucket(ns - 1) || bucket == delay_bucket(ns - 1) + 1);
		assert(ns <= delay_bucket_top(bucket) && delay_bucket_top(bucket) <= ns + ns / 64);
		assert(!bucket || ns > delay_bucket_top(bucket - 1));
	}
	assert(delay_bucket(UINT64_MAX) == DELAY_BUCKETS - 1);
	assert(delay_bucket((1ull << 39) - 1) == DELAY_BUCKETS - 1);
}

static void test_quantiles(void)
{
	static struct delays d;

	assert(delay_quantile(&d, 50) == 0 && delay_mean(&d) == 0);
	for (uint64_t i = 1; i <= 1000; i++)
		delay_add(&d, i * 1000);
	assert(d.min_ns == 1000 && d.max_ns == 1000000 && delay_mean(&d) == 500500);
	assert(delay_quantile(&d, 50) >= 500000 && delay_quantile(&d, 50) <= 500000 + 500000 / 64);
	assert(delay_quantile(&d, 99) >= 990000 && delay_quantile(&d, 99) <= 1000000);
	assert(delay_quantile(&d, 100) == 1000000);
}

static void test_flows_are_told_apart_and_their_number_is_bounded(void)
{
	static struct tallies t;
	struct flow_key key = { .flow = 1, .sport = 5, .dport = 7 }, other = key;
	struct tally *one = tally_of(&t, &key);

	other.sport = 6;
	assert(one && tally_of(&t, &key) == one && tally_of(&t, &other) != one && t.count == 2);
	for (uint32_t i = 0; i < TALLY_FLOWS - 2; i++) {
		key.flow = 100 + i;
		assert(tally_of(&t, &key));
	}
	key.flow = 99;
	assert(!tally_of(&t, &key) && t.count == TALLY_FLOWS);
	assert(tally_of(&t, &other));
}

static void test_a_packet_is_counted_by_its_mark(void)
{
	static struct tally t;

	tally_add(&t, 0, 100, 26 << 2 | ECN_ECT0, 10, 30);
	tally_add(&t, 1, 100, 26 << 2 | ECN_CE, 20, 50);
	tally_add(&t, 2, 100, 0, 60, 50);
	assert(t.ecn[ECN_ECT0] == 1 && t.ecn[ECN_CE] == 1 && t.ecn[ECN_NOT_ECT] == 1 && t.ecn[ECN_ECT1] == 0);
	assert(t.dscp[26] == 2 && t.dscp[0] == 1);
	assert(t.delays.max_ns == 30 && t.delays.min_ns == 0 && t.bytes == 300 && t.last_ns == 50);
}

int main(void)
{
	test_in_order_nothing_is_amiss();
	test_a_gap_is_lost_until_it_is_filled();
	test_the_first_packets_may_be_lost_too();
	test_the_window_forgets_what_it_has_passed();
	test_a_leap_past_the_window();
	test_buckets_follow_one_another();
	test_quantiles();
	test_flows_are_told_apart_and_their_number_is_bounded();
	test_a_packet_is_counted_by_its_mark();
	return 0;
}
