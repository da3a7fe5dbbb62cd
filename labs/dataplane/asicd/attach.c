// SPDX-License-Identifier: Apache-2.0
/*
 * Putting the programs and queues on the ports of a running lab, and taking them off, without touching forwarding.
 *
 * Ingress comes first everywhere, egress last, and they go in the other order: a stamped packet always meets the
 * program that ends its time in the queue. By tcx the programs hang on links that we hold: should we die, the kernel
 * takes them off. clsact (kernels before 6.6) is taken off by asic_release.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "asicd.h"

#define TCX_INGRESS	46	/* BPF_TCX_INGRESS, BPF_TCX_EGRESS: younger than Debian 12's headers */
#define TCX_EGRESS	47

/*
 * Each attach by tcx waits for a grace period, some 12 ms with the networking lock held; expedited ones take 0.1 ms.
 * The switch for that is the whole workstation's: one asicd at a time turns it, under the lock, and turns it back. What
 * it was stands in the locked file until it is so again: should we be killed, the next asicd and whoever clears up
 * after us (labs/expedited.py) know it from there.
 */
#define EXPEDITED	"/sys/kernel/rcu_expedited"

struct hurry {
	int lock;
	char was[16];
};

static int word_of(int fd, char *word, size_t size)
{
	ssize_t got = fd < 0 ? -1 : pread(fd, word, size - 1, 0);

	word[got > 0 ? got : 0] = 0;
	word[strcspn(word, "\n")] = 0;
	return word[0] ? 0 : -1;
}

static int expedite(const char *to)
{
	int fd = open(EXPEDITED, O_WRONLY | O_CLOEXEC), failed;

	if (fd < 0)
		return -1;
	failed = write(fd, to, strlen(to)) < 0;
	close(fd);
	return failed ? -1 : 0;
}

