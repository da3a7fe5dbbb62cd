// SPDX-License-Identifier: Apache-2.0
/*
 * Gives back the room of packets that died between the two programs: asicd runs it (BPF_PROG_RUN), never a packet.
 *
 * Imitates nothing: silicon loses no packet between its queue and its wire. A kernel does: a queue is purged when its
 * link goes down, a far end that is down refuses frames, a full per-CPU backlog drops them.
 * It must be a program, as a PG changes only under its lock, which user space cannot take.
 *
 * By hand (docs/soft-asic.md has the layout of struct repair, which follows 14 bytes of nothing):
 *   bpftool prog load repair.bpf.o /sys/fs/bpf/repair type classifier
 *   bpftool prog run pinned /sys/fs/bpf/repair data_in FILE
 *   bpftool prog show pinned /sys/fs/bpf/repair
 *   rm /sys/fs/bpf/repair
 */
#include "types.h"
#include "maps.h"
#include "queue.h"
#include "pfc.h"

SEC("tc")
int asic_repair(struct __sk_buff *skb)
{
	struct port_state *port, *came;
	struct port_profile *profile, *in;
	struct queue_state *queue;
	struct pool_state *pool;
	struct impairment *wire;
	struct pg_state *group;
	struct receiver *slow;
	struct asicd_state *state;
	struct repair repair;
	__u32 zero = 0;
	__s64 *word;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &repair, sizeof(repair)))
		return DROP;
	/* Every map has to be used by some program that is loaded first: it makes them. */
	wire = bpf_map_lookup_elem(&impairments, &zero);
	slow = bpf_map_lookup_elem(&receivers, &zero);
	state = bpf_map_lookup_elem(&asicd, &zero);
	port = port_at(repair.port);
	if (!wire || !slow || !state || !port || port_of_ifindex[0] || first_ifindex || !stamp_mark)
		return DROP;
	profile = profile_at(port->profile);
	if (!profile)
		return DROP;
	if (repair.kind == REPAIR_QUEUE) {
		queue = queue_at(repair.port, repair.queue & (QUEUES - 1));
		if (!queue)
			return DROP;
		pool = pool_at(port->pools, profile->queue[repair.queue & (QUEUES - 1)].pool & (POOLS - 1));
		queue_take(queue, &profile->queue[repair.queue & (QUEUES - 1)], pool, repair.packets, repair.bytes);
		ADD(queue->lost, PACKED(repair.packets, repair.bytes));
		return NEXT;
	}
	came = port_at(port->first + repair.local);
	in = came ? profile_at(came->profile) : 0;
	pool = in ? pool_at(port->pools, in->pg[repair.pg & (QUEUES - 1)].pool & (POOLS - 1)) : 0;
	group = group_at(port->first + repair.local, repair.pg & (QUEUES - 1));
	word = matrix_at(port->matrix, repair.local, repair.pg & (QUEUES - 1));
	if (!in || !pool || !group || !word)
		return DROP;
	ADD(*word, -PACKED(repair.packets, repair.bytes));
	group_release(group, &in->pg[repair.pg & (QUEUES - 1)], pool, came, port->first + repair.local,
		      repair.pg & (QUEUES - 1), in->pfc_enable, repair.bytes);
	return NEXT;
}

char _license[] SEC("license") = "Dual BSD/GPL";
