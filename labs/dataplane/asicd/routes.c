// SPDX-License-Identifier: Apache-2.0
/*
 * What is heard and asked of the kernel's routes. A change is only a reason to look: what counts is a dump of all.
 *
 * A next hop that is dead says so itself (RTNH_F_DEAD), also one without a carrier where
 * ignore_routes_with_linkdown is set: fib_nexthop_info of the kernel, both families. IPv4 tells nobody when a link that
 * goes down takes next hops with it, so links are listened to as well; and the word of a link is sent before its
 * routes change, under the lock of all network configuration: asking for a link waits for that lock.
 */
#include <errno.h>
#include <linux/nexthop.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine.h"

#define HEAR_BYTES	(1 << 20)
#define DUMP_BYTES	(1 << 16)
#define TRIES		3	/* of a dump that the kernel calls inconsistent */

struct question {
	struct nlmsghdr header;
	union {
		struct rtmsg route;
		struct ifinfomsg link;
		struct nhmsg nexthop;
	};
	struct rtattr attribute;	/* of a link */
	uint32_t value;
};

int routes_socket(int listening)
{
	static const int groups[] = {RTNLGRP_LINK, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE, RTNLGRP_NEXTHOP};
	struct sockaddr_nl here = {.nl_family = AF_NETLINK};
	struct timeval patience = {.tv_sec = 1};
	int route = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | (listening ? SOCK_NONBLOCK : 0), NETLINK_ROUTE);
	int bytes = HEAR_BYTES;

	if (route < 0)
		return -1;
	setsockopt(route, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
	setsockopt(route, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	/* One without an address hears nothing. */
	if (bind(route, (void *)&here, sizeof(here))) {
		close(route);
		return -1;
	}
	for (unsigned i = 0; listening && i < sizeof(groups) / sizeof(*groups); i++)
		/* A kernel before 5.3 has no nexthop objects. */
		if (setsockopt(route, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &groups[i], sizeof(groups[i])) &&
		    groups[i] != RTNLGRP_NEXTHOP) {
			close(route);
			return -1;
		}
	return route;
}

/* All that has been told by now: CHANGED_* bits. What did not fit may have been anything. */
unsigned routes_heard(int listener)
{
	unsigned changed = 0;
	ssize_t got;

	for (;;) {
		char said[4096];
		struct nlmsghdr *header = (void *)said;

		got = recv(listener, said, sizeof(said), 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && errno == ENOBUFS) {
			changed |= CHANGED_ROUTES | CHANGED_LINKS;
			continue;
		}
		if (got < (ssize_t)sizeof(*header))
			return changed;
		changed |= header->nlmsg_type == RTM_NEWLINK || header->nlmsg_type == RTM_DELLINK ?
				   CHANGED_ROUTES | CHANGED_LINKS : CHANGED_ROUTES;
	}
}

static struct question begin(int type, int flags, size_t size)
{
	static unsigned asked;

	return (struct question){.header = {.nlmsg_len = NLMSG_LENGTH(size),
					    .nlmsg_type = type,
					    .nlmsg_flags = NLM_F_REQUEST | flags,
					    .nlmsg_seq = __atomic_add_fetch(&asked, 1, __ATOMIC_RELAXED)}};
}

/* Wait until nobody is changing the network's configuration. */
static void settle(int ask)
{
	struct question question = begin(RTM_GETLINK, 0, sizeof(question.link));
	char answer[8192];

	question.link.ifi_index = 1;
	question.attribute = (struct rtattr){.rta_type = IFLA_EXT_MASK, .rta_len = RTA_LENGTH(4)};
	question.value = RTEXT_FILTER_SKIP_STATS;
	question.header.nlmsg_len += RTA_SPACE(4);
	if (send(ask, &question, question.header.nlmsg_len, 0) < 0)
		return;
	while (recv(ask, answer, sizeof(answer), 0) > 0)
		if (((struct nlmsghdr *)answer)->nlmsg_seq == question.header.nlmsg_seq)
			return;
}

typedef int (*take_message)(const struct nlmsghdr *header, struct findings *findings);

/* Returns 0, 1 for a dump that is not of one moment, or -1. */
static int dump(int ask, struct question *question, take_message take, struct findings *findings)
{
	static char answer[DUMP_BYTES];
	int torn = 0;

	if (send(ask, question, question->header.nlmsg_len, 0) < 0)
		return -1;
	for (;;) {
		ssize_t got = recv(ask, answer, sizeof(answer), 0);
		struct nlmsghdr *header = (void *)answer;

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -1;
		for (; NLMSG_OK(header, got); header = NLMSG_NEXT(header, got)) {
			if (header->nlmsg_seq != question->header.nlmsg_seq)
				continue;
			torn |= header->nlmsg_flags & NLM_F_DUMP_INTR ? 1 : 0;
			if (header->nlmsg_type == NLMSG_DONE)
				return torn;
			if (header->nlmsg_type == NLMSG_ERROR || take(header, findings))
				return -1;
		}
	}
}

static void *room_for(void *all, size_t count, size_t *room, size_t size)
{
	size_t more = *room ? 2 * *room : 64;
	void *grown;

	if (count < *room)
		return all;
	grown = realloc(all, more * size);
	if (grown)
		*room = more;
	return grown;
}

static uint32_t number(const struct rtattr *attribute)
{
	uint32_t value = 0;

	if (attribute && RTA_PAYLOAD(attribute) >= sizeof(value))
		memcpy(&value, RTA_DATA(attribute), sizeof(value));
	return value;
}

static void attributes(const struct rtattr **by_type, unsigned most, const struct rtattr *at, int left)
{
	memset(by_type, 0, (most + 1) * sizeof(*by_type));
	for (; RTA_OK(at, left); at = RTA_NEXT(at, left))
		if ((at->rta_type & NLA_TYPE_MASK) <= most)
			by_type[at->rta_type & NLA_TYPE_MASK] = at;
}

static void add_way(struct found *found, unsigned ifindex, uint32_t weight, int flags)
{
	if (found->count < ECMP_MEMBERS)
		found->way[found->count] = (struct way){ifindex, weight, !!(flags & RTNH_F_DEAD)};
	found->count++;
}

static void add_ways(struct found *found, const struct rtattr *multipath)
{
	const struct rtnexthop *hop = RTA_DATA(multipath);
	int left = RTA_PAYLOAD(multipath);

	for (; left >= (int)sizeof(*hop) && RTNH_OK(hop, left); hop = RTNH_NEXT(hop)) {
		add_way(found, hop->rtnh_ifindex, hop->rtnh_hops + 1, hop->rtnh_flags);
		left -= RTNH_ALIGN(hop->rtnh_len);
	}
}

static int key_of(const struct rtmsg *route, const struct rtattr *destination, struct route_key *key)
{
	unsigned at = route->rtm_family == AF_INET ? 12 : 0, size = destination ? RTA_PAYLOAD(destination) : 0;

	if (size > sizeof(key->address) - at || route->rtm_dst_len > (16 - at) * 8)
		return -1;
	*key = (struct route_key){.prefixlen = route->rtm_dst_len + at * 8};
	if (at)
		memset(key->address + 10, 0xff, 2);
	if (size)
		memcpy(key->address + at, RTA_DATA(destination), size);
	return 0;
}

static int take_route(const struct nlmsghdr *header, struct findings *findings)
{
	const struct rtmsg *route = NLMSG_DATA(header);
	const struct rtattr *by_type[RTA_MAX + 1];
	struct found *found;
	uint32_t table;

	/* A family that this kernel does not have is answered with those it has. */
	if (header->nlmsg_type != RTM_NEWROUTE || header->nlmsg_len < NLMSG_LENGTH(sizeof(*route)) ||
	    (route->rtm_family != AF_INET && route->rtm_family != AF_INET6))
		return 0;
	attributes(by_type, RTA_MAX, RTM_RTA(route), RTM_PAYLOAD(header));
	table = by_type[RTA_TABLE] ? number(by_type[RTA_TABLE]) : route->rtm_table;
	if (route->rtm_tos || route->rtm_src_len || route->rtm_flags & RTM_F_CLONED ||
	    (table != RT_TABLE_MAIN && table != RT_TABLE_LOCAL))
		return 0;
	found = room_for(findings->found, findings->count, &findings->room, sizeof(*found));
	if (!found)
		return -1;
	findings->found = found;
	found += findings->count;
	memset(found, 0, offsetof(struct found, way));
	if (key_of(route, by_type[RTA_DST], &found->key))
		return 0;
	findings->count++;
	found->metric = number(by_type[RTA_PRIORITY]);
	found->own = table == RT_TABLE_LOCAL;
	found->forwarded = route->rtm_type == RTN_UNICAST && !found->own;
	if (!found->forwarded)
		return 0;
	found->object = number(by_type[RTA_NH_ID]);
	if (by_type[RTA_MULTIPATH])
		add_ways(found, by_type[RTA_MULTIPATH]);
	else if (by_type[RTA_OIF])
		add_way(found, number(by_type[RTA_OIF]), 1, route->rtm_flags);
	return 0;
}

static int take_object(const struct nlmsghdr *header, struct findings *findings)
{
	const struct nhmsg *message = NLMSG_DATA(header);
	const struct rtattr *by_type[NHA_MAX + 1];
	const struct nexthop_grp *group;
	struct object *object;

	if (header->nlmsg_type != RTM_NEWNEXTHOP || header->nlmsg_len < NLMSG_LENGTH(sizeof(*message)))
		return 0;
	attributes(by_type, NHA_MAX, (void *)((char *)message + NLMSG_ALIGN(sizeof(*message))),
		   header->nlmsg_len - NLMSG_LENGTH(sizeof(*message)));
	object = room_for(findings->object, findings->objects, &findings->object_room, sizeof(*object));
	if (!object)
		return -1;
	findings->object = object;
	object += findings->objects++;
	memset(object, 0, sizeof(*object));
	object->id = number(by_type[NHA_ID]);
	object->resilient = by_type[NHA_GROUP_TYPE] && *(uint16_t *)RTA_DATA(by_type[NHA_GROUP_TYPE]) == NEXTHOP_GRP_TYPE_RES;
	if (!by_type[NHA_GROUP]) {
		object->way[0] = (struct way){number(by_type[NHA_OIF]), 1, !!(message->nh_flags & RTNH_F_DEAD)};
		return 0;
	}
	group = RTA_DATA(by_type[NHA_GROUP]);
	object->count = RTA_PAYLOAD(by_type[NHA_GROUP]) / sizeof(*group);
	for (unsigned i = 0; i < object->count && i < ECMP_MEMBERS; i++) {
		object->member[i] = group[i].id;
		object->way[i].weight = group[i].weight + 1;
	}
	return 0;
}

static int by_id(const void *a, const void *b)
{
	const uint32_t *one = a, *other = b;	/* struct object begins with it */

	return (*one > *other) - (*one < *other);
}

static const struct object *object_of(const struct findings *findings, uint32_t id)
{
	return bsearch(&id, findings->object, findings->objects, sizeof(*findings->object), by_id);
}

/* What only the object says: that its group is one of Linux' own resilient ones, and without nexthop_compat_mode all. */
static void resolve(struct findings *findings, struct found *found)
{
	const struct object *object = object_of(findings, found->object), *member;

	if (!object) {
		found->left = !found->count;
		return;
	}
	found->left = object->resilient;
	if (found->count || found->left)
		return;
	if (!object->count)
		add_way(found, object->way[0].ifindex, 1, object->way[0].dead ? RTNH_F_DEAD : 0);
	for (unsigned i = 0; i < object->count; i++) {
		member = i < ECMP_MEMBERS ? object_of(findings, object->member[i]) : NULL;
		add_way(found, member ? member->way[0].ifindex : 0, i < ECMP_MEMBERS ? object->way[i].weight : 1,
			!member || member->way[0].dead ? RTNH_F_DEAD : 0);
	}
}

static int find_family(int ask, int family, struct findings *findings)
{
	struct question question = begin(RTM_GETROUTE, NLM_F_DUMP, sizeof(question.route));

	question.route.rtm_family = family;
	return dump(ask, &question, take_route, findings);
}

static int find_objects(int ask, struct findings *findings)
{
	struct question question = begin(RTM_GETNEXTHOP, NLM_F_DUMP, sizeof(question.nexthop));
	int objects = 0, failed;

	for (size_t i = 0; i < findings->count; i++)
		objects |= findings->found[i].object;
	if (!objects)
		return 0;
	failed = dump(ask, &question, take_object, findings);
	qsort(findings->object, findings->objects, sizeof(*findings->object), by_id);
	for (size_t i = 0; i < findings->count && !failed; i++)
		if (findings->found[i].object)
			resolve(findings, &findings->found[i]);
	return failed;
}

/* All routes, as they are now. `links`: a link has just changed. Returns 0, or -1 when the kernel did not say. */
int routes_find(int ask, int links, struct findings *findings)
{
	int torn = 1;

	if (links)
		settle(ask);
	for (int i = 0; i < TRIES && torn > 0; i++) {
		int more;

		findings->count = findings->objects = 0;
		torn = find_family(ask, AF_INET, findings);
		more = torn < 0 ? 0 : find_family(ask, AF_INET6, findings);
		torn = more < 0 ? -1 : torn | more;
		more = torn < 0 ? 0 : find_objects(ask, findings);
		torn = more < 0 ? -1 : torn | more;
	}
	return torn < 0 ? -1 : 0;
}
