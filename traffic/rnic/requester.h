/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sending half of a reliable-connection queue pair: messages to packets, and packets again when they are missed.
 *
 *	places	0 … acknowledged … next … sent … end
 *		     all before   │      │      └ of what was posted
 *		     have arrived │      └ none from here on was ever sent
 *		                  └ goes out next; goes back to what is missing
 *
 * A message is an RDMA WRITE with immediate: key and immediate are its number, the address is the offset in it. With
 * selective repeat every packet is a WRITE ONLY with its own address, so that it can be placed out of order.
 *
 * What differs from a real NIC: selective repeat is each vendor's own on the wire. Here, as IRN proposes (Mittal et
 * al., SIGCOMM 2018), the NAK's PSN is the first missing one and its message sequence number the PSN that came
 * instead. A packet counts as lost once `reorder` packets that were sent after it have arrived.
 *
 * Pure: no socket, no clock; nanoseconds are the caller's.
 */
#ifndef RNIC_REQUESTER_H
#define RNIC_REQUESTER_H

#include <stdlib.h>

#include "place.h"

#define MESSAGE_BYTES_MAX 0x7fffffffu

struct message {
	uint32_t number;
	uint32_t packets;
	uint64_t first; /* place */
	uint32_t bytes;
	const uint8_t *data;
	uint64_t posted_ns, sent_ns; /* its first packet, for the first time */
};

/* A sent packet that is not acknowledged yet, for selective repeat. */
struct in_flight {
	uint64_t order; /* the how manieth transmission of all it was */
	uint8_t times;
	bool arrived, lost;
};

struct requester_settings {
	enum recovery recovery;
	uint32_t mtu, window; /* bytes of payload a packet; packets in flight */
	uint32_t ack_every;   /* packets: how often an acknowledgement is asked for, beside a message's end */
	uint32_t reorder;
	uint32_t retries;
	uint64_t timeout_ns;
	uint32_t first_psn;
};

struct requester {
	struct requester_settings set;
	struct message *messages;
	uint32_t count, room, finished, current; /* messages; `current` is the one of `next` */
	uint64_t acknowledged, next, sent, end;
	struct in_flight *flights;
	uint32_t ring, lost;
	uint64_t transmissions, newest_arrived;
	uint64_t deadline_ns; /* 0: nothing in flight */
	uint32_t tries;
	uint64_t timed_place, timed_ns; /* the packet whose round trip is measured; 0 ns: none */
	uint64_t round_trip_ns;	        /* of the last acknowledgement; 0: it measured none */
	bool failed;
	uint8_t failed_syndrome; /* 0: the retries ran out */
	uint64_t retransmitted, naks, timeouts, nonsense;
	uint64_t went_back, sent_past; /* by a NAK; packets sent from the missing one until it came, that one too */
};

static inline bool requester_open(struct requester *r, const struct requester_settings *set)
{
	memset(r, 0, sizeof(*r));
	r->set = *set;
	r->ring = places_ring(set->window);
	r->flights = calloc(r->ring, sizeof(*r->flights));
	return r->flights;
}

static inline void requester_close(struct requester *r)
{
	free(r->flights);
	free(r->messages);
}

static inline struct in_flight *requester_flight(struct requester *r, uint64_t place)
{
	return &r->flights[place & (r->ring - 1)];
}

/* False when there is no memory. `data` stays as it is until the message is finished. */
static inline bool requester_post(struct requester *r, uint32_t number, const uint8_t *data, uint32_t bytes, uint64_t now)
{
	if (r->count == r->room) {
		uint32_t room = r->room ? 2 * r->room : 16;
		struct message *more = realloc(r->messages, room * sizeof(*more));

		if (!more)
			return false;
		r->messages = more;
		r->room = room;
	}
	r->messages[r->count] = (struct message){
		.number = number, .bytes = bytes, .data = data, .first = r->end, .posted_ns = now,
		.packets = bytes ? (bytes - 1) / r->set.mtu + 1 : 1,
	};
	r->end += r->messages[r->count++].packets;
	return true;
}

