// SPDX-License-Identifier: Apache-2.0
/* Where `rnic recv` listens: one UDP socket for every port at every address. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "recv.h"

#ifndef SO_RCVBUFFORCE
#define SO_RCVBUFFORCE 33
#endif
#ifndef SO_MEMINFO
#define SO_MEMINFO 55
#endif
#define MEMINFO_DROPS 8 /* SK_MEMINFO_DROPS of linux/sock_diag.h: what SO_RXQ_OVFL tells with the next packet */
#define MEMINFO_WORDS 9

void places_add_ports(struct places *p, char *text)
{
	char *rest;

	for (char *word = strtok_r(text, ",", &rest); word; word = strtok_r(NULL, ",", &rest)) {
		if (p->port_count == PORTS_MAX)
			die("more than %u ports", PORTS_MAX);
		p->ports[p->port_count++] = (uint16_t)option_number("--port", word, 1, 65535);
	}
}

void places_add_address(struct places *p, const char *text)
{
	struct plan_error error;

	if (p->address_count == BINDS_MAX)
		die("more than %u addresses", BINDS_MAX);
	if (!plan_read_address(&p->addresses[p->address_count++], "--bind", text, &error))
		die("%s", error.text);
}

/* Every address of both families, where no one said otherwise and as far as there is IPv6 here. */
static void add_any(struct places *p)
{
	int fd = socket(AF_INET6, SOCK_DGRAM, 0);
	struct sockaddr_in6 any = { .sin6_family = AF_INET6 };

	places_add_address(p, "0.0.0.0");
	if (fd >= 0 && !bind(fd, (struct sockaddr *)&any, sizeof(any)))
		places_add_address(p, "::");
	if (fd >= 0)
		close(fd);
}

static void set_option(int fd, int level, int name, int value, const char *what)
{
	if (setsockopt(fd, level, name, &value, sizeof(value)))
		die("%s: %s", what, strerror(errno));
}

static void add_socket(struct receiver *r, const struct address *at, uint16_t port)
{
	bool v6 = address_is_v6(at);
	struct address here = *at;
	int fd = socket(at->any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int bytes = r->rcvbuf;

	if (fd < 0)
		die("socket: %s", strerror(errno));
	if (r->sockets == SOCKETS_MAX)
		die("more than %u sockets: fewer ports or addresses", SOCKETS_MAX);
	if (v6) {
		set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1, "IPv6 only");
		set_option(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1, "traffic class");
	} else {
		set_option(fd, IPPROTO_IP, IP_RECVTOS, 1, "TOS");
	}
	set_option(fd, SOL_SOCKET, SO_TIMESTAMPNS, 1, "time stamps");
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)))
		set_option(fd, SOL_SOCKET, SO_RCVBUF, bytes, "receive buffer");
	address_set_port(&here, port);
	if (bind(fd, &here.any, address_length(&here)))
		die("bind to port %u: %s", port, strerror(errno));
	r->ports[r->sockets] = port;
	r->fds[2 + r->sockets++] = (struct pollfd){ .fd = fd, .events = POLLIN };
}

static uint64_t dropped_at(int fd)
{
	uint32_t words[MEMINFO_WORDS] = { 0 };
	socklen_t length = sizeof(words);

	if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, words, &length))
		die("SO_MEMINFO: %s", strerror(errno));
	return words[MEMINFO_DROPS];
}

void sockets_open(struct receiver *r, struct places *p)
{
	if (!p->address_count)
		add_any(p);
	for (uint32_t i = 0; i < p->address_count; i++)
		for (uint32_t port = 0; port < p->port_count; port++)
			add_socket(r, &p->addresses[i], p->ports[port]);
}

uint64_t sockets_dropped(const struct receiver *r)
{
	uint64_t dropped = 0;

	for (uint32_t i = 0; i < r->sockets; i++)
		dropped += dropped_at(r->fds[2 + i].fd);
	return dropped;
}
