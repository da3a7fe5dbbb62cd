// SPDX-License-Identifier: Apache-2.0
/*
 * Queue pairs between graph and wire: what a packet that came means to them. Which of them sends next is rc_pace.c's.
 */
#include <stdlib.h>
#include <string.h>

#include "rc.h"

/* --- opening ------------------------------------------------------------------------------------------------------ */

static void set_path(struct roce_path *path, const struct queue_pair *qp, uint64_t dscp, uint64_t ecn)
{
	const struct address *src = &qp->nic->spec.src, *dst = &qp->spec.dst;

	path->v6 = address_is_v6(src);
	path->sport = (uint16_t)qp->spec.sport;
	path->tos = (uint8_t)(dscp << 2 | ecn);
	memcpy(path->src, path->v6 ? (const void *)&src->v6.sin6_addr : &src->v4.sin_addr, path->v6 ? 16 : 4);
	memcpy(path->dst, path->v6 ? (const void *)&dst->v6.sin6_addr : &dst->v4.sin_addr, path->v6 ? 16 : 4);
	memcpy(path->from_mac, qp->nic->mac, 6);
}

static void set_neighbour(struct queue_pair *qp, const uint8_t *mac)
{
	memcpy(qp->path.to_mac, mac, 6);
	memcpy(qp->ack_path.to_mac, mac, 6);
	memcpy(qp->cnp_path.to_mac, mac, 6);
	qp->has_neighbour = true;
}

static void qp_open(struct rc *rc, struct queue_pair *qp, const struct rc_qp_spec *spec)
{
	static const uint8_t none[6];
	const struct rc_host *h = &rc->plan.host;
	struct requester_settings set = {
		.recovery = (enum recovery)h->recovery, .mtu = (uint32_t)h->mtu, .window = (uint32_t)spec->window,
		.ack_every = (uint32_t)h->ack_every, .reorder = (uint32_t)h->reorder, .retries = (uint32_t)h->retries,
		.timeout_ns = h->timeout_us * USEC, .first_psn = (uint32_t)spec->psn,
	};
	uint8_t mac[6];

	qp->spec = *spec;
	qp->nic = &rc->nics[spec->nic];
	if (!requester_open(&qp->requester, &set) ||
	    !responder_open(&qp->responder, set.recovery, set.mtu, RC_WINDOW_MAX, (uint32_t)spec->epsn))
		die("out of memory");
	set_path(&qp->path, qp, spec->dscp, h->ecn);
	set_path(&qp->ack_path, qp, h->ack_dscp, h->ecn);
	set_path(&qp->cnp_path, qp, h->cnp_dscp, h->ecn);
	/*
	 * Wires are flushed in the order of their opening: as in a NIC a CNP goes before the acknowledgement of the packet
	 * it answers. Else the last packet's acknowledgement ends the peer's run with the CNP still to be sent.
	 */
	qp->cnp_wire = wire_of(rc, qp->nic, (uint8_t)h->cnp_dscp);
	qp->wire = wire_of(rc, qp->nic, (uint8_t)spec->dscp);
	qp->ack_wire = wire_of(rc, qp->nic, (uint8_t)h->ack_dscp);
	qp->bins.width_ns = RC_FIRST_BIN_NS;
	if (h->cc && !qp->nic->spec.rate_bps)
		die("cc needs the nic's rate_bps: it begins at the line's rate");
	if (h->cc)
		reaction_open(&qp->reaction, &rc->cc, qp->nic->spec.rate_bps);
	if (memcmp(spec->mac, none, 6))
		set_neighbour(qp, spec->mac);
	else if (neighbour_find(qp, mac))
		set_neighbour(qp, mac);
	else
		die("qp %llu: nobody on %s answers for its dst", (unsigned long long)spec->number, qp->nic->dev);
}

static uint32_t slot_of(const struct rc *rc, uint32_t number)
{
	uint32_t at = number * 2654435769u & rc->slot_mask;

	while (rc->slots_by_number[at] != GRAPH_NONE && rc->qps[rc->slots_by_number[at]].spec.number != number)
		at = (at + 1) & rc->slot_mask;
	return at;
}

struct queue_pair *qp_find(const struct rc *rc, uint32_t number)
{
	uint32_t index = rc->slots_by_number[slot_of(rc, number)];

	return index == GRAPH_NONE ? NULL : &rc->qps[index];
}

