// SPDX-License-Identifier: Apache-2.0
/*
 * The structure of queues below a port.
 *
 *   1:    HTB, past it (1:0) the direct queue of frames that no rate holds: PFC and kicks
 *   1:1   the port's rate; preamble, gap and FCS count (overhead 24), so a frame takes as long as on a wire
 *   1:1q  queue q, rate next to nothing: it lives on what 1:1 lends, by priority, then by DWRR quantum
 *   3q:   a TBF where PFC can pause the queue, its gate; else 2q:, a bfifo. Never full: the programs' limits lie below.
 *
 * A closed gate is a TBF whose least packet (mpu) costs more than its bucket can hold: nothing passes, not one frame,
 * and opening it wakes it when the kick comes. Its rate does not matter. HTB classes cannot be gates: one that was
 * slowed and sped up again is not woken.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/gen_stats.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <net/ethernet.h>
#include <string.h>

#include "netlink.h"

#define LEAF_LIMIT	(256U << 20)
#define FRAME_MAX	20000U		/* above any frame: a TBF drops what its bucket cannot hold */
#define OVERHEAD	24		/* preamble 8, gap 12, FCS 4 */
#define TICK_NS		64
#define OPEN_BYTES_PER_S 2500000000U
#define SHUT_BYTES_PER_S 10000U	/* a bucket longer than 4.2 s is cut down to that by the kernel */
#define SHUT_MPU	65535

static void qdisc(struct message *message, const struct port *port, int type, int flags, unsigned parent,
		  unsigned handle, const char *kind)
{
	message_begin(message, type, flags);
	message->tc.tcm_ifindex = port->ifindex;
	message->tc.tcm_parent = parent;
	message->tc.tcm_handle = handle;
	if (kind)
		message_put(message, TCA_KIND, kind, strlen(kind) + 1);
}

static unsigned leaf_parent(unsigned queue)
{
	return TC_H_MAKE(1 << 16, 0x10 | queue);
}

/* A gate and a bare queue have handles of their own: the kernel changes no qdisc from one kind to another. */
static unsigned leaf_handle(unsigned queue, int gate)
{
	return TC_H_MAKE(((gate ? 0x30 : 0x20) | queue) << 16, 0);
}

static void tbf(struct message *message, int open)
{
	struct tc_tbf_qopt options = {
		.rate = {.rate = open ? OPEN_BYTES_PER_S : SHUT_BYTES_PER_S, .linklayer = TC_LINKLAYER_ETHERNET,
			 .mpu = open ? 0 : SHUT_MPU},
		.limit = LEAF_LIMIT,
	};
	struct rtattr *nest;

	/* The bucket, as time: FRAME_MAX bytes at the gate's rate. */
	options.buffer = (uint64_t)FRAME_MAX * 1000000000 / options.rate.rate / TICK_NS + 1;
	nest = message_put(message, TCA_OPTIONS, NULL, 0);
	message_put(message, TCA_TBF_PARMS, &options, sizeof(options));
	message_end(message, nest);
}

int port_gate(const struct namespace *ns, const struct port *port, unsigned queue, int open)
{
	struct message message;

	qdisc(&message, port, RTM_NEWQDISC, 0, leaf_parent(queue), leaf_handle(queue, 1), "tbf");
	tbf(&message, open);
	return message_ask(ns->route, &message);
}

static int leaf(const struct namespace *ns, const struct port *port, unsigned queue, int gate)
{
	struct tc_fifo_qopt fifo = {.limit = LEAF_LIMIT};
	struct message message;

	qdisc(&message, port, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, leaf_parent(queue), leaf_handle(queue, gate),
	      gate ? "tbf" : "bfifo");
	if (gate)
		tbf(&message, 1);
	else
		message_put(&message, TCA_OPTIONS, &fifo, sizeof(fifo));
	return message_ask(ns->ask, &message);
}

static uint32_t ticks(uint64_t bytes, uint64_t bytes_per_s)
{
	uint64_t all = bytes * 1000000000 / bytes_per_s / TICK_NS;

	return all > UINT32_MAX ? UINT32_MAX : all;
}

static void htb_class(struct message *message, const struct port *port, unsigned parent, unsigned class,
		      const struct tc_htb_opt *options, uint64_t rate, uint64_t ceil)
{
	struct rtattr *nest;

	qdisc(message, port, RTM_NEWTCLASS, NLM_F_CREATE, parent, class, "htb");
	nest = message_put(message, TCA_OPTIONS, NULL, 0);
	message_put(message, TCA_HTB_PARMS, options, sizeof(*options));
	message_put(message, TCA_HTB_RATE64, &rate, sizeof(rate));
	message_put(message, TCA_HTB_CEIL64, &ceil, sizeof(ceil));
	message_end(message, nest);
}

/*
 * The burst is what a late timer may catch up on: 400 us at the port's rate, and no less than one jumbo frame. It is
 * also what an idle port sends at once, where real ones send at their rate always: keep it small.
 */
