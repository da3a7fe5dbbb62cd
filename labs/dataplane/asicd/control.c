// SPDX-License-Identifier: Apache-2.0
/*
 * The control socket: lines in, lines out. Every command answers one line, `ok …` or `error …`.
 *
 *   pool at= size= xoff=                    a buffer pool of a node
 *   profile at= bytes=                      struct port_profile as hexadecimal digits; never one that is in use
 *   ecmp at= bytes=                         struct ecmp_profile, from 1; never one that is in use
 *   node at= netns= first= count=           nodes first, then their ports
 *   port at= name= node= peer= rate= profile= local= matrix= pools= host= seed=
 *   attach                                  programs and queues onto every port
 *   refresh                                 onto those of nodes that were restarted
 *   leave node=                             a node that is about to be stopped
 *   apply port= profile= rate=              one port, while packets flow
 *   impair port= lose= corrupt= bad_fcs= every= match= saddr= daddr= sport= dport= protocol=
 *   cable port= peer=                       what a port is cabled to now; both ends are told, on a cable without carrier
 *   receiver port= drain= xoff= xon= limit= a host that takes packets slowly; drain=0: it does not
 *   detach, status, stop
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "asicd.h"
#include "command.h"

#define LINE_MAX_BYTES	8192

struct reply {
	char text[ERROR_SIZE + 64];
};

static int wrong(struct reply *reply, const struct command *command, const char *what)
{
	snprintf(reply->text, sizeof(reply->text), "error %s: %s", command->verb, what);
	return -1;
}

/* Read numbers by name into places: the last pair is {NULL}. */
struct number {
	const char *name;
	uint64_t most;
	uint64_t *to;
};

static int numbers(struct reply *reply, const struct command *command, const struct number *wanted)
{
	for (; wanted->name; wanted++) {
		char what[96];

		if (!command_number(command, wanted->name, wanted->most, wanted->to))
			continue;
		snprintf(what, sizeof(what), "%s: a number from 0 to %llu", wanted->name,
			 (unsigned long long)wanted->most);
		return wrong(reply, command, what);
	}
	return 0;
}

static int do_pool(struct asic *asic, const struct command *command, struct reply *reply)
{
	uint64_t at, size, xoff;
	const struct number wanted[] = {
		{"at", asic->pool_count - 1, &at}, {"size", 1ULL << 40, &size}, {"xoff", 1ULL << 40, &xoff}, {}};

	if (numbers(reply, command, wanted))
		return -1;
	asic->pools[at].size = size;
	asic->pools[at].headroom_size = xoff;
	return 0;
}

static int do_profile(struct asic *asic, const struct command *command, struct reply *reply)
{
	struct port_profile profile;
	uint64_t at;
	const struct number wanted[] = {{"at", asic->profile_count - 1, &at}, {}};

	if (numbers(reply, command, wanted))
		return -1;
	if (command_bytes(command, "bytes", &profile, sizeof(profile)))
		return wrong(reply, command, "bytes: not the length of struct port_profile, or no digits");
	for (unsigned i = 1; i <= asic->port_count; i++)
		if (asic->node[asic->port[i].node].attached && asic->ports[i].profile == at)
			return wrong(reply, command, "at: a port uses this one");
	asic->profiles[at] = profile;
	return 0;
}

static int do_ecmp(struct asic *asic, const struct command *command, struct reply *reply)
{
	struct ecmp_profile profile;
	char error[ERROR_SIZE];
	uint64_t at;
	const struct number wanted[] = {{"at", ECMP_PROFILES - 1, &at}, {}};

	if (numbers(reply, command, wanted))
		return -1;
	if (!at || command_bytes(command, "bytes", &profile, sizeof(profile)))
		return wrong(reply, command, "at: from 1; bytes: not the length of struct ecmp_profile, or no digits");
	return engine_profile(asic, at, &profile, error) ? wrong(reply, command, error) : 0;
}

static int do_node(struct asic *asic, const struct command *command, struct reply *reply)
{
	const char *netns = command_text(command, "netns");
	uint64_t at, first, count;
	const struct number wanted[] = {{"at", asic->node_count - 1, &at},
					{"first", asic->port_count, &first},
					{"count", asic->port_count, &count},
					{}};
	char error[ERROR_SIZE];

	if (numbers(reply, command, wanted))
		return -1;
	if (asic->node[at].attached)
		return wrong(reply, command, "at: a node that is attached");
	if (!netns || !first || first + count > asic->port_count + 1 || count > LOCALS)
		return wrong(reply, command, "netns, first and count: a path, and ports that there are");
	asic->node[at].first = first;
	asic->node[at].count = count;
	if (namespace_open(&asic->node[at].ns, netns, error))
		return wrong(reply, command, error);
	return 0;
}

