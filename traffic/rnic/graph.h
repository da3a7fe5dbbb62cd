/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One host's part of a collective's dependency graph, and its memory: which sends may begin, what comes where.
 *
 * A task is a message this rank sends, one it expects, or a copy within its own memory. It begins when all it waits
 * for is done: a sent message when acknowledged, an expected one when its bytes are in the buffer. The graph is
 * played `iterations` times over, each once the one before is done here. A peer may be ahead: what comes for a later
 * iteration waits aside, as in NCCL's staging buffers. Message numbers say which: task + iteration * numbers.
 *
 * What is added waits aside too until it is whole, so that a packet that comes twice is not added twice.
 *
 * Data: element i of rank r's input is a float that is a small whole number, so that sums of up to 65536 ranks are
 * exact in any order. What should come out of a collective is a sum of such elements.
 *
 * Pure: whoever calls it posts what graph_next() gives, and says what became of it.
 */
#ifndef RNIC_GRAPH_H
#define RNIC_GRAPH_H

#include <stdlib.h>

#include "plan.h"
#include "schedule.h"

#define GRAPH_NONE UINT32_MAX
#define ELEMENT_BYTES 4u

enum buffer { BUFFER_INPUT, BUFFER_OUTPUT, BUFFER_SCRATCH, BUFFERS };
enum task_kind { TASK_SEND, TASK_EXPECT, TASK_COPY };

static const char *const buffer_names[BUFFERS] = { "input", "output", "scratch" };
static const char *const task_names[] = { "send", "expect", "copy" };

struct place_in_memory {
	uint64_t offset;
	uint32_t buffer;
};

struct task {
	enum task_kind kind;
	uint32_t number, step, queue_pair; /* the queue pair's place in the caller's list */
	uint32_t bytes;
	struct place_in_memory from, to;
	bool reduce;
	uint64_t compute_ns;
	uint32_t after, after_count;   /* in graph.numbers_after, from here on */
	uint32_t waited, waited_count; /* in graph.waiters: who waits for this */
	uint32_t missing;
	bool done;
	uint64_t ready_ns, begun_ns, done_ns;
};

/* What came for a later iteration, or will be added. */
struct aside {
	uint32_t number;
	bool whole;
	uint8_t *bytes;
};

struct check {
	struct place_in_memory at;
	uint64_t bytes, input_offset;
	uint32_t first_rank, last_rank, every; /* of these ranks every `every`-th */
};

/* A part of the input that is another rank's: several ranks of one host are played by one program. */
struct held {
	uint64_t offset, bytes;
	uint32_t rank;
};

struct graph {
	struct task *tasks;
	uint32_t count, room, left;
	uint32_t *numbers_after, *waiters;
	uint32_t after_count, after_room;
	uint32_t *slots, slot_mask; /* task by number, open addressing */
	struct turns ready;
	uint8_t *memory[BUFFERS];
	uint64_t bytes[BUFFERS];
	struct aside *asides;
	uint32_t aside_count, aside_room;
	struct check *checks;
	uint32_t check_count, check_room;
	struct held *held;
	uint32_t held_count, held_room;
	uint32_t rank, numbers, iterations, iteration;
	uint32_t last; /* so many iterations are played, fewer than planned; 0 when nobody asked for that */
};

static inline void *graph_grow(void *list, uint32_t count, uint32_t *room, size_t bytes)
{
	if (count < *room)
		return list;
	*room = *room ? 2 * *room : 64;
	list = realloc(list, *room * bytes);
	if (!list)
		abort();
	return list;
}

static inline uint32_t graph_power_of_two(uint32_t least)
{
	uint32_t size = 1;

	while (size < least)
		size *= 2;
	return size;
}

static inline uint32_t graph_slot(const struct graph *g, uint32_t number)
{
	uint32_t at = number * 2654435769u & g->slot_mask;

	while (g->slots[at] != GRAPH_NONE && g->tasks[g->slots[at]].number != number)
		at = (at + 1) & g->slot_mask;
	return at;
}

static inline uint32_t graph_find(const struct graph *g, uint32_t number)
{
	return g->slots[graph_slot(g, number)];
}

static inline void graph_add_after(struct graph *g, struct task *t, uint32_t number)
{
	g->numbers_after = graph_grow(g->numbers_after, g->after_count, &g->after_room, sizeof(uint32_t));
	g->numbers_after[g->after_count++] = number;
	t->after_count++;
}

static inline void graph_add(struct graph *g, const struct task *task)
{
	g->tasks = graph_grow(g->tasks, g->count, &g->room, sizeof(*g->tasks));
	g->tasks[g->count++] = *task;
}

static inline bool graph_fits(const struct graph *g, const struct place_in_memory *at, uint64_t bytes)
{
	return bytes <= g->bytes[at->buffer] && at->offset <= g->bytes[at->buffer] - bytes;
}

