// SPDX-License-Identifier: Apache-2.0
/* The thread that follows the kernel's routes. Not the reactor: a dump may wait for whoever changes the network. */
#include <sched.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "engine.h"

#define EVENTS		64
#define AGAIN_NS	(20 * MS)	/* after a link has changed: once more */
#define RETRY_NS	(100 * MS)
#define ALWAYS_NS	(5000 * MS)	/* what tells nobody, such as ignore_routes_with_linkdown */
#define SHORT_NS	MS
#define NICE		(-10)		/* packets go by what was until it has had its turn */

/* The trie as the kernel's routes are now. The caller has the engine's lock. */
void follower_look(struct asic *asic, struct follower *follower)
{
	unsigned changed = follower->changed;
	uint64_t began = now_ns(), ended;

	follower->changed = 0;
	if (routes_find(follower->ask, changed & CHANGED_LINKS, &asic->engine->findings)) {
		follower->changed = changed;
		follower->rest_until = now_ns() + RETRY_NS;
		return;
	}
	table_update(asic, follower);
	ended = now_ns();
	/* Where looks are long, many changes become one. */
	follower->rest_until = ended - began > SHORT_NS ? ended + (ended - began - SHORT_NS) : ended;
	follower->look_due = ended + (changed & CHANGED_LINKS ? AGAIN_NS : ALWAYS_NS);
}

static uint64_t sooner(uint64_t due, uint64_t at)
{
	return at && at < due ? at : due;
}

/* Do what is due for one node; returns when the next thing will be. */
static uint64_t turn(struct asic *asic, struct follower *follower, uint64_t due)
{
	uint64_t now = now_ns();

	if (follower->look_due <= now) {
		follower->changed |= CHANGED_ROUTES;
		policy_check(follower, asic->node[follower->node].ns.path);
	}
	if (follower->changed && follower->rest_until <= now)
		follower_look(asic, follower);
	if (follower->refill_due && follower->refill_due <= now)
		table_refill(asic, follower, now);
	due = sooner(due, follower->changed ? follower->rest_until : follower->look_due);
	return sooner(due, follower->refill_due);
}

static void heard(struct asic *asic, const struct epoll_event *event)
{
	struct engine *engine = asic->engine;
	uint64_t count;

	if (event->data.u32 >= asic->node_count) {
		(void)!read(engine->wake, &count, sizeof(count));
		return;
	}
	/* It may have been turned off since. */
	if (engine->follower[event->data.u32].on)
		engine->follower[event->data.u32].changed |= routes_heard(engine->follower[event->data.u32].listener);
}

void *following(void *argument)
{
	struct asic *asic = argument;
	struct engine *engine = asic->engine;
	struct epoll_event happened[EVENTS];
	int count = 0;

	setns(asic->home, CLONE_NEWNET);
	setpriority(PRIO_PROCESS, 0, NICE);	/* Linux: of this thread */
	while (!engine->stopping) {
		uint64_t now, due;

		pthread_mutex_lock(&engine->lock);
		for (int i = 0; i < count; i++)
			heard(asic, &happened[i]);
		due = now_ns() + 1000 * MS;
		for (unsigned i = 0; i < asic->node_count; i++)
			if (engine->follower[i].on)
				due = turn(asic, &engine->follower[i], due);
		pthread_mutex_unlock(&engine->lock);
		now = now_ns();
		count = epoll_wait(engine->epoll, happened, EVENTS, due > now ? (due - now + MS - 1) / MS : 0);
	}
	return NULL;
}