static uint64_t burst_bytes(uint64_t bytes_per_s)
{
	uint64_t late = bytes_per_s * 400 / 1000000;

	return late > 9300 ? late : 9300;
}

static int port_class(const struct namespace *ns, const struct port *port, uint64_t rate_bps)
{
	uint64_t bytes = rate_bps / 8;
	struct tc_htb_opt options = {
		.rate = {.linklayer = TC_LINKLAYER_ETHERNET, .overhead = OVERHEAD},
		.ceil = {.linklayer = TC_LINKLAYER_ETHERNET, .overhead = OVERHEAD},
		.quantum = 9216,
	};
	struct message message;

	options.rate.rate = options.ceil.rate = bytes > UINT32_MAX ? UINT32_MAX : bytes;
	options.buffer = options.cbuffer = ticks(burst_bytes(bytes), bytes);
	htb_class(&message, port, TC_H_MAKE(1 << 16, 0), TC_H_MAKE(1 << 16, 1), &options, bytes, bytes);
	return message_ask(ns->ask, &message);
}

static int queue_class(const struct namespace *ns, const struct port *port, unsigned q,
		       const struct queue_profile *queue, uint64_t rate_bps)
{
	uint64_t bytes = (queue->ceil_bps && queue->ceil_bps < rate_bps ? queue->ceil_bps : rate_bps) / 8;
	struct tc_htb_opt options = {
		.rate = {.rate = 1, .linklayer = TC_LINKLAYER_ETHERNET},
		.ceil = {.linklayer = TC_LINKLAYER_ETHERNET, .overhead = OVERHEAD},
		.buffer = 1,
		.quantum = queue->quantum,
		.prio = queue->htb_prio,
	};
	struct message message;

	options.ceil.rate = bytes > UINT32_MAX ? UINT32_MAX : bytes;
	/* Twice the port's, so that a queue without a PIR of its own is held by the port alone. */
	options.cbuffer = ticks(burst_bytes(bytes) * (queue->ceil_bps ? 1 : 2), bytes);
	htb_class(&message, port, TC_H_MAKE(1 << 16, 1), leaf_parent(q), &options, 1, bytes);
	return message_ask(ns->ask, &message);
}

/* Only frames as they are on the wire may be counted: with one segment there are no super-packets. */
static int segments(const struct namespace *ns, const struct port *port, unsigned most)
{
	struct message message;

	message_begin(&message, RTM_NEWLINK, 0);
	message.header.nlmsg_len = NLMSG_LENGTH(sizeof(message.link));
	memset(&message.link, 0, sizeof(message.link));
	message.link.ifi_index = port->ifindex;
	message_put(&message, IFLA_GSO_MAX_SEGS, &most, sizeof(most));
	return message_ask(ns->ask, &message);
}

int port_structure(const struct namespace *ns, struct port *port, const struct port_profile *profile, uint64_t rate,
		   char *error)
{
	struct tc_htb_glob options = {.version = 3, .rate2quantum = 10, .defcls = 0x17};
	const char *step = "its segments";
	struct message message;
	struct rtattr *nest;
	unsigned gates = 0;
	int failed = 0;

	if (!port->structured) {
		const struct rtattr *at;
		char answer[8192];
		int left;

		failed = link_attributes(ns, port, answer, sizeof(answer), &at, &left);
		at = failed ? NULL : attribute_find(at, left, IFLA_GSO_MAX_SEGS);
		if (at)
			port->gso_max_segs = *(unsigned *)RTA_DATA(at);
		failed = failed ?: segments(ns, port, 1);
		step = "HTB";
		if (!failed) {
			qdisc(&message, port, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, TC_H_ROOT,
			      TC_H_MAKE(1 << 16, 0), "htb");
			nest = message_put(&message, TCA_OPTIONS, NULL, 0);
			message_put(&message, TCA_HTB_INIT, &options, sizeof(options));
			message_end(&message, nest);
			failed = message_ask(ns->ask, &message);
		}
	}
	if (!failed) {
		step = "the port's class";
		failed = port_class(ns, port, rate);
	}
	for (unsigned q = 0; q < QUEUES && !failed; q++) {
		int gate = profile->queue[q].pausable;

		step = "a queue's class";
		failed = queue_class(ns, port, q, &profile->queue[q], rate);
		if (failed)
			break;
		gates |= gate << q;
		step = gate ? "a gate (TBF)" : "a queue (bfifo)";
		/* A queue that stays what it is keeps its packets. */
		if (!port->structured || !!(port->gates & 1U << q) != gate)
			failed = leaf(ns, port, q, gate);
	}
	if (failed) {
		snprintf(error, ERROR_SIZE, "%s in %s: %s: %s", port->name, ns->path, step, strerror(-failed));
		return -1;
	}
	port->gates = gates;
	port->closed &= gates;
	port->structured = 1;
	return 0;
}

int port_unstructure(const struct namespace *ns, struct port *port)
{
	struct message message;
	int failed;

	if (!port->structured)
		return 0;
	qdisc(&message, port, RTM_DELQDISC, 0, TC_H_ROOT, TC_H_MAKE(1 << 16, 0), NULL);
	failed = message_ask(ns->ask, &message);
	if (port->gso_max_segs)
		segments(ns, port, port->gso_max_segs);
	port->structured = 0;
	port->gates = port->closed = 0;
	return failed;
}

