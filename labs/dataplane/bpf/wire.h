/* SPDX-License-Identifier: Apache-2.0 */
/* What goes wrong between two ports, on the way into one of them; and a host that cannot keep up. */
#ifndef RAILBED_WIRE_H
#define RAILBED_WIRE_H

static __always_inline int blackholed(struct __sk_buff *skb, const struct impairment *wire)
{
	struct flow4 flow;

	if (wire->match & MATCH_ALL)
		return 1;
	if (wire->match & (MATCH_BGP | MATCH_BFD))
		return control_of(skb) & wire->match;
	if (flow4_of(skb, &flow))
		return 0;
	return !((wire->match & MATCH_SADDR && flow.saddr != wire->saddr) ||
		 (wire->match & MATCH_DADDR && flow.daddr != wire->daddr) ||
		 (wire->match & MATCH_SPORT && flow.sport != wire->sport) ||
		 (wire->match & MATCH_DPORT && flow.dport != wire->dport) ||
		 (wire->match & MATCH_PROTOCOL && flow.protocol != wire->protocol));
}

/* Flip one bit behind the transport header; checksums stay as they were, as after a fault inside a switch. */
static __always_inline int flip_a_bit(struct __sk_buff *skb, struct port_state *port)
{
	struct flow4 flow;
	__u32 at, bit, room;
	__u8 byte;

	if (flow4_of(skb, &flow) || !flow.payload || flow.payload >= skb->len)
		return 0;
	room = skb->len - flow.payload;
	bit = draw(port);
	at = flow.payload + (bit >> 3) % room;
	if (bpf_skb_load_bytes(skb, at, &byte, 1))
		return 0;
	byte ^= 1 << (bit & 7);
	return !bpf_skb_store_bytes(skb, at, &byte, 1, 0);
}

/* Returns true when the frame is lost on the wire. */
static __always_inline int impaired(struct __sk_buff *skb, struct port_state *port, struct impairment *wire)
{
	if (wire->match && blackholed(skb, wire)) {
		ADD(wire->blackholed, 1);
		return 1;
	}
	if (wire->every && (__sync_fetch_and_add(&wire->counter, 1) + 1) % wire->every == 0) {
		ADD(wire->nth_dropped, 1);
		return 1;
	}
	if (chance(port, wire->lose)) {
		ADD(wire->lost, 1);
		return 1;
	}
	if (chance(port, wire->bad_fcs)) {
		ADD(wire->fcs_errors, 1);
		return 1;
	}
	if (chance(port, wire->corrupt) && flip_a_bit(skb, port))
		ADD(wire->corrupted, 1);
	return 0;
}

/* A slow receiver's virtual queue drains at its rate: `busy_until` is when it will be empty. Returns true for a drop. */
static __always_inline int receive_slowly(struct receiver *slow, __u32 here, __u8 enabled, __u32 len)
{
	__u64 now = bpf_ktime_get_ns(), was, until, depth = 0;

	for (int i = 0; i < 4; i++) {
		was = *(volatile __u64 *)&slow->busy_until_ns;
		until = was > now ? was : now;
		depth = (until - now) * slow->drain_bps / 8000000000ULL + len;
		if (depth > slow->limit_bytes) {
			ADD(slow->dropped, 1);
			return 1;
		}
		until += (__u64)len * 8000000000ULL / slow->drain_bps;
		if (__sync_val_compare_and_swap(&slow->busy_until_ns, was, until) == was)
			break;
	}
	raise(&slow->watermark, depth);
	if (depth > slow->xoff_bytes && enabled && __sync_val_compare_and_swap(&slow->xoff, 0, 1) == 0)
		tell(EVENT_SLOW, here, enabled, 0, 0);
	return 0;
}

#endif
