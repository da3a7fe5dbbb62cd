// SPDX-License-Identifier: Apache-2.0
/* The plan's text, and a ring all-reduce of three ranks played in memory: messages instead of packets. */
#undef NDEBUG
#include <assert.h>
#include <stdarg.h>

#include "../rc_plan.h"

#define RANKS 3u
#define CHUNK 400u
#define ITERATIONS 4u

static void read_line(struct rc_plan *p, const char *format, ...)
{
	char line[RC_LINE];
	struct plan_error e;
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (!rc_read_line(p, line, &e)) {
		fprintf(stderr, "%s: %s\n", line, e.text);
		assert(!"refused");
	}
}

/* Step s of rank r is message s * RANKS + r, to r + 1; it carries chunk r - s, which came with the step before. */
static struct rc_plan *ring_plan(uint32_t rank, uint32_t iterations)
{
	struct rc_plan *p = calloc(1, sizeof(*p));
	uint32_t before = (rank + RANKS - 1) % RANKS;
	struct plan_error e;

	read_line(p, "host rank=%u mtu=1024 in_place=1 numbers=12 iterations=%u", rank, iterations);
	read_line(p, "buffer input %u", RANKS * CHUNK);
	read_line(p, "buffer output %u", RANKS * CHUNK);
	read_line(p, "nic 0 src=10.0.0.%u rate_bps=100000000", rank + 1);
	read_line(p, "qp 1 nic=0 dst=10.0.0.%u dqpn=2 sport=50000", (rank + 1) % RANKS + 1);
	read_line(p, "qp 2 nic=0 dst=10.0.0.%u dqpn=1 sport=50000", before + 1);
	for (uint32_t step = 0; step < 2 * RANKS - 2; step++) {
		uint32_t chunk = (rank + 2 * RANKS - step) % RANKS, came = (before + 2 * RANKS - step) % RANKS;

		read_line(p, step ? "send %u qp=1 size=%u from=input:%u step=%u after=%u" :
				    "send %u qp=1 size=%u from=input:%u step=%u",
			  step * RANKS + rank, CHUNK, chunk * CHUNK, step, (step - 1) * RANKS + before);
		read_line(p, "expect %u qp=2 size=%u to=output:%u reduce=%u", step * RANKS + before, CHUNK, came * CHUNK,
			  step < RANKS - 1);
	}
	read_line(p, "check output:0 bytes=%u ranks=0-%u at=0", RANKS * CHUNK, RANKS - 1);
	if (!rc_plan_whole(p, &e)) {
		fprintf(stderr, "%s\n", e.text);
		assert(!"not whole");
	}
	return p;
}

static void close_plan(struct rc_plan *p)
{
	graph_close(&p->graph);
	free(p->qps);
	free(p);
}

/* One message of `rank` goes to the next rank and is acknowledged; false when none is ready. */
static bool pass_on(struct rc_plan **ring, uint32_t rank, uint64_t now)
{
	struct graph *g = &ring[rank]->graph, *to = &ring[(rank + 1) % RANKS]->graph;
	uint32_t task = graph_next(g, now), number;
	const uint8_t *bytes;

	if (task == GRAPH_NONE)
		return false;
	number = graph_number(g, task);
	bytes = graph_at(g, &g->tasks[task].from);
	assert(graph_place(to, 1, number, 0, bytes, 100));
	assert(!graph_place(to, 0, number, 0, bytes, 100) && !graph_place(to, 1, number, 301, bytes, 100));
	assert(graph_place(to, 1, number, 0, bytes, CHUNK)); /* again, as go back 0 does: it is added once */
	assert(graph_arrived(to, 1, number, now));
	graph_done(g, task, now);
	return true;
}

static uint64_t play(struct rc_plan **ring, const uint32_t *order)
{
	uint64_t wrong = 0, now = 1;
	uint32_t running = RANKS;

	for (uint32_t i = 0; i < RANKS; i++) {
		graph_prepare(&ring[i]->graph);
		graph_begin(&ring[i]->graph, now);
	}
	for (; running; now++) {
		uint32_t rank = order[now % 5];
		struct graph *g = &ring[rank]->graph;

		assert(now < 10000);
		while (pass_on(ring, rank, now))
			;
		for (uint32_t i = 0; i < RANKS; i++) {
			g = &ring[i]->graph;
			if (g->left || g->iteration == g->iterations)
				continue;
			if (g->iteration + 1 == g->iterations) {
				wrong += graph_wrong(g);
				g->iteration++;
				running--;
			} else {
				g->iteration++;
				graph_prepare(g);
				graph_begin(g, now);
			}
		}
	}
	return wrong;
}

