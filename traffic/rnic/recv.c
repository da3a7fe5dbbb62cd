// SPDX-License-Identifier: Apache-2.0
/*
 * rnic recv: counts what arrives, for each flow.
 *
 * The kernel stamps a packet when it takes it from the link, so this need not hurry: it empties its sockets once
 * in a while (--coalesce-us), and neither its own scheduling nor that wait is in a delay. What a full socket
 * dropped is in `overflow`: more than 0, and the counts vouch for nothing.
 *
 * It reads through UDP sockets, because a packet socket sees a frame before the host's own tc ingress.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "packet.h"
#include "recv.h"

#define BATCH 64u
#define CONTROL_BYTES 256
#define DRAIN_BATCHES 1024u /* before the clock, signals and the other sockets have their turn */
#define RCVBUF (16u << 20)

/* One packet in the log. Little endian, as every machine this runs on; traffic/engines/rnic.py reads it. */
struct log_record {
	uint64_t arrived_ns;
	uint64_t sequence;
	uint32_t flow;
	uint16_t sport;
	uint8_t tos;
	uint8_t zero;
};

_Static_assert(sizeof(struct log_record) == 24, "the log's layout is an ABI");

static struct {
	struct mmsghdr messages[BATCH];
	struct iovec parts[BATCH];
	struct sockaddr_in6 sources[BATCH];
	char controls[BATCH][CONTROL_BYTES] __attribute__((aligned(8)));
	unsigned char payloads[BATCH][PLAN_PAYLOAD_MAX + 5] __attribute__((aligned(8)));
} got;

/* --- receiving ---------------------------------------------------------------------------------------------------- */

/* What turns the kernel's stamps, which are CLOCK_REALTIME, into CLOCK_MONOTONIC. */
static uint64_t realtime_ahead_ns(void)
{
	struct timespec real;

	clock_gettime(CLOCK_REALTIME, &real);
	return (uint64_t)real.tv_sec * NSEC + (uint64_t)real.tv_nsec - clock_ns();
}

struct arrival {
	uint64_t at_ns;
	uint8_t tos;
};

static struct arrival arrival_of(struct msghdr *message, uint64_t now, uint64_t ahead)
{
	struct arrival a = { .at_ns = now };
	struct timespec stamp;
	int value;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS) {
			a.tos = *CMSG_DATA(c);
		} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS) {
			memcpy(&value, CMSG_DATA(c), sizeof(value));
			a.tos = (uint8_t)value;
		} else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS) {
			memcpy(&stamp, CMSG_DATA(c), sizeof(stamp));
			a.at_ns = (uint64_t)stamp.tv_sec * NSEC + (uint64_t)stamp.tv_nsec - ahead;
		}
	}
	if (a.at_ns > now)
		a.at_ns = now;
	return a;
}

static struct flow_key key_of(const struct sockaddr_in6 *source, uint16_t dport, uint32_t flow)
{
	struct flow_key key = { .flow = flow, .dport = dport, .sport = ntohs(source->sin6_port) };
	const struct sockaddr_in *v4 = (const void *)source;

	if (source->sin6_family == AF_INET6) {
		key.src = source->sin6_addr;
	} else {
		key.src.s6_addr[10] = key.src.s6_addr[11] = 0xff;
		memcpy(&key.src.s6_addr[12], &v4->sin_addr, sizeof(v4->sin_addr));
	}
	return key;
}

static void log_packet(struct receiver *r, const struct raw_header *h, const struct arrival *a, uint16_t sport)
{
	struct log_record record = {
		.arrived_ns = a->at_ns, .sequence = h->sequence, .flow = h->flow, .sport = sport, .tos = a->tos,
	};

	if (r->log_records >= r->log_max || fwrite(&record, sizeof(record), 1, r->log) != 1)
		r->log_left_out++;
	else
		r->log_records++;
}

