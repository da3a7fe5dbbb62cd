/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the hash engine share: engine.c, follower.c, routes.c, table.c, policy.c. */
#ifndef RAILBED_ENGINE_H
#define RAILBED_ENGINE_H

#include "asicd.h"
#include "groups.h"

#define MS		1000000ULL
#define ROUTES_MAX	16384	/* of a node */

/* A prefix as one of the kernel's messages has it. */
struct found {
	struct route_key key;
	uint32_t metric;
	uint32_t object;	/* RTA_NH_ID, 0: none */
	int own;		/* of the local table: it is looked up before any other */
	int forwarded;		/* unicast */
	int left;		/* to the kernel: a group of another kind */
	unsigned count;		/* may be more than there is room for */
	struct way way[ECMP_MEMBERS];
};

/* One nexthop object: a group, or one next hop. */
struct object {
	uint32_t id;
	int resilient;
	unsigned count;		/* of a group; 0: it is a next hop */
	uint32_t member[ECMP_MEMBERS];
	struct way way[ECMP_MEMBERS];	/* a group's have weights only */
};

struct findings {
	struct found *found;
	struct object *object;
	size_t count, room, objects, object_room;
};

/* A prefix, its group as the trie holds it, and the members its buckets were last given to. */
struct route {
	struct route_key key;
	struct ecmp_group group;
	uint32_t name[ECMP_MEMBERS];
	unsigned names;
	int written;			/* the trie holds it */
	int said;			/* that it has too many members */
	uint64_t gone_since;		/* 0: it is there */
	uint64_t unbalanced_since;	/* 0: it is not */
};

struct wire {
	int ifindex;
	unsigned port;
	uint64_t rate_bps;
};

#define CHANGED_ROUTES	1
#define CHANGED_LINKS	2

/* The routes of one node whose engine is on. */
struct follower {
	int on;
	unsigned node;
	ino_t inode;		/* of its namespace */
	int listener, ask, trie;
	int knob[2];		/* its hash policies, IPv4 and IPv6; -1: it has none */
	unsigned changed;	/* CHANGED_*: look */
	uint64_t rest_until;	/* no look before, that many changes become one */
	uint64_t look_due;	/* and one then, whatever is heard */
	uint64_t refill_due;	/* 0: nothing to refill and nothing to forget */
	struct wire *wire;	/* by ifindex */
	unsigned wires;
	int resilient;		/* some class is, by this rule */
	struct ecmp_profile rule;
	struct route **route;	/* by key */
	size_t routes;
	int full;		/* the trie refused a prefix, and it was said */
};

struct engine {
	pthread_mutex_t lock;	/* over everything here. Never taken by who holds asic->lock */
	pthread_t thread;
	int running;
	volatile int stopping;
	int epoll, wake;
	struct bpf_object *object;
	int program, routes_fd, engines_fd;
	struct ecmp_profile *ecmps;
	struct ecmp_count *counts;
	volatile uint64_t *seen;
	uint8_t *taken;		/* rows of `seen` */
	int said;		/* that there are too few of them */
	struct follower *follower;	/* by node */
	struct findings findings;
};

/* policy.c */
int policy_take(struct asic *asic, struct follower *follower, char *error);
void policy_check(struct follower *follower, const char *path);
void policy_give_back(struct asic *asic, struct follower *follower);

/* routes.c */
int routes_socket(int listening);
unsigned routes_heard(int listener);
int routes_find(int ask, int links, struct findings *findings);

/* table.c */
int wire_order(const void *a, const void *b);
void table_update(struct asic *asic, struct follower *follower);
void table_refill(struct asic *asic, struct follower *follower, uint64_t now);
void table_drop(struct asic *asic, struct follower *follower);

/* follower.c */
void follower_look(struct asic *asic, struct follower *follower);
void *following(void *asic);

#endif
