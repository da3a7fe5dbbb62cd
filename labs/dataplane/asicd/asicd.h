/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of asicd share. */
#ifndef RAILBED_ASICD_H
#define RAILBED_ASICD_H

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/types.h>
#include <net/if.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>

#include "../bpf/asic.h"
#include "watchdog.h"

#define ERROR_SIZE 256

/* A namespace's sockets: they stay in it, wherever the process goes. */
struct namespace {
	char path[256];
	int fd;
	int route;	/* rtnetlink, the reactor's alone */
	int ask;	/* rtnetlink for all else */
	int packet;	/* AF_PACKET past the queues: PFC */
	int kick;	/* AF_PACKET through the queues */
};

struct node {
	struct namespace ns;
	unsigned first, count;	/* ports */
	int ingress_fd, egress_fd;
	int attached;
};

/* Timers of one priority of one port. Times are CLOCK_MONOTONIC ns, 0: not set. */
struct priority {
	uint64_t paused_until;	/* this port holds back, as the far end has asked */
	uint64_t paused_since;
	uint64_t refresh_at;	/* this port has asked the far end to hold back, and has to ask again */
	uint64_t crossed_at;	/* the threshold was crossed then; the far end's gate is not yet closed */
};

struct port {
	char name[IF_NAMESIZE];
	unsigned node, peer;
	int ifindex;
	uint8_t mac[6];
	int links[2];		/* tcx: ingress, egress; -1 */
	int structured;		/* the queues are there */
	int complete;		/* and both programs */
	unsigned gso_max_segs;	/* as found */
	unsigned gates;		/* queues (bits) whose gate stands */
	unsigned closed;	/* of those, closed ones */
	unsigned forwarding;	/* queues (bits) that ignore PFC: the watchdog's `forward` */
	struct priority priority[QUEUES];
	struct watchdog dog[QUEUES];
	uint64_t dog_due;
	unsigned suspect;	/* priorities (bits) whose group and PFC did not agree at the last look */
	uint64_t slow_due;	/* when a slow receiver will have room again */
	struct {
		uint64_t since;		/* ns: the first look of this row */
		int64_t packets, bytes;	/* the least that was missing in all of them */
	} missing[QUEUES];
	uint64_t same_since, came, sent;	/* nothing has come or gone since then */
	uint64_t veth_dropped, qdisc_dropped;	/* accounted for */
};

struct asic {
	const char *folder;	/* socket, pins, list of ports */
	const char *objects;
	unsigned port_count, node_count, profile_count, pool_count, matrix_count;
	unsigned group_count;	/* rows of `bucket_seen`, the first of which is nobody's */
	uint32_t stamp;
	int cls_bpf;		/* attach by clsact, as on kernels before 6.6 */
	int own_ports;		/* the ports go when we go: their queues need not be taken off at the end */
	struct port *port;	/* from 1 */
	uint64_t *due;		/* when a port's timers have to be looked at; 0: now */
	struct node *node;
	struct port_state *ports;
	struct port_profile *profiles;
	struct queue_state *queues;
	struct pool_state *pools;
	int64_t *matrix;
	struct impairment *impairments;
	struct receiver *receivers;
	struct asicd_state *state;
	int groups_fd, events_fd, repair_fd;
	struct bpf_object *repair, *ingress, *egress;
	struct engine *engine;	/* with a lock of its own */
	pthread_mutex_t lock;	/* over everything here; the maps have their own law */
	volatile int stopping;
	int wake;		/* eventfd: the reactor looks anew */
	int home;		/* the namespace we came from: a thread that stays in a node's keeps it alive */
};

uint64_t now_ns(void);
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* maps.c */
struct sized {
	const char *name;
	unsigned entries;
	size_t value;
	void **seen;	/* where it is mapped, NULL for maps that are not */
};

int program_load(struct asic *asic, const char *name, const struct sized *more, struct bpf_object **object, char *error);
int map_open(struct asic *asic, const char *name, char *error);
int map_see(struct asic *asic, const struct sized *map, char *error);
int maps_open(struct asic *asic, char *error);
int node_load(struct asic *asic, struct node *node, unsigned first_ifindex, const uint16_t *ports, char *error);
void node_unload(struct node *node);

/* netlink.c */
int namespace_open(struct namespace *ns, const char *path, char *error);
void namespace_close(struct namespace *ns);
int namespace_enter(const struct namespace *ns);
int port_find(const struct namespace *ns, struct port *port);

/* qdisc.c */
int port_structure(const struct namespace *ns, struct port *port, const struct port_profile *profile, uint64_t rate,
		   char *error);
int port_unstructure(const struct namespace *ns, struct port *port);
int port_gate(const struct namespace *ns, const struct port *port, unsigned queue, int open);
int port_clsact(const struct namespace *ns, const struct port *port, int ingress_fd, int egress_fd, char *error);
int port_unclsact(const struct namespace *ns, const struct port *port);
int port_waiting(const struct namespace *ns, const struct port *port, unsigned queue, int64_t *packets, int64_t *bytes);
int port_dropped(const struct namespace *ns, const struct port *port, uint64_t *veth, uint64_t *qdisc);

/* steer.c */
struct interfaces {
	int mount, fd;	/* sysfs of a namespace, and its class/net */
	int writable;	/* as found */
};
#define NO_INTERFACES	((struct interfaces){-1, -1, 1})

struct interfaces interfaces_open(void);
void interfaces_close(struct interfaces *interfaces);
int port_steer(const struct interfaces *interfaces, const char *port, int from, int to);
int port_processor(unsigned number);

/* attach.c */
int asic_attach(struct asic *asic, char *error);
int asic_refresh(struct asic *asic, unsigned *changed, char *error);
void asic_detach(struct asic *asic);
void asic_leave(struct asic *asic, unsigned node);

/* apply.c */
int asic_apply(struct asic *asic, unsigned port, unsigned profile, uint64_t rate, char *error);

/* release.c */
int release_note(struct asic *asic, char *error);
void asic_release(const char *folder, int strip);

/* reactor.c */
void *reactor(void *asic);
void port_kick(const struct namespace *ns, const struct port *port);
void port_resume(struct asic *asic, unsigned port);

/* reconcile.c */
void reconcile(struct asic *asic);
void give_back_group(struct asic *asic, unsigned port, unsigned local, unsigned pg, int64_t packets, int64_t bytes);

/* engine.c */
int engine_prepare(struct asic *asic);
int engine_follow(struct asic *asic, char *error);
int engine_follow_node(struct asic *asic, unsigned node, const struct port_profile *profile, char *error);
void engine_leave(struct asic *asic, unsigned node, int policy);
int engine_profile(struct asic *asic, unsigned at, const struct ecmp_profile *profile, char *error);
void engine_stop(struct asic *asic);

/* policy.c */
void policy_release(const char *folder);

/* control.c */
int control_open(const char *folder, char *error);
void control_serve(struct asic *asic, int listener);

#endif
