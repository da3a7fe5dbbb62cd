/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What became of a flow's sequence numbers, which start at 0: lost, late or twice.
 *
 * A packet is reordered when a higher number came before it (RFC 4737). Which numbers have come is remembered for
 * the last SEQUENCE_WINDOW; of an older one nobody can say whether it is late or a copy: it counts as unclear, and
 * stays lost. What was lost after the highest number is for whoever knows how many were sent.
 */
#ifndef RNIC_SEQUENCE_H
#define RNIC_SEQUENCE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define SEQUENCE_WINDOW 16384u /* a power of two */

struct sequence {
	uint64_t next; /* the highest number seen, and one */
	uint64_t unique;
	uint64_t reordered;
	uint64_t duplicates;
	uint64_t unclear;
	uint64_t seen[SEQUENCE_WINDOW / 64];
};

static inline uint64_t *sequence_word(struct sequence *s, uint64_t number)
{
	return &s->seen[number % SEQUENCE_WINDOW / 64];
}

static inline void sequence_advance(struct sequence *s, uint64_t number)
{
	if (number - s->next >= SEQUENCE_WINDOW) {
		memset(s->seen, 0, sizeof(s->seen));
	} else {
		for (uint64_t gap = s->next; gap <= number; gap++)
			*sequence_word(s, gap) &= ~(1ull << gap % 64);
	}
	s->next = number + 1;
}

static inline void sequence_add(struct sequence *s, uint64_t number)
{
	if (number == UINT64_MAX || (number < s->next && s->next - number > SEQUENCE_WINDOW)) {
		s->unclear++;
		return;
	}
	if (number >= s->next) {
		sequence_advance(s, number);
	} else if (*sequence_word(s, number) & 1ull << number % 64) {
		s->duplicates++;
		return;
	} else {
		s->reordered++;
	}
	*sequence_word(s, number) |= 1ull << number % 64;
	s->unique++;
}

static inline uint64_t sequence_lost(const struct sequence *s)
{
	return s->next - s->unique;
}

#endif
