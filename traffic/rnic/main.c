// SPDX-License-Identifier: Apache-2.0
/*
 * rnic: a host's NIC in software, for hosts that are network namespaces: paced raw senders and receivers that account
 * for every packet, and RoCEv2 queue pairs that play a collective. Each transport is a subcommand in the table below,
 * with its protocol in headers of its own.
 *
 * What a real NIC does that this does not:
 *  - It paces in hardware, to nanoseconds. This sleeps and is woken, tens of microseconds late on a busy
 *    workstation; packets due meanwhile leave back to back. It says how late they were, and whether a run can vouch.
 *  - It stops at a PFC frame, per priority. This never sees one: whoever plays the host's port holds its queue
 *    back, the socket fills, and the flow waits (held_back_ns). Each flow has a socket of its own, so a paused
 *    class does not stop another. Up to half a socket of packets leaves after the pause ends before this is woken.
 *  - It timestamps at the wire. Here "sent" is when the packet was handed to the kernel, "arrived" when the kernel
 *    took it from the link: the delay is that of the fabric and of the sending host's queue.
 *  - It does not use the workstation's CPU.
 *
 * By hand, between two namespaces a and b:
 *	ip netns exec b rnic recv --port 7000 --idle-ms 1000
 *	(echo flow 1 src=10.0.0.1 dst=10.0.0.2 sport=50000 dport=7000 count=1000 rate_bps=100000000 ecn=2
 *	 echo end; echo go 0) | ip netns exec a rnic send
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "plan.h"
#include "program.h"

static const struct subcommand {
	const char *name;
	int (*main)(int argc, char **argv);
} subcommands[] = {
	{ "send", send_main },
	{ "recv", recv_main },
	{ "rc", rc_main },
};

static const char usage_text[] =
	"rnic send [--max-s N] [--quantum-us N] [--spin-us N] [--tied]\n"
	"    reads `flow ID KEY=VALUE...` lines and `end`, says `ready to send`, reads `go NANOSECONDS`\n"
	"    (CLOCK_MONOTONIC, 0: now), sends, then writes one JSON object. Keys of a flow:\n"
	"      src= dst= sport= dport=        required; IPv4 or IPv6\n"
	"      count= duration_ms=            ends at whichever comes first; neither: until told to stop\n"
	"      bytes=1024                     UDP payload, our header of 28 bytes included\n"
	"      rate_bps=0 burst=1             wire bit/s, 0: as fast as the socket takes it; packets back to back\n"
	"      start_ms=0                     after go\n"
	"      dscp=0 ecn=0                   the IP header's\n"
	"      pattern=0                      1: fill the payload with what `recv --check` verifies\n"
	"      sndbuf=0                       bytes of socket buffer; 0: 256 kB, less with many flows\n"
	"      skip=0                         for tests: leave every n-th sequence number out\n"
	"rnic recv --port N[,N...] [--bind ADDRESS]... [--expect N] [--idle-ms N] [--max-s N] [--check] [--log FILE]\n"
	"          [--log-max N] [--coalesce-us N] [--rcvbuf N] [--tied]\n"
	"    says `ready to receive`, counts until it is told to stop, writes one JSON object. It also ends after\n"
	"    --expect packets, --idle-ms after the last one, or by a line `expect N IDLE_MS` on standard input:\n"
	"    after N packets, or IDLE_MS without one.\n"
	"rnic rc [--max-s N] [--linger-ms N] [--quantum-us N] [--cpu N] [--tied]\n"
	"    RoCEv2 reliable connections that play one host's part of a collective. Reads a plan, a line each, and `end`;\n"
	"    says `ready to send and receive`, reads `go NANOSECONDS`, says `done` when its part is, answers its peers\n"
	"    until `stop` or for --linger-ms more, writes one JSON object. As root, one process a host.\n"
	"    Meanwhile `progress NUMBER` is answered with a line, and `last N` makes iteration N the last if it is not\n"
	"    begun and known data can still be put in.\n"
	"      host rank=0 mtu=1024 mode=gbn|sr|gb0 window=256 ack_every=0 reorder=3 timeout_us=4295000 retries=7\n"
	"           dscp=26 ecn=2 ack_dscp=26 cnp_dscp=48 cc=none|dcqcn-sigcomm15|dcqcn-mlx|dcqcn-ns3 dilation=1\n"
	"           delay_ns=0 numbers=1048576 iterations=1 in_place=0\n"
	"      buffer input|output|scratch BYTES\n"
	"      nic N src=IP [dev=NAME] [rate_bps=0]\n"
	"      qp NUMBER nic=N dst=IP dqpn=N sport=N [psn=0] [epsn=0] [mac=…] [dscp=] [window=] [rate_bps=0]\n"
	"      send NUMBER qp=N size=N from=BUFFER:OFFSET [after=N,N…] [compute_ns=0] [step=0]\n"
	"      expect NUMBER qp=N size=N to=BUFFER:OFFSET [reduce=0|1] [step=0]\n"
	"      copy NUMBER size=N from=BUFFER:OFFSET to=BUFFER:OFFSET [reduce=0|1] [after=] [compute_ns=0] [step=0]\n"
	"      check BUFFER:OFFSET bytes=N ranks=A-B at=OFFSET [every=1]: the sum of what ranks A to B began with at\n"
	"           OFFSET, of every so-manyth of them\n"
	"      holds OFFSET bytes=N rank=R: the input from there on is rank R's; without any all of it is the host's rank's\n"
	"--tied: stop when standard input is closed, as it is when whoever started this is gone.\n";

void usage(void)
{
	fputs(usage_text, stderr);
	exit(2);
}

void die(const char *format, ...)
{
	va_list args;

	fputs("rnic: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(2);
}

void *zeroed(size_t count, size_t bytes)
{
	void *memory = calloc(count ? count : 1, bytes);

	if (!memory)
		die("out of memory");
	return memory;
}

uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NSEC + (uint64_t)now.tv_nsec;
}

uint64_t cpu_ns(void)
{
	struct timespec used;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
	return (uint64_t)used.tv_sec * NSEC + (uint64_t)used.tv_nsec;
}

void report_number(const char *key, uint64_t value)
{
	printf(", \"%s\": %llu", key, (unsigned long long)value);
}

void report_text(const char *key, const char *text)
{
	printf(text ? ", \"%s\": \"%s\"" : ", \"%s\": null", key, text);
}

uint64_t option_number(const char *name, const char *text, uint64_t least, uint64_t most)
{
	struct plan_error error;
	uint64_t value;

	if (!plan_read_number(&(struct plan_number){ name, &value, least, most }, text, &error))
		die("%s", error.text);
	return value;
}

int signals_fd(void)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_CLOEXEC);
	if (fd < 0)
		die("signalfd: %s", strerror(errno));
	return fd;
}

int wait_until_ns(struct pollfd *fds, size_t count, uint64_t until_ns)
{
	uint64_t now = clock_ns();
	uint64_t left = until_ns > now ? until_ns - now : 0;
	struct timespec timeout = { .tv_sec = (time_t)(left / NSEC), .tv_nsec = (long)(left % NSEC) };
	int ready = ppoll(fds, count, until_ns == NEVER ? NULL : &timeout, NULL);

	if (ready < 0 && errno != EINTR)
		die("ppoll: %s", strerror(errno));
	if (ready < 0)
		for (size_t i = 0; i < count; i++)
			fds[i].revents = 0;
	return ready;
}

void lines_fill(struct lines *in)
{
	ssize_t got = read(STDIN_FILENO, in->text + in->used, sizeof(in->text) - in->used);

	if (got > 0)
		in->used += (size_t)got;
	else if (got == 0 || errno != EINTR)
		in->ended = true;
}

enum line_state lines_next(struct lines *in, char *line, size_t size)
{
	char *newline = memchr(in->text, '\n', in->used);
	size_t length = newline ? (size_t)(newline - in->text) : in->used;

	if (!newline && !(in->ended && in->used) && in->used < sizeof(in->text))
		return in->ended ? LINE_END : LINE_NONE;
	if (length >= size)
		die("a line is longer than %zu bytes", size - 1);
	memcpy(line, in->text, length);
	line[length] = 0;
	in->used -= length + (newline ? 1 : 0);
	memmove(in->text, in->text + length + 1, in->used);
	return LINE_READ;
}

int main(int argc, char **argv)
{
	/* Sleeps end when they should, not up to 50 us later as is usual. */
	prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
	signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; argc > 1 && i < sizeof(subcommands) / sizeof(*subcommands); i++)
		if (!strcmp(argv[1], subcommands[i].name))
			return subcommands[i].main(argc - 1, argv + 1);
	usage();
}