static void test_a_ring_adds_up_in_any_order_of_ranks(void)
{
	static const uint32_t orders[][5] = { { 0, 1, 2, 0, 1 }, { 2, 1, 0, 0, 0 }, { 1, 1, 1, 2, 0 }, { 0, 0, 0, 1, 2 } };

	for (size_t i = 0; i < sizeof(orders) / sizeof(*orders); i++) {
		struct rc_plan *ring[RANKS];

		for (uint32_t rank = 0; rank < RANKS; rank++)
			ring[rank] = ring_plan(rank, ITERATIONS);
		assert(play(ring, orders[i]) == 0);
		ring[1]->graph.memory[0][7] ^= 1;
		assert(graph_wrong(&ring[1]->graph) == 1);
		for (uint32_t rank = 0; rank < RANKS; rank++) {
			assert(!ring[rank]->graph.aside_count);
			close_plan(ring[rank]);
		}
	}
}

static void test_what_is_ahead_waits_aside(void)
{
	struct rc_plan *p = ring_plan(0, 2);
	struct graph *g = &p->graph;
	uint8_t bytes[CHUNK] = { 1, 2, 3 };

	graph_prepare(g);
	graph_begin(g, 1);
	/* Message 8 of the next iteration is number 20: not added, a copy. */
	assert(graph_place(g, 1, 20, 0, bytes, CHUNK) && graph_arrived(g, 1, 20, 1) && g->aside_count == 1);
	assert(memcmp(graph_at(g, &g->tasks[graph_find(g, 8)].to), bytes, 3));
	assert(!graph_place(g, 1, 32, 0, bytes, CHUNK) && !graph_place(g, 1, 9, 0, bytes, CHUNK));
	g->iteration++;
	graph_prepare(g);
	graph_begin(g, 2);
	assert(!g->aside_count && g->tasks[graph_find(g, 8)].done);
	assert(!memcmp(graph_at(g, &g->tasks[graph_find(g, 8)].to), bytes, 3));
	assert(!graph_place(g, 1, 20, 0, bytes, CHUNK) && !graph_arrived(g, 1, 20, 2));
	close_plan(p);
}

/* Ranks 1 and 3 on one host: each begins with its own numbers, and the sum of both is of every second rank. */
static void test_ranks_of_one_host_hold_their_own(void)
{
	struct rc_plan *p = calloc(1, sizeof(*p));
	struct graph *g = &p->graph;
	struct plan_error e;

	read_line(p, "host rank=1 numbers=10");
	read_line(p, "nic 0 src=10.0.0.1");
	read_line(p, "buffer input 128");
	read_line(p, "buffer output 128");
	read_line(p, "holds 0 bytes=40 rank=1");
	read_line(p, "holds 64 bytes=40 rank=3");
	read_line(p, "copy 1 size=40 from=input:0 to=output:64");
	read_line(p, "copy 2 size=40 from=input:64 to=output:64 reduce=1 after=1");
	read_line(p, "check output:64 bytes=40 ranks=1-3 every=2 at=0");
	assert(rc_plan_whole(p, &e));
	graph_prepare(g);
	graph_begin(g, 1);
	assert(graph_next(g, 1) == GRAPH_NONE && !g->left && graph_wrong(g) == 0);
	g->checks[0].every = 1;
	assert(graph_wrong(g) >= 9);
	close_plan(p);
}

static void test_copies_and_computing(void)
{
	struct rc_plan *p = calloc(1, sizeof(*p));
	struct graph *g = &p->graph;
	struct plan_error e;

	read_line(p, "host rank=3 numbers=10");
	read_line(p, "buffer input 64");
	read_line(p, "buffer output 64");
	read_line(p, "nic 0 src=fd00::1");
	read_line(p, "copy 1 size=64 from=input:0 to=output:0 compute_ns=100");
	read_line(p, "copy 2 size=32 from=input:32 to=output:0 reduce=1 after=1 compute_ns=50");
	read_line(p, "copy 3 size=0 from=input:0 to=input:0 after=1,2 compute_ns=7");
	assert(rc_plan_whole(p, &e));
	graph_prepare(g);
	graph_begin(g, 1000);
	assert(graph_next_ns(g) == 1100 && graph_next(g, 1099) == GRAPH_NONE && g->left == 3);
	assert(graph_next(g, 1100) == GRAPH_NONE && g->left == 2 && graph_next_ns(g) == 1150);
	assert(graph_next(g, 1200) == GRAPH_NONE && g->left == 1 && graph_next_ns(g) == 1207);
	assert(graph_next(g, 1300) == GRAPH_NONE && !g->left);
	for (uint32_t i = 0; i < 16; i++) {
		float found, wanted = graph_input(3, i) + (i < 8 ? graph_input(3, i + 8) : 0);

		memcpy(&found, g->memory[BUFFER_OUTPUT] + 4 * i, 4);
		assert(found == wanted);
	}
	close_plan(p);
}

