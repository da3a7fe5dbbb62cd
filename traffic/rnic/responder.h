/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The receiving half of a reliable-connection queue pair: which packet is next, where its payload belongs, which
 * messages are complete, and what is answered.
 *
 * A gap is answered once, with the missing PSN. It is answered again when a packet comes that is not beyond the last
 * one: then the other side has gone back, and lost the packet again. (A real NIC may wait for the time-out there.)
 *
 * Pure: whoever calls it has checked the ICRC, places payloads and sends the answers.
 */
#ifndef RNIC_RESPONDER_H
#define RNIC_RESPONDER_H

#include <stdlib.h>

#include "place.h"

/* A packet that is here although one before it is not. */
struct early {
	bool here, ends;
	uint32_t number;
};

struct responder {
	enum recovery recovery;
	uint32_t mtu, first_psn, ring;
	uint64_t expected; /* place */
	bool in_message;
	uint32_t number, bytes;	      /* of the message under way */
	uint64_t offset, began;	      /* where its next payload belongs; the place of its first packet */
	uint32_t message_sequence;    /* messages complete */
	bool nak_sent;
	uint64_t gap;		      /* the last packet that came too early */
	struct early *early;
	uint32_t *complete;	      /* numbers the last packet has completed */
	uint32_t complete_count;
	bool failed;
	uint64_t packets, out_of_order, duplicates, naks, beyond;
};

/* What to do about a packet: place its payload at `offset` of message `number`, answer with `syndrome` and `psn`. */
struct response {
	bool place, answer;
	uint32_t number;
	uint64_t offset;
	uint8_t syndrome;
	uint32_t psn, message_sequence;
};

static inline bool responder_open(struct responder *r, enum recovery recovery, uint32_t mtu, uint32_t window,
				  uint32_t first_psn)
{
	memset(r, 0, sizeof(*r));
	r->recovery = recovery;
	r->mtu = mtu;
	r->first_psn = first_psn;
	r->ring = places_ring(window);
	r->early = calloc(r->ring, sizeof(*r->early));
	r->complete = calloc(r->ring, sizeof(*r->complete));
	return r->early && r->complete;
}

static inline void responder_close(struct responder *r)
{
	free(r->early);
	free(r->complete);
}

static inline void responder_acknowledge(const struct responder *r, struct response *out)
{
	out->answer = true;
	out->syndrome = ROCE_ACK;
	out->psn = place_psn(r->first_psn, r->expected - 1);
	out->message_sequence = r->message_sequence;
}

static inline void responder_refuse(struct responder *r, uint8_t syndrome, struct response *out)
{
	*out = (struct response){
		.answer = true, .syndrome = syndrome, .psn = place_psn(r->first_psn, r->expected),
		.message_sequence = r->message_sequence,
	};
	r->failed = true;
}

static inline void responder_complete(struct responder *r, uint32_t number)
{
	r->message_sequence++;
	r->complete[r->complete_count++] = number;
}

/* A packet of the message under way, or the first of the next; false when it is neither. */
static inline bool responder_continue(struct responder *r, const struct roce_packet *p, struct response *out)
{
	bool starts = roce_has_reth(p->opcode), ends = roce_ends_message(p->opcode);

	if (starts == r->in_message)
		return false;
	if (starts) {
		r->began = r->expected;
		r->number = p->key;
		r->bytes = p->bytes;
		r->offset = p->address;
		if (p->bytes > UINT64_MAX - p->address)
			return false;
	}
	if (p->payload_bytes > r->mtu || (!ends && p->payload_bytes != r->mtu) || p->payload_bytes > r->bytes ||
	    (ends && p->payload_bytes != r->bytes))
		return false;
	out->place = true;
	out->number = r->number;
	out->offset = r->offset;
	r->offset += p->payload_bytes;
	r->bytes -= (uint32_t)p->payload_bytes;
	r->in_message = !ends;
	r->expected++;
	r->nak_sent = false;
	if (roce_has_immediate(p->opcode))
		responder_complete(r, p->immediate);
	return true;
}

static inline void responder_miss(struct responder *r, uint64_t place, struct response *out)
{
	r->out_of_order++;
	if (r->recovery == GO_BACK_0 && r->in_message) {
		r->expected = r->began;
		r->in_message = false;
	}
	if (!r->nak_sent || place <= r->gap) {
		r->nak_sent = true;
		r->naks++;
		*out = (struct response){
			.answer = true, .syndrome = ROCE_NAK_SEQUENCE, .psn = place_psn(r->first_psn, r->expected),
			.message_sequence = r->message_sequence,
		};
	}
	r->gap = place;
}

static inline void responder_take_in_order(struct responder *r, const struct roce_packet *p, uint64_t place,
					   struct response *out)
{
	/* Go back 0 after a time-out: the message starts again, and this side had not missed anything. */
	if (r->recovery == GO_BACK_0 && r->in_message && place == r->began) {
		r->expected = place;
		r->in_message = false;
	}
	if (place > r->expected) {
		responder_miss(r, place, out);
		return;
	}
	if (place < r->expected)
		r->duplicates++;
	else if (!responder_continue(r, p, out))
		responder_refuse(r, ROCE_NAK_INVALID, out);
	if (p->ack_request && !r->failed)
		responder_acknowledge(r, out);
}

static inline void responder_advance(struct responder *r)
{
	struct early *e;

	while ((e = &r->early[r->expected & (r->ring - 1)])->here) {
		if (e->ends)
			responder_complete(r, e->number);
		e->here = false;
		r->expected++;
	}
}

static inline void responder_take_any_order(struct responder *r, const struct roce_packet *p, uint64_t place,
					    struct response *out)
{
	struct early *e = &r->early[place & (r->ring - 1)];
	bool duplicate = place < r->expected || (place - r->expected < r->ring && e->here);
	bool filled;

	if (!duplicate && (place - r->expected >= r->ring || !roce_has_reth(p->opcode) || p->bytes != p->payload_bytes ||
			   p->payload_bytes > r->mtu)) {
		r->beyond += place - r->expected >= r->ring;
		if (place - r->expected < r->ring)
			responder_refuse(r, ROCE_NAK_INVALID, out);
		return;
	}
	if (duplicate) {
		r->duplicates++;
	} else {
		*e = (struct early){ .here = true, .ends = roce_has_immediate(p->opcode), .number = p->immediate };
		out->place = true;
		out->number = p->key;
		out->offset = p->address;
	}
	if (place > r->expected) {
		r->out_of_order += !duplicate;
		r->naks++;
		out->answer = true;
		out->syndrome = ROCE_NAK_SEQUENCE;
		out->psn = place_psn(r->first_psn, r->expected);
		out->message_sequence = p->psn;
		return;
	}
	filled = place == r->expected && r->early[(place + 1) & (r->ring - 1)].here && r->ring > 1;
	responder_advance(r);
	if (p->ack_request || filled)
		responder_acknowledge(r, out);
}

/* A WRITE came, whole and meant for this queue pair. The messages it completes are in `complete`. */
static inline struct response responder_take(struct responder *r, const struct roce_packet *p)
{
	struct response out = { 0 };
	uint64_t place;

	r->complete_count = 0;
	r->packets++;
	if (r->failed)
		return out;
	if (!place_of(r->first_psn, r->expected, p->psn, &place)) {
		r->duplicates++; /* of what was before the first: a stranger's */
		return out;
	}
	if (r->recovery == SELECTIVE_REPEAT)
		responder_take_any_order(r, p, place, &out);
	else
		responder_take_in_order(r, p, place, &out);
	return out;
}

#endif
