/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The soft ASIC's ABI: what the BPF programs, asicd and labs/dataplane/abi.py agree on.
 *
 * A lab's ports are numbered from 1; 0 means "none". The ports of one node have consecutive numbers, in the order of
 * the fabric, so (first port of the node + local number) names a port. Queues, priority groups (PG) and PFC priorities
 * are 0..7. Every length is the frame's as Linux counts it: Ethernet header included, preamble, gap and FCS not.
 * Everything here has natural alignment and no padding that is not named.
 */
#ifndef RAILBED_ASIC_H
#define RAILBED_ASIC_H

#define QUEUES		8
#define POOLS		4	/* buffer pools a node may have */
#define DSCPS		64
#define CLASSES		16	/* traffic classes */
#define LOCALS		4096	/* ports a node may have */
#define IFINDEXES	8192	/* span of interface indexes that the ports of one node may lie in */

/* EtherType of the frame that wakes a port's queues after a gate has opened (IEEE: local experimental 1). */
#define ETH_P_KICK	0x88b5

/* The hash engine: which member of an ECMP group a transit packet takes. */
#define ECMP_PROFILES	256	/* 0 is never used: a class of 0 is the kernel's */
#define ECMP_MEMBERS	64	/* of a group; one with more is left to the kernel */
#define ECMP_BUCKETS	256	/* of a resilient group */
#define ECMP_MODES	9
#define ECMP_ENGINE	0	/* the engine's place in `engines` */
#define FLOWLETS	65536	/* of a lab */
#define ROCE_PORT	4791
#define VXLAN_PORT	4789
#define BTH_ADAPTIVE	0x40	/* of the BTH's reserved 7 bits beside AckReq: this packet may take any way */

/*
 * The stamp: which queue a frame left and which ingress it is charged to. It travels from egress to the far end's
 * ingress in skb->hash, the one field that survives a veth between two namespaces.
 *   bits 0-2 queue, 3-5 PG, 6 "charged to a PG", 7-18 the ingress port's local number, 19-31 the lab's own mark
 */
#define STAMP_QUEUE(h)		((h) & 7)
#define STAMP_PG(h)		(((h) >> 3) & 7)
#define STAMP_CHARGED		(1U << 6)
#define STAMP_LOCAL(h)		(((h) >> 7) & (LOCALS - 1))
#define STAMP_MARK(h)		((h) >> 19)

/* skb->mark between a switch's ingress and its egress: this pattern, and the ingress port's local number. */
#define MARK_INGRESS		0x5ab00000U
#define MARK_MASK		0xfff00000U

/*
 * Packets and bytes in one 64-bit word, so that one atomic operation moves both: packets << 40, plus bytes.
 * A word stays right when parts of it go below zero for a moment: take the low 40 bits as signed bytes first.
 */
#define PACKED_SHIFT		40
#define PACKED(packets, bytes)	(((__s64)(packets) << PACKED_SHIFT) + (__s64)(bytes))
#define PACKED_BYTES(word)	((__s64)((__u64)(word) << (64 - PACKED_SHIFT)) >> (64 - PACKED_SHIFT))
#define PACKED_PACKETS(word)	(((__s64)(word) - PACKED_BYTES(word)) >> PACKED_SHIFT)

enum limit_mode {
	LIMIT_STATIC = 0,	/* at most `limit` bytes of the shared pool */
	LIMIT_DYNAMIC = 1,	/* at most 2^alpha times what is free of the pool */
};

/* SONiC's WRED_PROFILE, green; `probability` at max_bytes is a fraction of 2^32. max_bytes 0: none. */
struct wred_profile {
	__u32 min_bytes;
	__u32 max_bytes;
	__u64 probability;
	__u8 ecn;		/* mark ECT packets CE, when they leave */
	__u8 drop;		/* wred_green_enable: drop the others, when they come; and ECT ones where ecn is 0 */
	__u8 pad[6];
};

