// SPDX-License-Identifier: Apache-2.0
/*
 * rnic rc: one host's reliable connections, playing its part of a collective by itself. One thread: what has come,
 * what may begin, what is due to leave; then it sleeps until the first of these.
 *
 * Propagation delay is held here: a packet is looked at `delay_ns` after the kernel took it from the link, so the
 * round trip of a dilated fabric is as long as its rates are low, without netem.
 */
#include <getopt.h>
#include <malloc.h>
#include <sched.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rc.h"

#define LOOK_NS MSEC /* how long a busy loop goes without looking for signals */
/*
 * After so many packets at one look this looks on for a while instead of sleeping: what comes that fast leaves no time
 * for it. It gives way to whoever else wants the processor.
 */
#define FLOWING 16u
#define FLOWING_NS (50 * USEC)
#define QUANTUM_LEAST_NS (50 * USEC)
#define QUANTUM_MOST_NS (250 * USEC)
#define SLICE_NS (100 * USEC) /* the least a kernel gives */
#define QUEUE_PAIR_FD 2u

/* --- the graph ---------------------------------------------------------------------------------------------------- */

static void begin_iteration(struct rc *rc, uint64_t now)
{
	graph_prepare(&rc->plan.graph);
	graph_begin(&rc->plan.graph, clock_ns());
	rc->began_ns[rc->plan.graph.iteration] = now;
}

static void finish(struct rc *rc, uint64_t now)
{
	rc->done_ns = now;
	puts("done");
	fflush(stdout);
}

/* Once nobody has anything to send any more: it takes a processor as long as a small collective. */
static void check(struct rc *rc)
{
	struct graph *g = &rc->plan.graph;

	rc->checked = rc->done_ns && g->check_count;
	rc->wrong = rc->checked ? graph_wrong(g) : 0;
}

/* Everything that may begin, and the next iteration after one that is done. */
static void play_graph(struct rc *rc, uint64_t now)
{
	struct graph *g = &rc->plan.graph;
	uint32_t task;

	if (g->iteration == graph_end(g))
		return;
	for (;;) {
		while ((task = graph_next(g, now)) != GRAPH_NONE)
			qp_post(rc, task, now);
		if (g->left)
			return;
		rc->ended_ns[g->iteration] = now;
		if (++g->iteration == graph_end(g))
			break;
		begin_iteration(rc, now);
	}
	finish(rc, now);
}

/* --- the loop ----------------------------------------------------------------------------------------------------- */

static uint64_t take_slots(struct rc *rc, uint64_t now)
{
	uint64_t delay = rc->plan.host.delay_ns;

	while (rc->slot_count) {
		struct slot *slot = &rc->slots[rc->slot_first];

		if (delay && slot->arrived_ns + delay > now)
			return slot->arrived_ns + delay;
		qp_take(rc, slot->packet, slot->bytes, delay ? slot->arrived_ns + delay : now);
		rc->slot_first = (rc->slot_first + 1) % RC_SLOTS;
		rc->slot_count--;
	}
	rc->slot_first = 0;
	return NEVER;
}