static int do_port(struct asic *asic, const struct command *command, struct reply *reply)
{
	const char *name = command_text(command, "name");
	uint64_t at, node, peer, rate, profile, local, matrix, pools, host, seed;
	const struct number wanted[] = {{"at", asic->port_count, &at},
					{"node", asic->node_count - 1, &node},
					{"peer", asic->port_count, &peer},
					{"rate", 1ULL << 40, &rate},
					{"profile", asic->profile_count - 1, &profile},
					{"local", LOCALS - 1, &local},
					{"matrix", asic->matrix_count, &matrix},
					{"pools", asic->pool_count - POOLS, &pools},
					{"host", 1, &host},
					{"seed", UINT64_MAX, &seed},
					{}};

	if (numbers(reply, command, wanted))
		return -1;
	if (at && asic->node[node].attached)
		return wrong(reply, command, "node: one that is attached");
	if (at != asic->node[node].first + local)
		return wrong(reply, command, "at: the node's first port, and local");
	if (!at || !peer || rate < 8000 || !name || strlen(name) >= IF_NAMESIZE)
		return wrong(reply, command, "at, peer and name of ports that there are, rate from 8000 bit/s");
	if (matrix + asic->node[node].count * QUEUES > asic->matrix_count || local >= asic->node[node].count)
		return wrong(reply, command, "matrix and local: beyond the node's ports");
	snprintf(asic->port[at].name, IF_NAMESIZE, "%s", name);
	asic->port[at].node = node;
	asic->port[at].peer = peer;
	asic->ports[at] = (struct port_state){
		.profile = profile, .peer = peer, .first = asic->node[node].first, .local = local, .matrix = matrix,
		.pools = pools, .kind = host ? PORT_HOST : PORT_SWITCH, .seed = seed, .rate_bps = rate,
	};
	return 0;
}

static int do_apply(struct asic *asic, const struct command *command, struct reply *reply)
{
	uint64_t port, profile, rate;
	const struct number wanted[] = {{"port", asic->port_count, &port},
					{"profile", asic->profile_count - 1, &profile},
					{"rate", 1ULL << 40, &rate},
					{}};
	char error[ERROR_SIZE];

	if (numbers(reply, command, wanted))
		return -1;
	if (!port || rate < 8000)
		return wrong(reply, command, "port: one that there is; rate from 8000 bit/s");
	return asic_apply(asic, port, profile, rate, error) ? wrong(reply, command, error) : 0;
}

static int do_impair(struct asic *asic, const struct command *command, struct reply *reply)
{
	uint64_t port, lose, corrupt, bad_fcs, every, match, saddr, daddr, sport, dport, protocol;
	const struct number wanted[] = {{"port", asic->port_count, &port},
					{"lose", 1ULL << 32, &lose},
					{"corrupt", 1ULL << 32, &corrupt},
					{"bad_fcs", 1ULL << 32, &bad_fcs},
					{"every", UINT32_MAX, &every},
					{"match", 255, &match},
					{"saddr", UINT32_MAX, &saddr},
					{"daddr", UINT32_MAX, &daddr},
					{"sport", UINT16_MAX, &sport},
					{"dport", UINT16_MAX, &dport},
					{"protocol", 255, &protocol},
					{}};
	struct impairment *wire;

	if (numbers(reply, command, wanted))
		return -1;
	if (!port)
		return wrong(reply, command, "port: one that there is");
	wire = &asic->impairments[port];
	wire->match = 0;	/* while the rest changes */
	wire->lose = lose;
	wire->corrupt = corrupt;
	wire->bad_fcs = bad_fcs;
	wire->every = every;
	wire->saddr = saddr;
	wire->daddr = daddr;
	wire->sport = sport;
	wire->dport = dport;
	wire->protocol = protocol;
	__atomic_store_n(&wire->match, match, __ATOMIC_RELEASE);
	return 0;
}

static int do_receiver(struct asic *asic, const struct command *command, struct reply *reply)
{
	uint64_t port, drain, xoff, xon, limit;
	const struct number wanted[] = {{"port", asic->port_count, &port},  {"drain", 1ULL << 40, &drain},
					{"xoff", 1ULL << 30, &xoff},	    {"xon", 1ULL << 30, &xon},
					{"limit", 1ULL << 30, &limit},	    {}};
	struct receiver *slow;

	if (numbers(reply, command, wanted))
		return -1;
	if (!port || asic->ports[port].kind != PORT_HOST || (drain && (drain < 8000 || xon >= xoff || limit < xoff)))
		return wrong(reply, command, "a host's port; drain from 8000 bit/s; xon < xoff <= limit");
	slow = &asic->receivers[port];
	slow->xoff_bytes = xoff;
	slow->xon_bytes = xon;
	slow->limit_bytes = limit;
	__atomic_store_n(&slow->drain_bps, drain, __ATOMIC_RELEASE);
	return 0;
}