struct queue_profile {
	struct wred_profile wred;
	__u32 reserved;		/* bytes before the shared pool is used */
	__u32 limit;		/* LIMIT_STATIC: bytes */
	__s32 alpha;		/* LIMIT_DYNAMIC: dynamic_th, -8..7 */
	__u8 mode;		/* enum limit_mode */
	__u8 pool;		/* of the node, 0..POOLS-1 */
	__u8 pausable;		/* some enabled PFC priority pauses it: a gate stands before it */
	__u8 htb_prio;		/* 0 first; queues of one DWRR group share a value */
	__u32 quantum;		/* bytes a turn of DWRR */
	__u32 pad;
	__u64 ceil_bps;		/* SCHEDULER.pir; 0: the port's rate */
};

struct pg_profile {
	__u32 reserved;
	__u32 limit;
	__s32 alpha;
	__u8 mode;
	__u8 pool;
	__u8 lossless;		/* has headroom and sends PFC */
	__u8 priorities;	/* PFC priorities (bits) that pausing this PG names */
	__u32 headroom;		/* SONiC's xoff: bytes it may take after XOFF */
	__u32 xon;		/* XON at or below max(xon, limit - xon_offset) */
	__u32 xon_offset;
	__u32 pad;
};

/* What one port does with packets. Never changed once in use: a port is turned to another one, in one store. */
struct port_profile {
	__u8 tc_of_dscp[DSCPS];
	__u8 queue_of_tc[CLASSES];
	__u8 pg_of_tc[CLASSES];
	__u8 queue_of_priority[QUEUES];
	__u8 pfc_enable;		/* priorities (bits) whose PFC is sent and honoured */
	__u8 watchdog_queues;		/* queues (bits) that the PFC watchdog minds */
	__u8 watchdog_action;		/* enum watchdog_action */
	__u8 ecmp;			/* 1: some class is not left to the kernel's own hash */
	__u32 watchdog_detect_ms;
	__u32 watchdog_restore_ms;
	__u32 watchdog_poll_ms;
	__u32 quanta;			/* pause time that is sent, in 512 bit times */
	__u32 pad2;
	__u8 ecmp_of_tc[CLASSES];	/* index in `ecmps`; 0: the kernel's own hash */
	struct queue_profile queue[QUEUES];
	struct pg_profile pg[QUEUES];
};

enum watchdog_action {
	WATCHDOG_DROP = 0,
	WATCHDOG_FORWARD = 1,
	WATCHDOG_ALERT = 2,
};

enum port_kind {
	PORT_SWITCH = 0,
	PORT_HOST = 1,		/* no PGs, no pools: a NIC's packets wait in the host's memory */
};

struct port_state {
	__u32 profile;		/* index in `profiles` */
	__u32 peer;		/* the port at the cable's other end */
	__u32 first;		/* the node's first port */
	__u32 local;		/* this port's number within its node, from 0 */
	__u32 matrix;		/* egress: its row in `matrix` starts here; LOCALS of the node x QUEUES words */
	__u32 pools;		/* the node's first pool in `pools` */
	__u32 kind;		/* enum port_kind */
	__u32 watchdog_drop;	/* queues (bits) that the watchdog empties */
	__u64 random;		/* how far this port's pseudo-random sequence has got */
	__u64 seed;
	__u64 rate_bps;
	__u64 unstamped;	/* frames that came without a stamp: sent before attach, or past the queues */
	__u64 pause_802_3x;	/* 802.3x frames: ignored */
	__u64 pfc_rx[QUEUES];	/* 802.1Qbb frames with this priority's bit and a pause time above 0 */
	__u64 pfc_xon_rx[QUEUES];
	__u64 pfc_tx[QUEUES];	/* asicd writes these */
	__u64 pfc_xon_tx[QUEUES];
	__u64 paused_ns[QUEUES];
	__u64 gates_closed;	/* queues (bits) whose gate is closed */
	__u64 lost_qdisc;	/* packets that died between the two programs, by what the kernel says of them */
	__u64 lost_veth;
	__u64 lost_purged;
	__u64 xoff;		/* PGs (bits) whose sender has been told to stop: pg_state.xoff, for asicd to see */
};