static uint64_t earliest(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Does all there is to do; when there is more by itself. */
static uint64_t turn(struct rc *rc, uint64_t now)
{
	uint32_t held = rc->slot_count;
	bool more = receive(rc);
	uint64_t until;

	if (rc->slot_count - held >= FLOWING)
		rc->flowing_until_ns = now + FLOWING_NS;
	until = take_slots(rc, now);

	play_graph(rc, now);
	qps_acknowledge(rc);
	qps_time_out(rc, now);
	for (uint32_t i = 0; i < rc->plan.nic_count; i++)
		until = earliest(until, nic_run(rc, &rc->nics[i], now));
	wires_flush(rc, now);
	until = earliest(until, earliest(rc->timers_ns, graph_next_ns(&rc->plan.graph)));
	return more ? now : until;
}

/*
 * An iteration's data is known only where it begins: so the one under way cannot become the last. Whoever had a last
 * one, and has not done it, may be given a later one: some peer was too far for the first.
 */
static void end_after(struct graph *g, uint64_t iterations)
{
	if (g->iteration < graph_end(g) && iterations >= (uint64_t)g->iteration + 2 && iterations <= g->iterations)
		g->last = (uint32_t)iterations;
}

static void obey_lines(struct rc *rc)
{
	char line[RC_LINE];
	uint64_t number;

	while (lines_next(&rc->in, line, sizeof(line)) == LINE_READ)
		if (!strncmp(line, "stop", 4))
			rc->ended = "stop";
		else if (!strncmp(line, "last ", 5) && plan_digits(line + 5, &number))
			end_after(&rc->plan.graph, number);
		else if (!strncmp(line, "progress ", 9) && plan_digits(line + 9, &number))
			rc_tell_progress(rc, number);
}

static void obey(struct rc *rc)
{
	lines_fill(&rc->in);
	obey_lines(rc);
	if (rc->in.ended) {
		rc->fds[1].fd = -1;
		if (!rc->ended)
			rc->ended = "stdin";
	}
}

static void unblock(struct rc *rc, struct wire *w, uint64_t now)
{
	struct rc_nic *nic = &rc->nics[w->nic];

	wire_unblock(rc, w, now);
	/* A NIC does not make up for a pause by sending faster than its link. */
	for (uint32_t i = 0; i < nic->active_count; i++)
		if (nic->active[i]->wire == w)
			nic->active[i]->ready_ns = now;
}

static uint32_t poll_for(struct rc *rc)
{
	uint32_t count = QUEUE_PAIR_FD;

	for (uint32_t i = 0; i < rc->plan.nic_count; i++)
		rc->fds[count++] = (struct pollfd){ .fd = rc->nics[i].receive_fd, .events = POLLIN };
	for (uint32_t i = 0; i < rc->wire_count; i++)
		if (rc->wires[i]->blocked)
			rc->fds[count++] = (struct pollfd){ .fd = rc->wires[i]->fd, .events = POLLOUT };
	return count;
}

/*
 * A wake costs as much as a packet. So one that comes within a quantum of the last waits for its end, and does all
 * that has come due meanwhile: later than it might be, and by less than the pacing law allows.
 */
static void wait_for_work(struct rc *rc, uint64_t until, uint64_t now)
{
	uint64_t next = rc->looked_ns + rc->quantum_ns, woken;
	uint32_t count = QUEUE_PAIR_FD;

	rc->fds[0].revents = rc->fds[1].revents = 0; /* where nothing is waited for, nothing has come */
	if (now < next)
		wait_until_ns(rc->fds, QUEUE_PAIR_FD, next);
	if (until > next || !rc->quantum_ns) {
		count = poll_for(rc);
		wait_until_ns(rc->fds, count, until);
	}
	woken = clock_ns();
	rc->looked_ns = woken;
	until = until > next ? until : next;
	if (until > now && woken > until && woken - until > rc->woken_late_ns)
		rc->woken_late_ns = woken - until;
	if (rc->fds[0].revents)
		rc->ended = "signal";
	if (rc->fds[1].revents)
		obey(rc);
	for (uint32_t i = QUEUE_PAIR_FD; i < count; i++)
		for (uint32_t k = 0; rc->fds[i].revents & (POLLOUT | POLLERR) && k < rc->wire_count; k++)
			if (rc->wires[k]->fd == rc->fds[i].fd && rc->wires[k]->blocked)
				unblock(rc, rc->wires[k], woken);
}

static const char *why_end(const struct rc *rc, uint64_t now)
{
	if (rc->ended)
		return rc->ended;
	if (rc->failure)
		return "failed";
	if (now >= rc->max_ns)
		return "max_s";
	return rc->done_ns && now >= rc->done_ns + rc->linger_ns ? "done" : NULL;
}

static void run(struct rc *rc)
{
	uint64_t now = clock_ns();

	rc->looked_ns = now;
	obey_lines(rc); /* what came together with `go` */
	while (!(rc->ended = why_end(rc, now))) {
		uint64_t until = turn(rc, now), end = rc->max_ns;

		if (rc->done_ns)
			end = earliest(end, rc->done_ns + rc->linger_ns);
		now = clock_ns();
		if (now - rc->looked_ns > LOOK_NS || (until > now && now >= rc->flowing_until_ns))
			wait_for_work(rc, earliest(until, end), now);
		else if (until > now)
			sched_yield();
		now = clock_ns();
	}
	/* What has come until now counts, although nobody answers it. */
	receive(rc);
	take_slots(rc, now);
}

/* --- the plan ----------------------------------------------------------------------------------------------------- */

/* The next line; false when input has ended or somebody wants this to. */
static bool await_line(struct rc *rc, char *line, size_t size)
{
	enum line_state state;

	while ((state = lines_next(&rc->in, line, size)) == LINE_NONE) {
		wait_until_ns(rc->fds, 2, NEVER);
		if (rc->fds[0].revents)
			rc->ended = "signal";
		if (rc->ended)
			return false;
		if (rc->fds[1].revents)
			lines_fill(&rc->in);
	}
	line[strcspn(line, "\r")] = 0;
	return state == LINE_READ;
}

static void read_plan(struct rc *rc)
{
	char line[RC_LINE];
	struct plan_error error;
	uint32_t number = 0;
	bool whole = false;

	while (!whole && await_line(rc, line, sizeof(line))) {
		number++;
		whole = !strcmp(line, "end");
		if (!whole && !rc_read_line(&rc->plan, line, &error))
			die("line %u: %s", number, error.text);
	}
	if (rc->ended)
		die("ended by a signal before its plan did");
	if (!whole)
		die("the plan has no `end`");
	if (!rc_plan_whole(&rc->plan, &error))
		die("%s", error.text);
}

static void await_go(struct rc *rc)
{
	char line[RC_LINE];

	puts("ready to send and receive");
	fflush(stdout);
	if (!await_line(rc, line, sizeof(line))) {
		rc->ended = rc->ended ? rc->ended : "stdin";
		return;
	}
	if (!strcmp(line, "stop"))
		rc->ended = "stop";
	else if (strncmp(line, "go ", 3) || !plan_digits(line + 3, &rc->go_ns))
		die("a line is %.40s; allowed: go NANOSECONDS, stop", line);
}

static void start(struct rc *rc, uint64_t max_seconds, bool tied)
{
	uint64_t now = clock_ns();

	rc->begin_ns = rc->go_ns > now ? rc->go_ns : now;
	if (rc->begin_ns - now > MAX_SECONDS * NSEC)
		die("go is more than %d s ahead", MAX_SECONDS);
	rc->max_ns = rc->begin_ns + max_seconds * NSEC;
	rc->timers_ns = NEVER;
	if (!tied && rc->in.ended)
		rc->fds[1].fd = -1;
	graph_begin(&rc->plan.graph, rc->begin_ns);
	rc->began_ns[0] = rc->begin_ns;
}

/*
 * Many hosts share few processors here, and a NIC that waits 3 ms for its turn keeps no schedule: short turns (from
 * Linux 6.12 on; sched(7), sched_runtime of SCHED_OTHER). Where they are refused, the report's lateness says so.
 */
static void ask_for_short_turns(void)
{
	struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
	} attributes = { .size = 48, .policy = SCHED_OTHER, .runtime = SLICE_NS };

	attributes.nice = getpriority(PRIO_PROCESS, 0);
	(void)syscall(SYS_sched_setattr, 0, &attributes, 0);
	/* A kernel may wake who sleeps 50 us late, to wake several at once. */
	(void)prctl(PR_SET_TIMERSLACK, 1ul, 0ul, 0ul, 0ul);
}

