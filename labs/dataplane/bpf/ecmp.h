/* SPDX-License-Identifier: Apache-2.0 */
/* Which member of a group a packet takes, by its rule's mode. Tested against topologies/ecmp_model.py. */
#ifndef RAILBED_ECMP_H
#define RAILBED_ECMP_H

struct choice {
	__u32 place;
	__u8 mode;		/* what it counts as */
	__u8 began;		/* a flowlet */
	__u8 repicked;		/* its flow was on another port before */
};

/* What every mode may ask for. */
struct asked {
	struct port_state *port;
	const struct port_profile *profile;
	const struct ecmp_profile *rule;
	struct ecmp_group *group;
	const struct packet *packet;
	__u32 here;
	__u32 h;
	__u32 count;		/* 2 at least */
	__u8 tc;
};

static __always_inline __u64 turn(__u32 here)
{
	__u64 *turns_here = bpf_map_lookup_elem(&turns, &here);

	return turns_here ? (*turns_here)++ : 0;
}

/* Bytes in a queue, in steps of the rule's quantum. */
static __always_inline __u64 steps_queued(__u32 port, __u32 queue, __u32 quantum)
{
	struct queue_state *state = port ? queue_at(port, queue) : 0;
	__s64 bytes = state ? PACKED_BYTES(*(volatile __s64 *)&state->depth) : 0;

	if (bytes <= 0)
		return 0;
	return quantum > 1 ? (__u64)bytes / quantum : (__u64)bytes;
}

/*
 * Real silicon looks at depths that are some microseconds old; these are as they are now. Not static, so that the
 * verifier looks at it once.
 */
__noinline __u32 least_queued(const struct ecmp_group *group, __u32 count, __u32 start, __u32 queue, __u32 quantum)
{
	__u32 place, best = start & (ECMP_MEMBERS - 1);
	__u64 least = ~0ULL, steps;

	if (!group)
		return 0;
	for (__u32 i = 0; i < ECMP_MEMBERS && i < count; i++) {
		place = start + i;
		if (place >= count)
			place -= count;
		place &= ECMP_MEMBERS - 1;	/* so much is true of every way through the loop: they are one */
		steps = steps_queued(group->member[place].port, queue, quantum);
		if (steps < least) {
			least = steps;
			best = place;
		}
	}
	return best;
}

/* The least-queued member, of equals the first at or after `start`: by the queue that this packet would join. */
static __always_inline __u32 by_depth(const struct asked *asked, __u32 start)
{
	return least_queued(asked->group, asked->count, start,
			    asked->profile->queue_of_tc[asked->tc] & (QUEUES - 1), asked->rule->quantum);
}

static __always_inline __u32 by_weight(const struct asked *asked)
{
	__u32 place;

	for (place = 0; place < ECMP_MEMBERS - 1 && place < asked->count - 1; place++)
		if (asked->h <= asked->group->member[place].share)
			break;
	return place;
}

static __always_inline __u32 by_bucket(const struct asked *asked)
{
	__u32 bucket = asked->h % ECMP_BUCKETS, at = asked->group->id * ECMP_BUCKETS + bucket, place;
	__u64 *seen;

	if (!asked->group->id)
		return asked->h % asked->count;
	seen = bpf_map_lookup_elem(&bucket_seen, &at);
	if (seen)
		*(volatile __u64 *)seen = bpf_ktime_get_ns();
	place = asked->group->bucket[bucket];
	return place < asked->count ? place : asked->h % asked->count;
}

static __always_inline __u32 by_pin(const struct asked *asked)
{
	if (asked->rule->by == BY_RAIL)
		return asked->port->local % asked->count;
	if (asked->packet->has & FIELD_DST_QP)
		return bpf_ntohl(asked->packet->bth.queue_pair << 8) % asked->count;
	return asked->h % asked->count;
}

/*
 * A flow keeps its member while its packets follow each other closely; after a gap that its packets under way cannot
 * outlast, it may take another without overtaking itself. An entry is not locked: two flows, or two processors, that
 * write one at once at worst begin a flowlet too many.
 */
static __always_inline void by_flowlet(const struct asked *asked, struct choice *choice)
{
	__u32 tag = asked->h ^ asked->port->first, at = scramble(tag) % FLOWLETS, port;
	struct flowlet *flowlet = bpf_map_lookup_elem(&flowlets, &at);
	__u64 now = bpf_ktime_get_ns();

	if (!flowlet)
		return;
	if (flowlet->tag == tag && flowlet->member < asked->count &&
	    now - flowlet->seen_ns <= asked->rule->gap_ns &&
	    asked->group->member[flowlet->member & (ECMP_MEMBERS - 1)].port == flowlet->port) {
		choice->place = flowlet->member;
		flowlet->seen_ns = now;
		return;
	}
	choice->place = draw(asked->port) % asked->count;
	if (choice->mode == ECMP_ADAPTIVE)
		choice->place = by_depth(asked, choice->place);
	port = asked->group->member[choice->place & (ECMP_MEMBERS - 1)].port;
	choice->began = 1;
	choice->repicked = flowlet->tag == tag && flowlet->port != port;
	flowlet->seen_ns = now;
	flowlet->tag = tag;
	flowlet->port = port;
	flowlet->member = choice->place;
}

/* By its hash, unless the mode says otherwise. */
static __always_inline struct choice choose(const struct asked *asked)
{
	struct choice choice = { .place = asked->h % asked->count, .mode = asked->rule->mode };

	if (choice.mode == ECMP_ADAPTIVE && asked->rule->marked && !asked->packet->bth.adaptive)
		choice.mode = ECMP_SWITCH_HASH;
	if (choice.mode == ECMP_FLOWLET || (choice.mode == ECMP_ADAPTIVE && asked->rule->by == BY_FLOWLET)) {
		by_flowlet(asked, &choice);
		return choice;
	}
	switch (choice.mode) {
	case ECMP_SPRAY:
		if (asked->rule->by == BY_ROUND_ROBIN)
			choice.place = turn(asked->here) % asked->count;
		else
			choice.place = draw(asked->port) % asked->count;
		break;
	case ECMP_ADAPTIVE:
		choice.place = by_depth(asked, turn(asked->here) % asked->count);
		break;
	case ECMP_RESILIENT:
		choice.place = by_bucket(asked);
		break;
	case ECMP_WEIGHTED:
		choice.place = by_weight(asked);
		break;
	case ECMP_PINNED:
		choice.place = by_pin(asked);
		break;
	}
	return choice;
}

#endif