static inline bool graph_refuse(struct plan_error *e, const struct task *t, const char *found, const char *allowed)
{
	snprintf(e->text, sizeof(e->text), "%s %u: %s; allowed: %s", task_names[t->kind], t->number, found, allowed);
	return false;
}

static inline bool graph_check_task(const struct graph *g, const struct task *t, struct plan_error *e)
{
	if (t->number >= g->numbers)
		return graph_refuse(e, t, "its number", "less than the host's numbers=");
	if (t->kind != TASK_EXPECT && !graph_fits(g, &t->from, t->bytes))
		return graph_refuse(e, t, "from= and size= leave the buffer", "inside it");
	if (t->kind != TASK_SEND && !graph_fits(g, &t->to, t->bytes))
		return graph_refuse(e, t, "to= and size= leave the buffer", "inside it");
	if (t->reduce && (t->bytes % ELEMENT_BYTES || t->to.offset % ELEMENT_BYTES || t->from.offset % ELEMENT_BYTES))
		return graph_refuse(e, t, "adds parts of elements", "multiples of 4 bytes");
	return true;
}

static inline bool graph_index(struct graph *g, struct plan_error *e)
{
	g->slot_mask = 2 * graph_power_of_two(g->count) - 1;
	g->slots = malloc(((size_t)g->slot_mask + 1) * sizeof(uint32_t));
	if (!g->slots)
		abort();
	memset(g->slots, 0xff, ((size_t)g->slot_mask + 1) * sizeof(uint32_t));
	for (uint32_t i = 0; i < g->count; i++) {
		uint32_t at = graph_slot(g, g->tasks[i].number);

		if (g->slots[at] != GRAPH_NONE)
			return graph_refuse(e, &g->tasks[i], "two of this number", "one");
		g->slots[at] = i;
	}
	return true;
}

/* Numbers to tasks, and for each task who waits for it. */
static inline bool graph_link(struct graph *g, struct plan_error *e)
{
	uint32_t next = 0;

	for (uint32_t i = 0; i < g->count; i++) {
		struct task *t = &g->tasks[i];

		for (uint32_t k = 0; k < t->after_count; k++) {
			uint32_t *after = &g->numbers_after[t->after + k];

			*after = graph_find(g, *after);
			if (*after == GRAPH_NONE)
				return graph_refuse(e, t, "after= names what is not in this plan", "a task of it");
			g->tasks[*after].waited_count++;
		}
	}
	g->waiters = calloc(g->after_count + 1, sizeof(uint32_t));
	if (!g->waiters)
		abort();
	for (uint32_t i = 0; i < g->count; i++) {
		g->tasks[i].waited = next;
		next += g->tasks[i].waited_count;
		g->tasks[i].waited_count = 0;
	}
	for (uint32_t i = 0; i < g->count; i++)
		for (uint32_t k = 0; k < g->tasks[i].after_count; k++) {
			struct task *before = &g->tasks[g->numbers_after[g->tasks[i].after + k]];

			g->waiters[before->waited + before->waited_count++] = i;
		}
	return true;
}

/* Checks what was added and takes the memory it needs; false with the reason. */
static inline bool graph_seal(struct graph *g, bool in_place, struct plan_error *e)
{
	if (in_place)
		g->bytes[0] = g->bytes[1] = g->bytes[0] > g->bytes[1] ? g->bytes[0] : g->bytes[1];
	for (uint32_t i = 0; i < g->count; i++)
		if (!graph_check_task(g, &g->tasks[i], e))
			return false;
	for (uint32_t i = 0; i < g->check_count; i++)
		if (!graph_fits(g, &g->checks[i].at, g->checks[i].bytes))
			return plan_refuse(e, "a check", "beyond its buffer", "inside it");
	for (uint32_t i = 0; i < g->held_count; i++)
		if (!graph_fits(g, &(struct place_in_memory){ g->held[i].offset, BUFFER_INPUT }, g->held[i].bytes))
			return plan_refuse(e, "holds", "beyond the input", "inside it");
	if (!graph_index(g, e) || !graph_link(g, e))
		return false;
	g->ready.entries = calloc(g->count + 1, sizeof(*g->ready.entries));
	for (uint32_t i = 0; i < BUFFERS; i++)
		g->memory[i] = i == BUFFER_OUTPUT && in_place ? g->memory[BUFFER_INPUT] : calloc(1, g->bytes[i] + 1);
	if (!g->ready.entries || !g->memory[0] || !g->memory[1] || !g->memory[2])
		return plan_refuse(e, "the buffers", "more than there is memory", "less");
	return true;
}