static void test_what_is_no_plan_is_refused(void)
{
	static const struct {
		const char *line, *said;
	} wrong[] = {
		{ "hots", "a line is hots; allowed: host" },
		{ "host rank=1", "a host is a second one" },
		{ "buffer inputs 7", "a buffer is inputs; allowed: input, output, scratch" },
		{ "buffer input x", "bytes is x" },
		{ "nic 2 src=10.0.0.1", "out of order" },
		{ "nic 1 colour=1 src=10.0.0.1", "a key is colour" },
		{ "nic 1 src", "KEY=VALUE" },
		{ "qp 5 nic=0 dst=fd00::1 dqpn=1 sport=1", "one family" },
		{ "qp 5 nic=3 dst=10.0.0.1 dqpn=1 sport=1", "incomplete" },
		{ "qp 5 nic=0 dst=10.0.0.1 dqpn=1", "incomplete" },
		{ "qp 4 nic=0 dst=10.0.0.1 dqpn=1 sport=1", "a second of its number" },
		{ "qp 16777216 nic=0", "a qp's number is 16777216" },
		{ "qp 5 mac=02:00 nic=0", "mac is 02:00" },
		{ "send 1 qp=9 size=1", "qp is not there" },
		{ "send 1 size=1 qp=4 from=input", "from is input; allowed: BUFFER:OFFSET" },
		{ "send x", "a task's number is x" },
		{ "send 1 qp=4 size=2147483648", "size is 2147483648" },
		{ "send 1 qp=4 after=1,x", "after is x" },
		{ "check output", "a check's place is output" },
		{ "check output:2 bytes=4 ranks=0-1", "between elements" },
		{ "check output:0 bytes=4 ranks=3-1", "ranks is 3-1" },
		{ "check output:0 bytes=4 ranks=1-3 every=0", "every is 0" },
		{ "holds x bytes=4 rank=1", "what holds begins at is x" },
		{ "holds 2 bytes=4 rank=1", "holds is without a rank or between elements" },
		{ "holds 4 bytes=4", "holds is without a rank" },
	};
	static const struct {
		const char *line, *said;
	} unfit[] = {
		{ "send 1 qp=4 size=8 from=input:60", "send 1: from= and size= leave the buffer" },
		{ "expect 1 qp=4 size=65 to=input:0", "expect 1: to= and size= leave" },
		{ "copy 1 size=6 from=input:0 to=input:0 reduce=1", "copy 1: adds parts" },
		{ "send 1 qp=4 size=8 from=input:0 after=7", "send 1: after= names what is not" },
		{ "send 10 qp=4 size=8 from=input:0", "send 10: its number" },
		{ "check input:0 bytes=65 ranks=0-0 at=0", "a check is beyond" },
		{ "holds 64 bytes=4 rank=1", "holds is beyond the input" },
	};
	struct plan_error e;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong) + sizeof(unfit) / sizeof(*unfit); i++) {
		size_t k = i - sizeof(wrong) / sizeof(*wrong);
		bool read = i >= sizeof(wrong) / sizeof(*wrong);
		const char *said = read ? unfit[k].said : wrong[i].said;
		struct rc_plan *p = calloc(1, sizeof(*p));
		char line[RC_LINE];

		read_line(p, "host rank=1 numbers=10");
		read_line(p, "buffer input 64");
		read_line(p, "nic 0 src=10.0.0.1 dev=eth0");
		read_line(p, "qp 4 nic=0 dst=10.0.0.2 dqpn=1 sport=1 mac=02:00:00:00:00:0a");
		snprintf(line, sizeof(line), "%s", read ? unfit[k].line : wrong[i].line);
		*e.text = 0;
		if (rc_read_line(p, line, &e) != read || (read && rc_plan_whole(p, &e)) || !strstr(e.text, said)) {
			fprintf(stderr, "%s: \"%s\", not \"%s\"\n", line, e.text, said);
			assert(!"it is read, or the error says something else");
		}
		close_plan(p);
	}
}

int main(void)
{
	test_a_ring_adds_up_in_any_order_of_ranks();
	test_what_is_ahead_waits_aside();
	test_ranks_of_one_host_hold_their_own();
	test_copies_and_computing();
	test_what_is_no_plan_is_refused();
	return 0;
}