static inline bool requester_sendable(const struct requester *r)
{
	if (r->failed)
		return false;
	return r->lost || (r->next < r->end && r->next - r->acknowledged < r->set.window);
}

static inline uint32_t requester_outstanding(const struct requester *r)
{
	return (uint32_t)(r->sent - r->acknowledged);
}

static inline uint8_t requester_opcode(const struct requester *r, const struct message *m, uint32_t index)
{
	bool last = index + 1 == m->packets;

	if (r->set.recovery == SELECTIVE_REPEAT || m->packets == 1)
		return last ? ROCE_WRITE_ONLY_IMM : ROCE_WRITE_ONLY;
	return index ? (last ? ROCE_WRITE_LAST_IMM : ROCE_WRITE_MIDDLE) : ROCE_WRITE_FIRST;
}

static inline void requester_fill(const struct requester *r, const struct message *m, uint64_t place,
				  struct roce_packet *out)
{
	uint32_t index = (uint32_t)(place - m->first), offset = index * r->set.mtu, left = m->bytes - offset;
	bool apart = r->set.recovery == SELECTIVE_REPEAT;

	memset(out, 0, sizeof(*out));
	out->opcode = requester_opcode(r, m, index);
	out->psn = place_psn(r->set.first_psn, place);
	out->payload = m->data + offset;
	out->payload_bytes = left < r->set.mtu ? left : r->set.mtu;
	out->address = offset;
	out->key = out->immediate = m->number;
	out->bytes = apart ? (uint32_t)out->payload_bytes : m->bytes;
	/* Whoever fills the window waits for an answer; so must know that it comes. */
	out->ack_request = index + 1 == m->packets || (place + 1) % r->set.ack_every == 0 ||
			   place + 1 - r->acknowledged >= r->set.window;
}

static inline uint64_t requester_first_lost(struct requester *r)
{
	uint64_t place = r->acknowledged;

	while (!requester_flight(r, place)->lost)
		place++;
	return place;
}

static inline void requester_seek(struct requester *r, uint64_t place)
{
	while (r->current && r->messages[r->current].first > place)
		r->current--;
	while (r->messages[r->current].first + r->messages[r->current].packets <= place)
		r->current++;
}

/* The next packet, for whoever knows that there is one (requester_sendable); but for the queue pair it goes to. */
static inline void requester_next(struct requester *r, uint64_t now, struct roce_packet *out)
{
	uint64_t place = r->lost ? requester_first_lost(r) : r->next;
	struct in_flight *f = requester_flight(r, place);
	struct message *m;

	requester_seek(r, place);
	m = &r->messages[r->current];
	requester_fill(r, m, place, out);
	if (f->lost) {
		f->lost = false;
		r->lost--;
		out->ack_request = true;
	} else {
		r->next++;
	}
	if (place < r->sent) {
		r->retransmitted++;
		f->times = 2;
		if (place <= r->timed_place)
			r->timed_ns = 0;
	} else {
		r->sent = place + 1;
		*f = (struct in_flight){ .times = 1 };
		m->sent_ns = m->sent_ns ? m->sent_ns : now;
		if (out->ack_request && !r->timed_ns) {
			r->timed_place = place;
			r->timed_ns = now;
		}
	}
	f->order = ++r->transmissions;
	if (!r->deadline_ns)
		r->deadline_ns = now + r->set.timeout_ns;
}

static inline void requester_arrived(struct requester *r, uint64_t place)
{
	struct in_flight *f = requester_flight(r, place);

	/* Of a packet that was sent twice nobody can say which of both arrived. */
	if (f->times == 1 && f->order > r->newest_arrived)
		r->newest_arrived = f->order;
	if (f->lost)
		r->lost--;
	f->lost = false;
	f->arrived = true;
}

static inline void requester_find_lost(struct requester *r)
{
	for (uint64_t place = r->acknowledged; place < r->sent; place++) {
		struct in_flight *f = requester_flight(r, place);

		if (!f->arrived && !f->lost && f->order + r->set.reorder <= r->newest_arrived) {
			f->lost = true;
			r->lost++;
		}
	}
}

