// SPDX-License-Identifier: Apache-2.0
/*
 * Which MAC address a queue pair's frames go to: the kernel's route for its five-tuple (so that a host with several
 * equal next hops spreads as its own hash does) and the kernel's neighbour table.
 */
#include <errno.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rc.h"

#define TRIES 100
#define TRY_NS (20 * MSEC)

struct request {
	struct nlmsghdr head;
	union {
		struct rtmsg route;
		struct ndmsg neighbour;
	};
	char room[256];
};

static void add(struct request *r, size_t fixed, unsigned short type, const void *data, unsigned short bytes)
{
	struct rtattr *a;

	if (!r->head.nlmsg_len)
		r->head.nlmsg_len = (uint32_t)NLMSG_LENGTH(fixed);
	a = (struct rtattr *)((char *)r + NLMSG_ALIGN(r->head.nlmsg_len));
	a->rta_type = type;
	a->rta_len = (unsigned short)RTA_LENGTH(bytes);
	memcpy(RTA_DATA(a), data, bytes);
	r->head.nlmsg_len = NLMSG_ALIGN(r->head.nlmsg_len) + (uint32_t)RTA_ALIGN(a->rta_len);
}

/* The answer's bytes, 0 for an error. */
static size_t ask(struct request *r, void *answer, size_t room)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	struct nlmsghdr *head = answer;
	ssize_t got = -1;

	r->head.nlmsg_flags = NLM_F_REQUEST;
	if (fd >= 0 && send(fd, r, r->head.nlmsg_len, 0) == (ssize_t)r->head.nlmsg_len)
		got = recv(fd, answer, room, 0);
	if (fd >= 0)
		close(fd);
	return got < (ssize_t)sizeof(*head) || head->nlmsg_type == NLMSG_ERROR ? 0 : (size_t)got;
}

static const struct rtattr *find(const void *answer, size_t bytes, size_t fixed, unsigned short type)
{
	const char *at = (const char *)answer + NLMSG_SPACE(fixed), *end = (const char *)answer + bytes;

	while (at + sizeof(struct rtattr) <= end) {
		const struct rtattr *a = (const void *)at;

		if (a->rta_len < sizeof(*a) || at + a->rta_len > end)
			return NULL;
		if (a->rta_type == type)
			return a;
		at += RTA_ALIGN(a->rta_len);
	}
	return NULL;
}

static const void *host_bytes(const struct address *a)
{
	return address_is_v6(a) ? (const void *)&a->v6.sin6_addr : (const void *)&a->v4.sin_addr;
}

/* The next hop's address, which is the peer's own where it is on the link. */
static struct address next_hop(const struct queue_pair *qp)
{
	const struct address *dst = &qp->spec.dst;
	unsigned short bytes = address_is_v6(dst) ? 16 : 4;
	struct request r = { .head.nlmsg_type = RTM_GETROUTE,
			     .route = { .rtm_family = (unsigned char)dst->any.sa_family, .rtm_dst_len = (unsigned char)(8 * bytes),
					.rtm_src_len = (unsigned char)(8 * bytes) } };
	uint16_t sport = htons((uint16_t)qp->spec.sport), dport = htons(ROCE_PORT);
	uint32_t oif = (uint32_t)qp->nic->index;
	uint8_t udp = IPPROTO_UDP;
	char answer[4096];
	struct address hop = *dst;
	const struct rtattr *a;
	size_t got;

	add(&r, sizeof(r.route), RTA_DST, host_bytes(dst), bytes);
	add(&r, sizeof(r.route), RTA_SRC, host_bytes(&qp->nic->spec.src), bytes);
	add(&r, sizeof(r.route), RTA_OIF, &oif, sizeof(oif));
	add(&r, sizeof(r.route), RTA_IP_PROTO, &udp, sizeof(udp));
	add(&r, sizeof(r.route), RTA_SPORT, &sport, sizeof(sport));
	add(&r, sizeof(r.route), RTA_DPORT, &dport, sizeof(dport));
	got = ask(&r, answer, sizeof(answer));
	if ((a = find(answer, got, sizeof(struct rtmsg), RTA_GATEWAY))) {
		memcpy((void *)host_bytes(&hop), RTA_DATA(a), bytes);
	} else if ((a = find(answer, got, sizeof(struct rtmsg), RTA_VIA))) {
		const struct rtvia *via = RTA_DATA(a);

		memset(&hop, 0, sizeof(hop));
		hop.any.sa_family = via->rtvia_family;
		memcpy((void *)host_bytes(&hop), via->rtvia_addr, via->rtvia_family == AF_INET6 ? 16 : 4);
	}
	return hop;
}

static bool ask_neighbour(const struct address *hop, int index, uint8_t *mac)
{
	struct request r = { .head.nlmsg_type = RTM_GETNEIGH,
			     .neighbour = { .ndm_family = (unsigned char)hop->any.sa_family, .ndm_ifindex = index } };
	char answer[4096];
	const struct ndmsg *n = NLMSG_DATA((struct nlmsghdr *)answer);
	const struct rtattr *a;
	size_t got;

	add(&r, sizeof(r.neighbour), NDA_DST, host_bytes(hop), address_is_v6(hop) ? 16 : 4);
	got = ask(&r, answer, sizeof(answer));
	a = find(answer, got, sizeof(struct ndmsg), NDA_LLADDR);
	if (!a || n->ndm_state & (NUD_FAILED | NUD_INCOMPLETE) || a->rta_len < RTA_LENGTH(6))
		return false;
	memcpy(mac, RTA_DATA(a), 6);
	return true;
}

/* Something for the kernel to send there, so that it asks who has the address: a datagram to port 9, discard. */
static void provoke(const struct queue_pair *qp, const struct address *hop)
{
	struct address to = *hop, from = qp->nic->spec.src;
	int fd = socket(hop->any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	address_set_port(&to, 9);
	if (address_is_v6(&to) && IN6_IS_ADDR_LINKLOCAL(&to.v6.sin6_addr))
		to.v6.sin6_scope_id = (uint32_t)qp->nic->index;
	if (fd < 0)
		return;
	setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, qp->nic->dev, (socklen_t)strlen(qp->nic->dev) + 1);
	if (from.any.sa_family == hop->any.sa_family)
		(void)!bind(fd, &from.any, address_length(&from));
	(void)!sendto(fd, "", 0, 0, &to.any, address_length(&to));
	close(fd);
}

bool neighbour_find(const struct queue_pair *qp, uint8_t *mac)
{
	struct address hop = next_hop(qp);

	for (int tries = 0; tries < TRIES; tries++) {
		if (ask_neighbour(&hop, qp->nic->index, mac))
			return true;
		if (qp->has_neighbour)
			return false; /* while running there is no time to wait */
		if (tries % 25 == 0)
			provoke(qp, &hop);
		wait_until_ns(NULL, 0, clock_ns() + TRY_NS);
	}
	return false;
}
