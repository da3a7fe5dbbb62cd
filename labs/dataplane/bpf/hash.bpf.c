// SPDX-License-Identifier: Apache-2.0
/*
 * The hash engine: which member of its ECMP group a transit packet takes. The ingress program goes on here, by tail
 * call, for ports with a class that is not left to the kernel's own hash. Under fib_multipath_hash_policy=1 the kernel
 * takes skb->hash as the packet's hash, and each member owns a range of it; asicd keeps the kernel's groups in
 * `routes`, each member with a hash in the middle of its range. A hash always falls to some living member: groups that
 * are a moment old cost balance, never a packet.
 *
 * Imitates: SAI's hash object (fields, algorithm, seed, offset), RoCE-aware hashing by destination queue pair, flowlet
 * switching, packet spraying, adaptive routing by queue depth, also of marked packets alone, resilient buckets, weights
 * by capacity, and pinning by queue pair or rail.
 *
 * Real silicon does otherwise:
 *  - what its algorithms compute of the fields is its vendor's secret, as is the member that a flow takes. Ours are
 *    written down (docs/ecmp.md), so that a test knows it beforehand.
 *  - its parser reads VLAN and MPLS tags, IPv6 extension headers and many tunnels; ours plain IPv4, IPv6 and VXLAN.
 *  - adaptive routing weighs port load over some microseconds and may hear of the next tier; ours compares the local
 *    queues of the packet's class, now.
 *  - round robin is exact for a port; ours for a port and processor.
 *
 * By hand, on interface D of this network namespace (alone it touches nothing: ingress.bpf.c says the port in cb[0]):
 *   bpftool prog load hash.bpf.o /sys/fs/bpf/hash type classifier
 *   bpftool net attach tcx_ingress pinned /sys/fs/bpf/hash dev D
 *   bpftool net show dev D
 *   bpftool net detach tcx_ingress dev D && rm /sys/fs/bpf/hash
 */
#include "types.h"
#include <linux/ip.h>
#include <linux/ipv6.h>
#include "maps.h"
#include "ecmp_maps.h"
#include "chance.h"
#include "crc.h"
#include "headers.h"
#include "fields.h"
#include "ecmp.h"

static __always_inline struct ecmp_group *group_of(const struct port_state *port, const struct layer *layer)
{
	void *trie = bpf_map_lookup_elem(&routes, &port->first);
	struct route_key key = { .prefixlen = 128 };

	if (!trie)
		return 0;
	__builtin_memcpy(key.address, layer->dst, sizeof(key.address));
	return bpf_map_lookup_elem(trie, &key);
}

/* The rule of the packet's class, or none. */
static __always_inline const struct ecmp_profile *rule_of(const struct port_profile *profile, __u32 tc)
{
	__u32 at = profile->ecmp_of_tc[tc];

	return at ? bpf_map_lookup_elem(&ecmps, &at) : 0;
}

static __always_inline void count(struct __sk_buff *skb, __u32 port, const struct choice *choice)
{
	__u32 at = port * ECMP_MODES + choice->mode;
	struct ecmp_count *counted = bpf_map_lookup_elem(&ecmp_counts, &at);

	if (!counted)
		return;
	ADD(counted->packets, 1);
	ADD(counted->bytes, skb->len);
	if (choice->began)
		ADD(counted->flowlets, 1);
	if (choice->repicked)
		ADD(counted->repicks, 1);
}

/* cb[1..3] are for tests: the chosen member's place + 1, the packet's own hash, the hash that was set. */
static __always_inline void set_hash(struct __sk_buff *skb, __u32 place, __u32 h, __u32 hash)
{
	CTX_SET(skb, cb[1], place);
	CTX_SET(skb, cb[2], h);
	CTX_SET(skb, cb[3], hash);
	bpf_set_hash(skb, hash);
}

SEC("tc")
int asic_hash(struct __sk_buff *skb)
{
	struct packet packet = {};
	struct asked asked = { .here = skb->cb[0], .packet = &packet };
	const struct ecmp_member *member;
	struct choice choice;

	asked.port = port_at(asked.here);
	asked.profile = asked.port ? profile_at(asked.port->profile) : 0;
	packet.outer.ethertype = skb->protocol;
	if (!asked.here || !asked.profile || !read_ip(skb, ETH_HLEN, &packet.outer))
		return NEXT;
	asked.tc = asked.profile->tc_of_dscp[packet.outer.tos >> 2] & (CLASSES - 1);
	asked.rule = rule_of(asked.profile, asked.tc);
	if (!asked.rule || asked.rule->mode == ECMP_KERNEL || asked.rule->mode >= ECMP_MODES)
		return NEXT;
	asked.group = group_of(asked.port, &packet.outer);
	if (asked.group) {
		asked.count = *(volatile __u32 *)&asked.group->count;
		if (asked.count < 2 || asked.count > ECMP_MEMBERS)
			return NEXT;
	}
	packet.local = asked.port->local;
	if (asked.rule->fields & (FIELD_SRC_MAC | FIELD_DST_MAC))
		read_macs(skb, 0, &packet.outer);
	packet.has = packet.outer.has;
	if (read_bth(skb, &packet.outer, &packet.bth))
		packet.has |= FIELD_DST_QP;
	asked.h = hash_of(skb, asked.port, &packet, asked.rule);
	if (!asked.group) {	/* routed since asicd last looked: the kernel finds a living member for any hash */
		set_hash(skb, 0, asked.h, asked.h | 1);
		return NEXT;
	}
	choice = choose(&asked);
	member = &asked.group->member[choice.place & (ECMP_MEMBERS - 1)];
	set_hash(skb, choice.place + 1, asked.h, member->hash);
	count(skb, member->port, &choice);
	return NEXT;
}

char _license[] SEC("license") = "Dual BSD/GPL";
