// SPDX-License-Identifier: Apache-2.0
/*
 * A resilient group's buckets: what is promised, over random changes of members; and, told so, the same sequences
 * as topologies/resilient.py. With an argument the program reads those from its input and prints what it makes of them:
 *   fresh N                        change WERE PORT… COUNT PORT… BUCKET…        refill COUNT BEFORE SEEN… BUCKET…
 */
#undef NDEBUG
#include <assert.h>
#include <stdio.h>

#include "asicd/buckets.h"

#define CHANGES	20000

static uint32_t draw(uint32_t below)
{
	static uint64_t state = 1;
	uint64_t z = state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return (z ^ (z >> 31)) % below;
}

static void test_a_new_group_is_even(void)
{
	for (unsigned members = 1; members <= ECMP_MEMBERS; members++) {
		unsigned has[ECMP_MEMBERS];
		uint8_t bucket[ECMP_BUCKETS];

		buckets_fresh(bucket, members);
		buckets_count(bucket, members, has);
		for (unsigned i = 0; i < members; i++)
			assert(has[i] - ECMP_BUCKETS / members <= (ECMP_BUCKETS % members != 0));
		assert(!buckets_unbalanced(bucket, members));
	}
}

/* On a workstation that came up a minute ago, what was hit just now is not idle for the hour that was asked for. */
static void test_idle_for_longer_than_time_itself(void)
{
	const uint64_t minute = 60000000000ULL, hour = 60 * minute;

	assert(buckets_idle_before(hour + minute, hour) == minute);
	assert(buckets_idle_before(hour, hour) == 0);
	assert(buckets_idle_before(minute, hour) == 0);
}

/* How often `port` stands before `place`. */
static unsigned occurrence(const uint32_t *port, unsigned place)
{
	unsigned before = 0;

	for (unsigned i = 0; i < place; i++)
		before += port[i] == port[place];
	return before;
}

static unsigned some_ports(uint32_t *port)
{
	unsigned count = 1 + draw(draw(4) ? 6 : ECMP_MEMBERS), kinds = 1 + draw(2 * count);

	for (unsigned i = 0; i < count; i++)
		port[i] = draw(kinds);
	return count;
}

static void test_who_stays_keeps_all(void)
{
	uint32_t was[ECMP_MEMBERS] = {7}, is[ECMP_MEMBERS];
	uint8_t bucket[ECMP_BUCKETS], old[ECMP_BUCKETS];
	unsigned were = 1;

	buckets_fresh(bucket, 1);
	for (int change = 0; change < CHANGES; change++) {
		unsigned count = some_ports(is), moved = 0;
		struct moves moves;

		memcpy(old, bucket, sizeof(old));
		buckets_change(bucket, was, were, is, count, &moves);
		for (unsigned b = 0; b < ECMP_BUCKETS; b++) {
			uint8_t stays = buckets_again(was, old[b], is, count);

			assert(bucket[b] < count);
			if (moved < moves.count && moves.bucket[moved] == b) {
				assert(stays == NO_PLACE);
				moved++;
				continue;
			}
			assert(stays == bucket[b] && is[stays] == was[old[b]]);
			assert(occurrence(is, stays) == occurrence(was, old[b]));
		}
		assert(moved == moves.count);
		memcpy(was, is, sizeof(was));
		were = count;
	}
}

static void test_two_of_a_port_are_two(void)
{
	const uint32_t was[] = {5, 5, 9}, is[] = {9, 5};
	uint8_t bucket[ECMP_BUCKETS];
	struct moves moves;

	buckets_fresh(bucket, 3);
	buckets_change(bucket, was, 3, is, 2, &moves);
	assert(moves.count == 85 && moves.bucket[0] == 1);	/* the second 5's */
	assert(bucket[0] == 1 && bucket[2] == 0);
	/* 9 had 85 buckets, the first 5 had 86: the first that is free goes to 9. */
	assert(bucket[1] == 0 && bucket[4] == 0 && bucket[7] == 1);
}

