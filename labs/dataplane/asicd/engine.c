// SPDX-License-Identifier: Apache-2.0
/*
 * The hash engine: the program that chooses among equal ways, and on which nodes it is on.
 *
 * A node's engine is on while the profile of any of its ports says so. Then its routes are followed into a trie of
 * its own and the kernel is told to obey the packets' hashes. A lab that never turns it on has none of this.
 */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine.h"

int engine_prepare(struct asic *asic)
{
	struct engine *engine = calloc(1, sizeof(*engine));

	if (!engine)
		return -1;
	asic->engine = engine;
	engine->taken = calloc(asic->group_count, 1);
	engine->follower = calloc(asic->node_count, sizeof(*engine->follower));
	pthread_mutex_init(&engine->lock, NULL);
	engine->epoll = engine->wake = engine->program = -1;
	return engine->taken && engine->follower ? 0 : -1;
}

static int thread_start(struct asic *asic, char *error)
{
	struct engine *engine = asic->engine;
	struct epoll_event wanted = {.events = EPOLLIN, .data.u32 = asic->node_count};

	engine->epoll = epoll_create1(EPOLL_CLOEXEC);
	engine->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (engine->epoll >= 0 && engine->wake >= 0 && !epoll_ctl(engine->epoll, EPOLL_CTL_ADD, engine->wake, &wanted) &&
	    !pthread_create(&engine->thread, NULL, following, asic)) {
		engine->running = 1;
		return 0;
	}
	snprintf(error, ERROR_SIZE, "the routes cannot be followed: %s", strerror(errno));
	return -1;
}

static int load(struct asic *asic, char *error)
{
	struct engine *engine = asic->engine;
	unsigned ports = asic->port_count + 1;
	const struct sized maps[] = {
		{"ecmps", ECMP_PROFILES, sizeof(struct ecmp_profile), (void **)&engine->ecmps},
		{"ecmp_counts", ports * ECMP_MODES, sizeof(struct ecmp_count), (void **)&engine->counts},
		{"bucket_seen", asic->group_count * ECMP_BUCKETS, sizeof(uint64_t), (void **)&engine->seen},
		{"routes", ports, sizeof(uint32_t), NULL},
		{"turns", ports, sizeof(uint64_t), NULL},
		{NULL, 0, 0, NULL},
	};

	engine->program = program_load(asic, "hash", maps, &engine->object, error);
	if (engine->program < 0)
		return -1;
	for (const struct sized *map = maps; map->name; map++)
		if (map->seen && map_see(asic, map, error))
			return -1;
	engine->routes_fd = map_open(asic, "routes", error);
	engine->engines_fd = map_open(asic, "engines", error);
	return engine->routes_fd < 0 || engine->engines_fd < 0 ? -1 : 0;
}

/* The caller has the engine's lock. */
static int loaded(struct asic *asic, char *error)
{
	struct engine *engine = asic->engine;

	if (engine->running)
		return 0;
	if (!engine->object && load(asic, error)) {
		bpf_object__close(engine->object);
		engine->object = NULL;
		return -1;
	}
	return thread_start(asic, error);
}

