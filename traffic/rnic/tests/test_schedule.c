// SPDX-License-Identifier: Apache-2.0
/* When packets are due, the law a sender is judged by (each part seen failing), and whose turn is next. */
#undef NDEBUG
#include <assert.h>
#include <string.h>

#include "../packet.h"
#include "../schedule.h"

/* 4096 bytes on IPv4 are 4162 on the wire: 66.592 us at 500 Mbit/s, so three packets fit into 200 us. */
static struct schedule at_500_mbit(void)
{
	assert(wire_bytes(4096, false) == 4162 && wire_bytes(4096, true) == 4182);
	return (struct schedule){ .start_ns = 1000, .packet_bits = 8 * 4162, .rate_bps = 500000000, .burst = 1 };
}

static void test_due_times_do_not_drift(void)
{
	struct schedule s = at_500_mbit();

	assert(schedule_due(&s, 0) == 1000);
	assert(schedule_due(&s, 1) == 1000 + 66592);
	assert(schedule_due(&s, 1000000) == 1000 + 66592000000ull);
	/* A packet every 4/3 ns: rounding each gap would lose a quarter of the rate. */
	s = (struct schedule){ .packet_bits = 4, .rate_bps = 3000000000ull, .burst = 1 };
	assert(schedule_due(&s, 3000000000ull) == 4000000000ull);
	/* A day of the fastest flow there is does not overflow. */
	s = (struct schedule){ .packet_bits = 8 * 94, .rate_bps = 1000000000000ull, .burst = 1 };
	assert(schedule_due(&s, 114893617021276ull) / 1000000000 == 86399);
}

static void test_a_burst_is_due_together_at_the_same_mean(void)
{
	struct schedule s = at_500_mbit();

	s.burst = 4;
	assert(schedule_due(&s, 3) == schedule_due(&s, 0));
	assert(schedule_due(&s, 4) == 1000 + 4 * 66592);
	assert(schedule_ready(&s, 0, 1000, 32) == 4);
}

static void test_what_is_ready(void)
{
	struct schedule s = at_500_mbit();

	assert(schedule_ready(&s, 0, 999, 32) == 0);
	assert(schedule_ready(&s, 0, 1000, 32) == 1);
	assert(schedule_ready(&s, 0, 1000 + 66591, 32) == 1);
	assert(schedule_ready(&s, 0, 1000 + 66592, 32) == 2);
	assert(schedule_ready(&s, 0, 1000000000, 32) == 32);
	s.rate_bps = 0;
	assert(schedule_ready(&s, 77, 1000, 32) == 32);
}

static void test_a_pause_moves_what_is_to_come(void)
{
	struct schedule s = at_500_mbit();

	schedule_hold_back(&s, 5000, 305000);
	assert(schedule_due(&s, 1) == 1000 + 66592 + 300000);
	schedule_hold_back(&s, 7, 7);
	schedule_hold_back(&s, 9, 8);
	assert(s.held_back_ns == 300000);
}

/* `count` packets sent on time, but for every `late_every`-th, `late_ns` behind. */
static struct punctuality sent(const struct schedule *s, uint64_t count, uint64_t late_every, uint64_t late_ns)
{
	struct punctuality p = { 0 };

	for (uint64_t i = 0; i < count; i++)
		punctuality_add(&p, s, i, schedule_due(s, i) + (late_every && i % late_every == 1 ? late_ns : 0));
	return p;
}

static void test_one_in_a_hundred_may_be_late(void)
{
	struct schedule s = at_500_mbit();
	struct punctuality p = sent(&s, 10000, 100, 200001);

	assert(p.late == 100 && p.worst_ns == 200001 && !punctuality_fault(&p, &s));
	p = sent(&s, 10000, 99, 200001);
	assert(p.late > 100 && strstr(punctuality_fault(&p, &s), "1 %"));
	p = sent(&s, 10000, 2, 200000);
	assert(p.late == 0 && !punctuality_fault(&p, &s));
}

static void test_the_bound_is_two_packets_where_those_are_longer(void)
{
	struct schedule s = at_500_mbit();

	assert(schedule_late_bound(&s) == 200000);
	s.rate_bps = 10000000;
	assert(schedule_late_bound(&s) == 2 * 3329600);
}