static void test_refill_ends_balanced_and_takes_no_more_than_it_must(void)
{
	for (int turn = 0; turn < CHANGES; turn++) {
		unsigned members = 2 + draw(ECMP_MEMBERS - 1), living = 1 + draw(members), has[ECMP_MEMBERS], lacking = 0;
		uint8_t bucket[ECMP_BUCKETS];
		struct moves moves, again;

		for (unsigned b = 0; b < ECMP_BUCKETS; b++)
			bucket[b] = draw(living);
		buckets_count(bucket, members, has);
		for (unsigned i = 0; i < members; i++)
			lacking += has[i] < ECMP_BUCKETS / members ? ECMP_BUCKETS / members - has[i] : 0;
		assert(buckets_unbalanced(bucket, members) == !!lacking);
		buckets_refill(bucket, members, NULL, 0, &moves);
		assert(moves.count <= lacking);
		/* Members that had one too many were passed over while others had more: their turn is the next time. */
		buckets_refill(bucket, members, NULL, 0, &again);
		assert(moves.count + again.count == lacking);
		assert(!buckets_unbalanced(bucket, members));
		buckets_refill(bucket, members, NULL, 0, &again);
		assert(!again.count);
	}
}

static void test_a_bucket_in_use_stays(void)
{
	uint64_t seen[ECMP_BUCKETS];
	uint8_t bucket[ECMP_BUCKETS] = {};
	struct moves moves;

	for (unsigned b = 0; b < ECMP_BUCKETS; b++)
		seen[b] = b % 3 ? 1001 : 1000;
	buckets_refill(bucket, 2, seen, 1000, &moves);
	assert(moves.count == 86);
	for (unsigned b = 0; b < ECMP_BUCKETS; b++)
		assert(bucket[b] == !(b % 3));
	assert(buckets_unbalanced(bucket, 2));
	buckets_refill(bucket, 2, NULL, 0, &moves);
	assert(moves.count == 42);
}

static void numbers(void *to, unsigned count, unsigned size)
{
	for (unsigned i = 0; i < count; i++) {
		unsigned long long value;

		assert(scanf("%llu", &value) == 1);
		if (size == 1)
			((uint8_t *)to)[i] = value;
		else if (size == 4)
			((uint32_t *)to)[i] = value;
		else
			((uint64_t *)to)[i] = value;
	}
}

static void print(const uint8_t *bucket, const struct moves *moves)
{
	for (unsigned b = 0; b < ECMP_BUCKETS; b++)
		printf("%u ", bucket[b]);
	printf("/");
	for (unsigned i = 0; moves && i < moves->count; i++)
		printf(" %u", moves->bucket[i]);
	printf("\n");
}

static void obey(void)
{
	uint32_t was[ECMP_MEMBERS], is[ECMP_MEMBERS], were, count;
	uint64_t seen[ECMP_BUCKETS], before;
	uint8_t bucket[ECMP_BUCKETS];
	struct moves moves = {};
	char what[16];

	while (scanf("%15s", what) == 1) {
		if (!strcmp(what, "fresh")) {
			numbers(&count, 1, 4);
			buckets_fresh(bucket, count);
			print(bucket, NULL);
			continue;
		}
		if (!strcmp(what, "change")) {
			numbers(&were, 1, 4);
			numbers(was, were, 4);
		}
		numbers(&count, 1, 4);
		if (!strcmp(what, "change")) {
			numbers(is, count, 4);
			numbers(bucket, ECMP_BUCKETS, 1);
			buckets_change(bucket, was, were, is, count, &moves);
		} else {
			numbers(&before, 1, 8);
			numbers(seen, ECMP_BUCKETS, 8);
			numbers(bucket, ECMP_BUCKETS, 1);
			buckets_refill(bucket, count, seen, before, &moves);
		}
		print(bucket, &moves);
	}
}

int main(int argc, char **argv)
{
	(void)argv;
	if (argc > 1) {
		obey();
		return 0;
	}
	test_a_new_group_is_even();
	test_idle_for_longer_than_time_itself();
	test_who_stays_keeps_all();
	test_two_of_a_port_are_two();
	test_refill_ends_balanced_and_takes_no_more_than_it_must();
	test_a_bucket_in_use_stays();
	return 0;
}
