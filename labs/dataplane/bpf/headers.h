/* SPDX-License-Identifier: Apache-2.0 */
/* What a packet's headers say for hashing. Everything in network byte order, as it lies in the frame. */
#ifndef RAILBED_HEADERS_H
#define RAILBED_HEADERS_H

#include "look.h"

#define TCP		6
#define UDP		17
#define UDP_LEN		8
#define VXLAN_LEN	8
#define IPV4_FRAGMENT	bpf_htons(0x3fff)	/* more fragments, or an offset: all hash alike */
#define FLOW_LABEL(w)	((w) >> 8 & 0xffff0f)	/* of IPv6's first word: the bytes behind the first */
#define IPV6_CLASS(w)	((__u8)((w) << 4 | ((w) >> 12 & 15)))

/* One Ethernet, IP and transport header. IPv4 addresses are ::ffff:a.b.c.d. */
struct layer {
	__u32 has;		/* enum hash_field, the outer ones */
	__u16 mac[6];		/* destination, source */
	__u16 ethertype;
	__u8 protocol;
	__u8 tos;
	__u8 behind;		/* offset of what follows UDP's header; 0 where there is none */
	__u32 src[4];
	__u32 dst[4];
	__u32 label;		/* three bytes */
	__u16 sport;
	__u16 dport;
};

struct bth {
	__u32 queue_pair;	/* three bytes */
	__u8 adaptive;
};

static __always_inline void read_macs(struct __sk_buff *skb, __u32 at, struct layer *layer)
{
	struct ethhdr room;
	__u16 *eth = look(skb, at, &room, sizeof(room));

	if (!eth)
		return;
	for (int i = 0; i < 6; i++)
		layer->mac[i] = eth[i];
	layer->has |= FIELD_SRC_MAC | FIELD_DST_MAC;
}

static __always_inline void read_ports(struct __sk_buff *skb, __u32 at, struct layer *layer)
{
	__u32 room;
	__u16 *ports;

	if (layer->protocol != TCP && layer->protocol != UDP)
		return;
	ports = look(skb, at, &room, sizeof(room));
	if (!ports)
		return;
	layer->sport = ports[0];
	layer->dport = ports[1];
	layer->has |= FIELD_L4_SRC_PORT | FIELD_L4_DST_PORT;
	if (layer->protocol == UDP)
		layer->behind = at + UDP_LEN;
}

/* The IP header at `at` and the ports behind it. Returns false when there is none. */
static __always_inline int read_ip(struct __sk_buff *skb, __u32 at, struct layer *layer)
{
	union {
		struct iphdr v4;
		struct ipv6hdr v6;
	} room;

	if (layer->ethertype == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = look(skb, at, &room.v4, sizeof(room.v4));

		if (!ip)
			return 0;
		layer->tos = ip->tos;
		layer->protocol = ip->protocol;
		layer->src[3] = ip->saddr;
		layer->dst[3] = ip->daddr;
		layer->src[2] = layer->dst[2] = bpf_htonl(0xffff);
		layer->has |= FIELD_ETHERTYPE | FIELD_IP_PROTOCOL | FIELD_SRC_IP | FIELD_DST_IP;
		if (!(ip->frag_off & IPV4_FRAGMENT))
			read_ports(skb, at + ip->ihl * 4, layer);
		return 1;
	}
	if (layer->ethertype == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = look(skb, at, &room.v6, sizeof(room.v6));

		if (!ip)
			return 0;
		layer->tos = IPV6_CLASS(*(__u32 *)ip);
		layer->label = FLOW_LABEL(*(__u32 *)ip);
		layer->protocol = ip->nexthdr;
		for (int i = 0; i < 4; i++) {
			layer->src[i] = ip->saddr.in6_u.u6_addr32[i];
			layer->dst[i] = ip->daddr.in6_u.u6_addr32[i];
		}
		layer->has |= FIELD_ETHERTYPE | FIELD_IP_PROTOCOL | FIELD_SRC_IP | FIELD_DST_IP | FIELD_IPV6_FLOW_LABEL;
		read_ports(skb, at + sizeof(*ip), layer);
		return 1;
	}
	return 0;
}

/* RoCEv2's base transport header. Returns false when there is none. */
static __always_inline int read_bth(struct __sk_buff *skb, const struct layer *layer, struct bth *bth)
{
	__u32 room[3], *found;

	if (!layer->behind || layer->dport != bpf_htons(ROCE_PORT))
		return 0;
	found = look(skb, layer->behind, room, sizeof(room));
	if (!found)
		return 0;
	bth->queue_pair = found[1] >> 8;
	bth->adaptive = !!(found[2] & BTH_ADAPTIVE);
	return 1;
}

/* The frame in a VXLAN packet. Returns false when there is none; one that is not IP has its Ethernet header alone. */
static __always_inline int read_inner(struct __sk_buff *skb, const struct layer *layer, struct layer *inner)
{
	__u32 at = layer->behind + VXLAN_LEN;
	__u16 room, *ethertype;

	if (!layer->behind || layer->dport != bpf_htons(VXLAN_PORT))
		return 0;
	read_macs(skb, at, inner);
	ethertype = look(skb, at + ETH_HLEN - sizeof(room), &room, sizeof(room));
	if (!ethertype)
		return 0;
	inner->ethertype = *ethertype;
	inner->has |= FIELD_ETHERTYPE;
	read_ip(skb, at + ETH_HLEN, inner);
	return 1;
}

#endif
