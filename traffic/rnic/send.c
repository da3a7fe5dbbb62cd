// SPDX-License-Identifier: Apache-2.0
/*
 * rnic send: many paced flows in one process, each on a socket of its own. A full socket puts its flow aside until
 * it has room, and only that flow.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "send.h"

#define LOOK_NS MSEC /* how long a busy loop goes without looking for signals */

/* --- sending ------------------------------------------------------------------------------------------------------ */

static void block(struct sender *s, struct flow *f, uint64_t now)
{
	f->blocked_since_ns = now;
	f->held_back_times++;
	s->blocked++;
}

static void unblock(struct sender *s, struct flow *f, uint64_t now)
{
	schedule_hold_back(&f->schedule, f->blocked_since_ns, now);
	f->blocked_since_ns = 0;
	s->blocked--;
}

static void finish(struct sender *s, struct flow *f)
{
	flow_take_icmp_errors(f);
	f->done = true;
	s->active--;
}

/* A packet the host refused keeps its place and its number: it is accounted for, and not sent later. */
static void refuse(struct flow *f, int error)
{
	f->error = error;
	*(error == ENOBUFS ? &f->host_drops : &f->refused) += 1;
	f->next++;
}

static void send_due(struct sender *s, struct flow *f, uint64_t now)
{
	uint32_t ready = schedule_ready(&f->schedule, f->next, now, BATCH);
	int sent;

	if (ready && flow_skips(f, f->next)) {
		f->next++;
		f->skipped++;
		return;
	}
	sent = flow_send(f, ready, now);
	if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
		block(s, f, now);
	} else if (sent < 0) {
		refuse(f, errno);
	} else {
		uint64_t left_ns = clock_ns();

		for (int i = 0; i < sent; i++)
			punctuality_add(&f->kept, &f->schedule, f->next + (uint64_t)i, left_ns);
		f->packets += (uint64_t)sent;
		f->next += (uint64_t)sent;
	}
}

static bool has_ended(const struct flow *f, uint64_t now)
{
	return (f->spec.count && f->next >= f->spec.count) || now >= f->end_ns;
}

static void take_turn(struct sender *s, struct flow *f, uint64_t now)
{
	uint64_t due;

	if (!has_ended(f, now))
		send_due(s, f, now);
	if (f->blocked_since_ns)
		return;
	if (has_ended(f, now)) {
		finish(s, f);
		return;
	}
	due = schedule_due(&f->schedule, f->next);
	/* Without a rate a flow is always due: behind those that have waited since. */
	if (!f->schedule.rate_bps && due < now)
		due = now;
	turns_push(&s->turns, due < f->end_ns ? due : f->end_ns, (uint32_t)(f - s->flows));
}

/* --- waiting ------------------------------------------------------------------------------------------------------ */

static void take_events(struct sender *s, uint32_t sockets, uint64_t now)
{
	if (s->fds[0].revents)
		s->ended = "signal";
	if (s->fds[1].revents) {
		char line[PLAN_LINE];

		lines_fill(&s->in);
		while (lines_next(&s->in, line, sizeof(line)) == LINE_READ)
			;
		if (s->in.ended)
			s->ended = "stdin";
	}
	for (uint32_t i = 0; i < sockets; i++) {
		struct flow *f = &s->flows[s->waiting[i]];

		if (!s->fds[i + 2].revents && now < f->end_ns)
			continue;
		unblock(s, f, now);
		if (s->fds[i + 2].revents & POLLERR)
			flow_take_icmp_errors(f);
		turns_push(&s->turns, now, s->waiting[i]);
	}
}

/* Waits until the next flow is due, a full socket has room, or somebody wants this to end. */
static void wait_for_work(struct sender *s, uint64_t now)
{
	uint64_t until = s->turns.count ? s->turns.entries[0].due_ns : s->max_ns;
	uint32_t sockets = 0;

	if (until <= now && !s->blocked && now - s->looked_ns < LOOK_NS)
		return;
	/* A flow's packets may wait for others': one wake for all that is due within a quantum. */
	if (until > now && until < now + s->quantum_ns)
		until = now + s->quantum_ns;
	for (uint32_t i = 0; sockets < s->blocked && i < s->count; i++) {
		if (!s->flows[i].blocked_since_ns)
			continue;
		s->fds[sockets + 2] = (struct pollfd){ .fd = s->flows[i].fd, .events = POLLOUT };
		s->waiting[sockets++] = i;
		if (s->flows[i].end_ns < until)
			until = s->flows[i].end_ns;
	}
	until = until < s->max_ns ? until : s->max_ns;
	wait_until_ns(s->fds, sockets + 2, until > s->spin_ns ? until - s->spin_ns : until);
	s->looked_ns = clock_ns();
	if (s->looked_ns > until && s->looked_ns - until > s->woken_late_ns && until > now)
		s->woken_late_ns = s->looked_ns - until;
	take_events(s, sockets, s->looked_ns);
	while (s->spin_ns && !s->ended && clock_ns() < until && !s->blocked)
		;
}