static void hurry_begin(struct hurry *hurry)
{
	int fd = open(EXPEDITED, O_RDONLY | O_CLOEXEC);
	int known;

	hurry->lock = open("/run/railbed.rcu", O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	if (hurry->lock >= 0)
		flock(hurry->lock, LOCK_EX);
	known = !word_of(hurry->lock, hurry->was, sizeof(hurry->was));
	if (!known && !word_of(fd, hurry->was, sizeof(hurry->was)))
		known = pwrite(hurry->lock, hurry->was, strlen(hurry->was), 0) == (ssize_t)strlen(hurry->was);
	if (fd >= 0)
		close(fd);
	if (known)
		expedite("1");
	else
		hurry->was[0] = 0;	/* what cannot be put back is not changed: it takes longer */
}

static void hurry_end(struct hurry *hurry)
{
	if (hurry->was[0] && !expedite(hurry->was))
		hurry->was[0] = ftruncate(hurry->lock, 0) ? hurry->was[0] : 0;
	if (hurry->lock >= 0)
		close(hurry->lock);
}

static int tcx(int program, int ifindex, int hook)
{
	union bpf_attr attr = {};

	attr.link_create.prog_fd = program;
	attr.link_create.target_ifindex = ifindex;
	attr.link_create.attach_type = hook;
	return syscall(SYS_bpf, BPF_LINK_CREATE, &attr, sizeof(attr));
}

static void unlink_port(struct port *port, int egress)
{
	if (port->links[egress] >= 0)
		close(port->links[egress]);
	port->links[egress] = -1;
}

static int link_port(struct asic *asic, struct node *node, struct port *port, int egress, char *error)
{
	int program = egress ? node->egress_fd : node->ingress_fd;

	if (asic->cls_bpf)
		return port_clsact(&node->ns, port, egress ? -1 : program, egress ? program : -1, error);
	port->links[egress] = tcx(program, port->ifindex, egress ? TCX_EGRESS : TCX_INGRESS);
	if (port->links[egress] >= 0)
		return 0;
	snprintf(error, ERROR_SIZE, "%s in %s: tcx: %s", port->name, node->ns.path, strerror(errno));
	return -1;
}

/* Find a node's ports, in its namespace. */
static int node_find(struct asic *asic, struct node *node, char *error)
{
	if (namespace_enter(&node->ns)) {
		snprintf(error, ERROR_SIZE, "%s: %s", node->ns.path, strerror(errno));
		return -1;
	}
	for (unsigned i = 0; i < node->count; i++) {
		struct port *port = &asic->port[node->first + i];

		if (!port_find(&node->ns, port))
			continue;
		snprintf(error, ERROR_SIZE, "no interface %s in %s", port->name, node->ns.path);
		return -1;
	}
	return 0;
}

/* Ports by interface index, as one copy of the programs looks them up. */
struct table {
	unsigned first;		/* interface index */
	uint16_t port[IFINDEXES];
};

/* Enter a node's ports into a table; returns -1, with the table as it was, where they meet others or lie too far. */
static int table_add(struct asic *asic, struct table *table, const struct node *node)
{
	unsigned low = ~0U, high = 0;

	for (unsigned i = 0; i < node->count; i++) {
		unsigned at = asic->port[node->first + i].ifindex;

		low = at < low ? at : low;
		high = at > high ? at : high;
	}
	if (!table->first)
		table->first = low > IFINDEXES / 2 ? low - IFINDEXES / 2 : 1;
	if (low < table->first || high - table->first >= IFINDEXES)
		return -1;
	for (unsigned i = 0; i < node->count; i++)
		if (table->port[asic->port[node->first + i].ifindex - table->first])
			return -1;
	for (unsigned i = 0; i < node->count; i++)
		table->port[asic->port[node->first + i].ifindex - table->first] = node->first + i;
	return 0;
}

/*
 * Load the programs for the nodes from `at` on, as many of them as one table holds. Interface numbers are a namespace's
 * own: where no two ports of a lab have the same, one copy serves all of it, else each node that meets another gets
 * one more. Returns how many nodes are served, or -1.
 */
static int nodes_load(struct asic *asic, unsigned at, unsigned most, char *error)
{
	struct table *table = calloc(1, sizeof(*table));
	struct node *head = &asic->node[at];
	int served = 0;

	if (!table) {
		snprintf(error, ERROR_SIZE, "out of memory");
		return -1;
	}
	while ((unsigned)served < most && !table_add(asic, table, &asic->node[at + served]))
		served++;
	if (!served) {
		snprintf(error, ERROR_SIZE, "%s: interface numbers lie more than %d apart", head->ns.path, IFINDEXES / 2);
		served = -1;
	} else if (node_load(asic, head, table->first, table->port, error)) {
		served = -1;
	}
	free(table);
	for (int i = 1; i < served; i++) {
		node_unload(&head[i]);
		head[i].ingress_fd = fcntl(head->ingress_fd, F_DUPFD_CLOEXEC, 0);
		head[i].egress_fd = fcntl(head->egress_fd, F_DUPFD_CLOEXEC, 0);
	}
	return served;
}

/*
 * The queues and the ingress program, on the ports of a node that have none. Ports that are as they were keep their
 * queues, and the programs they have: these know them by numbers that still hold. The caller has the lock.
 */
static int node_attach(struct asic *asic, struct node *node, char *error)
{
	struct interfaces interfaces;
	int failed = 0;

	if (namespace_enter(&node->ns)) {
		snprintf(error, ERROR_SIZE, "%s: %s", node->ns.path, strerror(errno));
		return -1;
	}
	interfaces = interfaces_open();
	for (unsigned i = 0; i < node->count && !failed; i++) {
		struct port_state *state = &asic->ports[node->first + i];
		struct port *port = &asic->port[node->first + i];

		if (port->structured)
			continue;
		failed = port_structure(&node->ns, port, &asic->profiles[state->profile], state->rate_bps, error) ||
			 link_port(asic, node, port, 0, error);
		if (!failed && port_steer(&interfaces, port->name, -1, port_processor(node->first + i)))
			say("%s in %s: not steered, packets of a queue may change places", port->name, node->ns.path);
	}
	interfaces_close(&interfaces);
	node->attached = !failed;
	return failed ? -1 : 0;
}

static int node_egress(struct asic *asic, struct node *node, char *error)
{
	if (namespace_enter(&node->ns)) {
		snprintf(error, ERROR_SIZE, "%s: %s", node->ns.path, strerror(errno));
		return -1;
	}
	for (unsigned i = 0; i < node->count; i++) {
		struct port *port = &asic->port[node->first + i];

		if (port->complete)
			continue;
		if (link_port(asic, node, port, 1, error))
			return -1;
		port->complete = 1;
	}
	return 0;
}

/* Take a port off; `there`: its interface is still there, in the namespace that was entered. */
static void port_detach(struct asic *asic, struct node *node, unsigned number, int there)
{
	struct port *port = &asic->port[number];

	unlink_port(port, 1);
	unlink_port(port, 0);
	if (there && asic->cls_bpf && port->structured)
		port_unclsact(&node->ns, port);
	if (there && !(asic->own_ports && asic->stopping))
		port_unstructure(&node->ns, port);
	port->structured = port->complete = 0;
	port->gates = port->closed = port->forwarding = 0;
	memset(port->priority, 0, sizeof(port->priority));
	memset(port->dog, 0, sizeof(port->dog));
	memset(port->missing, 0, sizeof(port->missing));
	port->slow_due = port->dog_due = port->veth_dropped = port->qdisc_dropped = 0;
	port->suspect = 0;
	asic->due[number] = 0;
	for (unsigned q = 0; q < QUEUES; q++)
		asic->queues[number * QUEUES + q].watchdog_state = 0;
	asic->ports[number].gates_closed = 0;
	asic->ports[number].watchdog_drop = 0;
}

static void node_detach(struct asic *asic, struct node *node)
{
	int there = node->ns.fd >= 0 && !namespace_enter(&node->ns);
	struct interfaces interfaces = NO_INTERFACES;

	if (there && !(asic->own_ports && asic->stopping))
		interfaces = interfaces_open();
	for (unsigned i = 0; i < node->count; i++) {
		port_steer(&interfaces, asic->port[node->first + i].name, port_processor(node->first + i), -1);
		port_detach(asic, node, node->first + i, there);
	}
	interfaces_close(&interfaces);
	node_unload(node);
	node->attached = 0;
}

int asic_attach(struct asic *asic, char *error)
{
	int failed = release_note(asic, error), served;
	struct hurry hurry;

	hurry_begin(&hurry);
	pthread_mutex_lock(&asic->lock);
	for (unsigned i = 0; i < asic->node_count && !failed; i++)
		failed = node_find(asic, &asic->node[i], error);
	for (unsigned i = 0; i < asic->node_count && !failed; i += served) {
		served = nodes_load(asic, i, asic->node_count - i, error);
		failed = served < 0;
	}
	for (unsigned i = 0; i < asic->node_count && !failed; i++)
		failed = node_attach(asic, &asic->node[i], error);
	for (unsigned i = 0; i < asic->node_count && !failed; i++)
		failed = node_egress(asic, &asic->node[i], error);
	pthread_mutex_unlock(&asic->lock);
	failed = failed ?: engine_follow(asic, error);
	setns(asic->home, CLONE_NEWNET);
	hurry_end(&hurry);
	if (failed)
		asic_detach(asic);
	return failed;
}

void asic_detach(struct asic *asic)
{
	struct hurry hurry;

	hurry_begin(&hurry);
	for (unsigned i = 0; i < asic->node_count; i++)
		engine_leave(asic, i, !(asic->own_ports && asic->stopping));
	pthread_mutex_lock(&asic->lock);
	for (unsigned i = 0; i < asic->node_count; i++) {
		struct node *node = &asic->node[i];

		for (unsigned p = 0; p < node->count; p++)
			unlink_port(&asic->port[node->first + p], 1);
	}
	for (unsigned i = 0; i < asic->node_count; i++)
		node_detach(asic, &asic->node[i]);
	pthread_mutex_unlock(&asic->lock);
	hurry_end(&hurry);
}

/* Take off the ports whose interfaces are other ones now; returns how many, or -1 when the node is not there. */
static int node_compare(struct asic *asic, struct node *node)
{
	struct namespace now = {.fd = -1};
	char path[256], error[ERROR_SIZE];
	struct stat was, is;
	int changed = 0;

	snprintf(path, sizeof(path), "%s", node->ns.path);
	if (namespace_open(&now, path, error))
		return -1;
	if (node->ns.fd < 0 || fstat(node->ns.fd, &was) || fstat(now.fd, &is) || was.st_ino != is.st_ino) {
		node_detach(asic, node);
		namespace_close(&node->ns);
		node->ns = now;
		return node->count;
	}
	for (unsigned i = 0; i < node->count; i++) {
		struct port found = asic->port[node->first + i];

		if (found.complete && !port_find(&now, &found) && found.ifindex == asic->port[node->first + i].ifindex &&
		    !memcmp(found.mac, asic->port[node->first + i].mac, 6))
			continue;
		port_detach(asic, node, node->first + i, 0);
		changed++;
	}
	namespace_close(&now);
	return changed;
}

/* Nodes may have been restarted, and with them their neighbours' interfaces: attach anew where they are other ones. */
int asic_refresh(struct asic *asic, unsigned *changed, char *error)
{
	struct hurry hurry;
	int failed = 0;

	*changed = 0;
	hurry_begin(&hurry);
	pthread_mutex_lock(&asic->lock);
	for (unsigned i = 0; i < asic->node_count && !failed; i++) {
		struct node *node = &asic->node[i];
		int ports = node_compare(asic, node);

		if (ports <= 0)
			continue;	/* as it was; or it is stopped, and its time comes when it is started */
		failed = node_find(asic, node, error) || nodes_load(asic, i, 1, error) < 0 || node_attach(asic, node, error);
		*changed += ports;
	}
	for (unsigned i = 0; i < asic->node_count && !failed; i++)
		if (asic->node[i].attached)
			failed = node_egress(asic, &asic->node[i], error);
	pthread_mutex_unlock(&asic->lock);
	failed = failed ?: engine_follow(asic, error);
	setns(asic->home, CLONE_NEWNET);
	hurry_end(&hurry);
	return failed;
}

/* A node is about to be stopped: take everything off it, and let go of its namespace. */
void asic_leave(struct asic *asic, unsigned node)
{
	struct hurry hurry;

	hurry_begin(&hurry);
	engine_leave(asic, node, 1);
	pthread_mutex_lock(&asic->lock);
	node_detach(asic, &asic->node[node]);
	namespace_close(&asic->node[node].ns);
	setns(asic->home, CLONE_NEWNET);
	pthread_mutex_unlock(&asic->lock);
	hurry_end(&hurry);
}