/* Fates of the packets of one egress queue: came = tail + wred + ingress + watchdog dropped + queued;
 * queued = sent + emptied + lost + depth. */
struct queue_state {
	__s64 depth;		/* PACKED: what is in the queue */
	__u64 sent_packets;	/* seen by the far end */
	__u64 sent_bytes;
	__u64 marked_packets;	/* CE set here */
	__u64 marked_bytes;
	__u64 watermark;	/* highest depth in bytes */
	__u64 tail_dropped_packets;
	__u64 tail_dropped_bytes;
	__u64 wred_dropped_packets;
	__u64 wred_dropped_bytes;
	__u64 ingress_dropped_packets;	/* refused by their ingress PG */
	__u64 ingress_dropped_bytes;
	__u64 watchdog_dropped_packets;	/* refused, the queue being in a storm */
	__u64 watchdog_dropped_bytes;
	__u64 emptied_packets;		/* were queued when the storm began */
	__u64 emptied_bytes;
	__u64 own_packets;		/* of those that came: sent by the switch itself, not through a PG */
	__u64 own_bytes;
	__s64 lost;			/* PACKED: died between the two programs; asicd writes it */
	__u64 watchdog_state;		/* asicd: 0 operational, 1 stormed */
	__u64 watchdog_detected;
	__u64 watchdog_restored;
	__u64 pad[2];
};

/* One ingress priority group. All of it changes under the lock. */
struct pg_state {
	struct bpf_spin_lock lock;
	__u32 xoff;		/* 1: its sender has been told to stop */
	__s64 used;		/* bytes: reserved and shared */
	__s64 headroom;		/* bytes of headroom */
	__u64 packets;		/* admitted */
	__u64 bytes;
	__u64 dropped_packets;
	__u64 dropped_bytes;
	__u64 shared_watermark;
	__u64 headroom_watermark;
	__u64 xoffs;		/* times XOFF began */
	__u64 pad[6];
};

struct pool_state {
	__s64 used;		/* shared bytes in use */
	__s64 headroom;		/* bytes in use of the shared headroom pool */
	__u64 size;
	__u64 headroom_size;	/* 0: each PG has its own headroom */
	__u64 watermark;
	__u64 headroom_watermark;
	__u64 pad[2];
};

/* What goes wrong on the wire into a port. Probabilities are fractions of 2^32; 0 is never. */
struct impairment {
	__u64 lose;		/* probability */
	__u64 corrupt;		/* probability: flip a bit of the payload, past the transport header */
	__u64 bad_fcs;		/* probability: corrupted and dropped by the receiver's FCS check */
	__u32 every;		/* drop every n-th frame; 0: none */
	__u32 counter;
	__u32 match;		/* bits: MATCH_*; 0: no blackhole */
	__u32 saddr;		/* IPv4, network order */
	__u32 daddr;
	__u16 sport;		/* network order */
	__u16 dport;
	__u32 protocol;
	__u32 pad;
	__u64 lost;		/* counts */
	__u64 corrupted;
	__u64 fcs_errors;
	__u64 nth_dropped;
	__u64 blackholed;
	__u64 watchdog_dropped;	/* frames for a PG of this port, dropped as its queue is in a storm */
};

enum match {
	MATCH_SADDR = 1,
	MATCH_DADDR = 2,
	MATCH_SPORT = 4,
	MATCH_DPORT = 8,
	MATCH_PROTOCOL = 16,
	MATCH_ALL = 32,		/* every frame, the control plane's too; PFC has been taken out before */
	MATCH_BGP = 64,		/* TCP from or to port 179, IPv4 and IPv6; whatever the five-tuple above says */
	MATCH_BFD = 128,	/* UDP to 3784 or 3785, the same */
};

