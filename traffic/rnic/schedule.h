/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When a flow's packets are due, and whether they left in time. Pure arithmetic on nanoseconds.
 *
 *	due(k) = start + held back + (k rounded down to its burst) * wire bits / rate
 *
 * The schedule is absolute, so a late packet does not push the later ones: no drift. Time in which the NIC took
 * nothing (a paused port, a full socket) moves what is still to come: a NIC does not make up for a pause by
 * sending faster than its rate.
 *
 * The law a run is judged by: within max(2 packets, 200 us) of schedule 99 % of the time, mean rate +-0.5 %.
 * A flow's packets are spread evenly over its schedule, so 99 % of the packets is 99 % of the time. A packet is
 * never early: it is sent only when due.
 */
#ifndef RNIC_SCHEDULE_H
#define RNIC_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LATE_PACKETS 2
#define LATE_NS 200000ull
/* The mean is judged once both ends' allowance is less than the 0.5 % it may be off: 1/200 of the span. */
#define MEAN_PER_MILLE 5
#define MEAN_SPANS 200

struct schedule {
	uint64_t start_ns;
	uint64_t packet_bits; /* on the wire */
	uint64_t rate_bps;    /* 0: no schedule, every packet is due at once */
	uint32_t burst;	      /* packets that are due together, at least 1 */
	uint64_t held_back_ns;
};

struct punctuality {
	uint64_t packets;
	uint64_t late;	     /* later than the bound */
	uint64_t worst_ns;
	uint64_t first_ns;
	uint64_t last_ns;
	uint64_t first_index; /* in the schedule: what was skipped has its place there too */
	uint64_t last_index;
	uint64_t held_back_ns; /* between the first packet and the last */
	uint64_t held_before_ns;
};

static inline uint64_t schedule_offset(const struct schedule *s, uint64_t index)
{
	if (!s->rate_bps)
		return 0;
	return (uint64_t)((unsigned __int128)(index - index % s->burst) * s->packet_bits * 1000000000u / s->rate_bps);
}

static inline uint64_t schedule_due(const struct schedule *s, uint64_t index)
{
	return s->start_ns + s->held_back_ns + schedule_offset(s, index);
}

/* How many packets from `index` on are due at `now`, `most` at most. */
static inline uint32_t schedule_ready(const struct schedule *s, uint64_t index, uint64_t now, uint32_t most)
{
	uint32_t ready = 0;

	while (ready < most && schedule_due(s, index + ready) <= now)
		ready++;
	return ready;
}

static inline void schedule_hold_back(struct schedule *s, uint64_t from_ns, uint64_t until_ns)
{
	if (until_ns > from_ns)
		s->held_back_ns += until_ns - from_ns;
}

static inline uint64_t schedule_late_bound(const struct schedule *s)
{
	uint64_t packets = s->rate_bps ? LATE_PACKETS * s->packet_bits * 1000000000ull / s->rate_bps : 0;

	return packets > LATE_NS ? packets : LATE_NS;
}

/* Packet `index` had left the socket at `left_ns`. */
static inline void punctuality_add(struct punctuality *p, const struct schedule *s, uint64_t index, uint64_t left_ns)
{
	uint64_t due = schedule_due(s, index);
	uint64_t late = left_ns > due ? left_ns - due : 0;

	if (!p->packets++) {
		p->first_ns = left_ns;
		p->first_index = index;
		p->held_before_ns = s->held_back_ns;
	}
	p->last_ns = left_ns;
	p->last_index = index;
	p->held_back_ns = s->held_back_ns - p->held_before_ns;
	if (!s->rate_bps)
		return;
	p->late += late > schedule_late_bound(s);
	if (late > p->worst_ns)
		p->worst_ns = late;
}

/* The time packets took to leave, what the NIC held back left out; 0 while there is none. */
static inline uint64_t punctuality_span(const struct punctuality *p)
{
	uint64_t span = p->last_ns - p->first_ns;

	return p->packets > 1 && span > p->held_back_ns ? span - p->held_back_ns : 0;
}

/* Mean wire bit/s between the first and the last packet: what was due between them, in the time it took. */
static inline uint64_t punctuality_mean_bps(const struct punctuality *p, const struct schedule *s)
{
	uint64_t span = punctuality_span(p), due;

	if (!span)
		return 0;
	if (!s->rate_bps)
		return (uint64_t)((unsigned __int128)(p->packets - 1) * s->packet_bits * 1000000000u / span);
	due = schedule_offset(s, p->last_index) - schedule_offset(s, p->first_index);
	return (uint64_t)((unsigned __int128)due * s->rate_bps / span);
}

static inline bool punctuality_mean_judged(const struct punctuality *p, const struct schedule *s)
{
	return s->rate_bps && punctuality_span(p) >= MEAN_SPANS * schedule_late_bound(s);
}

/* NULL when the flow kept its schedule, else which part of the law it broke. */
static inline const char *punctuality_fault(const struct punctuality *p, const struct schedule *s)
{
	uint64_t mean = punctuality_mean_bps(p, s);
	uint64_t off = mean > s->rate_bps ? mean - s->rate_bps : s->rate_bps - mean;

	if (!s->rate_bps)
		return NULL;
	if (p->late * 100 > p->packets)
		return "more than 1 % of the packets left later than max(2 packets, 200 us) after they were due";
	if (punctuality_mean_judged(p, s) && off * 1000 > s->rate_bps * MEAN_PER_MILLE)
		return "the mean rate is more than 0.5 % off";
	return NULL;
}

/* Whose turn is next: a binary heap of flow numbers by the time they are due. The caller owns `entries`. */
struct turn {
	uint64_t due_ns;
	uint32_t flow;
};

struct turns {
	struct turn *entries;
	size_t count;
};

static inline void turns_push(struct turns *t, uint64_t due_ns, uint32_t flow)
{
	size_t at = t->count++;

	while (at && t->entries[(at - 1) / 2].due_ns > due_ns) {
		t->entries[at] = t->entries[(at - 1) / 2];
		at = (at - 1) / 2;
	}
	t->entries[at] = (struct turn){ due_ns, flow };
}

/* The caller has checked that there is one. */
static inline struct turn turns_pop(struct turns *t)
{
	struct turn first = t->entries[0], last = t->entries[--t->count];
	size_t at = 0, child;

	while ((child = 2 * at + 1) < t->count) {
		if (child + 1 < t->count && t->entries[child + 1].due_ns < t->entries[child].due_ns)
			child++;
		if (t->entries[child].due_ns >= last.due_ns)
			break;
		t->entries[at] = t->entries[child];
		at = child;
	}
	t->entries[at] = last;
	return first;
}

#endif
