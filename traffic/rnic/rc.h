/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `rnic rc` holds: its sockets (rc_wire.c, rc_receive.c), its neighbours (rc_neighbour.c), its queue pairs
 * (rc_queue_pair.c, rc_pace.c), its loop (rc.c) and its report (rc_report.c).
 */
#ifndef RNIC_RC_H
#define RNIC_RC_H

#include <poll.h>
#include <sys/socket.h>

#include "delay.h"
#include "pace.h"
#include "program.h"
#include "rc_plan.h"
#include "responder.h"

#define RC_WIRES 64u
#define RC_FRAMES 64u	 /* a wire's, before it must be flushed */
#define RC_SLOTS 8192u	 /* packets that have come and are held for the propagation delay */
#define RC_RECEIVES 64u	 /* packets a call */
#define RC_BINS 256u	 /* of bytes over time; when they are full, two become one */
#define RC_FIRST_BIN_NS MSEC
#define RC_FDS (2u + RC_NICS + RC_WIRES)

/*
 * A packet socket of one NIC for one DSCP, so that a class that is paused holds no other back: frames that wait to
 * be sent in one call.
 */
struct wire {
	int fd;
	uint32_t nic;
	uint8_t dscp;
	bool blocked;
	uint64_t blocked_since_ns;
	uint32_t first, count;
	struct mmsghdr messages[RC_FRAMES];
	struct iovec parts[RC_FRAMES][3];
	struct roce_frame around[RC_FRAMES];
	struct due due[RC_FRAMES];
	uint8_t frames[RC_FRAMES][ROCE_FRAME_MAX + 2]; /* headers; the payload only while the wire is blocked */
};

struct rc_nic {
	struct rc_nic_spec spec;
	char dev[16];
	int index, mtu;
	uint8_t mac[6];
	uint64_t next_ns;    /* when its link is free again */
	uint64_t stretch_ns; /* the same without answers that found it idle: until when its stretch of packets lasts */
	struct queue_pair **active; /* those that have something to send */
	uint32_t active_count, turn;
	int receive_fd, guard_fd;
	struct pace pace;
	uint64_t sent_packets, wire_bytes, first_ns, last_ns, busy_ns;
	uint64_t held_back_ns, held_back_times, host_drops, refused;
	int error;
};

struct bins {
	uint64_t width_ns;
	uint64_t bytes[RC_BINS];
};

struct queue_pair {
	struct rc_qp_spec spec;
	struct rc_nic *nic;
	struct roce_path path, ack_path, cnp_path;
	struct wire *wire, *ack_wire, *cnp_wire;
	struct requester requester;
	struct responder responder;
	struct reaction_point reaction;
	struct notification_point notification;
	uint64_t next_ns;  /* its own rate's */
	uint64_t ready_ns; /* since when it may send */
	uint32_t reported; /* messages whose end the graph knows */
	uint32_t *posted;  /* message to task, with the iteration it is of */
	uint32_t posted_room;
	bool active, ack_due, has_neighbour;
	struct response ack;
	struct bins bins;
	uint64_t sent_packets, sent_bytes, sent_wire_bytes, acks_sent, cnps_sent;
	uint64_t got_packets, got_bytes, got_ce, got_acks, got_cnps;
	uint64_t round_trips, round_trip_sum_ns, round_trip_least_ns, round_trip_most_ns;
	uint64_t first_ns, last_ns;
};

/* A packet that has come. IPv6's header is made up in front of what the kernel gives. */
struct slot {
	uint64_t arrived_ns;
	uint32_t bytes;
	uint8_t packet[40 + ROCE_FRAME_MAX];
};

struct rc {
	struct rc_plan plan;
	struct dcqcn_set cc;
	struct rc_nic nics[RC_NICS];
	struct wire *wires[RC_WIRES];
	uint32_t wire_count;
	struct queue_pair *qps;
	uint32_t *slots_by_number, slot_mask;
	struct slot *slots; /* a ring */
	uint32_t slot_first, slot_count;
	struct queue_pair **acks_due;
	uint32_t acks_due_count;
	struct delays round_trips;
	uint64_t *began_ns, *ended_ns; /* iterations */
	struct lines in;
	struct pollfd fds[RC_FDS];
	uint64_t go_ns, begin_ns, max_ns, looked_ns, timers_ns, woken_late_ns, linger_ns, done_ns, quantum_ns;
	uint64_t foreign, malformed, unknown, corrupt, strangers, misplaced;
	uint64_t wrong;
	bool checked;
	uint64_t flowing_until_ns;
	const char *ended, *failure;
	char failure_text[160];
};

/* rc_wire.c */
void nic_open(struct rc_nic *nic, const struct rc_nic_spec *spec, const struct rc_host *host);
struct wire *wire_of(struct rc *rc, struct rc_nic *nic, uint8_t dscp);
bool wire_has_room(const struct wire *w);
/* A frame for a wire that has room, without a schedule; its bytes. */
uint32_t wire_put(struct wire *w, struct roce_path *path, const struct roce_packet *p);
/* When the frame that was put last is due. */
void wire_due(struct wire *w, const struct due *due);
void wires_flush(struct rc *rc, uint64_t now);
void wire_unblock(struct rc *rc, struct wire *w, uint64_t now);

/* rc_receive.c */
/* With stamps a packet has come when the kernel took it from the link, else when this looks; stamps cost every packet. */
void receive_open(struct rc_nic *nic, bool stamps);
/* Takes what has come into slots; true when there is more. */
bool receive(struct rc *rc);
/* Packets that found no room in a socket. */
uint64_t receive_overflow(const struct rc *rc);

/* rc_neighbour.c: the MAC address of the next hop towards the queue pair's peer; false when nobody answers. */
bool neighbour_find(const struct queue_pair *qp, uint8_t *mac);

/* rc_queue_pair.c */
void qps_open(struct rc *rc);
struct queue_pair *qp_find(const struct rc *rc, uint32_t number);
void qp_post(struct rc *rc, uint32_t task, uint64_t now);
void qp_take(struct rc *rc, const uint8_t *ip, size_t bytes, uint64_t now);
void qps_acknowledge(struct rc *rc);
void qps_time_out(struct rc *rc, uint64_t now);
void qp_note_deadline(struct rc *rc, const struct queue_pair *qp);
/* rc_pace.c: sends what is due; when the NIC has something to send next. */
uint64_t nic_run(struct rc *rc, struct rc_nic *nic, uint64_t now);

void rc_report(const struct rc *rc);
/* A line that answers `progress NUMBER`: how far this has come. */
void rc_tell_progress(const struct rc *rc, uint64_t number);

#endif
