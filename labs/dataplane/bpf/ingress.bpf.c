// SPDX-License-Identifier: Apache-2.0
/*
 * The ingress half of a port. First it ends what the far end's egress began: the packet has left its queue, its room
 * is given back, and it is marked CE by the depth it leaves behind. Then the wire may lose or corrupt it. Then the
 * port receives it: PFC is taken out, everything else is told which port it came in by. Where a switch does not leave
 * ECMP to the kernel, the hash engine goes on (hash.bpf.c).
 *
 * Imitates: ECN marking at dequeue on the instantaneous depth, exactly SONiC's curve (wred.h); XON; 802.1Qbb frames
 * honoured per enabled priority, a later frame replacing the earlier pause; 802.3x ignored; the PFC watchdog's drop.
 *
 * Real silicon does otherwise:
 *  - it marks in the egress pipeline of the switch; here a capture at the receiving port sees the frame before its
 *    mark (a packet socket looks before the programs do): capture at the next hop, or read marks from a UDP socket.
 *  - it recomputes the FCS; a veth has none, so `bad_fcs` drops and counts what a receiver's FCS check would.
 *  - its parser reads a DSCP behind MPLS or VLAN tags; ours reads plain IPv4 and IPv6.
 *
 * By hand, on interface D of this network namespace:
 *   bpftool prog load ingress.bpf.o /sys/fs/bpf/ingress type classifier
 *   bpftool net attach tcx_ingress pinned /sys/fs/bpf/ingress dev D
 *   bpftool net show dev D
 *   bpftool net detach tcx_ingress dev D && rm /sys/fs/bpf/ingress
 */
#include "types.h"
#include "maps.h"
#include "parse.h"
#include "chance.h"
#include "wred.h"
#include "queue.h"
#include "pfc.h"
#include "wire.h"

#define CE	3

/* Mark a packet that leaves `depth` bytes behind, as its queue's WRED profile says. */
static __always_inline void mark_by_depth(struct __sk_buff *skb, struct port_state *from, struct queue_state *queue,
					  const struct wred_profile *wred, __s64 depth)
{
	int tos;

	if (!wred->ecn || !chance(from, wred_probability(wred, depth)))
		return;
	tos = tos_of(skb);
	if (tos == NOT_IP || !(tos & ECN_MASK) || (tos & ECN_MASK) == CE)
		return;
	if (bpf_skb_ecn_set_ce(skb) == 1) {
		ADD(queue->marked_packets, 1);
		ADD(queue->marked_bytes, skb->len);
	}
}

/* The far end's packet has left its queue. Returns true when the watchdog empties that queue: it never arrives. */
static __always_inline int leave_queue(struct __sk_buff *skb, struct port_state *from, __u32 from_port, __u32 stamp)
{
	__u32 q = STAMP_QUEUE(stamp), pg = STAMP_PG(stamp), local = STAMP_LOCAL(stamp), len = skb->len;
	struct port_profile *profile = profile_at(from->profile), *in;
	struct queue_state *queue = queue_at(from_port, q);
	struct pool_state *pool;
	struct port_state *came;
	struct pg_state *group;
	__s64 depth, *word;

	if (!profile || !queue)
		return 0;
	pool = pool_at(from->pools, profile->queue[q].pool & (POOLS - 1));
	depth = queue_release(queue, &profile->queue[q], pool, len);
	if (stamp & STAMP_CHARGED) {
		group = group_at(from->first + local, pg);
		word = matrix_at(from->matrix, local, pg);
		came = port_at(from->first + local);
		in = came ? profile_at(came->profile) : 0;
		pool = in ? pool_at(from->pools, in->pg[pg].pool & (POOLS - 1)) : 0;
		if (group && word && in && pool) {
			ADD(*word, -PACKED(1, len));
			group_release(group, &in->pg[pg], pool, came, from->first + local, pg, in->pfc_enable, len);
		}
	}
	if (from->watchdog_drop & 1 << q) {
		ADD(queue->emptied_packets, 1);
		ADD(queue->emptied_bytes, len);
		return 1;
	}
	ADD(queue->sent_packets, 1);
	ADD(queue->sent_bytes, len);
	mark_by_depth(skb, from, queue, &profile->queue[q].wred, depth);
	return 0;
}

/* The watchdog's drop works both ways: what comes in for a PG whose queue is in a storm goes no further. */
static __always_inline int watched(struct __sk_buff *skb, struct port_state *port, const struct port_profile *profile)
{
	int tos;

	if (!port->watchdog_drop)
		return 0;
	tos = tos_of(skb);
	if (tos == NOT_IP)
		return 0;
	return port->watchdog_drop & 1 << profile->queue_of_tc[profile->tc_of_dscp[(tos >> 2) & (DSCPS - 1)] &
								(CLASSES - 1)];
}

SEC("tc")
int asic_ingress(struct __sk_buff *skb)
{
	__u32 here = port_here(skb), stamp = skb->hash, from_port;
	struct port_state *port = port_at(here), *from;
	struct port_profile *profile;
	struct impairment *wire;
	struct receiver *slow;

	if (!here || !port)
		return NEXT;
	if (skb->protocol == bpf_htons(ETH_P_KICK))
		return DROP;
	profile = profile_at(port->profile);
	if (!profile)
		return NEXT;
	if (skb->protocol == bpf_htons(ETH_P_PAUSE))
		return mac_control(skb, here, port, profile);

	from_port = port->peer;
	from = port_at(from_port);
	if (STAMP_MARK(stamp) == stamp_mark && from) {
		if (leave_queue(skb, from, from_port, stamp))
			return DROP;
	} else {
		ADD(port->unstamped, 1);
	}
	/* The stamp is spent, and a sender's own hash must not steer ECMP: the next hop computes its own. */
	bpf_set_hash_invalid(skb);

	wire = bpf_map_lookup_elem(&impairments, &here);
	if (!wire || impaired(skb, port, wire))
		return DROP;
	if (port->kind == PORT_SWITCH) {
		if (watched(skb, port, profile)) {
			ADD(wire->watchdog_dropped, 1);
			return DROP;
		}
		CTX_SET(skb, mark, MARK_INGRESS | port->local);
		if (profile->ecmp) {
			CTX_SET(skb, cb[0], here);
			bpf_tail_call(skb, &engines, ECMP_ENGINE);
		}
		return NEXT;
	}
	slow = bpf_map_lookup_elem(&receivers, &here);
	if (slow && slow->drain_bps && receive_slowly(slow, here, profile->pfc_enable, skb->len))
		return DROP;
	return NEXT;
}

char _license[] SEC("license") = "Dual BSD/GPL";
