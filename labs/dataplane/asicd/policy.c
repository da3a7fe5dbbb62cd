// SPDX-License-Identifier: Apache-2.0
/*
 * The kernel obeys a packet's hash only under fib_multipath_hash_policy 1. While a node's engine is on, its namespace
 * has that policy; what it had before is written down first, and put back at the end by us or by asic_release.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine.h"

#define OBEY	1

static const char *const knobs[] = {
	"/proc/sys/net/ipv4/fib_multipath_hash_policy",
	"/proc/sys/net/ipv6/fib_multipath_hash_policy",
};

/* A node's policies; -1: it has no such family. */
struct policy {
	int was[2];
	char path[256];
};

/* In the namespace that was entered: /proc/sys/net is the asking thread's own. */
static int knob_read(int family)
{
	FILE *file = fopen(knobs[family], "re");
	int value = -1;

	if (!file)
		return -1;
	if (fscanf(file, "%d", &value) != 1)
		value = -1;
	fclose(file);
	return value;
}

static int knob_write(int family, int value)
{
	FILE *file = fopen(knobs[family], "we");

	if (!file)
		return -errno;
	fprintf(file, "%d\n", value);
	return fclose(file) ? -errno : 0;
}

static void file_path(const char *folder, char *path, size_t size)
{
	snprintf(path, size, "%s/hash_policy", folder);
}

static FILE *file_open(const char *folder)
{
	char path[300];

	file_path(folder, path, sizeof(path));
	return fopen(path, "re");
}

static int file_next(FILE *file, struct policy *policy)
{
	char line[400];

	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "%d %d %255s", &policy->was[0], &policy->was[1], policy->path) == 3)
			return 1;
	return 0;
}

static int synced(const char *folder, FILE *file)
{
	int failed = fflush(file) || fsync(fileno(file)), at;

	failed |= fclose(file);
	at = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	failed |= at < 0 || fsync(at);
	if (at >= 0)
		close(at);
	return failed;
}

/* Write the list anew: without `path`, and with `add` if there is one. It is on disk when this returns 0. */
static int file_rewrite(const char *folder, const char *path, const struct policy *add)
{
	FILE *old = file_open(folder), *file;
	char name[300], next[310];
	struct policy policy;
	int failed;

	file_path(folder, name, sizeof(name));
	snprintf(next, sizeof(next), "%s.next", name);
	file = fopen(next, "we");
	while (file && old && file_next(old, &policy))
		if (strcmp(policy.path, path))
			fprintf(file, "%d %d %s\n", policy.was[0], policy.was[1], policy.path);
	if (old)
		fclose(old);
	if (!file)
		return -1;
	if (add)
		fprintf(file, "%d %d %s\n", add->was[0], add->was[1], add->path);
	failed = fflush(file) || fsync(fileno(file)) || rename(next, name);
	return synced(folder, file) || failed ? -1 : 0;
}

static int file_find(const char *folder, const char *path, struct policy *policy)
{
	FILE *file = file_open(folder);
	int found = 0;

	while (file && !found && file_next(file, policy))
		found = !strcmp(policy->path, path);
	if (file)
		fclose(file);
	return found;
}

/* Give a node's namespace the policy. One that is on the list already was left so by an asicd before us. */
int policy_take(struct asic *asic, struct follower *follower, char *error)
{
	const struct namespace *ns = &asic->node[follower->node].ns;
	struct policy policy;

	follower->knob[0] = follower->knob[1] = -1;
	if (namespace_enter(ns)) {
		snprintf(error, ERROR_SIZE, "%s: %s", ns->path, strerror(errno));
		return -1;
	}
	if (!file_find(asic->folder, ns->path, &policy)) {
		snprintf(policy.path, sizeof(policy.path), "%s", ns->path);
		for (int family = 0; family < 2; family++)
			policy.was[family] = knob_read(family);
		if (file_rewrite(asic->folder, ns->path, &policy)) {
			snprintf(error, ERROR_SIZE, "%s/hash_policy: %s", asic->folder, strerror(errno));
			return -1;
		}
	}
	for (int family = 0; family < 2; family++) {
		int failed = policy.was[family] < 0 ? 0 : knob_write(family, OBEY);

		if (!failed) {
			/* It stays that namespace's, whoever asks. */
			follower->knob[family] = open(knobs[family], O_RDWR | O_CLOEXEC);
			continue;
		}
		snprintf(error, ERROR_SIZE, "%s in %s: %s", knobs[family], ns->path, strerror(-failed));
		policy_give_back(asic, follower);
		return -1;
	}
	return 0;
}

/*
 * Somebody's `sysctl -p` may have set another policy since: then every packet's hash would be ignored, and our counts
 * and predictions be wrong without a word.
 */
void policy_check(struct follower *follower, const char *path)
{
	for (int family = 0; family < 2; family++) {
		char text[16] = "";

		if (follower->knob[family] < 0 || pread(follower->knob[family], text, sizeof(text) - 1, 0) <= 0 ||
		    atoi(text) == OBEY)
			continue;
		say("%s in %s was set to %d: it is 1 again, the hash engine needs it", knobs[family], path, atoi(text));
		if (pwrite(follower->knob[family], "1\n", 2, 0) != 2)
			say("%s in %s: %s", knobs[family], path, strerror(errno));
	}
}

static void put_back(const struct policy *policy)
{
	for (int family = 0; family < 2; family++) {
		if (policy->was[family] < 0 || policy->was[family] == OBEY)
			continue;
		/* Whoever has set another one since then wants that one. */
		if (knob_read(family) == OBEY && knob_write(family, policy->was[family]))
			say("%s in %s: cannot be put back to %d", knobs[family], policy->path, policy->was[family]);
	}
}

void policy_give_back(struct asic *asic, struct follower *follower)
{
	const struct namespace *ns = &asic->node[follower->node].ns;
	struct policy policy;

	for (int family = 0; family < 2; family++) {
		if (follower->knob[family] >= 0)
			close(follower->knob[family]);
		follower->knob[family] = -1;
	}
	if (!file_find(asic->folder, ns->path, &policy))
		return;
	if (ns->fd >= 0 && !namespace_enter(ns))
		put_back(&policy);
	file_rewrite(asic->folder, ns->path, NULL);
}

/* What a dead asicd has left. */
void policy_release(const char *folder)
{
	FILE *file = file_open(folder);
	struct policy policy;
	char path[300];

	if (!file)
		return;
	while (file_next(file, &policy)) {
		struct namespace ns = {.fd = open(policy.path, O_RDONLY | O_CLOEXEC)};

		if (ns.fd < 0)
			continue;	/* the node is gone, and its policy with it */
		if (!namespace_enter(&ns))
			put_back(&policy);
		close(ns.fd);
	}
	fclose(file);
	file_path(folder, path, sizeof(path));
	unlink(path);
}