#define CLSACT_HANDLE TC_H_MAKE(TC_H_CLSACT, 0)

static int filter(const struct namespace *ns, const struct port *port, unsigned hook, int program)
{
	uint32_t flags = TCA_BPF_FLAG_ACT_DIRECT;
	struct message message;
	struct rtattr *nest;

	qdisc(&message, port, RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, TC_H_MAKE(TC_H_CLSACT, hook), 1, NULL);
	message.tc.tcm_info = TC_H_MAKE(1 << 16, htons(ETH_P_ALL));
	message_put(&message, TCA_KIND, "bpf", 4);
	nest = message_put(&message, TCA_OPTIONS, NULL, 0);
	message_put(&message, TCA_BPF_FD, &program, sizeof(program));
	message_put(&message, TCA_BPF_NAME, "railbed", 8);
	message_put(&message, TCA_BPF_FLAGS, &flags, sizeof(flags));
	message_end(&message, nest);
	return message_ask(ns->ask, &message);
}

int port_clsact(const struct namespace *ns, const struct port *port, int ingress_fd, int egress_fd, char *error)
{
	struct message message;
	int failed = 0;

	if (ingress_fd >= 0) {
		qdisc(&message, port, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, TC_H_CLSACT, CLSACT_HANDLE, "clsact");
		failed = message_ask(ns->ask, &message);
		failed = failed == -EEXIST ? 0 : failed;
		failed = failed ?: filter(ns, port, TC_H_MIN_INGRESS, ingress_fd);
	}
	if (!failed && egress_fd >= 0)
		failed = filter(ns, port, TC_H_MIN_EGRESS, egress_fd);
	if (failed)
		snprintf(error, ERROR_SIZE, "%s in %s: cls_bpf: %s", port->name, ns->path, strerror(-failed));
	return failed ? -1 : 0;
}

int port_unclsact(const struct namespace *ns, const struct port *port)
{
	struct message message;

	qdisc(&message, port, RTM_DELQDISC, 0, TC_H_CLSACT, CLSACT_HANDLE, NULL);
	return message_ask(ns->ask, &message);
}

/* The statistics of one qdisc of a port. Returns 0 or -errno. */
static int statistics(const struct namespace *ns, const struct port *port, unsigned parent, unsigned handle,
		      struct gnet_stats_queue *found)
{
	const struct rtattr *stats, *waiting;
	struct message message;
	struct nlmsghdr *header;
	char answer[4096];
	int got;

	/* The kernel answers this one as a notice to all: the asker hears it by asking for an echo. */
	qdisc(&message, port, RTM_GETQDISC, 0, parent, handle, NULL);
	message.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ECHO;
	got = message_answer(ns->ask, &message, answer, sizeof(answer));
	header = (void *)answer;
	if (got < 0)
		return got;
	if (header->nlmsg_type == NLMSG_ERROR)
		return *(int *)NLMSG_DATA(header) ?: -EPROTO;
	stats = attribute_find(TCA_RTA(NLMSG_DATA(header)), TCA_PAYLOAD(header), TCA_STATS2);
	waiting = stats ? attribute_find(RTA_DATA(stats), RTA_PAYLOAD(stats), TCA_STATS_QUEUE) : NULL;
	if (!waiting)
		return -ENODATA;
	*found = *(struct gnet_stats_queue *)RTA_DATA(waiting);
	return 0;
}

/* What the kernel holds of one queue. Returns 0 or -errno. */
int port_waiting(const struct namespace *ns, const struct port *port, unsigned queue, int64_t *packets, int64_t *bytes)
{
	struct gnet_stats_queue found;
	int failed = statistics(ns, port, leaf_parent(queue), leaf_handle(queue, !!(port->gates & 1U << queue)), &found);

	if (failed)
		return failed;
	*packets = found.qlen;
	*bytes = found.backlog;
	return 0;
}

/* Packets that the far end's interface has refused so far, and those that our queues have. */
int port_dropped(const struct namespace *ns, const struct port *port, uint64_t *veth, uint64_t *queues)
{
	const struct rtattr *first, *at;
	struct rtnl_link_stats64 links;
	struct gnet_stats_queue found;
	char answer[8192];
	int left, failed = link_attributes(ns, port, answer, sizeof(answer), &first, &left);

	if (failed)
		return failed;
	at = attribute_find(first, left, IFLA_STATS64);
	memset(&links, 0, sizeof(links));
	if (at)		/* the kernel aligns it to four bytes, not to eight */
		memcpy(&links, RTA_DATA(at), RTA_PAYLOAD(at) < sizeof(links) ? RTA_PAYLOAD(at) : sizeof(links));
	*veth = links.tx_dropped;
	*queues = statistics(ns, port, TC_H_ROOT, TC_H_MAKE(1 << 16, 0), &found) ? 0 : found.drops;
	return 0;
}
