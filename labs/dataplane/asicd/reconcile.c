// SPDX-License-Identifier: Apache-2.0
/*
 * Packets that died between the two programs: they were queued, and no far end will see them. Unless they are found,
 * their room stays taken for ever and a pause never ends. Two ways find them:
 *
 *   quiet: nothing has come to or gone from a port for QUIET_NS, and the kernel holds nothing of it: what the counters
 *          still hold is lost, to the packet.
 *   busy:  came - sent - waiting, over MANY looks. A packet on its way makes one look say too much, a packet that
 *          comes between two readings makes it say too little; nothing stays on its way for BUSY_NS. So the least of
 *          all looks is lost. Which PG it was charged to is known when one PG fills the queue, and is shared out in
 *          proportion otherwise; the next quiet moment puts that right.
 */
#include <errno.h>
#include <string.h>

#include "asicd.h"

#define QUIET_NS	50000000ULL
#define BUSY_NS		1000000000ULL	/* some fifty looks: no packet is on its way in all of them */
#define SOFTNET_NS	1000000000ULL

static void repair(struct asic *asic, const struct repair *what)
{
	struct {
		uint8_t ethernet[14];
		struct repair repair;
		uint8_t rest[32];
	} __attribute__((packed)) frame = {.repair = *what};
	LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = &frame, .data_size_in = sizeof(frame));

	bpf_prog_test_run_opts(asic->repair_fd, &run);
}

static void give_back_queue(struct asic *asic, unsigned port, unsigned q, int64_t packets, int64_t bytes)
{
	repair(asic, &(struct repair){.kind = REPAIR_QUEUE, .port = port, .queue = q, .packets = packets, .bytes = bytes});
}

void give_back_group(struct asic *asic, unsigned port, unsigned local, unsigned pg, int64_t packets, int64_t bytes)
{
	repair(asic, &(struct repair){.kind = REPAIR_GROUP, .port = port, .local = local, .pg = pg, .packets = packets,
				      .bytes = bytes});
}

/* How many of `packets` a kernel counter explains that has grown to `is`; what else it grew by was no packet of ours. */
static int64_t share_of(uint64_t is, uint64_t *was, int64_t packets)
{
	int64_t grown = is - *was;

	*was = is;
	return grown <= 0 ? 0 : grown < packets ? grown : packets;
}

/* What was taken for lost has come after all: no counter goes below 0 for it. */
static void take_back(struct port_state *state, uint64_t packets)
{
	__u64 *counters[] = {&state->lost_purged, &state->lost_qdisc, &state->lost_veth};

	for (unsigned i = 0; i < sizeof(counters) / sizeof(*counters); i++) {
		uint64_t part = packets < *counters[i] ? packets : *counters[i];

		*counters[i] -= part;
		packets -= part;
	}
}

/* Say what the kernel says of them: refused by the far end, dropped by a queue, or purged with it. */
static void attribute(struct asic *asic, unsigned number, int64_t packets, const char *how)
{
	struct port *port = &asic->port[number];
	struct port_state *state = &asic->ports[number];
	uint64_t veth, queues;
	int64_t refused, full;

	if (port_dropped(&asic->node[port->node].ns, port, &veth, &queues)) {
		veth = port->veth_dropped;
		queues = port->qdisc_dropped;
	}
	if (packets < 0) {
		port->veth_dropped = veth;
		port->qdisc_dropped = queues;
		take_back(state, -packets);
		say("%lld packets of port %s of %s came after all (%s)", (long long)-packets, port->name,
		    asic->node[port->node].ns.path, how);
		return;
	}
	refused = share_of(veth, &port->veth_dropped, packets);
	full = share_of(queues, &port->qdisc_dropped, packets - refused);
	state->lost_veth += refused;
	state->lost_qdisc += full;
	state->lost_purged += packets - refused - full;
	say("%lld packets of port %s of %s died in the kernel: %lld refused by the far end, %lld by a full queue (%s)",
	    (long long)packets, port->name, asic->node[port->node].ns.path, (long long)refused, (long long)full, how);
}

