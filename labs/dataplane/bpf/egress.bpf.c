// SPDX-License-Identifier: Apache-2.0
/*
 * The egress half of a port: classification, admission to the shared buffer, the choice of the queue.
 *
 * Imitates a shared-buffer data-center switch ASIC as SONiC configures it: DSCP -> TC -> queue and PG; per PG and
 * queue a reserved size and a static or dynamic limit, limit = 2^dynamic_th x free bytes of the pool; lossless PGs
 * with headroom; WRED drop of packets that cannot be marked; ingress drops and tail drops. HTB below it shapes to the
 * port's rate and schedules (strict, DWRR); a TBF stands before each queue that PFC can pause.
 *
 * Real silicon does otherwise:
 *  - it admits a packet when it comes in, before it is routed; here both ends of the buffer, PG and queue, are charged
 *    when the packet has been routed, in one step. A packet that routing drops never takes room.
 *  - it counts cells (such as 208 or 254 bytes), we count bytes; it has latency of its own (some 0.5 us), we have the
 *    kernel's (some 3 us a hop).
 *  - packets of the switch's own CPU go to queue 7 here, whatever their DSCP, as SONiC's host interface sends them.
 *  - multicast, mirroring and cut-through are not played.
 *
 * By hand, on interface D of this network namespace (maps appear in the lab's folder, docs/soft-asic.md):
 *   bpftool prog load egress.bpf.o /sys/fs/bpf/egress type classifier
 *   bpftool net attach tcx_egress pinned /sys/fs/bpf/egress dev D
 *   bpftool net show dev D
 *   bpftool net detach tcx_egress dev D && rm /sys/fs/bpf/egress
 */
#include "types.h"
#include "maps.h"
#include "parse.h"
#include "chance.h"
#include "wred.h"
#include "queue.h"
#include "pfc.h"

#define HTB_MAJOR	0x00010000U	/* qdisc 1: */
#define HTB_CLASS(q)	(HTB_MAJOR | 0x10 | (q))
#define OWN_QUEUE	7

/* WRED at enqueue: the curve drops what dequeue cannot mark. */
static __always_inline int wred_drops(struct port_state *port, const struct wred_profile *wred, int tos, __s64 depth)
{
	if (!wred->drop || (wred->ecn && tos != NOT_IP && tos & ECN_MASK))
		return 0;
	return chance(port, wred_probability(wred, depth));
}

SEC("tc")
int asic_egress(struct __sk_buff *skb)
{
	__u32 here = port_here(skb), len = skb->len, mark = skb->mark, stamp, local = 0;
	struct port_state *port = port_at(here);
	struct pool_state *pool = 0, *ingress_pool;
	struct port_profile *profile;
	struct queue_state *queue;
	struct pg_state *group;
	__u8 tc, q, pg = 0;
	__s64 *word;
	int tos, charged;

	if (!here || !port)
		return NEXT;
	/* MAC control and kicks are no traffic: no class, no rate, no fate. */
	if (skb->protocol == bpf_htons(ETH_P_KICK) || skb->protocol == bpf_htons(ETH_P_PAUSE)) {
		CTX_SET(skb, priority, HTB_MAJOR);	/* HTB's direct queue: no class, no rate */
		return NEXT;
	}
	profile = profile_at(port->profile);
	if (!profile)
		return NEXT;
	tos = tos_of(skb);
	tc = tos == NOT_IP ? 0 : profile->tc_of_dscp[(tos >> 2) & (DSCPS - 1)] & (CLASSES - 1);
	q = profile->queue_of_tc[tc] & (QUEUES - 1);
	charged = port->kind == PORT_SWITCH && (mark & MARK_MASK) == MARK_INGRESS;
	if (port->kind == PORT_SWITCH && !charged)
		q = OWN_QUEUE;
	queue = queue_at(here, q);
	if (!queue)
		return NEXT;

	if (!charged) {
		ADD(queue->own_packets, 1);
		ADD(queue->own_bytes, len);
	}
	if (port->watchdog_drop & 1 << q) {
		ADD(queue->watchdog_dropped_packets, 1);
		ADD(queue->watchdog_dropped_bytes, len);
		return DROP;
	}
	if (wred_drops(port, &profile->queue[q].wred, tos, PACKED_BYTES(*(volatile __s64 *)&queue->depth))) {
		ADD(queue->wred_dropped_packets, 1);
		ADD(queue->wred_dropped_bytes, len);
		return DROP;
	}
	pool = pool_at(port->pools, profile->queue[q].pool & (POOLS - 1));
	if (!pool)
		return NEXT;
	if (!queue_charge(queue, &profile->queue[q], pool, len)) {
		ADD(queue->tail_dropped_packets, 1);
		ADD(queue->tail_dropped_bytes, len);
		return DROP;
	}
	stamp = q | stamp_mark << 19;
	if (charged) {
		local = mark & (LOCALS - 1);
		pg = profile->pg_of_tc[tc] & (QUEUES - 1);
		group = group_at(port->first + local, pg);
		word = matrix_at(port->matrix, local, pg);
		/* The PG is the ingress port's: so are its limits. */
		struct port_state *from = port_at(port->first + local);
		struct port_profile *in = from ? profile_at(from->profile) : 0;

		ingress_pool = in ? pool_at(port->pools, in->pg[pg].pool & (POOLS - 1)) : 0;
		if (!group || !word || !in || !ingress_pool)
			charged = 0;
		else if (!group_charge(group, &in->pg[pg], ingress_pool, from, port->first + local, pg,
				       in->pfc_enable, len)) {
			queue_release(queue, &profile->queue[q], pool, len);
			ADD(queue->ingress_dropped_packets, 1);
			ADD(queue->ingress_dropped_bytes, len);
			return DROP;
		} else {
			ADD(*word, PACKED(1, len));
			stamp |= STAMP_CHARGED | pg << 3 | local << 7;
		}
	}
	bpf_set_hash(skb, stamp);
	CTX_SET(skb, priority, HTB_CLASS(q));
	return NEXT;
}

char _license[] SEC("license") = "Dual BSD/GPL";
