/* SPDX-License-Identifier: Apache-2.0 */
/* What `rnic recv` holds: its sockets (recv_sockets.c), its loop (recv.c) and its report (recv_report.c). */
#ifndef RNIC_RECV_H
#define RNIC_RECV_H

#include <poll.h>
#include <stdio.h>

#include "plan.h"
#include "program.h"
#include "tally.h"

#define PORTS_MAX 64u
#define BINDS_MAX 64u
#define SOCKETS_MAX 256u

struct receiver {
	struct pollfd fds[SOCKETS_MAX + 2]; /* signals, standard input, then sockets */
	uint16_t ports[SOCKETS_MAX];
	uint32_t sockets;
	struct tallies tallies;
	struct lines in;
	FILE *log;
	uint64_t log_records, log_left_out, log_max;
	uint64_t packets, unique, strangers, flows_left_out;
	uint64_t expect, idle_ns, quiet_since_ns, max_ns, coalesce_ns, began_ns;
	int rcvbuf;
	bool check, tied;
	const char *ended;
};

/* Where to listen: every port at every address. */
struct places {
	uint16_t ports[PORTS_MAX];
	struct address addresses[BINDS_MAX];
	uint32_t port_count, address_count;
};

void places_add_ports(struct places *p, char *text);
void places_add_address(struct places *p, const char *text);
void sockets_open(struct receiver *r, struct places *p);
/* Packets that found no room in a socket, also those after which nothing came. */
uint64_t sockets_dropped(const struct receiver *r);

/* Writes the log out too. */
void recv_report(struct receiver *r);

#endif