void qps_open(struct rc *rc)
{
	uint32_t count = rc->plan.qp_count;

	rc->qps = zeroed(count, sizeof(*rc->qps));
	rc->acks_due = zeroed(count, sizeof(*rc->acks_due));
	rc->slot_mask = 2 * graph_power_of_two(count) - 1;
	rc->slots_by_number = zeroed((size_t)rc->slot_mask + 1, sizeof(uint32_t));
	memset(rc->slots_by_number, 0xff, ((size_t)rc->slot_mask + 1) * sizeof(uint32_t));
	for (uint32_t i = 0; i < rc->plan.nic_count; i++)
		rc->nics[i].active = zeroed(count, sizeof(*rc->nics[i].active));
	for (uint32_t i = 0; i < count; i++) {
		qp_open(rc, &rc->qps[i], &rc->plan.qps[i]);
		rc->slots_by_number[slot_of(rc, (uint32_t)rc->plan.qps[i].number)] = i;
	}
}

/* --- what has come ------------------------------------------------------------------------------------------------ */

static void activate(struct queue_pair *qp, uint64_t now)
{
	if (qp->active || !requester_sendable(&qp->requester))
		return;
	qp->active = true;
	qp->ready_ns = now;
	qp->nic->active[qp->nic->active_count++] = qp;
}

void qp_note_deadline(struct rc *rc, const struct queue_pair *qp)
{
	if (qp->requester.deadline_ns && qp->requester.deadline_ns < rc->timers_ns)
		rc->timers_ns = qp->requester.deadline_ns;
}

static void fail(struct rc *rc, const struct queue_pair *qp)
{
	uint8_t syndrome = qp->requester.failed_syndrome;

	snprintf(rc->failure_text, sizeof(rc->failure_text), "qp %llu: %s", (unsigned long long)qp->spec.number,
		 !syndrome ? "no acknowledgement after all retries" :
		 syndrome == ROCE_NAK_ACCESS ? "the peer expects no such message" :
					       "the peer refuses what is no valid request");
	rc->failure = rc->failure_text;
}

void qp_post(struct rc *rc, uint32_t task, uint64_t now)
{
	struct graph *g = &rc->plan.graph;
	const struct task *t = &g->tasks[task];
	struct queue_pair *qp = &rc->qps[t->queue_pair];
	uint32_t index = qp->requester.count;

	qp->posted = graph_grow(qp->posted, index, &qp->posted_room, sizeof(*qp->posted));
	qp->posted[index] = task;
	if (!requester_post(&qp->requester, graph_number(g, task), graph_at(g, &t->from), t->bytes, now))
		die("out of memory");
	activate(qp, t->ready_ns > now ? now : t->ready_ns);
}

static void count_round_trip(struct rc *rc, struct queue_pair *qp)
{
	uint64_t ns = qp->requester.round_trip_ns;

	if (!ns)
		return;
	if (!qp->round_trips++ || ns < qp->round_trip_least_ns)
		qp->round_trip_least_ns = ns;
	if (ns > qp->round_trip_most_ns)
		qp->round_trip_most_ns = ns;
	qp->round_trip_sum_ns += ns;
	delay_add(&rc->round_trips, ns);
}

static void take_acknowledge(struct rc *rc, struct queue_pair *qp, const struct roce_packet *p, uint64_t now)
{
	qp->got_acks++;
	requester_take(&qp->requester, p, now);
	count_round_trip(rc, qp);
	while (qp->reported < qp->requester.finished)
		graph_done(&rc->plan.graph, qp->posted[qp->reported++], now);
	qp_note_deadline(rc, qp);
	activate(qp, now);
	if (qp->requester.failed)
		fail(rc, qp);
}

static void count_sent(struct queue_pair *qp, uint32_t frame, uint64_t now)
{
	struct rc_nic *nic = qp->nic;
	uint64_t rate = nic->spec.rate_bps, wire = frame + 24;

	nic->wire_bytes += wire;
	if (!rate)
		return;
	nic->busy_ns += wire * 8 * NSEC / rate;
	/* A NIC that is behind its schedule stays as much behind. */
	if (!nic->active_count && nic->next_ns < now)
		nic->next_ns = now;
	nic->next_ns += wire * 8 * NSEC / rate;
	nic->stretch_ns += wire * 8 * NSEC / rate;
}

static bool answer(struct rc *rc, struct queue_pair *qp, const struct response *r)
{
	struct roce_packet p = {
		.opcode = ROCE_ACKNOWLEDGE, .queue_pair = (uint32_t)qp->spec.dqpn, .psn = r->psn,
		.syndrome = r->syndrome, .message_sequence = r->message_sequence,
	};

	if (!wire_has_room(qp->ack_wire))
		wires_flush(rc, clock_ns());
	if (!wire_has_room(qp->ack_wire))
		return false;
	count_sent(qp, wire_put(qp->ack_wire, &qp->ack_path, &p), clock_ns());
	qp->acks_sent++;
	return true;
}