static void run(struct sender *s)
{
	s->looked_ns = s->began_ns;
	while (s->active && !s->ended) {
		uint64_t now = clock_ns();

		if (now >= s->max_ns) {
			s->ended = "max_s";
			break;
		}
		for (uint32_t turns = 0; turns < s->count && s->turns.count && s->turns.entries[0].due_ns <= now; turns++) {
			take_turn(s, &s->flows[turns_pop(&s->turns).flow], now);
			now = clock_ns();
		}
		if (s->active)
			wait_for_work(s, now);
	}
	if (!s->ended)
		s->ended = "done";
	for (uint32_t i = 0; i < s->count; i++) {
		if (s->flows[i].blocked_since_ns)
			unblock(s, &s->flows[i], clock_ns());
		if (!s->flows[i].done)
			finish(s, &s->flows[i]);
	}
}

/* --- the plan ----------------------------------------------------------------------------------------------------- */

static void add_flow(struct sender *s, char *line, uint32_t number)
{
	struct plan_error error;

	if (s->count == PLAN_FLOWS)
		die("line %u: more than %u flows", number, PLAN_FLOWS);
	if (!plan_read_flow(&s->flows[s->count].spec, line, &error))
		die("line %u: %s", number, error.text);
	for (uint32_t i = 0; i < s->count; i++)
		if (s->flows[i].spec.id == s->flows[s->count].spec.id)
			die("line %u: two flows of id %u", number, s->flows[i].spec.id);
	s->count++;
}

/* The next line of standard input; false when it has ended, or somebody wants this to. */
static bool await_line(struct sender *s, char *line, size_t size)
{
	enum line_state state;

	while ((state = lines_next(&s->in, line, size)) == LINE_NONE) {
		wait_until_ns(s->fds, 2, NEVER);
		if (s->fds[0].revents) {
			s->ended = "signal";
			return false;
		}
		if (s->fds[1].revents)
			lines_fill(&s->in);
	}
	return state == LINE_READ;
}

static void read_plan(struct sender *s)
{
	char line[PLAN_LINE];
	uint32_t number = 0;

	while (await_line(s, line, sizeof(line))) {
		number++;
		line[strcspn(line, "\r")] = 0;
		if (!strcmp(line, "end"))
			break;
		if (*line && *line != '#')
			add_flow(s, line, number);
		*line = 0;
	}
	if (s->ended)
		die("ended by a signal before its plan did");
	if (!s->count)
		die("the plan has no flow");
	if (strcmp(line, "end"))
		die("the plan has no `end`");
}

/* Whoever stops this before go has its report all the same: nothing was sent. */
static void await_go(struct sender *s)
{
	char line[PLAN_LINE];

	puts("ready to send");
	fflush(stdout);
	if (!await_line(s, line, sizeof(line))) {
		if (!s->ended)
			die("standard input ended before go");
		return;
	}
	line[strcspn(line, "\r")] = 0;
	if (strncmp(line, "go ", 3) || !plan_digits(line + 3, &s->go_ns))
		die("a line is %.40s; allowed: go NANOSECONDS", line);
}

static void arm(struct sender *s, uint64_t max_seconds)
{
	uint64_t now = clock_ns(), start = s->go_ns > now ? s->go_ns : now;

	if (start - now > MAX_SECONDS * NSEC)
		die("go is more than %d s ahead", MAX_SECONDS);
	s->go_ns = s->began_ns = start;
	s->max_ns = start + max_seconds * NSEC;
	s->active = s->count;
	for (uint32_t i = 0; i < s->count; i++) {
		struct flow *f = &s->flows[i];

		f->schedule.start_ns = start + f->spec.start_ms * MSEC;
		f->end_ns = f->spec.duration_ms ? f->schedule.start_ns + f->spec.duration_ms * MSEC : NEVER;
		turns_push(&s->turns, f->schedule.start_ns, i);
	}
	if (!s->tied)
		s->fds[1].fd = -1;
}

int send_main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "max-s", required_argument, NULL, 'm' },
		{ "quantum-us", required_argument, NULL, 'q' },
		{ "spin-us", required_argument, NULL, 's' },
		{ "tied", no_argument, NULL, 't' },
		{ 0 },
	};
	static struct sender s;
	uint64_t max_seconds = DEFAULT_MAX_SECONDS;
	int option;

	s.quantum_ns = 50 * USEC;
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'm': max_seconds = option_number("--max-s", optarg, 1, MAX_SECONDS); break;
		case 'q': s.quantum_ns = option_number("--quantum-us", optarg, 0, 100000) * USEC; break;
		case 's': s.spin_ns = option_number("--spin-us", optarg, 0, 1000) * USEC; break;
		case 't': s.tied = true; break;
		default: usage();
		}
	}
	if (optind < argc)
		usage();
	s.flows = zeroed(PLAN_FLOWS, sizeof(*s.flows));
	s.turns.entries = zeroed(PLAN_FLOWS, sizeof(*s.turns.entries));
	s.fds = zeroed(PLAN_FLOWS + 2, sizeof(*s.fds));
	s.waiting = zeroed(PLAN_FLOWS, sizeof(*s.waiting));
	s.fds[0] = (struct pollfd){ .fd = signals_fd(), .events = POLLIN };
	s.fds[1] = (struct pollfd){ .fd = STDIN_FILENO, .events = POLLIN };
	read_plan(&s);
	for (uint32_t i = 0; i < s.count; i++)
		flow_open(&s.flows[i], s.count);
	await_go(&s);
	arm(&s, max_seconds);
	run(&s);
	send_report(&s);
	return 0;
}