/* A cable that was plugged in elsewhere: who sends what comes in here, and whom this port pauses. */
static int do_cable(struct asic *asic, const struct command *command, struct reply *reply)
{
	uint64_t port, peer;
	const struct number wanted[] = {{"port", asic->port_count, &port}, {"peer", asic->port_count, &peer}, {}};

	if (numbers(reply, command, wanted))
		return -1;
	if (!port || !peer)
		return wrong(reply, command, "port and peer: ports that there are");
	pthread_mutex_lock(&asic->lock);
	asic->port[port].peer = peer;
	__atomic_store_n(&asic->ports[port].peer, peer, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&asic->lock);
	return 0;
}

static int do_attach(struct asic *asic, const struct command *command, struct reply *reply)
{
	char error[ERROR_SIZE];

	return asic_attach(asic, error) ? wrong(reply, command, error) : 0;
}

static int do_refresh(struct asic *asic, const struct command *command, struct reply *reply)
{
	char error[ERROR_SIZE];
	unsigned changed;

	if (asic_refresh(asic, &changed, error))
		return wrong(reply, command, error);
	snprintf(reply->text, sizeof(reply->text), "ok ports=%u", changed);
	return 0;
}

static int do_leave(struct asic *asic, const struct command *command, struct reply *reply)
{
	uint64_t node;
	const struct number wanted[] = {{"node", asic->node_count - 1, &node}, {}};

	if (numbers(reply, command, wanted))
		return -1;
	asic_leave(asic, node);
	return 0;
}

static int do_detach(struct asic *asic, const struct command *command, struct reply *reply)
{
	(void)command;
	(void)reply;
	asic_detach(asic);
	return 0;
}

static int do_status(struct asic *asic, const struct command *command, struct reply *reply)
{
	unsigned attached = 0;

	(void)command;
	for (unsigned i = 0; i < asic->node_count; i++)
		attached += asic->node[i].attached;
	snprintf(reply->text, sizeof(reply->text), "ok pid=%d nodes=%u attached=%u hook=%s fifo=%llu", getpid(),
		 asic->node_count, attached, asic->cls_bpf ? "cls_bpf" : "tcx", (unsigned long long)asic->state->fifo);
	return 0;
}

static int do_stop(struct asic *asic, const struct command *command, struct reply *reply)
{
	(void)command;
	(void)reply;
	asic->stopping = 1;
	return 0;
}

static const struct {
	const char *verb;
	int (*act)(struct asic *, const struct command *, struct reply *);
} verbs[] = {
	{"pool", do_pool},	   {"profile", do_profile}, {"node", do_node},	   {"port", do_port},
	{"attach", do_attach},	   {"refresh", do_refresh}, {"apply", do_apply},   {"impair", do_impair},
	{"receiver", do_receiver}, {"leave", do_leave},	   {"detach", do_detach},   {"status", do_status}, {"stop", do_stop},
	{"ecmp", do_ecmp},	   {"cable", do_cable},
};

static void obey(struct asic *asic, char *line, struct reply *reply)
{
	struct command command;

	strcpy(reply->text, "ok");
	if (command_parse(line, &command)) {
		strcpy(reply->text, "error a line is: verb name=value …");
		return;
	}
	for (unsigned i = 0; i < sizeof(verbs) / sizeof(*verbs); i++)
		if (!strcmp(command.verb, verbs[i].verb)) {
			verbs[i].act(asic, &command, reply);
			return;
		}
	wrong(reply, &command, "no such command");
}

int control_open(const char *folder, char *error)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if ((size_t)snprintf(address.sun_path, sizeof(address.sun_path), "%s/control", folder) >= sizeof(address.sun_path)) {
		snprintf(error, ERROR_SIZE, "%s: too long a path for a socket", folder);
		return -1;
	}
	unlink(address.sun_path);
	if (listener < 0 || bind(listener, (void *)&address, sizeof(address)) || listen(listener, 8)) {
		snprintf(error, ERROR_SIZE, "%s: %s", address.sun_path, strerror(errno));
		return -1;
	}
	return listener;
}

/* Serve one client until it leaves, is silent for two seconds, or talks nonsense without end. */
static void converse(struct asic *asic, int client)
{
	static char line[LINE_MAX_BYTES];
	struct timeval patience = {.tv_sec = 2};
	FILE *lines;

	setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	lines = fdopen(client, "r");
	if (!lines) {
		close(client);
		return;
	}
	while (!asic->stopping && fgets(line, sizeof(line), lines)) {
		struct reply reply;

		if (!strchr(line, '\n'))
			break;
		obey(asic, line, &reply);
		if (dprintf(client, "%s\n", reply.text) < 0)
			break;
	}
	fclose(lines);
}

/* Until told to stop: commands, and between them a look for lost packets. */
void control_serve(struct asic *asic, int listener)
{
	struct pollfd wanted = {.fd = listener, .events = POLLIN};

	while (!asic->stopping) {
		if (poll(&wanted, 1, 20) > 0) {
			int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

			if (client >= 0)
				converse(asic, client);
		}
		reconcile(asic);
	}
}