static inline void graph_close(struct graph *g)
{
	for (uint32_t i = 0; i < g->aside_count; i++)
		free(g->asides[i].bytes);
	for (uint32_t i = 0; i < BUFFERS; i++)
		if (i != BUFFER_OUTPUT || g->memory[i] != g->memory[BUFFER_INPUT])
			free(g->memory[i]);
	free(g->asides);
	free(g->checks);
	free(g->held);
	free(g->ready.entries);
	free(g->slots);
	free(g->waiters);
	free(g->numbers_after);
	free(g->tasks);
}

static inline uint8_t *graph_at(const struct graph *g, const struct place_in_memory *at)
{
	return g->memory[at->buffer] + at->offset;
}

static inline void graph_apply(uint8_t *to, const uint8_t *from, uint32_t bytes, bool reduce)
{
	if (!reduce) {
		memmove(to, from, bytes);
		return;
	}
	for (uint32_t at = 0; at < bytes; at += ELEMENT_BYTES) {
		float a, b;

		memcpy(&a, to + at, sizeof(a));
		memcpy(&b, from + at, sizeof(b));
		a += b;
		memcpy(to + at, &a, sizeof(a));
	}
}

static inline void graph_release(struct graph *g, uint32_t index, uint64_t now)
{
	struct task *t = &g->tasks[index];

	t->ready_ns = now + t->compute_ns;
	if (t->kind != TASK_EXPECT)
		turns_push(&g->ready, t->ready_ns, index);
}

static inline void graph_done(struct graph *g, uint32_t index, uint64_t now)
{
	struct task *t = &g->tasks[index];

	t->done = true;
	t->done_ns = now;
	g->left--;
	for (uint32_t i = 0; i < t->waited_count; i++) {
		uint32_t waiter = g->waiters[t->waited + i];

		if (!--g->tasks[waiter].missing)
			graph_release(g, waiter, now);
	}
}

static inline float graph_input(uint32_t rank, uint64_t element)
{
	return (float)(((uint32_t)element * 2654435769u + rank * 2246822519u) >> 24);
}

static inline void graph_fill_part(struct graph *g, const struct held *part)
{
	for (uint64_t at = 0; at < part->bytes; at += ELEMENT_BYTES) {
		uint64_t left = part->bytes - at;
		float value = graph_input(part->rank, at / ELEMENT_BYTES);

		memcpy(g->memory[BUFFER_INPUT] + part->offset + at, &value, left < ELEMENT_BYTES ? left : ELEMENT_BYTES);
	}
}

/* The input as it was at first, so that the next iteration's result is known. */
static inline void graph_fill(struct graph *g)
{
	for (uint32_t i = 0; i < g->held_count; i++)
		graph_fill_part(g, &g->held[i]);
	if (!g->held_count)
		graph_fill_part(g, &(struct held){ 0, g->bytes[BUFFER_INPUT], g->rank });
	if (g->memory[BUFFER_OUTPUT] != g->memory[BUFFER_INPUT])
		memset(g->memory[BUFFER_OUTPUT], 0, g->bytes[BUFFER_OUTPUT]);
}

/* Elements that are not what the checks say. */
static inline uint64_t graph_wrong(const struct graph *g)
{
	uint64_t wrong = 0;

	for (uint32_t i = 0; i < g->check_count; i++) {
		const struct check *c = &g->checks[i];

		for (uint64_t at = 0; at < c->bytes; at += ELEMENT_BYTES) {
			uint64_t left = c->bytes - at;
			float sum = 0;

			for (uint32_t rank = c->first_rank; rank <= c->last_rank; rank += c->every)
				sum += graph_input(rank, (c->input_offset + at) / ELEMENT_BYTES);
			wrong += memcmp(graph_at(g, &c->at) + at, &sum, left < ELEMENT_BYTES ? left : ELEMENT_BYTES) != 0;
		}
	}
	return wrong;
}

/* How many iterations are played, as far as is known by now. */
static inline uint32_t graph_end(const struct graph *g)
{
	return g->last ? g->last : g->iterations;
}

/* The task a message number of the wire means; GRAPH_NONE for one that nobody expects (now or later). */
static inline uint32_t graph_expected(const struct graph *g, uint32_t number)
{
	uint32_t task = graph_find(g, number % g->numbers), iteration = number / g->numbers;

	if (task == GRAPH_NONE || g->tasks[task].kind != TASK_EXPECT || iteration < g->iteration ||
	    iteration >= g->iterations || (iteration == g->iteration && g->tasks[task].done))
		return GRAPH_NONE;
	return task;
}

static inline struct aside *graph_aside(struct graph *g, uint32_t number)
{
	for (uint32_t i = g->aside_count; i-- > 0;)
		if (g->asides[i].number == number)
			return &g->asides[i];
	return NULL;
}