/* Everything before `place` has arrived. */
static inline void requester_acknowledge(struct requester *r, uint64_t place, uint64_t now)
{
	r->round_trip_ns = 0;
	if (place <= r->acknowledged)
		return;
	if (r->timed_ns && place > r->timed_place) {
		r->round_trip_ns = now - r->timed_ns;
		r->timed_ns = 0;
	}
	if (r->set.recovery == SELECTIVE_REPEAT)
		for (uint64_t at = r->acknowledged; at < place; at++)
			requester_arrived(r, at);
	r->acknowledged = place;
	if (r->next < place)
		r->next = place;
	r->tries = 0;
	while (r->finished < r->count && r->messages[r->finished].first + r->messages[r->finished].packets <= place)
		r->finished++;
	r->deadline_ns = r->sent > place ? now + r->set.timeout_ns : 0;
}

static inline void requester_go_back(struct requester *r, uint64_t place)
{
	r->next = place;
	r->timed_ns = 0;
	if (place < r->acknowledged)
		r->acknowledged = place; /* go back 0: the receiver has thrown it away */
}

static inline void requester_take_nak(struct requester *r, const struct roce_packet *p, uint64_t place, uint64_t now)
{
	uint64_t instead, least = r->acknowledged;

	r->naks++;
	if (r->set.recovery == GO_BACK_0 && r->finished < r->count)
		least = r->messages[r->finished].first;
	if (place < least || place >= r->sent) {
		r->nonsense += place > r->sent;
		return;
	}
	requester_acknowledge(r, place, now);
	r->deadline_ns = now + r->set.timeout_ns;
	if (r->set.recovery != SELECTIVE_REPEAT) {
		r->went_back++;
		r->sent_past += r->next > place ? r->next - place : 0;
		requester_go_back(r, place);
		return;
	}
	if (!place_of(r->set.first_psn, place, p->message_sequence, &instead) || instead <= place || instead >= r->sent)
		r->nonsense++;
	else
		requester_arrived(r, instead);
	requester_find_lost(r);
}

static inline void requester_fail(struct requester *r, uint8_t syndrome)
{
	r->failed = true;
	r->failed_syndrome = syndrome;
	r->deadline_ns = 0;
}

/* An ACKNOWLEDGE came. Messages before `finished` are then done. */
static inline void requester_take(struct requester *r, const struct roce_packet *p, uint64_t now)
{
	uint64_t place;

	r->round_trip_ns = 0;
	if (r->failed)
		return;
	if (!place_of(r->set.first_psn, r->acknowledged, p->psn, &place)) {
		r->nonsense++;
	} else if (p->syndrome >> 5 == 0) {
		if (place >= r->sent) {
			r->nonsense++;
			return;
		}
		requester_acknowledge(r, place + 1, now);
		if (r->set.recovery == SELECTIVE_REPEAT)
			requester_find_lost(r);
	} else if (p->syndrome == ROCE_NAK_SEQUENCE) {
		requester_take_nak(r, p, place, now);
	} else if (p->syndrome == ROCE_NAK_INVALID || p->syndrome == ROCE_NAK_ACCESS) {
		requester_fail(r, p->syndrome);
	} else {
		r->nonsense++;
	}
}

/* To be called once `deadline_ns` has come: everything in flight counts as lost. */
static inline void requester_time_out(struct requester *r, uint64_t now)
{
	r->timeouts++;
	if (r->tries++ == r->set.retries) {
		requester_fail(r, 0);
		return;
	}
	r->deadline_ns = now + r->set.timeout_ns;
	if (r->set.recovery == GO_BACK_N)
		requester_go_back(r, r->acknowledged);
	if (r->set.recovery == GO_BACK_0)
		requester_go_back(r, r->messages[r->finished].first);
	for (uint64_t place = r->acknowledged; r->set.recovery == SELECTIVE_REPEAT && place < r->sent; place++) {
		struct in_flight *f = requester_flight(r, place);

		r->lost += !f->arrived && !f->lost;
		f->lost = !f->arrived;
	}
}

#endif