/* What is freed is soon asked for again; fresh pages from the kernel would cost as much as the packets they hold. */
static void keep_memory(void)
{
	mallopt(M_MMAP_THRESHOLD, 1 << 30);
	mallopt(M_TRIM_THRESHOLD, 1 << 30);
}

/* By itself a packet's time on the slowest link: at most one packet more is sent at a time than without. */
static void choose_quantum(struct rc *rc)
{
	uint64_t bits = 8ull * roce_wire_bytes(ROCE_WRITE_MIDDLE, (uint32_t)rc->plan.host.mtu, false), packet;

	if (rc->quantum_ns != NEVER)
		return;
	rc->quantum_ns = QUANTUM_LEAST_NS;
	for (uint32_t i = 0; i < rc->plan.nic_count; i++) {
		packet = rc->nics[i].spec.rate_bps ? bits * NSEC / rc->nics[i].spec.rate_bps : 0;
		packet = packet < QUANTUM_MOST_NS ? packet : QUANTUM_MOST_NS;
		rc->quantum_ns = packet > rc->quantum_ns ? packet : rc->quantum_ns;
	}
}

static void open_all(struct rc *rc)
{
	const struct rc_host *h = &rc->plan.host;

	if (h->cc)
		rc->cc = dcqcn_dilated(h->cc, h->dilation);
	rc->slots = zeroed(RC_SLOTS, sizeof(*rc->slots));
	rc->began_ns = zeroed(h->iterations, sizeof(*rc->began_ns));
	rc->ended_ns = zeroed(h->iterations, sizeof(*rc->ended_ns));
	for (uint32_t i = 0; i < rc->plan.nic_count; i++)
		nic_open(&rc->nics[i], &rc->plan.nics[i], h);
	choose_quantum(rc);
	qps_open(rc);
	graph_prepare(&rc->plan.graph);
}

/*
 * A peer's packets wake this on the processor they were sent on, so the scheduler may keep two busy ends of one pair
 * on one processor although another is idle.
 */
static void stay_on(uint64_t cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("--cpu is %llu; allowed: one of this workstation's", (unsigned long long)cpu);
}

int rc_main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "max-s", required_argument, NULL, 'm' },
		{ "linger-ms", required_argument, NULL, 'l' },
		{ "quantum-us", required_argument, NULL, 'q' },
		{ "cpu", required_argument, NULL, 'c' },
		{ "tied", no_argument, NULL, 't' },
		{ 0 },
	};
	static struct rc rc = { .linger_ns = NSEC, .quantum_ns = NEVER };
	uint64_t max_seconds = DEFAULT_MAX_SECONDS;
	bool tied = false;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'm': max_seconds = option_number("--max-s", optarg, 1, MAX_SECONDS); break;
		case 'l': rc.linger_ns = option_number("--linger-ms", optarg, 0, 3600000) * MSEC; break;
		case 'q': rc.quantum_ns = option_number("--quantum-us", optarg, 0, 100000) * USEC; break;
		case 'c': stay_on(option_number("--cpu", optarg, 0, CPU_SETSIZE - 1)); break;
		case 't': tied = true; break;
		default: usage();
		}
	}
	if (optind < argc)
		usage();
	rc.fds[0] = (struct pollfd){ .fd = signals_fd(), .events = POLLIN };
	rc.fds[1] = (struct pollfd){ .fd = STDIN_FILENO, .events = POLLIN };
	ask_for_short_turns();
	keep_memory();
	read_plan(&rc);
	open_all(&rc);
	await_go(&rc);
	if (!rc.ended) {
		start(&rc, max_seconds, tied);
		run(&rc);
	}
	check(&rc);
	rc_report(&rc);
	return 0;
}