static void count_packet(struct receiver *r, uint32_t socket, uint32_t i, uint64_t now, uint64_t ahead)
{
	struct msghdr *message = &got.messages[i].msg_hdr;
	size_t bytes = got.messages[i].msg_len, copied = bytes < got.parts[i].iov_len ? bytes : got.parts[i].iov_len;
	struct raw_header h;
	struct arrival a = arrival_of(message, now, ahead);
	struct flow_key key;
	struct tally *t;
	uint64_t unique;

	if (copied < sizeof(h) || !raw_read(&h, got.payloads[i], bytes)) {
		r->strangers++;
		return;
	}
	key = key_of(&got.sources[i], r->ports[socket], h.flow);
	t = tally_of(&r->tallies, &key);
	if (!t) {
		r->flows_left_out++;
		return;
	}
	unique = t->sequence.unique;
	tally_add(t, h.sequence, bytes, a.tos, h.sent_ns, a.at_ns);
	r->packets++;
	r->unique += t->sequence.unique - unique;
	if (r->check && h.flags & RAW_PATTERN)
		t->corrupted += copied < bytes || !raw_pattern_holds(got.payloads[i] + sizeof(h), bytes - sizeof(h),
								      h.flow, h.sequence);
	if (r->log)
		log_packet(r, &h, &a, key.sport);
}

static int receive_batch(struct receiver *r, uint32_t socket)
{
	for (uint32_t i = 0; i < BATCH; i++) {
		/* Only the header is copied, unless somebody looks at the rest. */
		got.parts[i] = (struct iovec){
			got.payloads[i], r->check ? sizeof(got.payloads[i]) : sizeof(struct raw_header),
		};
		got.messages[i].msg_hdr = (struct msghdr){
			.msg_name = &got.sources[i],
			.msg_namelen = sizeof(got.sources[i]),
			.msg_iov = &got.parts[i],
			.msg_iovlen = 1,
			.msg_control = got.controls[i],
			.msg_controllen = CONTROL_BYTES,
		};
	}
	return recvmmsg(r->fds[2 + socket].fd, got.messages, BATCH, MSG_DONTWAIT | MSG_TRUNC, NULL);
}

/* Takes what is there, up to a bound; true when there was anything. */
static bool drain_socket(struct receiver *r, uint32_t socket)
{
	bool any = false;

	for (uint32_t batches = 0; batches < DRAIN_BATCHES; batches++) {
		int count = receive_batch(r, socket);
		uint64_t ahead = realtime_ahead_ns(), now = clock_ns();

		for (int i = 0; i < count; i++)
			count_packet(r, socket, (uint32_t)i, now, ahead);
		any |= count > 0;
		if (count < (int)BATCH)
			break;
	}
	return any;
}

static bool drain(struct receiver *r)
{
	bool any = false;

	for (uint32_t socket = 0; socket < r->sockets; socket++)
		any |= drain_socket(r, socket);
	return any;
}

/* --- when it ends ------------------------------------------------------------------------------------------------- */

/* expect N IDLE_MS: what was sent is known now; wait for it, but not for what does not come. */
static void obey(struct receiver *r, const char *line)
{
	unsigned long long expect, idle_ms;
	char rest;

	if (sscanf(line, "expect %llu %llu%c", &expect, &idle_ms, &rest) != 2)
		die("a line is %.40s; allowed: expect N IDLE_MS", line);
	r->expect = expect;
	r->idle_ns = idle_ms * MSEC;
	r->quiet_since_ns = clock_ns();
	if (!expect)
		r->ended = "expect";
}

static void take_orders(struct receiver *r)
{
	char line[PLAN_LINE];
	enum line_state state;

	if (r->fds[0].revents)
		r->ended = "signal";
	if (!r->fds[1].revents)
		return;
	lines_fill(&r->in);
	while ((state = lines_next(&r->in, line, sizeof(line))) == LINE_READ)
		obey(r, line);
	if (state == LINE_END) {
		r->fds[1].fd = -1;
		if (r->tied)
			r->ended = "stdin";
	}
}

