// SPDX-License-Identifier: Apache-2.0
/*
 * A node's prefixes: what the kernel has against what the trie holds. Only what changed is written.
 *
 * Buckets belong to the prefix, not to the route: FRR replaces a route when a link fails and when it comes back, and
 * BGP may take one away and bring it at once. So a prefix is forgotten only after it was gone for GRACE_NS.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "buckets.h"
#include "engine.h"

#define GRACE_NS	(1000 * MS)
#define LOOK_NS		(50 * MS)	/* at groups out of balance, at the latest */

static int by_key(const struct route_key *a, const struct route_key *b)
{
	if (a->prefixlen != b->prefixlen)
		return a->prefixlen < b->prefixlen ? -1 : 1;
	return memcmp(a->address, b->address, sizeof(a->address));
}

static int alive(const struct found *found)
{
	unsigned known = found->count < ECMP_MEMBERS ? found->count : ECMP_MEMBERS;

	if (!found->forwarded || found->left || found->count > ECMP_MEMBERS)
		return 1;
	for (unsigned i = 0; i < known; i++)
		if (!found->way[i].dead)
			return 1;
	return 0;
}

/* The kernel's order: the local table, then the main one; past routes that have no way left; the lowest metric. */
static int by_rank(const void *a, const void *b)
{
	const struct found *one = *(struct found *const *)a, *other = *(struct found *const *)b;
	int order = by_key(&one->key, &other->key);

	order = order ?: other->own - one->own;
	order = order ?: alive(other) - alive(one);
	if (!order && one->metric != other->metric)
		order = one->metric < other->metric ? -1 : 1;
	return order ?: (one > other) - (one < other);
}

int wire_order(const void *a, const void *b)
{
	return ((const struct wire *)a)->ifindex - ((const struct wire *)b)->ifindex;
}

static const struct wire *wire_of(const struct follower *follower, unsigned ifindex)
{
	struct wire wanted = {.ifindex = ifindex};

	return bsearch(&wanted, follower->wire, follower->wires, sizeof(wanted), wire_order);
}

/* A row of `bucket_seen` for a group that is to be resilient. */
static uint32_t take_id(struct asic *asic)
{
	struct engine *engine = asic->engine;

	for (unsigned id = 1; id < asic->group_count; id++) {
		if (engine->taken[id])
			continue;
		engine->taken[id] = 1;
		memset((void *)&engine->seen[id * ECMP_BUCKETS], 0, ECMP_BUCKETS * sizeof(*engine->seen));
		return id;
	}
	if (!engine->said)
		say("more than %u resilient groups: the others are no more than hashed", asic->group_count - 1);
	engine->said = 1;
	return 0;
}

static void count_moves(struct asic *asic, const struct route *route, const struct moves *moves)
{
	const struct ecmp_group *group = &route->group;

	for (unsigned i = 0; i < moves->count; i++) {
		uint32_t port = group->member[group->bucket[moves->bucket[i]]].port;

		__atomic_fetch_add(&asic->engine->counts[port * ECMP_MODES + ECMP_RESILIENT].moved, 1, __ATOMIC_RELAXED);
	}
}

static void write_route(struct follower *follower, struct route *route)
{
	route->written = !bpf_map_update_elem(follower->trie, &route->key, &route->group, BPF_ANY);
	if (route->written)
		return;
	if (!follower->full)
		say("a prefix of node %u is not in its trie: %s", follower->node, strerror(errno));
	follower->full = 1;
	/* Nor is what it was: that would stay when the prefix is gone. */
	bpf_map_delete_elem(follower->trie, &route->key);
}

static void erase_route(struct follower *follower, struct route *route)
{
	if (route->written)
		bpf_map_delete_elem(follower->trie, &route->key);
	route->written = 0;
}

/*
 * The members of a prefix that has some, their hashes and shares, and what buckets know them by: their port, or the
 * interface that is no port of the lab. Returns how many.
 */
static unsigned members_of(const struct follower *follower, const struct found *found, struct ecmp_member *member,
			   uint32_t *name)
{
	uint32_t hash[ECMP_MEMBERS], share[ECMP_MEMBERS];
	uint64_t rate[ECMP_MEMBERS];
	unsigned count = 0;

	group_hashes(found->way, found->count, !!found->object, hash);
	for (unsigned i = 0; i < found->count; i++) {
		const struct wire *wire = wire_of(follower, found->way[i].ifindex);

		if (found->way[i].dead)
			continue;
		rate[count] = wire ? wire->rate_bps : 0;
		name[count] = wire ? wire->port : ~found->way[i].ifindex;
		member[count++] = (struct ecmp_member){.hash = hash[i], .port = wire ? wire->port : 0};
	}
	group_shares(rate, count, share);
	for (unsigned i = 0; i < count; i++)
		member[i].share = share[i];
	return count;
}

static void balance(struct asic *asic, struct follower *follower, struct route *route, uint64_t now)
{
	struct ecmp_group *group = &route->group;
	uint64_t since = route->unbalanced_since ?: now, before = buckets_idle_before(now, follower->rule.idle_ms * MS);
	int forced = follower->rule.unbalanced_ms && now - since >= follower->rule.unbalanced_ms * MS;
	struct moves moves;

	if (group->count < 2 || !buckets_unbalanced(group->bucket, group->count)) {
		route->unbalanced_since = 0;
		return;
	}
	buckets_refill(group->bucket, group->count,
		       forced || !group->id || !follower->rule.idle_ms ? NULL : &asic->engine->seen[group->id * ECMP_BUCKETS],
		       before, &moves);
	count_moves(asic, route, &moves);
	route->unbalanced_since = buckets_unbalanced(group->bucket, group->count) ? since : 0;
}

