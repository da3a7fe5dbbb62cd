// SPDX-License-Identifier: Apache-2.0
/* How the kernel is asked: namespaces, their sockets, and messages of rtnetlink. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "netlink.h"

void message_begin(struct message *message, int type, int flags)
{
	memset(message, 0, sizeof(message->header) + sizeof(message->tc));
	message->header.nlmsg_len = NLMSG_LENGTH(sizeof(message->tc));
	message->header.nlmsg_type = type;
	message->header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
}

struct rtattr *message_put(struct message *message, int type, const void *data, size_t size)
{
	struct rtattr *attribute = (void *)((char *)message + NLMSG_ALIGN(message->header.nlmsg_len));

	attribute->rta_type = type;
	attribute->rta_len = RTA_LENGTH(size);
	if (size)
		memcpy(RTA_DATA(attribute), data, size);
	message->header.nlmsg_len = NLMSG_ALIGN(message->header.nlmsg_len) + RTA_ALIGN(attribute->rta_len);
	return attribute;
}

void message_end(struct message *message, struct rtattr *nest)
{
	nest->rta_len = (char *)message + message->header.nlmsg_len - (char *)nest;
}

/* Send and receive the answer to this very question: one that was given up on may still be answered. */
static ssize_t exchange(int route, struct message *message, char *answer, size_t size)
{
	static unsigned asked;
	ssize_t got;

	message->header.nlmsg_seq = __atomic_add_fetch(&asked, 1, __ATOMIC_RELAXED);
	if (send(route, message, message->header.nlmsg_len, 0) < 0)
		return -1;
	do
		got = recv(route, answer, size, 0);
	while (got >= (ssize_t)sizeof(struct nlmsghdr) &&
	       ((struct nlmsghdr *)answer)->nlmsg_seq != message->header.nlmsg_seq);
	return got;
}

/* Send and wait for the kernel's word. Returns 0 or -errno. */
int message_ask(int route, struct message *message)
{
	char answer[512];
	ssize_t got = exchange(route, message, answer, sizeof(answer));

	if (got < (ssize_t)NLMSG_LENGTH(sizeof(int)))
		return got < 0 ? -errno : -EIO;
	if (((struct nlmsghdr *)answer)->nlmsg_type != NLMSG_ERROR)
		return -EPROTO;
	return *(int *)NLMSG_DATA(answer);
}

static int route_socket(void)
{
	struct timeval patience = {.tv_sec = 1};
	int route = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	if (route >= 0)
		setsockopt(route, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return route;
}

static int packet_socket(int past_queues)
{
	int one = 1, packet = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

	if (packet >= 0 && past_queues)
		setsockopt(packet, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one));
	return packet;
}

int namespace_enter(const struct namespace *ns)
{
	return setns(ns->fd, CLONE_NEWNET) ? -errno : 0;
}

int namespace_open(struct namespace *ns, const char *path, char *error)
{
	snprintf(ns->path, sizeof(ns->path), "%s", path);
	ns->route = ns->ask = ns->packet = ns->kick = -1;
	ns->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (ns->fd < 0 || namespace_enter(ns)) {
		snprintf(error, ERROR_SIZE, "cannot enter the network namespace %s: %s", path, strerror(errno));
		namespace_close(ns);
		return -1;
	}
	ns->route = route_socket();
	ns->ask = route_socket();
	ns->packet = packet_socket(1);
	ns->kick = packet_socket(0);
	if (ns->route < 0 || ns->ask < 0 || ns->packet < 0 || ns->kick < 0) {
		snprintf(error, ERROR_SIZE, "no sockets in %s: %s", path, strerror(errno));
		namespace_close(ns);
		return -1;
	}
	return 0;
}

void namespace_close(struct namespace *ns)
{
	int *all[] = {&ns->fd, &ns->route, &ns->ask, &ns->packet, &ns->kick};

	for (unsigned i = 0; i < sizeof(all) / sizeof(*all); i++) {
		if (*all[i] >= 0)
			close(*all[i]);
		*all[i] = -1;
	}
}

/* Find a port by its name, in the namespace the caller has entered. */
int port_find(const struct namespace *ns, struct port *port)
{
	struct ifreq request = {};

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", port->name);
	port->ifindex = if_nametoindex(port->name);
	if (!port->ifindex || ioctl(ns->kick, SIOCGIFHWADDR, &request))
		return -1;
	memcpy(port->mac, request.ifr_hwaddr.sa_data, 6);
	return 0;
}

int message_answer(int route, struct message *question, char *answer, size_t size)
{
	ssize_t got = exchange(route, question, answer, size);

	return got < 0 ? -errno : (int)got;
}

const struct rtattr *attribute_find(const struct rtattr *at, int left, int type)
{
	for (; RTA_OK(at, left); at = RTA_NEXT(at, left))
		if ((at->rta_type & NLA_TYPE_MASK) == type)
			return at;
	return NULL;
}

/* The attributes of one link. Returns 0 or -errno. */
int link_attributes(const struct namespace *ns, const struct port *port, char *answer, size_t size,
			   const struct rtattr **first, int *left)
{
	struct nlmsghdr *header = (void *)answer;
	struct message message;
	int got;

	message_begin(&message, RTM_GETLINK, 0);
	message.header.nlmsg_flags = NLM_F_REQUEST;
	message.header.nlmsg_len = NLMSG_LENGTH(sizeof(message.link));
	memset(&message.link, 0, sizeof(message.link));
	message.link.ifi_index = port->ifindex;
	got = message_answer(ns->ask, &message, answer, size);
	if (got < 0)
		return got;
	if (header->nlmsg_type == NLMSG_ERROR)
		return *(int *)NLMSG_DATA(header) ?: -EPROTO;
	*first = IFLA_RTA(NLMSG_DATA(header));
	*left = IFLA_PAYLOAD(header);
	return 0;
}
