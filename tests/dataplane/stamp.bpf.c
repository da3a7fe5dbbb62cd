// SPDX-License-Identifier: Apache-2.0
/*
 * What a veth does for the ingress program and BPF_PROG_RUN does not: give a frame its hash. Then the program under
 * test runs, by a tail call, so that it is the one that is shipped.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u32);
} programs SEC(".maps");

SEC("tc")
int stamped(struct __sk_buff *skb)
{
	bpf_set_hash(skb, skb->cb[0]);
	bpf_tail_call(skb, &programs, skb->cb[1]);
	return TC_ACT_TRAP;	/* no such program: none of ours returns this */
}

char _license[] SEC("license") = "Dual BSD/GPL";