/* A host that takes packets slower than its port's rate. Virtual: packets are not held back, only counted. */
struct receiver {
	__u64 drain_bps;	/* 0: as fast as they come */
	__u64 busy_until_ns;	/* when all that came will have been taken */
	__u64 xoff_bytes;
	__u64 xon_bytes;
	__u64 limit_bytes;	/* dropped above this */
	__u64 xoff;		/* 1: the network has been told to stop */
	__u64 dropped;
	__u64 watermark;
};

enum ecmp_mode {
	ECMP_KERNEL = 0,	/* nothing is touched */
	ECMP_SWITCH_HASH = 1,
	ECMP_ROCE = 2,		/* the same with the BTH's destination queue pair */
	ECMP_FLOWLET = 3,
	ECMP_SPRAY = 4,
	ECMP_ADAPTIVE = 5,
	ECMP_RESILIENT = 6,
	ECMP_WEIGHTED = 7,
	ECMP_PINNED = 8,
};

enum ecmp_by {
	BY_RANDOM = 0,		/* spray */
	BY_ROUND_ROBIN = 1,	/* spray: a counter for each processor and ingress port */
	BY_PACKET = 2,		/* adaptive */
	BY_FLOWLET = 3,		/* adaptive */
	BY_QUEUE_PAIR = 4,	/* pinned: destination queue pair mod members; what has none, by its hash */
	BY_RAIL = 5,		/* pinned: the ingress port's local number mod members */
};

/* SAI's sai_hash_algorithm_t. What each computes: docs/ecmp.md. */
enum hash_algorithm {
	HASH_CRC = 0,
	HASH_XOR = 1,
	HASH_RANDOM = 2,
	HASH_CRC_32LO = 3,
	HASH_CRC_32HI = 4,
	HASH_CRC_CCITT = 5,
	HASH_CRC_XOR = 6,
};

/* What is hashed, one behind the other in this order, in network byte order; what a packet lacks is left out. */
enum hash_field {
	FIELD_IN_PORT = 1 << 0,			/* 2 bytes: local number + 1 */
	FIELD_SRC_MAC = 1 << 1,
	FIELD_DST_MAC = 1 << 2,
	FIELD_ETHERTYPE = 1 << 3,
	FIELD_IP_PROTOCOL = 1 << 4,		/* 1 byte; IPv6: the fixed header's next header */
	FIELD_SRC_IP = 1 << 5,
	FIELD_DST_IP = 1 << 6,
	FIELD_IPV6_FLOW_LABEL = 1 << 7,		/* 3 bytes, 20 bits */
	FIELD_L4_SRC_PORT = 1 << 8,		/* TCP, UDP; fragments have none */
	FIELD_L4_DST_PORT = 1 << 9,
	FIELD_DST_QP = 1 << 10,			/* 3 bytes, of UDP to ROCE_PORT */
	FIELD_INNER_SRC_MAC = 1 << 11,		/* of UDP to VXLAN_PORT */
	FIELD_INNER_DST_MAC = 1 << 12,
	FIELD_INNER_ETHERTYPE = 1 << 13,
	FIELD_INNER_IP_PROTOCOL = 1 << 14,
	FIELD_INNER_SRC_IP = 1 << 15,
	FIELD_INNER_DST_IP = 1 << 16,
	FIELD_INNER_L4_SRC_PORT = 1 << 17,
	FIELD_INNER_L4_DST_PORT = 1 << 18,
};

