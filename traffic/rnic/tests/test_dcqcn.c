// SPDX-License-Identifier: Apache-2.0
/* The laws of DCQCN step by step, under dilation, and two senders at one queue that come to share it. */
#undef NDEBUG
#include <assert.h>
#include <stdio.h>

#include "../dcqcn.h"

#define LINE 40000000000ull
#define US 1000ull

static bool close_to(double found, double wanted)
{
	double off = found > wanted ? found - wanted : wanted - found;

	if (off <= 1e-6 * wanted)
		return true;
	fprintf(stderr, "%f, not %f\n", found, wanted);
	return false;
}

static void test_a_cut_and_its_recovery(void)
{
	const struct dcqcn_set *set = dcqcn_find("dcqcn-sigcomm15");
	struct reaction_point r;
	double alpha = 1, rate = LINE, target;

	reaction_open(&r, set, LINE);
	assert(reaction_next_ns(&r) == UINT64_MAX);
	reaction_take_cnp(&r, 1000 * US);
	target = rate;
	rate /= 2;
	assert(close_to(r.rate_bps, rate) && close_to(r.target_bps, LINE) && close_to(r.alpha, 1));
	reaction_advance(&r, 1055 * US - 1);
	assert(close_to(r.rate_bps, rate) && close_to(r.alpha, 1));
	/* Alpha falls and the rate rises every 55 us; five times half way back. */
	for (int i = 1; i <= 5; i++) {
		reaction_advance(&r, (1000 + 55 * (uint64_t)i) * US);
		alpha *= 255.0 / 256;
		rate = (rate + target) / 2;
		assert(close_to(r.rate_bps, rate) && close_to(r.alpha, alpha));
	}
	reaction_take_cnp(&r, 1300 * US);
	target = rate;
	rate *= 1 - alpha / 2;
	alpha = alpha * 255 / 256 + 1.0 / 256;
	assert(close_to(r.rate_bps, rate) && close_to(r.target_bps, target) && close_to(r.alpha, alpha));
	for (int i = 1; i <= 8; i++) {
		if (i > 5)
			target += 40e6;
		rate = (rate + target) / 2;
	}
	reaction_advance(&r, (1300 + 55 * 8) * US);
	assert(close_to(r.rate_bps, rate));
}

static void test_bytes_count_as_time_does_and_both_make_hyper_increase(void)
{
	struct dcqcn_set set = *dcqcn_find("dcqcn-mlx");
	struct reaction_point r;
	double target;

	set.alpha_timer_ns = 1000000 * US; /* out of the way */
	reaction_open(&r, &set, LINE);
	reaction_take_cnp(&r, 0);
	reaction_take_cnp(&r, 5 * US);
	target = r.target_bps;
	assert(close_to(target, LINE)); /* the target is not clamped: no increase since */
	reaction_advance(&r, 305 * US);
	reaction_take_cnp(&r, 306 * US);
	target = r.target_bps;
	assert(target < LINE);
	reaction_count_sent(&r, set.rate_bytes - 1);
	assert(!r.byte_steps);
	reaction_count_sent(&r, 1 + set.rate_bytes);
	assert(r.byte_steps == 2 && close_to(r.target_bps, target + 5e6));
	reaction_advance(&r, 906 * US);
	assert(r.timer_steps == 2 && close_to(r.target_bps, target + 10e6 + 50e6));
}

static void test_cuts_keep_their_interval(void)
{
	const struct dcqcn_set *set = dcqcn_find("dcqcn-ns3");
	struct reaction_point r;

	reaction_open(&r, set, LINE);
	for (uint64_t us = 0; us < 40; us++)
		reaction_take_cnp(&r, us * US);
	assert(r.cnps == 40 && r.cuts == 10);
}

static void test_dilation_is_the_same_in_slow_motion(void)
{
	for (size_t i = 0; i < DCQCN_SETS; i++) {
		struct dcqcn_set slow = dcqcn_dilated(&dcqcn_sets[i], 400);
		struct reaction_point a, b;
		uint64_t now = 0;

		reaction_open(&a, &dcqcn_sets[i], LINE);
		reaction_open(&b, &slow, LINE / 400);
		for (uint64_t k = 1; k < 500; k++) {
			now += k * 7919 % 300 * US + 1;
			reaction_advance(&a, now);
			reaction_advance(&b, now * 400);
			if (k % 7 == 0) {
				reaction_take_cnp(&a, now);
				reaction_take_cnp(&b, now * 400);
			}
			reaction_count_sent(&a, k * 1000);
			reaction_count_sent(&b, k * 1000);
			assert(close_to(b.rate_bps * 400, a.rate_bps) && a.cuts == b.cuts);
		}
	}
}

