// SPDX-License-Identifier: Apache-2.0
/*
 * A NIC sends at its line rate, round robin over the queue pairs that may (window, own rate, a class that is not
 * paused). A packet is due when the link is free, its queue pair's rate allows it and there is something to send,
 * whichever is last; how late it left is counted (pace.h). Acknowledgements and CNPs go at once, and take their time
 * on the link from what follows.
 */
#include <string.h>

#include "rc.h"

#define BATCH 64u

static void count_bin(struct bins *b, uint64_t at_ns, uint64_t bytes)
{
	while (at_ns / b->width_ns >= RC_BINS) {
		for (uint32_t i = 0; i < RC_BINS; i++)
			b->bytes[i] = i < RC_BINS / 2 ? b->bytes[2 * i] + b->bytes[2 * i + 1] : 0;
		b->width_ns *= 2;
	}
	b->bytes[at_ns / b->width_ns] += bytes;
}

static uint64_t rate_of(const struct rc *rc, struct queue_pair *qp, uint64_t now)
{
	if (!rc->plan.host.cc)
		return qp->spec.rate_bps;
	reaction_advance(&qp->reaction, now);
	return qp->reaction.limited ? (uint64_t)qp->reaction.rate_bps : 0;
}

/* By what the link and its own rate allow it, and by when it may leave at all; that begins a stretch, or goes on with it. */
static struct due due_of(const struct rc_nic *nic, const struct queue_pair *qp)
{
	uint64_t at = nic->next_ns > qp->next_ns ? nic->next_ns : qp->next_ns;
	uint64_t since = nic->stretch_ns > qp->next_ns ? nic->stretch_ns : qp->next_ns;

	return (struct due){ .at_ns = qp->ready_ns > at ? qp->ready_ns : at, .begins = qp->ready_ns > since };
}

static void send_one(struct rc *rc, struct queue_pair *qp, uint64_t now)
{
	struct rc_nic *nic = qp->nic;
	struct due due = due_of(nic, qp);
	uint64_t rate = nic->spec.rate_bps, own, wire;
	struct roce_packet p;

	requester_next(&qp->requester, now, &p);
	p.queue_pair = (uint32_t)qp->spec.dqpn;
	wire = wire_put(qp->wire, &qp->path, &p) + 24;
	due.frame_ns = rate ? wire * 8 * NSEC / rate : 0;
	wire_due(qp->wire, &due);
	nic->next_ns = nic->stretch_ns = due.at_ns + due.frame_ns;
	nic->wire_bytes += wire;
	nic->busy_ns += due.frame_ns;
	nic->sent_packets++;
	nic->first_ns = nic->first_ns ? nic->first_ns : now;
	nic->last_ns = now;
	if (rc->plan.host.cc)
		reaction_count_sent(&qp->reaction, wire);
	own = rate_of(rc, qp, now);
	qp->next_ns = own ? due.at_ns + wire * 8 * NSEC / own : due.at_ns;
	qp->sent_packets++;
	qp->sent_bytes += p.payload_bytes;
	qp->sent_wire_bytes += wire;
	count_bin(&qp->bins, now > rc->begin_ns ? now - rc->begin_ns : 0, wire);
	qp->first_ns = qp->first_ns ? qp->first_ns : now;
	qp->last_ns = now;
	qp_note_deadline(rc, qp);
}

static void deactivate(struct rc_nic *nic, uint32_t index)
{
	nic->active[index]->active = false;
	/* The order of the others stays, and so does whose turn it is. */
	memmove(nic->active + index, nic->active + index + 1, (nic->active_count - index - 1) * sizeof(*nic->active));
	nic->active_count--;
	if (nic->turn > index)
		nic->turn--;
}

/* Whose turn it is: the next around that may send by now; else NULL, and in `until` when one may. */
static struct queue_pair *pick(struct rc *rc, struct rc_nic *nic, uint64_t now, uint32_t *index, uint64_t *until)
{
	*until = NEVER;
	for (uint32_t i = 0; i < nic->active_count; i++) {
		struct queue_pair *qp;
		uint64_t due;

		*index = (nic->turn + i) % nic->active_count;
		qp = nic->active[*index];
		if (!wire_has_room(qp->wire) && !qp->wire->blocked)
			wires_flush(rc, now);
		if (!wire_has_room(qp->wire))
			continue;
		due = qp->next_ns > qp->ready_ns ? qp->next_ns : qp->ready_ns;
		if (due <= now)
			return qp;
		*until = due < *until ? due : *until;
	}
	return NULL;
}

uint64_t nic_run(struct rc *rc, struct rc_nic *nic, uint64_t now)
{
	uint64_t until = NEVER;
	uint32_t index;

	for (uint32_t sent = 0; sent < BATCH && nic->active_count; sent++) {
		struct queue_pair *qp;

		if (nic->next_ns > now)
			return nic->next_ns;
		qp = pick(rc, nic, now, &index, &until);
		if (!qp)
			return until;
		if (requester_sendable(&qp->requester)) /* not one that has failed */
			send_one(rc, qp, now);
		nic->turn = index + 1;
		if (!requester_sendable(&qp->requester))
			deactivate(nic, index);
	}
	return nic->active_count ? (nic->next_ns > now ? nic->next_ns : now) : NEVER;
}
