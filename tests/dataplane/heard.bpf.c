// SPDX-License-Identifier: Apache-2.0
/* Behind the ingress program on one interface: what it left in a packet's fields, and how much of it was gathered. */
#include "types.h"

struct heard {
	__u32 hash;
	__u32 cb[4];
	__u32 gathered;
	__u32 len;
	__u32 packets;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct heard);
} heard SEC(".maps");

SEC("tc")
int hear(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct heard *it = bpf_map_lookup_elem(&heard, &zero);

	if (!it)
		return NEXT;
	it->hash = skb->hash;
	it->cb[0] = skb->cb[0];
	it->cb[1] = skb->cb[1];
	it->cb[2] = skb->cb[2];
	it->cb[3] = skb->cb[3];
	it->gathered = skb->data_end - skb->data;
	it->len = skb->len;
	it->packets++;
	return NEXT;
}

char _license[] SEC("license") = "Dual BSD/GPL";