static void tally(struct asic *asic, unsigned number, uint64_t *came, uint64_t *sent, int *waiting)
{
	*came = *sent = 0;
	*waiting = 0;
	for (unsigned q = 0; q < QUEUES; q++) {
		struct queue_state *queue = &asic->queues[number * QUEUES + q];
		uint64_t gone = queue->sent_packets + queue->emptied_packets + PACKED_PACKETS(queue->lost);
		int64_t depth = __atomic_load_n(&queue->depth, __ATOMIC_SEQ_CST);

		*sent += gone;
		*came += gone + PACKED_PACKETS(depth);
		*waiting |= depth != 0;
	}
}

static int kernel_holds(struct asic *asic, unsigned number)
{
	struct port *port = &asic->port[number];

	for (unsigned q = 0; q < QUEUES; q++) {
		int64_t packets, bytes;

		/* No answer is no proof, but where the queue itself is gone. */
		if (asic->queues[number * QUEUES + q].depth) {
			int failed = port_waiting(&asic->node[port->node].ns, port, q, &packets, &bytes);

			if (failed ? failed != -ENOENT && failed != -ENODEV : packets != 0)
				return 1;
		}
	}
	return 0;
}

static void quiet(struct asic *asic, unsigned number)
{
	struct port_state *state = &asic->ports[number];
	unsigned locals = asic->node[asic->port[number].node].count;
	int64_t lost = 0;

	for (unsigned q = 0; q < QUEUES; q++) {
		int64_t depth = asic->queues[number * QUEUES + q].depth;

		if (!depth)
			continue;
		give_back_queue(asic, number, q, PACKED_PACKETS(depth), PACKED_BYTES(depth));
		lost += PACKED_PACKETS(depth);
	}
	for (unsigned i = 0; i < locals * QUEUES; i++) {
		int64_t word = asic->matrix[state->matrix + i];

		if (word)
			give_back_group(asic, number, i / QUEUES, i % QUEUES, PACKED_PACKETS(word), PACKED_BYTES(word));
	}
	if (lost)
		attribute(asic, number, lost, "quiet");
}

/* Give back what `bytes` of lost packets took of the groups they came in by. */
static void share_out(struct asic *asic, unsigned number, int64_t packets, int64_t bytes)
{
	struct port_state *state = &asic->ports[number];
	unsigned words = asic->node[asic->port[number].node].count * QUEUES;
	int64_t all = 0;

	for (unsigned i = 0; i < words; i++)
		all += PACKED_BYTES(asic->matrix[state->matrix + i]);
	for (unsigned i = 0; i < words && all > 0; i++) {
		int64_t has = PACKED_BYTES(asic->matrix[state->matrix + i]);

		if (has > 0)
			give_back_group(asic, number, i / QUEUES, i % QUEUES, packets * has / all, bytes * has / all);
	}
}

static void busy(struct asic *asic, unsigned number, unsigned q, uint64_t now)
{
	struct queue_state *queue = &asic->queues[number * QUEUES + q];
	struct port *port = &asic->port[number];
	uint64_t gone = queue->sent_packets + queue->emptied_packets, gone_bytes = queue->sent_bytes + queue->emptied_bytes;
	int64_t depth, packets, bytes, later, later_bytes;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	depth = __atomic_load_n(&queue->depth, __ATOMIC_SEQ_CST);
	if (port_waiting(&asic->node[port->node].ns, port, q, &packets, &bytes))
		return;
	later = queue->sent_packets + queue->emptied_packets - gone;
	later_bytes = queue->sent_bytes + queue->emptied_bytes - gone_bytes;
	packets = PACKED_PACKETS(depth) - later - packets;
	bytes = PACKED_BYTES(depth) - later_bytes - bytes;
	if (packets <= 0 || bytes <= 0) {
		port->missing[q].since = 0;
		return;
	}
	if (!port->missing[q].since || packets < port->missing[q].packets) {
		port->missing[q].packets = packets;
		port->missing[q].bytes = bytes;
		port->missing[q].since = port->missing[q].since ?: now;
	}
	if (now - port->missing[q].since < BUSY_NS)
		return;
	port->missing[q].since = 0;
	give_back_queue(asic, number, q, port->missing[q].packets, port->missing[q].bytes);
	share_out(asic, number, port->missing[q].packets, port->missing[q].bytes);
	attribute(asic, number, port->missing[q].packets, "busy");
}

