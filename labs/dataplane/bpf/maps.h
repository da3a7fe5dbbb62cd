/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The maps, pinned under one folder a lab. Those that asicd reads while packets flow are mapped into its memory.
 * The sizes here are the least; asicd sets them to what the lab needs before the first program is loaded.
 */
#ifndef RAILBED_MAPS_H
#define RAILBED_MAPS_H

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct port_state);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct port_profile);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} profiles SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, struct queue_state);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} queues SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, struct pg_state);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} groups SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, struct pool_state);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} pools SEC(".maps");

/* PACKED words: what of an egress port's queues came in by which port and PG of the same node. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __s64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} matrix SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct impairment);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} impairments SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct receiver);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} receivers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct asicd_state);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} asicd SEC(".maps");

/* The hash engine, where some switch of the lab has one: a program of its own, so that the others pay nothing. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} engines SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} events SEC(".maps");

/* Which port an interface of this node is; each node has its own copy of the programs, and of these. */
const volatile __u32 first_ifindex = 0;
const volatile __u32 stamp_mark = 1;
const volatile __u16 port_of_ifindex[IFINDEXES] = {};

static __always_inline __u32 port_here(const struct __sk_buff *skb)
{
	__u32 at = skb->ifindex - first_ifindex;

	return at < IFINDEXES ? port_of_ifindex[at] : 0;
}

static __always_inline struct port_state *port_at(__u32 port)
{
	return bpf_map_lookup_elem(&ports, &port);
}

static __always_inline struct port_profile *profile_at(__u32 profile)
{
	return bpf_map_lookup_elem(&profiles, &profile);
}

static __always_inline struct queue_state *queue_at(__u32 port, __u32 queue)
{
	__u32 at = port * QUEUES + queue;

	return bpf_map_lookup_elem(&queues, &at);
}

static __always_inline struct pg_state *group_at(__u32 port, __u32 pg)
{
	__u32 at = port * QUEUES + pg;

	return bpf_map_lookup_elem(&groups, &at);
}

static __always_inline struct pool_state *pool_at(__u32 first, __u32 pool)
{
	__u32 at = first + pool;

	return bpf_map_lookup_elem(&pools, &at);
}

static __always_inline __s64 *matrix_at(__u32 row, __u32 local, __u32 pg)
{
	__u32 at = row + local * QUEUES + pg;

	return bpf_map_lookup_elem(&matrix, &at);
}

#endif
