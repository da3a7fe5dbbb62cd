/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ingress priority groups and 802.1Qbb. A lossless PG that has used up its shared bytes tells its sender to stop
 * (XOFF) and takes what is still on its way into its headroom; at or below max(xon, limit - xon_offset) it goes on
 * (XON). asicd sends the frames and moves the gates: here it is told.
 */
#ifndef RAILBED_PFC_H
#define RAILBED_PFC_H

static __always_inline void tell(__u8 kind, __u32 port, __u8 priorities, __u8 pg, const __u16 *quanta)
{
	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

	if (!event)
		return;	/* asicd looks at the groups themselves now and then */
	event->time_ns = bpf_ktime_get_ns();
	event->port = port;
	event->kind = kind;
	event->priorities = priorities;
	event->pg = pg;
	event->pad = 0;
	if (quanta)
		__builtin_memcpy(event->quanta, quanta, sizeof(event->quanta));
	else
		__builtin_memset(event->quanta, 0, sizeof(event->quanta));
	/*
	 * asicd is woken when it has read all before this: what its own frames cause it finds without an interrupt, which
	 * took a quarter of its time.
	 */
	bpf_ringbuf_submit(event, 0);
}

/* Charge a frame to the PG it came in by. Returns false, having only counted it, when there is no room. */
static __always_inline int group_charge(struct pg_state *group, const struct pg_profile *profile,
					struct pool_state *pool, struct port_state *from, __u32 port, __u8 pg,
					__u8 enabled, __u32 len)
{
	__s64 limit = shared_limit(profile->mode, profile->limit, profile->alpha, pool);
	__s64 space = (__s64)pool->size - *(volatile __s64 *)&pool->used;
	__s64 shared, step, headroom = 0;
	__u8 priorities = profile->priorities & enabled;
	int stop = 0, fits;

	bpf_spin_lock(&group->lock);
	shared = above(group->used + len, profile->reserved);
	step = shared - above(group->used, profile->reserved);
	fits = !step || (shared <= limit && step <= space);
	if (fits) {
		group->used += len;
		if ((__u64)shared > group->shared_watermark)
			group->shared_watermark = shared;
	} else {
		step = 0;
		if (profile->lossless) {
			if (!group->xoff) {
				group->xoff = 1;
				group->xoffs++;
				__sync_fetch_and_or(&from->xoff, 1ULL << pg);
				stop = 1;
			}
			headroom = group->headroom + len;
			fits = headroom <= (__s64)profile->headroom &&
			       (!pool->headroom_size || pool->headroom + len <= (__s64)pool->headroom_size);
			if (fits) {
				group->headroom = headroom;
				if ((__u64)headroom > group->headroom_watermark)
					group->headroom_watermark = headroom;
			} else {
				headroom = 0;
			}
		}
	}
	if (fits) {
		group->packets++;
		group->bytes += len;
	} else {
		group->dropped_packets++;
		group->dropped_bytes += len;
	}
	bpf_spin_unlock(&group->lock);
	pool_add(pool, step);
	if (headroom)
		raise(&pool->headroom_watermark, __sync_fetch_and_add(&pool->headroom, len) + len);
	if (stop && priorities)
		tell(EVENT_XOFF, port, priorities, pg, 0);
	return fits;
}

/* Give a frame's room back: headroom first, as it was used last. */
static __always_inline void group_release(struct pg_state *group, const struct pg_profile *profile,
					  struct pool_state *pool, struct port_state *from, __u32 port, __u8 pg,
					  __u8 enabled, __s64 len)
{
	__s64 limit = shared_limit(profile->mode, profile->limit, profile->alpha, pool);
	__s64 headroom, before, step, resume_at = limit - profile->xon_offset;
	__u8 priorities = profile->priorities & enabled;
	int go = 0;

	if (resume_at < (__s64)profile->xon)
		resume_at = profile->xon;
	bpf_spin_lock(&group->lock);
	headroom = group->headroom < len ? group->headroom : len;
	if (len < 0)	/* taken back: what was given back too early */
		headroom = 0;
	group->headroom -= headroom;
	before = group->used;
	group->used -= len - headroom;
	step = above(group->used, profile->reserved) - above(before, profile->reserved);
	if (group->xoff && group->used + group->headroom <= resume_at) {
		group->xoff = 0;
		__sync_fetch_and_and(&from->xoff, ~(1ULL << pg));
		go = 1;
	}
	bpf_spin_unlock(&group->lock);
	pool_add(pool, step);
	if (headroom)
		ADD(pool->headroom, -headroom);
	if (go && priorities)
		tell(EVENT_XON, port, priorities, pg, 0);
}

/*
 * A MAC control frame. PFC is for this port alone and goes no further; 802.3x is ignored; what is not addressed to
 * the MAC control group is none of ours and passes.
 */
static __always_inline int mac_control(struct __sk_buff *skb, __u32 here, struct port_state *port,
				       const struct port_profile *profile)
{
	static const __u8 group[ETH_ALEN] = {0x01, 0x80, 0xc2, 0x00, 0x00, 0x01};
	struct {
		__u8 to[ETH_ALEN];
		__u8 from[ETH_ALEN];
		__u16 type;
		__u16 opcode;
		__u16 enabled;
		__u16 quanta[QUEUES];
	} __attribute__((packed)) frame;
	__u16 quanta[QUEUES] = {};
	__u8 honoured;

	if (bpf_skb_load_bytes(skb, 0, &frame, sizeof(frame)))
		return DROP;	/* shorter than a MAC control frame can be */
	for (int i = 0; i < ETH_ALEN; i++)
		if (frame.to[i] != group[i])
			return NEXT;
	if (frame.opcode != bpf_htons(0x0101)) {
		if (frame.opcode == bpf_htons(0x0001))
			ADD(port->pause_802_3x, 1);
		return DROP;
	}
	for (int i = 0; i < QUEUES; i++) {
		if (!(bpf_ntohs(frame.enabled) & 1 << i))
			continue;
		quanta[i] = bpf_ntohs(frame.quanta[i]);
		if (quanta[i])
			ADD(port->pfc_rx[i], 1);
		else
			ADD(port->pfc_xon_rx[i], 1);
	}
	honoured = bpf_ntohs(frame.enabled) & profile->pfc_enable;
	if (honoured)
		tell(EVENT_PFC, here, honoured, 0, quanta);
	return DROP;
}

#endif