/* An acknowledgement waits until all that has come is looked at: the last says what those before it did. */
static void answer_later(struct rc *rc, struct queue_pair *qp, const struct response *r)
{
	if (r->syndrome != ROCE_ACK) {
		answer(rc, qp, r);
		return;
	}
	qp->ack = *r;
	if (!qp->ack_due)
		rc->acks_due[rc->acks_due_count++] = qp;
	qp->ack_due = true;
}

void qps_acknowledge(struct rc *rc)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < rc->acks_due_count; i++) {
		struct queue_pair *qp = rc->acks_due[i];

		qp->ack_due = !answer(rc, qp, &qp->ack);
		if (qp->ack_due)
			rc->acks_due[kept++] = qp;
	}
	rc->acks_due_count = kept;
}

static void notify_congestion(struct rc *rc, struct queue_pair *qp, uint64_t now)
{
	struct roce_packet p = { .opcode = ROCE_CNP, .queue_pair = (uint32_t)qp->spec.dqpn, .becn = true };

	if (!rc->plan.host.cc || !notification_due(&qp->notification, &rc->cc, now))
		return;
	if (!wire_has_room(qp->cnp_wire))
		wires_flush(rc, now);
	if (!wire_has_room(qp->cnp_wire))
		return;
	count_sent(qp, wire_put(qp->cnp_wire, &qp->cnp_path, &p), now);
	qp->cnps_sent++;
}

static void take_write(struct rc *rc, struct queue_pair *qp, const struct roce_packet *p, uint64_t now)
{
	struct graph *g = &rc->plan.graph;
	uint32_t index = (uint32_t)(qp - rc->qps);
	struct response r = responder_take(&qp->responder, p);
	bool fine = !r.place || graph_place(g, index, r.number, r.offset, p->payload, p->payload_bytes);

	qp->got_packets++;
	qp->got_bytes += r.place ? p->payload_bytes : 0;
	qp->first_ns = qp->first_ns ? qp->first_ns : now;
	qp->last_ns = now;
	for (uint32_t i = 0; fine && i < qp->responder.complete_count; i++)
		fine = graph_arrived(g, index, qp->responder.complete[i], now);
	if (!fine) {
		rc->misplaced++;
		responder_refuse(&qp->responder, ROCE_NAK_ACCESS, &r);
	}
	if (r.answer)
		answer_later(rc, qp, &r);
}

static bool is_peer(const struct queue_pair *qp, const struct roce_path *path)
{
	return path->v6 == qp->path.v6 && !memcmp(path->src, qp->path.dst, path->v6 ? 16 : 4) &&
	       !memcmp(path->dst, qp->path.src, path->v6 ? 16 : 4);
}

static uint64_t *counter_of(struct rc *rc, enum roce_fault fault)
{
	switch (fault) {
	case ROCE_MALFORMED: return &rc->malformed;
	case ROCE_UNKNOWN: return &rc->unknown;
	case ROCE_CORRUPT: return &rc->corrupt;
	default: return &rc->foreign;
	}
}

void qp_take(struct rc *rc, const uint8_t *ip, size_t bytes, uint64_t now)
{
	struct roce_packet p;
	struct roce_path path;
	enum roce_fault fault = roce_read(&p, &path, ip, bytes);
	struct queue_pair *qp;

	if (fault != ROCE_FINE) {
		*counter_of(rc, fault) += 1;
		return;
	}
	qp = qp_find(rc, p.queue_pair);
	if (!qp || !is_peer(qp, &path)) {
		rc->strangers++;
	} else if (p.opcode == ROCE_ACKNOWLEDGE) {
		take_acknowledge(rc, qp, &p, now);
	} else if (p.opcode == ROCE_CNP) {
		qp->got_cnps++;
		if (rc->plan.host.cc)
			reaction_take_cnp(&qp->reaction, now);
	} else {
		if ((path.tos & 3) == 3) {
			qp->got_ce++;
			notify_congestion(rc, qp, now);
		}
		take_write(rc, qp, &p, now);
	}
}

/* --- time-outs ---------------------------------------------------------------------------------------------------- */

void qps_time_out(struct rc *rc, uint64_t now)
{
	uint8_t mac[6];

	if (now < rc->timers_ns)
		return;
	rc->timers_ns = NEVER;
	for (uint32_t i = 0; i < rc->plan.qp_count; i++) {
		struct queue_pair *qp = &rc->qps[i];

		if (qp->requester.deadline_ns && qp->requester.deadline_ns <= now) {
			requester_time_out(&qp->requester, now);
			/* The way there may be another by now. */
			if (neighbour_find(qp, mac))
				set_neighbour(qp, mac);
			activate(qp, now);
			if (qp->requester.failed)
				fail(rc, qp);
		}
		qp_note_deadline(rc, qp);
	}
}