static void engines_set(struct asic *asic)
{
	struct engine *engine = asic->engine;
	uint32_t place = ECMP_ENGINE;
	unsigned on = 0;

	for (unsigned i = 0; i < asic->node_count; i++)
		on += engine->follower[i].on;
	if (on)
		bpf_map_update_elem(engine->engines_fd, &place, &engine->program, BPF_ANY);
	else if (engine->object)
		bpf_map_delete_elem(engine->engines_fd, &place);
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void turn_off(struct asic *asic, struct follower *follower, int policy)
{
	struct engine *engine = asic->engine;
	uint32_t first = asic->node[follower->node].first;

	if (!follower->on)
		return;
	bpf_map_delete_elem(engine->routes_fd, &first);
	if (policy)
		policy_give_back(asic, follower);
	table_drop(asic, follower);
	close_fd(&follower->listener);
	close_fd(&follower->ask);
	close_fd(&follower->trie);
	close_fd(&follower->knob[0]);
	close_fd(&follower->knob[1]);
	free(follower->wire);
	follower->wire = NULL;
	follower->on = 0;
}

/* The first rule of a node by which a class is resilient. */
static int find_rule(struct asic *asic, const struct node *node, struct ecmp_profile *rule)
{
	for (unsigned i = node->first; i < node->first + node->count; i++) {
		const struct port_profile *profile = &asic->profiles[asic->ports[i].profile];

		for (unsigned class = 0; profile->ecmp && class < CLASSES; class++)
			if (asic->engine->ecmps[profile->ecmp_of_tc[class]].mode == ECMP_RESILIENT) {
				*rule = asic->engine->ecmps[profile->ecmp_of_tc[class]];
				return 1;
			}
	}
	return 0;
}

/* What of the lab a node's groups are made of: its interfaces, their rates, its rule. Returns true when it changed. */
static int look_at_ports(struct asic *asic, struct follower *follower)
{
	const struct node *node = &asic->node[follower->node];
	struct wire *wire = calloc(node->count + 1, sizeof(*wire));
	struct ecmp_profile rule = {};
	int resilient = find_rule(asic, node, &rule), changed;

	if (!wire)
		return 0;
	for (unsigned i = 0; i < node->count; i++) {
		wire[i].ifindex = asic->port[node->first + i].ifindex;
		wire[i].port = node->first + i;
		wire[i].rate_bps = asic->ports[node->first + i].rate_bps;
	}
	qsort(wire, node->count, sizeof(*wire), wire_order);
	changed = !follower->wire || follower->wires != node->count ||
		  memcmp(wire, follower->wire, node->count * sizeof(*wire)) || resilient != follower->resilient ||
		  memcmp(&rule, &follower->rule, sizeof(rule));
	free(follower->wire);
	follower->wire = wire;
	follower->wires = node->count;
	follower->resilient = resilient;
	follower->rule = rule;
	return changed;
}

static int open_sockets(struct asic *asic, struct follower *follower)
{
	struct epoll_event wanted = {.events = EPOLLIN, .data.u32 = follower->node};

	follower->listener = follower->ask = follower->trie = -1;
	if (namespace_enter(&asic->node[follower->node].ns))
		return -1;
	follower->listener = routes_socket(1);
	follower->ask = routes_socket(0);
	return follower->listener < 0 || follower->ask < 0 ||
	       epoll_ctl(asic->engine->epoll, EPOLL_CTL_ADD, follower->listener, &wanted);
}

static int make_trie(struct follower *follower)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_NO_PREALLOC);

	follower->trie = bpf_map_create(BPF_MAP_TYPE_LPM_TRIE, "railbed_routes", sizeof(struct route_key),
					sizeof(struct ecmp_group), ROUTES_MAX, &options);
	return follower->trie < 0;
}

/* First all that the program will ask for, then the program. */
static int turn_on(struct asic *asic, struct follower *follower, char *error)
{
	struct engine *engine = asic->engine;
	const struct node *node = &asic->node[follower->node];
	struct stat is;

	if (loaded(asic, error) || policy_take(asic, follower, error))
		return -1;
	follower->on = 1;
	if (open_sockets(asic, follower) || fstat(node->ns.fd, &is) || make_trie(follower)) {
		snprintf(error, ERROR_SIZE, "%s: its routes cannot be followed: %s", node->ns.path, strerror(errno));
		turn_off(asic, follower, 1);
		return -1;
	}
	follower->inode = is.st_ino;
	follower->full = 0;
	follower->changed = CHANGED_ROUTES;
	look_at_ports(asic, follower);
	follower_look(asic, follower);
	if (bpf_map_update_elem(engine->routes_fd, &node->first, &follower->trie, BPF_ANY)) {
		snprintf(error, ERROR_SIZE, "%s: its trie: %s", node->ns.path, strerror(errno));
		turn_off(asic, follower, 1);
		return -1;
	}
	return 0;
}

