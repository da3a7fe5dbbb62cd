/* SPDX-License-Identifier: Apache-2.0 */
/* What a frame says of itself: its DSCP and ECN bits, and a transport flow for the blackhole. */
#ifndef RAILBED_PARSE_H
#define RAILBED_PARSE_H

#define ECN_MASK	3
#define NOT_IP		(-1)

/* The IPv4 TOS or IPv6 traffic class byte, or NOT_IP. */
static __always_inline int tos_of(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	__u8 *ip = data + ETH_HLEN;
	__u8 two[2];

	if (skb->protocol != bpf_htons(ETH_P_IP) && skb->protocol != bpf_htons(ETH_P_IPV6))
		return NOT_IP;
	if ((void *)(ip + 2) <= end) {
		two[0] = ip[0];
		two[1] = ip[1];
	} else if (bpf_skb_load_bytes(skb, ETH_HLEN, two, sizeof(two))) {
		return NOT_IP;
	}
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return two[1];
	return (__u8)(two[0] << 4 | two[1] >> 4);
}

struct flow4 {
	__u32 saddr;
	__u32 daddr;
	__u16 sport;
	__u16 dport;
	__u32 protocol;
	__u32 payload;	/* offset behind the ports, 0 where there are none */
};

/* The five-tuple of an IPv4 frame. Returns 0 when it is one; fragments have no ports. */
static __always_inline int flow4_of(struct __sk_buff *skb, struct flow4 *flow)
{
	__u8 ip[20];
	__u8 ports[4];
	__u32 transport;

	__builtin_memset(flow, 0, sizeof(*flow));
	if (skb->protocol != bpf_htons(ETH_P_IP) || bpf_skb_load_bytes(skb, ETH_HLEN, ip, sizeof(ip)))
		return -1;
	__builtin_memcpy(&flow->saddr, ip + 12, 4);
	__builtin_memcpy(&flow->daddr, ip + 16, 4);
	flow->protocol = ip[9];
	transport = ETH_HLEN + (ip[0] & 15) * 4;
	if ((flow->protocol != 6 && flow->protocol != 17) || ((ip[6] & 0x1f) | ip[7]) ||
	    bpf_skb_load_bytes(skb, transport, ports, sizeof(ports)))
		return 0;
	__builtin_memcpy(&flow->sport, ports, 2);
	__builtin_memcpy(&flow->dport, ports + 2, 2);
	flow->payload = transport + 8;
	if (flow->protocol == 6)	/* its options are no payload */
		flow->payload = bpf_skb_load_bytes(skb, transport + 12, ports, 1) ? 0 : transport + (ports[0] >> 4) * 4;
	return 0;
}

/* What keeps sessions: MATCH_BGP, MATCH_BFD, or 0 for all else. Routing software sends neither with IPv6 extensions. */
static __always_inline int control_of(struct __sk_buff *skb)
{
	__u32 transport = ETH_HLEN + 40;
	__u8 first, protocol;
	__be16 ports[2];

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (bpf_skb_load_bytes(skb, ETH_HLEN, &first, 1) || bpf_skb_load_bytes(skb, ETH_HLEN + 9, &protocol, 1))
			return 0;
		transport = ETH_HLEN + (first & 15) * 4;
	} else if (skb->protocol != bpf_htons(ETH_P_IPV6) || bpf_skb_load_bytes(skb, ETH_HLEN + 6, &protocol, 1)) {
		return 0;
	}
	if (bpf_skb_load_bytes(skb, transport, ports, sizeof(ports)))
		return 0;
	if (protocol == 6 && (ports[0] == bpf_htons(179) || ports[1] == bpf_htons(179)))
		return MATCH_BGP;
	if (protocol == 17 && (ports[1] == bpf_htons(3784) || ports[1] == bpf_htons(3785)))
		return MATCH_BFD;
	return 0;
}

#endif