/* How one class of one switch chooses. Never changed once in use. */
struct ecmp_profile {
	__u8 mode;		/* enum ecmp_mode */
	__u8 algorithm;		/* enum hash_algorithm */
	__u8 by;		/* enum ecmp_by */
	__u8 offset;		/* the hash is rotated right by so many bits, 0..31 */
	__u32 fields;		/* enum hash_field; ECMP_ROCE has FIELD_DST_QP among them */
	__u32 seed;
	__u32 quantum;		/* adaptive: depths are compared in steps of so many bytes, 1 at least */
	__u64 gap_ns;		/* a longer silence begins a new flowlet */
	__u32 idle_ms;		/* resilient: a bucket may move when nothing hit it for so long */
	__u32 unbalanced_ms;	/* resilient: one moves although it is in use, when so long out of balance; 0: never */
	__u8 marked;		/* adaptive: packets with BTH_ADAPTIVE alone; others as ECMP_SWITCH_HASH */
	__u8 pad[7];
};

struct ecmp_member {
	__u32 hash;		/* of skb->hash: in the middle of what makes the kernel take this member */
	__u32 share;		/* weighted: the last 32-bit hash that is this member's */
	__u32 port;		/* 0: no port of the lab */
};

/* A route of a switch, and its members in the kernel's order. In `routes`: of each node by its first port, by prefix. */
struct ecmp_group {
	__u32 id;		/* its row in `bucket_seen`; 0: none was left */
	__u32 count;		/* 0: not forwarded (local, unreachable), 1: one way only */
	struct ecmp_member member[ECMP_MEMBERS];
	__u8 bucket[ECMP_BUCKETS];	/* places in `member` */
};

struct route_key {
	__u32 prefixlen;	/* of 128 */
	__u8 address[16];	/* IPv4 as ::ffff:a.b.c.d */
};

struct flowlet {
	__u64 seen_ns;
	__u32 tag;		/* (hash ^ first port of the node): two flows in one place take it from each other */
	__u16 port;
	__u16 member;
};

/* What the engine did: by egress port and mode. */
struct ecmp_count {
	__u64 packets;
	__u64 bytes;
	__u64 flowlets;		/* that began on this port */
	__u64 repicks;		/* of those, flowlets of flows that were on another port before */
	__u64 moved;		/* resilient: buckets that came to this port; asicd writes it */
	__u64 pad[3];
};

enum event_kind {
	EVENT_XOFF = 1,		/* a PG of `port`: send PFC for `priorities` */
	EVENT_XON = 2,
	EVENT_PFC = 3,		/* `port` received PFC: `priorities` have a quanta, those enabled only */
	EVENT_SLOW = 4,		/* the receiver at `port` is full */
};

struct event {
	__u64 time_ns;		/* CLOCK_MONOTONIC */
	__u32 port;
	__u8 kind;
	__u8 priorities;
	__u8 pg;
	__u8 pad;
	__u16 quanta[QUEUES];
};

/* What asicd asks repair.bpf.c for: the room of lost packets, of a queue or of the PG they came in by. */
enum repair_kind {
	REPAIR_QUEUE = 1,
	REPAIR_GROUP = 2,
};

struct repair {
	__u32 kind;		/* enum repair_kind */
	__u32 port;		/* the egress port they were lost at */
	__u32 queue;
	__u32 local;		/* REPAIR_GROUP: the ingress port's local number */
	__u32 pg;
	__u32 packets;
	__s64 bytes;
};

/* Reaction times, threshold crossed to upstream gate acknowledged. Bucket i < 512 is [i, i+1) x 4 us, then the rest. */
#define REACTION_BUCKETS	513
#define REACTION_STEP_NS	4000

struct asicd_state {
	__u64 pid;
	__u64 started_ns;
	__u64 alive_ns;		/* last turn of its loop */
	__u64 fifo;		/* 1: SCHED_FIFO was granted */
	__u64 pauses;		/* XOFF frames sent, refreshes not */
	__u64 refreshes;
	__u64 resumes;
	__u64 gate_errors;
	__u64 events_late;	/* found by looking, not told: the ring was full */
	__u64 reaction_count;
	__u64 reaction_sum_ns;
	__u64 reaction_max_ns;
	__u64 cpu_ns;
	__u64 softnet_dropped;	/* of the whole workstation, since asicd began */
	__u64 pad[2];
	__u64 reaction[REACTION_BUCKETS];
};

#endif
