// SPDX-License-Identifier: Apache-2.0
/*
 * The PFC watchdog against SONiC's law of time: a storm that began at a random moment is detected within
 * (detect, detect + poll) and given up within (restore, restore + poll) after its last frame.
 *
 * The simulation knows no polls: PFC frames come at their own pace, more often than polls, packets wait or do not.
 * Draws come from a fixed seed.
 */
#undef NDEBUG
#include <assert.h>
#include <stdio.h>

#include "asicd/watchdog.h"

#define MS	1000000ULL
#define GAP	(MS / 10)	/* between packets that leave */

static uint64_t draw(void)
{
	static uint64_t state = 1;
	uint64_t z = state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

static uint64_t between(uint64_t low, uint64_t high)
{
	return low + draw() % (high - low + 1);
}

/* What a port has seen by `at`, if a storm blew from `begins` to `ends` (ns) with a frame every `every`. */
struct storm {
	uint64_t begins, ends, every;
	int waiting;	/* packets wait, of which none leaves */
};

static struct seen seen_at(const struct storm *storm, uint64_t at)
{
	struct seen is = {.sent_packets = 1000};
	uint64_t blown = at < storm->begins ? 0 : (at < storm->ends ? at : storm->ends) - storm->begins;

	/* Before it begins, packets leave; after it has ended, too. */
	is.sent_packets += (at < storm->begins ? at : storm->begins) / GAP;
	if (at > storm->ends)
		is.sent_packets += (at - storm->ends) / GAP;
	is.pfc_received = at < storm->begins ? 0 : 1 + blown / storm->every;
	is.paused_ns = blown;
	is.waiting_bytes = storm->waiting ? 9000 : 0;
	if (!storm->waiting)	/* nothing is sent at all: the pause itself has to show */
		is.sent_packets = 1000;
	return is;
}

struct result {
	uint64_t detected, restored;	/* ns; 0: never */
	int times;
};

static struct result play(const struct storm *storm, uint32_t poll, uint32_t detect, uint32_t restore, uint64_t until)
{
	struct watchdog dog = {};
	struct result result = {};

	for (uint64_t now = 0; now < until; now += poll * MS) {
		struct seen is = seen_at(storm, now);

		switch (watchdog_poll(&dog, &is, poll, detect, restore)) {
		case WATCHDOG_DETECTED:
			assert(!result.times++);
			result.detected = now;
			break;
		case WATCHDOG_RESTORED:
			assert(result.detected && !result.restored);
			result.restored = now;
			break;
		case WATCHDOG_NONE:
			break;
		}
	}
	return result;
}

static void test_detection_and_restoration_are_in_time(int waiting)
{
	for (int i = 0; i < 20000; i++) {
		uint32_t poll = between(10, 300), detect = poll * between(1, 10), restore = poll * between(1, 10);
		/* After a poll, by a packet at the least: the law speaks of open intervals. */
		uint64_t begins = between(2, 20) * poll * MS + between(2 * GAP, poll * MS - 1);
		/* Without packets, a poll is bad that was paused for four fifths: the first may be. */
		uint64_t least = detect * MS - (waiting ? 0 : poll * MS / 5);
		struct storm storm = {.begins = begins, .every = between(poll * MS / 50, poll * MS / 3), .waiting = waiting};
		struct result result;
		uint64_t last;

		storm.ends = begins + (detect + 2 * poll + between(0, 1000)) * MS + between(1, MS);
		last = begins + (storm.ends - begins) / storm.every * storm.every;
		result = play(&storm, poll, detect, restore, storm.ends + (restore + 3 * poll) * MS);
		assert(result.detected > begins + least);
		assert(result.detected < begins + (detect + poll) * MS);
		assert(result.restored > last + restore * MS);
		assert(result.restored < last + (restore + poll) * MS);
	}
}

static void test_a_short_storm_is_none(void)
{
	for (int i = 0; i < 20000; i++) {
		uint32_t poll = between(10, 300), detect = poll * between(1, 10);
		uint64_t begins = between(1, 20) * poll * MS + between(0, poll * MS);
		struct storm storm = {.begins = begins, .every = between(poll * MS / 50, poll * MS / 3), .waiting = 1};

		/* By two packets shorter: one that leaves in a poll is what makes it a good one. */
		storm.ends = begins + between(1, detect * MS - 2 * GAP);
		assert(!play(&storm, poll, detect, detect, storm.ends + 10 * poll * MS).detected);
	}
}

static void test_congestion_without_pfc_is_no_storm(void)
{
	struct watchdog dog = {};
	struct seen is = {.waiting_bytes = 100000, .sent_packets = 5};

	for (int i = 0; i < 1000; i++)
		assert(watchdog_poll(&dog, &is, 100, 200, 200) == WATCHDOG_NONE);
}

static void test_an_idle_queue_is_no_storm(void)
{
	struct watchdog dog = {};
	struct seen is = {};

	for (int i = 0; i < 1000; i++)
		assert(watchdog_poll(&dog, &is, 100, 200, 200) == WATCHDOG_NONE);
}

static void test_pfc_to_a_queue_that_goes_on_is_no_storm(void)
{
	struct watchdog dog = {};
	struct seen is = {.waiting_bytes = 100000};

	for (int i = 0; i < 1000; i++) {
		is.pfc_received += 50;
		is.sent_packets++;
		is.paused_ns += 90 * MS;
		assert(watchdog_poll(&dog, &is, 100, 200, 200) == WATCHDOG_NONE);
	}
}

static void test_one_good_poll_starts_it_anew(void)
{
	struct watchdog dog = {};
	struct seen is = {.waiting_bytes = 1};

	watchdog_poll(&dog, &is, 100, 400, 400);
	for (int i = 0; i < 300; i++) {
		is.pfc_received++;
		is.sent_packets += i % 4 == 3;	/* three bad polls, of four that it takes */
		assert(watchdog_poll(&dog, &is, 100, 400, 400) == WATCHDOG_NONE);
	}
	for (int i = 0; i < 4; i++) {
		is.pfc_received++;
		assert(watchdog_poll(&dog, &is, 100, 400, 400) == (i == 3 ? WATCHDOG_DETECTED : WATCHDOG_NONE));
	}
}

static void test_four_fifths_of_the_time(void)
{
	for (int paused = 0; paused <= 100; paused++) {
		struct watchdog dog = {};
		struct seen is = {};
		int detected = 0;

		for (int i = 0; i < 10; i++) {
			is.paused_ns += paused * MS;
			detected |= watchdog_poll(&dog, &is, 100, 200, 200) == WATCHDOG_DETECTED;
		}
		assert(detected == (paused > 80));
	}
}

static void test_a_frame_now_and_then_keeps_the_storm(void)
{
	struct watchdog dog = {};
	struct seen is = {.waiting_bytes = 1};
	int i = 0;

	do
		is.pfc_received++;
	while (watchdog_poll(&dog, &is, 100, 200, 500) != WATCHDOG_DETECTED && ++i < 10);
	assert(dog.storm);
	is.waiting_bytes = 0;
	for (i = 0; i < 1000; i++) {
		is.pfc_received += i % 4 == 0;
		is.sent_packets += 3;	/* what leaves does not matter now */
		assert(watchdog_poll(&dog, &is, 100, 200, 500) == WATCHDOG_NONE);
	}
	for (i = 0; watchdog_poll(&dog, &is, 100, 200, 500) != WATCHDOG_RESTORED; i++)
		assert(i < 6);
	assert(!dog.storm);
}

int main(void)
{
	test_detection_and_restoration_are_in_time(1);
	test_detection_and_restoration_are_in_time(0);
	test_a_short_storm_is_none();
	test_congestion_without_pfc_is_no_storm();
	test_an_idle_queue_is_no_storm();
	test_pfc_to_a_queue_that_goes_on_is_no_storm();
	test_one_good_poll_starts_it_anew();
	test_four_fifths_of_the_time();
	test_a_frame_now_and_then_keeps_the_storm();
	return 0;
}
