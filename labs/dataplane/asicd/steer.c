// SPDX-License-Identifier: Apache-2.0
/*
 * One processor receives all that comes in by a port (receive packet steering). A veth hands a packet over on the
 * processor that took it out of the queue, and a queue may be served by each in turn: what one took could wait there
 * while another already delivered what it took later. Steered, all wait in one line, so the order of a queue holds.
 * Ports take turns, so that all processors work.
 *
 * To choose the processor the kernel gives a packet a hash of its own, which routing obeys under hash policy 1. Our
 * programs spend it, so where these are gone nobody may be left steered (asic_release).
 *
 * A thread sees the interfaces of its own namespace in a sysfs of that namespace. It is mounted nowhere: a file
 * descriptor is all there is of it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "asicd.h"

#define WORD_BITS	32	/* a mask is written as words of so many bits, the highest first, with commas between */
#define SAFE		(MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)
#define MASK_SIZE	2400	/* of 8192 processors */

/*
 * A container engine makes the whole sysfs of a container's namespace read-only, not only the container's view of it.
 * Turned writable for a moment, that view still is what it was. Returns what it was.
 */
static int writable(int mount, int to)
{
	int pick = syscall(SYS_fspick, mount, "", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH), was;
	struct statvfs said;

	was = fstatvfs(mount, &said) || !(said.f_flag & ST_RDONLY);
	if (pick >= 0 && was != to && !syscall(SYS_fsconfig, pick, FSCONFIG_SET_FLAG, to ? "rw" : "ro", NULL, 0))
		syscall(SYS_fsconfig, pick, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0);
	if (pick >= 0)
		close(pick);
	return was;
}

/* The interfaces of the namespace that was entered. Where there is no such thing, steering says so. */
struct interfaces interfaces_open(void)
{
	int type = syscall(SYS_fsopen, "sysfs", FSOPEN_CLOEXEC);
	struct interfaces found = NO_INTERFACES;

	if (type < 0)
		return found;
	if (!syscall(SYS_fsconfig, type, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		found.mount = syscall(SYS_fsmount, type, FSMOUNT_CLOEXEC, SAFE);
	close(type);
	if (found.mount < 0)
		return found;
	found.writable = writable(found.mount, 1);
	found.fd = openat(found.mount, "class/net", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return found;
}

void interfaces_close(struct interfaces *found)
{
	if (found->fd >= 0)
		close(found->fd);
	if (found->mount >= 0 && !found->writable)
		writable(found->mount, 0);
	if (found->mount >= 0)
		close(found->mount);
	*found = NO_INTERFACES;
}

static void mask_of(int processor, char *text, size_t size)
{
	int at = snprintf(text, size, "%x", processor < 0 ? 0 : 1U << processor % WORD_BITS);

	for (int word = 0; word < processor / WORD_BITS; word++)
		at += snprintf(text + at, size - at, ",00000000");
}

/* True when two masks say the same; the kernel's has leading zeros and commas as it has processors. */
static int same_mask(const char *one, const char *other)
{
	one += strspn(one, "0,");
	other += strspn(other, "0,");
	return strcspn(one, "\n") == strcspn(other, "\n") && !strncmp(one, other, strcspn(one, "\n"));
}

/* Somebody else's mask stays: only what is `from` is changed. Returns 0 when it is `to` now. */
static int queue_steer(int queues, const char *name, const char *from, const char *to)
{
	char path[300], found[MASK_SIZE] = "";
	int file, failed;

	snprintf(path, sizeof(path), "%s/rps_cpus", name);
	file = openat(queues, path, O_RDWR | O_CLOEXEC);
	if (file < 0)
		return -1;
	failed = read(file, found, sizeof(found) - 1) <= 0;
	if (!failed && !same_mask(found, to))
		failed = !same_mask(found, from) || pwrite(file, to, strlen(to), 0) < 0;
	close(file);
	return failed ? -1 : 0;
}

/*
 * Where processor `from` receives what comes in by a port, have `to` do it; -1 stands for whichever hands it over.
 * Returns 0, or -1 when some queue of it is not as it was to be.
 */
int port_steer(const struct interfaces *interfaces, const char *port, int from, int to)
{
	char path[64], was[MASK_SIZE], is[MASK_SIZE];
	struct dirent *entry;
	int at, failed = 0;
	DIR *queues;

	mask_of(from, was, sizeof(was));
	mask_of(to, is, sizeof(is));
	snprintf(path, sizeof(path), "%s/queues", port);
	at = openat(interfaces->fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	queues = at < 0 ? NULL : fdopendir(at);
	if (!queues) {
		if (at >= 0)
			close(at);
		return -1;
	}
	while ((entry = readdir(queues)))
		if (!strncmp(entry->d_name, "rx-", 3))
			failed |= queue_steer(dirfd(queues), entry->d_name, was, is);
	closedir(queues);
	return failed;
}

/* Whose turn it is. */
int port_processor(unsigned number)
{
	return number % sysconf(_SC_NPROCESSORS_ONLN);
}
