/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hash engine's maps, beside those of maps.h: made and pinned when the first switch of a lab turns it on. The sizes
 * here are the least.
 */
#ifndef RAILBED_ECMP_MAPS_H
#define RAILBED_ECMP_MAPS_H

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, ECMP_PROFILES);
	__type(key, __u32);
	__type(value, struct ecmp_profile);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} ecmps SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 2 * ECMP_MODES);
	__type(key, __u32);
	__type(value, struct ecmp_count);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} ecmp_counts SEC(".maps");

/* A trie for each switch, at its first port. asicd fills it from the kernel's routes. */
struct routes_of_a_switch {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__uint(key_size, sizeof(struct route_key));	/* sizes: clang 14 describes no types of an inner map */
	__uint(value_size, sizeof(struct ecmp_group));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__array(values, struct routes_of_a_switch);
} routes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FLOWLETS);
	__type(key, __u32);
	__type(value, struct flowlet);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} flowlets SEC(".maps");

/* When a bucket was hit last, ns: ECMP_BUCKETS words a group. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, ECMP_BUCKETS);
	__type(key, __u32);
	__type(value, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} bucket_seen SEC(".maps");

/* Round robin: by ingress port. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} turns SEC(".maps");

#endif
