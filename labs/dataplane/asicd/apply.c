// SPDX-License-Identifier: Apache-2.0
/* A port turned to another profile and rate, while packets flow. */
#include <string.h>

#include "asicd.h"

static int64_t above(int64_t used, uint32_t reserved)
{
	return used > (int64_t)reserved ? used - reserved : 0;
}

static void pool_move(struct asic *asic, unsigned base, int64_t was, unsigned from, int64_t is, unsigned to)
{
	__atomic_fetch_sub(&asic->pools[base + from].used, was, __ATOMIC_RELAXED);
	__atomic_fetch_add(&asic->pools[base + to].used, is, __ATOMIC_RELAXED);
}

/* A profile may reserve other sizes, in other pools: move what is in the queues and groups now. */
static void move_charges(struct asic *asic, unsigned number, const struct port_profile *was,
			 const struct port_profile *is)
{
	struct port_state *port = &asic->ports[number];

	for (unsigned i = 0; i < QUEUES; i++) {
		int64_t depth = PACKED_BYTES(asic->queues[number * QUEUES + i].depth);
		uint32_t key = number * QUEUES + i;
		struct pg_state group;

		pool_move(asic, port->pools, above(depth, was->queue[i].reserved), was->queue[i].pool,
			  above(depth, is->queue[i].reserved), is->queue[i].pool);
		if (bpf_map_lookup_elem(asic->groups_fd, &key, &group))
			continue;
		pool_move(asic, port->pools, above(group.used, was->pg[i].reserved), was->pg[i].pool,
			  above(group.used, is->pg[i].reserved), is->pg[i].pool);
	}
}

/* Turn a port to another profile and rate: one store for the programs, then its queues. */
int asic_apply(struct asic *asic, unsigned number, unsigned profile, uint64_t rate, char *error)
{
	struct port_state *state = &asic->ports[number];
	struct port *port = &asic->port[number];
	struct node *node = &asic->node[port->node];
	unsigned was = state->profile;
	int failed = 0;

	/* What the new profile's programs will ask for is there before they ask. */
	if (engine_follow_node(asic, port->node, &asic->profiles[profile], error))
		return -1;
	pthread_mutex_lock(&asic->lock);
	state->rate_bps = rate;
	__atomic_store_n(&state->profile, profile, __ATOMIC_RELEASE);
	move_charges(asic, number, &asic->profiles[was], &asic->profiles[profile]);
	if (node->attached) {
		port_resume(asic, number);
		memset(port->dog, 0, sizeof(port->dog));
		state->watchdog_drop = 0;
		for (unsigned q = 0; q < QUEUES; q++)
			asic->queues[number * QUEUES + q].watchdog_state = 0;
		failed = port_structure(&node->ns, port, &asic->profiles[profile], rate, error);
	}
	pthread_mutex_unlock(&asic->lock);
	return failed ?: engine_follow_node(asic, port->node, NULL, error);
}