static void test_a_mean_that_is_off_is_told_apart_from_lateness(void)
{
	struct schedule s = at_500_mbit(), slower = s, faster = s;
	struct punctuality p;

	/* On the schedule of another rate, judged by ours: only the mean can tell, as no packet is late by itself. */
	slower.rate_bps = s.rate_bps * 994 / 1000;
	p = sent(&slower, 10000, 0, 0);
	assert(p.late == 0 && punctuality_mean_judged(&p, &s) && strstr(punctuality_fault(&p, &s), "0.5 %"));
	faster.rate_bps = s.rate_bps * 1006 / 1000;
	p = sent(&faster, 10000, 0, 0);
	assert(strstr(punctuality_fault(&p, &s), "0.5 %"));
	faster.rate_bps = s.rate_bps * 1004 / 1000;
	p = sent(&faster, 10000, 0, 0);
	assert(!punctuality_fault(&p, &s));
}

/* The first and the last packet may be 200 us off: over less than 40 ms that alone could be 0.5 %. */
static void test_a_mean_over_a_moment_is_not_judged(void)
{
	struct schedule s = at_500_mbit(), slower = s;
	struct punctuality p;

	slower.rate_bps = s.rate_bps * 9 / 10;
	p = sent(&slower, 500, 0, 0);
	assert(!punctuality_mean_judged(&p, &s) && !punctuality_fault(&p, &s));
	p = sent(&slower, 1000, 0, 0);
	assert(punctuality_mean_judged(&p, &s) && punctuality_fault(&p, &s));
	p = sent(&s, 1, 0, 0);
	assert(!punctuality_mean_bps(&p, &s) && !punctuality_fault(&p, &s));
}

static void test_a_pause_is_neither_late_nor_slow(void)
{
	struct schedule s = at_500_mbit();
	struct punctuality p = { 0 };

	for (uint64_t i = 0; i < 10000; i++) {
		if (i == 5000)
			schedule_hold_back(&s, schedule_due(&s, i), schedule_due(&s, i) + 300000000);
		punctuality_add(&p, &s, i, schedule_due(&s, i));
	}
	assert(p.late == 0 && p.held_back_ns == 300000000);
	assert(punctuality_mean_bps(&p, &s) == s.rate_bps && !punctuality_fault(&p, &s));
}

static void test_a_pause_before_the_first_packet_is_not_in_the_mean(void)
{
	struct schedule s = at_500_mbit();
	struct punctuality p = { 0 };

	schedule_hold_back(&s, 1000, 100001000);
	for (uint64_t i = 3; i < 10000; i++)
		punctuality_add(&p, &s, i, schedule_due(&s, i));
	assert(p.held_back_ns == 0 && punctuality_mean_bps(&p, &s) == s.rate_bps);
}

static void test_without_a_rate_nothing_is_late(void)
{
	struct schedule s = at_500_mbit();
	struct punctuality p = { 0 };

	s.rate_bps = 0;
	punctuality_add(&p, &s, 0, 1000);
	punctuality_add(&p, &s, 1, 1000 + 4162 * 8);
	assert(!punctuality_fault(&p, &s) && punctuality_mean_bps(&p, &s) == 1000000000);
}

static void test_turns_come_in_order_of_time(void)
{
	struct turn entries[512];
	struct turns t = { .entries = entries };
	uint64_t last = 0, random = 1;

	for (uint32_t i = 0; i < 512; i++) {
		random = random * 6364136223846793005ull + 1442695040888963407ull;
		turns_push(&t, random >> 48, i);
	}
	for (uint32_t i = 0; i < 512; i++) {
		struct turn next = turns_pop(&t);

		assert(next.due_ns >= last);
		last = next.due_ns;
	}
	assert(!t.count);
}

int main(void)
{
	test_due_times_do_not_drift();
	test_a_burst_is_due_together_at_the_same_mean();
	test_what_is_ready();
	test_a_pause_moves_what_is_to_come();
	test_one_in_a_hundred_may_be_late();
	test_the_bound_is_two_packets_where_those_are_longer();
	test_a_mean_that_is_off_is_told_apart_from_lateness();
	test_a_mean_over_a_moment_is_not_judged();
	test_a_pause_is_neither_late_nor_slow();
	test_a_pause_before_the_first_packet_is_not_in_the_mean();
	test_without_a_rate_nothing_is_late();
	test_turns_come_in_order_of_time();
	return 0;
}