/* Frames that found a processor's backlog full, on the whole workstation since we began. */
static void look_at_softnet(struct asic *asic)
{
	static uint64_t first;
	static int begun;
	FILE *file = fopen("/proc/net/softnet_stat", "re");
	unsigned long seen, dropped, all = 0;
	char line[512];

	if (!file)
		return;
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "%lx %lx", &seen, &dropped) == 2)
			all += dropped;
	fclose(file);
	if (!begun)
		first = all;
	begun = 1;
	asic->state->softnet_dropped = all - first;
}

static int charged(struct asic *asic, unsigned number)
{
	unsigned words = asic->node[asic->port[number].node].count * QUEUES;

	for (unsigned i = 0; i < words; i++)
		if (asic->matrix[asic->ports[number].matrix + i])
			return 1;
	return 0;
}

/* When nothing of a node waits anywhere, its pools are empty: what a change of profile left over goes. */
static void settle_pools(struct asic *asic, unsigned first, unsigned count)
{
	unsigned base = asic->ports[first].pools;

	for (unsigned i = first; i < first + count; i++) {
		if (now_ns() - asic->port[i].same_since < 4 * QUIET_NS || charged(asic, i))
			return;
		for (unsigned q = 0; q < QUEUES; q++) {
			uint32_t key = i * QUEUES + q;
			struct pg_state group;

			if (asic->queues[key].depth || bpf_map_lookup_elem(asic->groups_fd, &key, &group) ||
			    group.used || group.headroom)
				return;
		}
	}
	for (unsigned p = 0; p < POOLS; p++) {
		int64_t left = asic->pools[base + p].used, headroom = asic->pools[base + p].headroom;

		if (left)
			__atomic_fetch_sub(&asic->pools[base + p].used, left, __ATOMIC_SEQ_CST);
		if (headroom)
			__atomic_fetch_sub(&asic->pools[base + p].headroom, headroom, __ATOMIC_SEQ_CST);
	}
}

/*
 * One look at every port. Without the lock, so that the reactor never waits for the kernel's answers to this one: what
 * it reads changes only by commands, which come from the same thread.
 */
void reconcile(struct asic *asic)
{
	static uint64_t softnet_due;
	uint64_t now = now_ns();

	if (softnet_due <= now) {
		softnet_due = now + SOFTNET_NS;
		look_at_softnet(asic);
	}
	for (unsigned i = 1; i <= asic->port_count; i++) {
		struct port *port = &asic->port[i];
		uint64_t came, sent;
		int waiting;

		if (!asic->node[port->node].attached)
			continue;
		tally(asic, i, &came, &sent, &waiting);
		if (came != port->came || sent != port->sent) {
			port->came = came;
			port->sent = sent;
			port->same_since = now;
		}
		if (!waiting && !charged(asic, i))
			continue;
		if (now - port->same_since >= QUIET_NS && !kernel_holds(asic, i)) {
			/* Look once more: a packet may have come while the kernel was asked. */
			tally(asic, i, &came, &sent, &waiting);
			if (came == port->came && sent == port->sent)
				quiet(asic, i);
			continue;
		}
		for (unsigned q = 0; q < QUEUES; q++)
			if (asic->queues[i * QUEUES + q].depth)
				busy(asic, i, q, now);
	}
	for (unsigned n = 0; n < asic->node_count; n++) {
		unsigned base = asic->ports[asic->node[n].first].pools;

		if (asic->ports[asic->node[n].first].kind == PORT_HOST)
			continue;	/* it has no pools: what stands there is the first switch's */
		for (unsigned p = 0; p < POOLS; p++)
			if (asic->pools[base + p].used || asic->pools[base + p].headroom) {
				settle_pools(asic, asic->node[n].first, asic->node[n].count);
				break;
			}
	}
}