static void wake(struct engine *engine)
{
	uint64_t one = 1;

	(void)!write(engine->wake, &one, sizeof(one));
}

static int wanted(struct asic *asic, const struct node *node)
{
	if (!node->attached)
		return 0;
	for (unsigned i = node->first; i < node->first + node->count; i++)
		if (asic->ports[i].kind == PORT_SWITCH && asic->profiles[asic->ports[i].profile].ecmp)
			return 1;
	return 0;
}

/* A restarted node has another namespace: what hung on the old one goes. */
static int stale(struct asic *asic, const struct follower *follower)
{
	struct stat is;

	return fstat(asic->node[follower->node].ns.fd, &is) || is.st_ino != follower->inode;
}

static int follow_node(struct asic *asic, unsigned at, int on, char *error)
{
	struct follower *follower = &asic->engine->follower[at];

	follower->node = at;
	if (follower->on && (!on || stale(asic, follower)))
		turn_off(asic, follower, 1);
	if (on && !follower->on)
		return turn_on(asic, follower, error);
	if (on && look_at_ports(asic, follower)) {
		follower->changed |= CHANGED_ROUTES;
		wake(asic->engine);
	}
	return 0;
}

/* Turn the engine on and off where the ports' profiles say so. Returns 0 or -1. */
int engine_follow(struct asic *asic, char *error)
{
	int failed = 0;

	pthread_mutex_lock(&asic->engine->lock);
	for (unsigned i = 0; i < asic->node_count && !failed; i++)
		failed = follow_node(asic, i, wanted(asic, &asic->node[i]), error);
	engines_set(asic);
	pthread_mutex_unlock(&asic->engine->lock);
	return failed;
}

/* The same for one node; `profile` is about to be one of its ports'. */
int engine_follow_node(struct asic *asic, unsigned node, const struct port_profile *profile, char *error)
{
	int failed, on, was;

	pthread_mutex_lock(&asic->engine->lock);
	was = asic->engine->follower[node].on;
	on = wanted(asic, &asic->node[node]) || (asic->node[node].attached && profile && profile->ecmp &&
						 asic->ports[asic->node[node].first].kind == PORT_SWITCH);
	failed = follow_node(asic, node, on, error);
	if (was != asic->engine->follower[node].on)
		engines_set(asic);
	setns(asic->home, CLONE_NEWNET);
	pthread_mutex_unlock(&asic->engine->lock);
	return failed;
}

/* Before a node is detached; `policy`: what its namespace had is put back. */
void engine_leave(struct asic *asic, unsigned node, int policy)
{
	pthread_mutex_lock(&asic->engine->lock);
	if (asic->engine->follower[node].on) {
		turn_off(asic, &asic->engine->follower[node], policy);
		engines_set(asic);
	}
	pthread_mutex_unlock(&asic->engine->lock);
}

int engine_profile(struct asic *asic, unsigned at, const struct ecmp_profile *profile, char *error)
{
	int failed;

	for (unsigned i = 1; i <= asic->port_count; i++)
		for (unsigned class = 0; asic->node[asic->port[i].node].attached && class < CLASSES; class++)
			if (asic->profiles[asic->ports[i].profile].ecmp_of_tc[class] == at) {
				snprintf(error, ERROR_SIZE, "at: a port uses this one");
				return -1;
			}
	pthread_mutex_lock(&asic->engine->lock);
	failed = loaded(asic, error);
	if (!failed)
		asic->engine->ecmps[at] = *profile;
	pthread_mutex_unlock(&asic->engine->lock);
	return failed;
}

void engine_stop(struct asic *asic)
{
	struct engine *engine = asic->engine;

	if (!engine->running)
		return;
	engine->stopping = 1;
	wake(engine);
	pthread_join(engine->thread, NULL);
	engine->running = 0;
}