static void test_the_notification_point_keeps_its_interval(void)
{
	const struct dcqcn_set *set = dcqcn_find("dcqcn-sigcomm15");
	struct notification_point n = { 0 };
	uint32_t cnps = 0;

	for (uint64_t us = 1; us <= 1000; us++)
		cnps += notification_due(&n, set, us * US);
	assert(cnps == 20 && n.cnps == 20);
}

/* Two senders, one of them at a tenth, at a queue that marks as RED does: after a while each has half. */
static void test_two_senders_come_to_share(void)
{
	const struct dcqcn_set *set = dcqcn_find("dcqcn-sigcomm15");
	struct reaction_point r[2];
	struct notification_point n[2] = { { 0 } };
	double queue = 0, sums[2] = { 0 }, due[2] = { 0 };
	uint64_t random = 1;

	reaction_open(&r[0], set, LINE);
	reaction_open(&r[1], set, LINE);
	reaction_take_cnp(&r[1], 1);
	r[1].rate_bps = r[1].target_bps = LINE / 10;
	for (uint64_t us = 1; us < 400000; us++) {
		queue -= (double)LINE / 8e6;
		for (int i = 0; i < 2; i++) {
			reaction_advance(&r[i], us * US);
			reaction_count_sent(&r[i], (uint64_t)(r[i].rate_bps / 8e6));
			queue += r[i].rate_bps / 8e6;
			sums[i] += us > 200000 ? r[i].rate_bps : 0;
			for (due[i] += r[i].rate_bps / 8e6; due[i] >= 1000; due[i] -= 1000) {
				double marked = queue < 5e3 ? 0 : queue > 200e3 ? 1 : 0.01 * (queue - 5e3) / 195e3;

				random = random * 6364136223846793005ull + 1442695040888963407ull;
				if ((double)(random >> 11) / (double)(1ull << 53) < marked &&
				    notification_due(&n[i], set, us * US))
					reaction_take_cnp(&r[i], us * US);
			}
		}
		queue = queue > 0 ? queue : 0;
	}
	assert(sums[0] / sums[1] > 0.9 && sums[0] / sums[1] < 1.1);
	assert(sums[0] + sums[1] > 0.95 * LINE * 2e5 && sums[0] + sums[1] < 1.02 * LINE * 2e5);
}

/*
 * One sender whose packets are marked at random: with the share that traffic/dcqcn.py predicts for N senders at a port
 * of 200 Mbit/s (tests/unit/traffic/test_dcqcn.py), it gets 1/N of it, but for
 * what the model leaves out: a rate is lower just after a cut.
 */
static void test_a_share_of_marks_gives_a_rate(double marked, double wanted_bps)
{
	struct dcqcn_set set = dcqcn_dilated(dcqcn_find("dcqcn-sigcomm15"), 50);
	const double bits = 4178 * 8, line = 200e6, seconds = 10000;
	struct notification_point n = { 0 };
	struct reaction_point r;
	double now = 0, sent = 0;
	uint64_t random = 5;

	reaction_open(&r, &set, (uint64_t)line);
	while (now < seconds) {
		reaction_advance(&r, (uint64_t)(now * 1e9));
		now += bits / (r.limited ? r.rate_bps : line);
		sent += now > seconds / 10 ? bits : 0;
		reaction_count_sent(&r, 4178);
		random = random * 6364136223846793005ull + 1442695040888963407ull;
		if ((double)(random >> 11) / (double)(1ull << 53) < marked &&
		    notification_due(&n, &set, (uint64_t)(now * 1e9)))
			reaction_take_cnp(&r, (uint64_t)(now * 1e9));
	}
	wanted_bps = sent / (seconds * 0.9) / wanted_bps;
	if (wanted_bps < 0.97 || wanted_bps > 1.03) {
		fprintf(stderr, "%f of its rate\n", wanted_bps);
		assert(!"more than 3 % off the model");
	}
}

int main(void)
{
	assert(!dcqcn_find("dcqcn"));
	test_a_cut_and_its_recovery();
	test_bytes_count_as_time_does_and_both_make_hyper_increase();
	test_cuts_keep_their_interval();
	test_dilation_is_the_same_in_slow_motion();
	test_the_notification_point_keeps_its_interval();
	test_two_senders_come_to_share();
	test_a_share_of_marks_gives_a_rate(0.0242, 100e6);
	test_a_share_of_marks_gives_a_rate(0.0574, 50e6);
	test_a_share_of_marks_gives_a_rate(0.132, 25e6);
	return 0;
}