static inline uint8_t *graph_aside_bytes(struct graph *g, uint32_t number, uint32_t bytes)
{
	struct aside *a = graph_aside(g, number);

	if (a)
		return a->bytes;
	g->asides = graph_grow(g->asides, g->aside_count, &g->aside_room, sizeof(*g->asides));
	a = &g->asides[g->aside_count++];
	*a = (struct aside){ .number = number, .bytes = malloc(bytes + !bytes) };
	if (!a->bytes)
		abort();
	return a->bytes;
}

static inline void graph_drop_aside(struct graph *g, struct aside *a)
{
	free(a->bytes);
	*a = g->asides[--g->aside_count];
}

/* A payload for a message that came from `queue_pair`; false when it belongs nowhere. */
static inline bool graph_place(struct graph *g, uint32_t queue_pair, uint32_t number, uint64_t offset,
			       const uint8_t *payload, size_t bytes)
{
	uint32_t index = graph_expected(g, number);
	struct task *t;
	uint8_t *to;

	if (index == GRAPH_NONE)
		return false;
	t = &g->tasks[index];
	if (t->queue_pair != queue_pair || bytes > t->bytes || offset > t->bytes - bytes)
		return false;
	if (t->reduce || number / g->numbers != g->iteration)
		to = graph_aside_bytes(g, number, t->bytes);
	else
		to = graph_at(g, &t->to);
	memcpy(to + offset, payload, bytes);
	return true;
}

/* All of a message has come; false when nobody expects it. */
static inline bool graph_arrived(struct graph *g, uint32_t queue_pair, uint32_t number, uint64_t now)
{
	uint32_t index = graph_expected(g, number);
	struct task *t;
	struct aside *a;

	if (index == GRAPH_NONE || g->tasks[index].queue_pair != queue_pair)
		return false;
	t = &g->tasks[index];
	a = graph_aside(g, number);
	if (number / g->numbers != g->iteration) {
		if (!a)
			graph_aside_bytes(g, number, t->bytes);
		graph_aside(g, number)->whole = true;
		return true;
	}
	if (a) {
		graph_apply(graph_at(g, &t->to), a->bytes, t->bytes, t->reduce);
		graph_drop_aside(g, a);
	}
	graph_done(g, index, now);
	return true;
}

/* What a peer that is ahead has sent already for the iteration that begins. */
static inline void graph_take_asides(struct graph *g, uint64_t now)
{
	for (uint32_t i = 0; i < g->aside_count;) {
		struct aside *a = &g->asides[i];
		struct task *t = &g->tasks[graph_find(g, a->number % g->numbers)];
		uint32_t number = a->number, queue_pair = t->queue_pair;

		if (number / g->numbers != g->iteration) {
			i++;
		} else if (a->whole) {
			graph_arrived(g, queue_pair, number, now);
			i = 0;
		} else if (!t->reduce) {
			memcpy(graph_at(g, &t->to), a->bytes, t->bytes);
			graph_drop_aside(g, a);
			i = 0;
		} else {
			i++;
		}
	}
}

/*
 * Known data for iteration `g->iteration`, where somebody will look at its result or it is the first. It takes as long
 * as a small collective, so it is no part of graph_begin(), after which packets are due.
 */
static inline void graph_prepare(struct graph *g)
{
	if (!g->iteration || (g->check_count && g->iteration + 1 == graph_end(g)))
		graph_fill(g);
}

/* Begins iteration `g->iteration`, which is prepared. */
static inline void graph_begin(struct graph *g, uint64_t now)
{
	g->left = g->count;
	for (uint32_t i = 0; i < g->count; i++) {
		g->tasks[i].missing = g->tasks[i].after_count;
		g->tasks[i].done = false;
		g->tasks[i].ready_ns = g->tasks[i].begun_ns = g->tasks[i].done_ns = 0;
	}
	for (uint32_t i = 0; i < g->count; i++)
		if (!g->tasks[i].after_count)
			graph_release(g, i, now);
	graph_take_asides(g, now);
}

static inline uint64_t graph_next_ns(const struct graph *g)
{
	return g->ready.count ? g->ready.entries[0].due_ns : UINT64_MAX;
}

/* The next send that may begin by `now`, or GRAPH_NONE. Copies are made on the way. */
static inline uint32_t graph_next(struct graph *g, uint64_t now)
{
	while (graph_next_ns(g) <= now) {
		uint32_t index = turns_pop(&g->ready).flow;
		struct task *t = &g->tasks[index];

		t->begun_ns = now;
		if (t->kind == TASK_SEND)
			return index;
		graph_apply(graph_at(g, &t->to), graph_at(g, &t->from), t->bytes, t->reduce);
		graph_done(g, index, now);
	}
	return GRAPH_NONE;
}

static inline uint32_t graph_number(const struct graph *g, uint32_t index)
{
	return g->tasks[index].number + g->iteration * g->numbers;
}

#endif