static void set_buckets(struct asic *asic, struct follower *follower, struct route *route, const uint32_t *name,
			uint64_t now)
{
	struct ecmp_group *group = &route->group;
	struct moves moves = {};

	if (!route->names || (!follower->resilient && route->names != group->count)) {
		buckets_fresh(group->bucket, group->count);
		route->unbalanced_since = 0;
	} else if (route->names != group->count || memcmp(name, route->name, group->count * sizeof(*name))) {
		buckets_change(group->bucket, route->name, route->names, name, group->count, &moves);
	}
	memcpy(route->name, name, group->count * sizeof(*name));
	route->names = group->count;
	if (!follower->resilient)
		return;
	if (!group->id && group->count > 1)
		group->id = take_id(asic);
	count_moves(asic, route, &moves);
	balance(asic, follower, route, now);
}

/* A prefix as it was found; what the trie holds follows. */
static void set_route(struct asic *asic, struct follower *follower, struct route *route, const struct found *found,
		      uint64_t now)
{
	struct ecmp_group was = route->group;
	uint32_t name[ECMP_MEMBERS];
	int crowded = found->forwarded && found->count > ECMP_MEMBERS;

	route->gone_since = 0;
	if (!alive(found)) {
		erase_route(follower, route);	/* the kernel looks on, at shorter prefixes */
		return;
	}
	if (crowded && !route->said)
		say("a prefix of node %u has %u next hops: it is left to the kernel", follower->node, found->count);
	route->said |= crowded;
	memset(route->group.member, 0, sizeof(route->group.member));
	route->group.count = 0;
	if (found->forwarded && !crowded && !found->left) {
		route->group.count = members_of(follower, found, route->group.member, name);
		set_buckets(asic, follower, route, name, now);
	}
	if (!route->written || memcmp(&was, &route->group, sizeof(was)))
		write_route(follower, route);
}

static void forget(struct asic *asic, struct follower *follower, struct route *route)
{
	erase_route(follower, route);
	if (route->group.id)
		asic->engine->taken[route->group.id] = 0;
	free(route);
}

/* A prefix that the kernel does not have: returns true once it is to be forgotten. */
static int gone(struct follower *follower, struct route *route, uint64_t now)
{
	erase_route(follower, route);
	route->gone_since = route->gone_since ?: now;
	return now - route->gone_since >= GRACE_NS;
}

static void plan_refill(struct follower *follower, uint64_t now)
{
	uint64_t step = follower->rule.idle_ms * MS / 4;

	follower->refill_due = 0;
	for (size_t i = 0; i < follower->routes && !follower->refill_due; i++)
		if (follower->route[i]->gone_since || follower->route[i]->unbalanced_since)
			follower->refill_due = now + (step < MS ? MS : step < LOOK_NS ? step : LOOK_NS);
}

/* Where the findings of one prefix end. */
static size_t same_key(struct found **found, size_t at, size_t count)
{
	size_t end = at + 1;

	while (end < count && !by_key(&found[at]->key, &found[end]->key))
		end++;
	return end;
}

static struct route *new_route(const struct route_key *key)
{
	struct route *route = calloc(1, sizeof(*route));

	if (route)
		route->key = *key;
	return route;
}

void table_update(struct asic *asic, struct follower *follower)
{
	struct findings *findings = &asic->engine->findings;
	struct found **found = malloc((findings->count + 1) * sizeof(*found));
	struct route **all = malloc((findings->count + follower->routes + 1) * sizeof(*all));
	size_t old = 0, at = 0, count = 0;
	uint64_t now = now_ns();

	if (!found || !all) {
		free(found);
		free(all);
		return;
	}
	for (size_t i = 0; i < findings->count; i++)
		found[i] = &findings->found[i];
	qsort(found, findings->count, sizeof(*found), by_rank);
	while (old < follower->routes || at < findings->count) {
		struct route *route = old < follower->routes ? follower->route[old] : NULL;
		int order = !route ? 1 : at == findings->count ? -1 : by_key(&route->key, &found[at]->key);

		if (order <= 0)
			old++;
		else
			route = NULL;
		if (order < 0 && gone(follower, route, now)) {
			forget(asic, follower, route);
			continue;
		}
		if (order >= 0) {
			route = route ?: new_route(&found[at]->key);
			if (route)
				set_route(asic, follower, route, found[at], now);
			at = same_key(found, at, findings->count);
		}
		if (route)
			all[count++] = route;
	}
	free(found);
	free(follower->route);
	follower->route = all;
	follower->routes = count;
	plan_refill(follower, now);
}

/* Buckets of groups out of balance that may move by now, and prefixes whose grace is over. */
void table_refill(struct asic *asic, struct follower *follower, uint64_t now)
{
	size_t kept = 0;

	for (size_t i = 0; i < follower->routes; i++) {
		struct route *route = follower->route[i];

		if (route->gone_since && gone(follower, route, now)) {
			forget(asic, follower, route);
			continue;
		}
		follower->route[kept++] = route;
		if (route->unbalanced_since && route->written) {
			struct ecmp_group was = route->group;

			balance(asic, follower, route, now);
			if (memcmp(&was, &route->group, sizeof(was)))
				write_route(follower, route);
		}
	}
	follower->routes = kept;
	plan_refill(follower, now);
}

void table_drop(struct asic *asic, struct follower *follower)
{
	for (size_t i = 0; i < follower->routes; i++)
		forget(asic, follower, follower->route[i]);
	free(follower->route);
	follower->route = NULL;
	follower->routes = 0;
	follower->refill_due = 0;
}
