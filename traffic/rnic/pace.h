/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a NIC kept its schedule, where what it has to send comes and goes.
 *
 * A packet is due when the link is free, its queue pair's rate allows it, and it may leave at all; it has left when
 * the system call that took it is over. What holds a NIC back rightly (nothing to send, a window that is full, a
 * port that takes nothing) ends a stretch: the next packet begins another, at the moment it may leave. Within a
 * stretch the schedule is absolute. A rate that congestion control changes changes the schedule from there on.
 *
 * The law (schedule.h): within max(2 packets, 200 us) of schedule 99 % of the time, mean rate +-0.5 %. Packets are
 * spread evenly over the time in which there is something to send, so 99 % of them is 99 % of it. The mean is over
 * all stretches together, each from its first packet to its last: what was due, in the time it took.
 *
 * Pure arithmetic on nanoseconds.
 */
#ifndef RNIC_PACE_H
#define RNIC_PACE_H

#include "schedule.h"

/* When a frame was due; `frame_ns` 0: it has no schedule (an acknowledgement, a NIC without a rate, one held back). */
struct due {
	uint64_t at_ns;
	uint64_t frame_ns; /* on the link */
	bool begins;	   /* a stretch */
};

struct pace {
	uint64_t packets, late, worst_ns; /* late: off schedule by more than the bound, either way */
	uint64_t stretches;
	uint64_t longest_ns; /* the longest frame */
	uint64_t due_ns;     /* from the first packet to the last, over all stretches that are over */
	uint64_t took_ns;
	uint64_t first_due_ns, last_due_ns; /* of the stretch under way */
	uint64_t first_left_ns, last_left_ns;
};

static inline uint64_t pace_bound(uint64_t frame_ns)
{
	return LATE_PACKETS * frame_ns > LATE_NS ? LATE_PACKETS * frame_ns : LATE_NS;
}

static inline uint64_t pace_due_ns(const struct pace *p)
{
	return p->due_ns + p->last_due_ns - p->first_due_ns;
}

static inline uint64_t pace_took_ns(const struct pace *p)
{
	return p->took_ns + p->last_left_ns - p->first_left_ns;
}

static inline void pace_add(struct pace *p, const struct due *due, uint64_t left_ns)
{
	uint64_t late = left_ns > due->at_ns ? left_ns - due->at_ns : 0;
	uint64_t early = left_ns < due->at_ns ? due->at_ns - left_ns : 0;

	if (!due->frame_ns)
		return;
	p->packets++;
	p->late += late > pace_bound(due->frame_ns) || early > pace_bound(due->frame_ns);
	if (late > p->worst_ns)
		p->worst_ns = late;
	if (due->frame_ns > p->longest_ns)
		p->longest_ns = due->frame_ns;
	if (due->begins || !p->stretches) {
		p->due_ns = pace_due_ns(p);
		p->took_ns = pace_took_ns(p);
		p->first_due_ns = p->last_due_ns = due->at_ns;
		p->first_left_ns = p->last_left_ns = left_ns;
		p->stretches++;
	}
	/* Classes have sockets of their own, so one may leave before what was due earlier. */
	if (due->at_ns > p->last_due_ns)
		p->last_due_ns = due->at_ns;
	if (left_ns > p->last_left_ns)
		p->last_left_ns = left_ns;
}

/* Once the allowance at the ends of all stretches is less than the 0.5 % that the mean may be off. */
static inline bool pace_mean_judged(const struct pace *p)
{
	return p->packets && pace_due_ns(p) >= MEAN_SPANS * p->stretches * pace_bound(p->longest_ns);
}

static inline bool pace_kept(const struct pace *p)
{
	uint64_t due = pace_due_ns(p), took = pace_took_ns(p), off = due > took ? due - took : took - due;

	if (p->late * 100 > p->packets)
		return false;
	return !pace_mean_judged(p) || off * 1000 <= took * MEAN_PER_MILLE;
}

#endif
