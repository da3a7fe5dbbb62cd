/* SPDX-License-Identifier: Apache-2.0 */
/* One flow of `rnic send` (send_flow.c), the process that plays them all (send.c) and its report (send_report.c). */
#ifndef RNIC_SEND_H
#define RNIC_SEND_H

#include <poll.h>

#include "plan.h"
#include "program.h"
#include "schedule.h"

#define BATCH 32u /* packets a flow sends before the next has its turn */

struct flow {
	struct flow_spec spec;
	struct schedule schedule;
	struct punctuality kept;
	int fd;
	uint32_t sndbuf;
	uint64_t next; /* place in the schedule, which is the sequence number */
	uint64_t end_ns;
	uint64_t blocked_since_ns; /* 0: not blocked */
	uint64_t held_back_times;
	uint64_t packets, skipped, refused, host_drops, icmp_errors;
	int error; /* the last errno */
	bool done;
};

struct sender {
	struct flow *flows;
	uint32_t count, active, blocked;
	struct turns turns;
	struct pollfd *fds; /* signals, standard input, then sockets that are full */
	uint32_t *waiting;  /* whose socket fds[i + 2] is */
	struct lines in;
	uint64_t quantum_ns, spin_ns, max_ns, looked_ns, go_ns, began_ns;
	uint64_t woken_late_ns; /* the worst; milliseconds are the workstation's doing, not the plan's */
	bool tied;
	const char *ended;
};

/* Opens the flow's socket, one of `flows`; ends the program where it cannot be, or a packet does not fit the MTU. */
void flow_open(struct flow *f, uint32_t flows);
/* True when this place in the schedule is to stay empty. */
bool flow_skips(const struct flow *f, uint64_t index);
/* Sends up to `ready` packets in one call, up to the next that is skipped or beyond the count; as sendmmsg. */
int flow_send(struct flow *f, uint32_t ready, uint64_t now);
/* Counts the errors that came back from the network, off the socket's error queue; returns how many. */
uint32_t flow_take_icmp_errors(struct flow *f);

void send_report(const struct sender *s);

#endif