static const char *why_end(const struct receiver *r, uint64_t now)
{
	if (r->ended)
		return r->ended;
	if (r->expect && r->unique >= r->expect)
		return "expect";
	if (r->idle_ns && r->quiet_since_ns && now >= r->quiet_since_ns + r->idle_ns)
		return "idle";
	return now >= r->max_ns ? "max_s" : NULL;
}

static void run(struct receiver *r)
{
	bool flowing = false;

	while (!(r->ended = why_end(r, clock_ns()))) {
		uint64_t until = r->max_ns;

		if (r->idle_ns && r->quiet_since_ns && r->quiet_since_ns + r->idle_ns < until)
			until = r->quiet_since_ns + r->idle_ns;
		/* While packets flow, sockets fill for a moment; a wake for each would cost more than the packet. */
		if (flowing)
			wait_until_ns(r->fds, 2, clock_ns() + r->coalesce_ns);
		else
			wait_until_ns(r->fds, r->sockets + 2, until);
		flowing = drain(r);
		if (flowing)
			r->quiet_since_ns = clock_ns();
		take_orders(r);
	}
	for (uint32_t i = 0; i < 8 && drain(r); i++)
		;
}

/* --- arguments ---------------------------------------------------------------------------------------------------- */

static void open_log(struct receiver *r, const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);

	r->log = fd < 0 ? NULL : fdopen(fd, "w");
	if (!r->log)
		die("%s: %s", path, strerror(errno));
	setvbuf(r->log, NULL, _IOFBF, 1 << 20);
}

static void read_options(struct receiver *r, struct places *p, uint64_t *max_seconds, int argc, char **argv)
{
	static const struct option options[] = {
		{ "port", required_argument, NULL, 'p' },
		{ "bind", required_argument, NULL, 'b' },
		{ "expect", required_argument, NULL, 'e' },
		{ "idle-ms", required_argument, NULL, 'i' },
		{ "max-s", required_argument, NULL, 'm' },
		{ "coalesce-us", required_argument, NULL, 'q' },
		{ "rcvbuf", required_argument, NULL, 'r' },
		{ "log", required_argument, NULL, 'l' },
		{ "log-max", required_argument, NULL, 'n' },
		{ "check", no_argument, NULL, 'c' },
		{ "tied", no_argument, NULL, 't' },
		{ 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'p': places_add_ports(p, optarg); break;
		case 'b': places_add_address(p, optarg); break;
		case 'e': r->expect = option_number("--expect", optarg, 1, 1ull << 48); break;
		case 'i': r->idle_ns = option_number("--idle-ms", optarg, 1, 3600000) * MSEC; break;
		case 'm': *max_seconds = option_number("--max-s", optarg, 1, MAX_SECONDS); break;
		case 'q': r->coalesce_ns = option_number("--coalesce-us", optarg, 0, 100000) * USEC; break;
		case 'r': r->rcvbuf = (int)option_number("--rcvbuf", optarg, 4096, 1u << 30); break;
		case 'l': open_log(r, optarg); break;
		case 'n': r->log_max = option_number("--log-max", optarg, 1, 1ull << 32); break;
		case 'c': r->check = true; break;
		case 't': r->tied = true; break;
		default: usage();
		}
	}
	if (optind < argc || !p->port_count)
		usage();
}

int recv_main(int argc, char **argv)
{
	static struct receiver r = { .coalesce_ns = MSEC, .rcvbuf = RCVBUF, .log_max = 4u << 20 };
	static struct places p;
	uint64_t max_seconds = DEFAULT_MAX_SECONDS;

	read_options(&r, &p, &max_seconds, argc, argv);
	r.fds[0] = (struct pollfd){ .fd = signals_fd(), .events = POLLIN };
	r.fds[1] = (struct pollfd){ .fd = STDIN_FILENO, .events = POLLIN };
	sockets_open(&r, &p);
	r.began_ns = clock_ns();
	r.max_ns = r.began_ns + max_seconds * NSEC;
	puts("ready to receive");
	fflush(stdout);
	run(&r);
	recv_report(&r);
	return 0;
}
