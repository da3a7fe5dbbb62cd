// SPDX-License-Identifier: Apache-2.0
/*
 * A link's faults on RoCEv2 data packets over IPv4, at the receiving host's tc ingress: every LOSE-th is lost, every
 * SPOIL-th has a payload bit changed, every MARK-th is marked CE; 0 for none. Counted as a switch counts, so a packet
 * that is sent again has another number.
 *
 *	clang -O2 -g -target bpf -DLOSE=100 -DSPOIL=0 -DMARK=0 -c link_fault.bpf.c -o link_fault.o
 *	tc qdisc add dev eth0 clsact; tc filter add dev eth0 ingress bpf da obj link_fault.o sec tc
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define TOS 15
#define PROTOCOL 23
#define CHECKSUM 24
#define DPORT 36
#define OPCODE 42
#define PAYLOAD 100 /* past every header */

static __u64 packets;

static int is_data(struct __sk_buff *skb)
{
	__u8 protocol = 0, opcode = 0xff;
	__u16 port = 0;

	bpf_skb_load_bytes(skb, PROTOCOL, &protocol, sizeof(protocol));
	bpf_skb_load_bytes(skb, DPORT, &port, sizeof(port));
	bpf_skb_load_bytes(skb, OPCODE, &opcode, sizeof(opcode));
	return skb->protocol == bpf_htons(0x0800) && protocol == 17 && port == bpf_htons(4791) && opcode < 0x10;
}

SEC("tc")
int link_fault(struct __sk_buff *skb)
{
	__u64 n;
	__u8 byte = 0;

	if (!is_data(skb))
		return TC_ACT_OK;
	n = __sync_fetch_and_add(&packets, 1) + 1;
	if (LOSE && n % LOSE == 0)
		return TC_ACT_SHOT;
	if (SPOIL && n % SPOIL == 0) {
		bpf_skb_load_bytes(skb, PAYLOAD, &byte, 1);
		byte ^= 1;
		bpf_skb_store_bytes(skb, PAYLOAD, &byte, 1, 0);
	}
	if (MARK && n % MARK == 0) {
		bpf_skb_load_bytes(skb, TOS, &byte, 1);
		bpf_l3_csum_replace(skb, CHECKSUM, bpf_htons(byte), bpf_htons(byte | 3), 2);
		byte |= 3;
		bpf_skb_store_bytes(skb, TOS, &byte, 1, 0);
	}
	return TC_ACT_OK;
}

char _license[] SEC("license") = "GPL";
