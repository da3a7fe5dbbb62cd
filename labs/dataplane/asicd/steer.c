// SPDX-License-Identifier: Apache-2.0
/*
 * One processor receives all that comes in by a port (receive packet steering). A veth hands a packet over on the
 * processor that took it out of the queue, and a queue may be served by each in turn: what one took could wait there
 * while another already delivered what it took later. Steered, all wait in one line, so the order of a queue holds.
 * Ports take turns, so that all processors work.
 *
 * A thread sees the interfaces of its own namespace in a sysfs of that namespace. It is mounted nowhere: a file
 * descriptor is all there is of it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "asicd.h"

#define WORD_BITS 32	/* a mask is written as words of so many bits, the highest first, with commas between */
#define MASK_SIZE 2400	/* of 8192 processors */

/* The interfaces of the namespace that was entered; -1 where there is no such thing. */
int interfaces_open(void)
{
	int type = syscall(SYS_fsopen, "sysfs", FSOPEN_CLOEXEC), mount = -1, found = -1;

	if (type < 0)
		return -1;
	if (!syscall(SYS_fsconfig, type, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		mount = syscall(SYS_fsmount, type, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	if (mount >= 0)
		found = openat(mount, "class/net", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (mount >= 0)
		close(mount);
	close(type);
	return found;
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
int port_steer(int interfaces, const char *port, int from, int to)
{
	char path[64], was[MASK_SIZE], is[MASK_SIZE];
	struct dirent *entry;
	int at, failed = 0;
	DIR *queues;

	mask_of(from, was, sizeof(was));
	mask_of(to, is, sizeof(is));
	snprintf(path, sizeof(path), "%s/queues", port);
	at = openat(interfaces, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	queues = at < 0 ? NULL : fdopendir(at);
	if (!queues)
		return -1;
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
