/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `rnic rc` reads: one line each, then `end`; `rnic --help` has the keys.
 *
 *	host KEY=VALUE…			first, once
 *	buffer input|output|scratch BYTES
 *	nic N src=IP KEY=VALUE…
 *	qp NUMBER nic=N dst=IP dqpn=N sport=N KEY=VALUE…
 *	send|expect|copy NUMBER size=N KEY=VALUE…
 *	check BUFFER:OFFSET bytes=N ranks=A-B at=OFFSET
 *	holds OFFSET bytes=N rank=R
 *
 * Text to values, nothing else: no socket is opened here.
 */
#ifndef RNIC_RC_PLAN_H
#define RNIC_RC_PLAN_H

#include "dcqcn.h"
#include "graph.h"
#include "requester.h"

#define RC_LINE 4000u
#define RC_NICS 16u
#define RC_QUEUE_PAIRS 4096u
#define RC_WINDOW_MAX 65536u

struct rc_host {
	uint64_t rank, mtu, recovery, window, ack_every, reorder, timeout_us, retries;
	uint64_t dscp, ecn, ack_dscp, cnp_dscp, dilation, delay_ns, numbers, iterations, in_place;
	const struct dcqcn_set *cc;
};

struct rc_nic_spec {
	struct address src;
	uint64_t number, rate_bps;
	char dev[16]; /* empty: the one that has the address */
};

struct rc_qp_spec {
	uint64_t number, nic, dqpn, sport, psn, epsn, dscp, window, rate_bps;
	struct address dst;
	uint8_t mac[6]; /* zero: the neighbour is looked up */
};

struct rc_plan {
	struct rc_host host;
	struct rc_nic_spec nics[RC_NICS];
	struct rc_qp_spec *qps;
	uint32_t nic_count, qp_count, qp_room;
	struct graph graph;
};

static const char *const recovery_names[] = { "gbn", "sr", "gb0" };

struct rc_word {
	char *key, *value;
};

/* The next KEY=VALUE; false at the line's end, and with what is wrong in `e`. */
static inline bool rc_next_word(char **rest, struct rc_word *word, struct plan_error *e)
{
	char *text = strtok_r(NULL, " \t\r\n", rest), *equals;

	if (!text)
		return false;
	equals = strchr(text, '=');
	if (!equals)
		return plan_refuse(e, "a setting", text, "KEY=VALUE");
	*equals = 0;
	*word = (struct rc_word){ text, equals + 1 };
	return true;
}

static inline bool rc_read_number(const struct plan_number *numbers, size_t count, const struct rc_word *w,
				  struct plan_error *e)
{
	for (size_t i = 0; i < count; i++)
		if (!strcmp(w->key, numbers[i].key))
			return plan_read_number(&numbers[i], w->value, e);
	return plan_refuse(e, "a key", w->key, "those `rnic --help` lists");
}

static inline bool rc_read_own_number(char **rest, const char *what, uint64_t most, uint64_t *to, struct plan_error *e)
{
	char *text = strtok_r(NULL, " \t\r\n", rest);

	return plan_read_number(&(struct plan_number){ what, to, 0, most }, text ? text : "missing", e);
}

static inline bool rc_read_host_word(struct rc_host *h, const struct rc_word *w, struct plan_error *e)
{
	const struct plan_number numbers[] = {
		{ "rank", &h->rank, 0, 65535 },
		{ "mtu", &h->mtu, 256, ROCE_PAYLOAD_MAX },
		{ "window", &h->window, 1, RC_WINDOW_MAX },
		{ "ack_every", &h->ack_every, 0, RC_WINDOW_MAX },
		{ "reorder", &h->reorder, 1, RC_WINDOW_MAX },
		{ "timeout_us", &h->timeout_us, 100, 3600000000ull },
		{ "retries", &h->retries, 0, 100 },
		{ "dscp", &h->dscp, 0, 63 },
		{ "ecn", &h->ecn, 0, 3 },
		{ "ack_dscp", &h->ack_dscp, 0, 63 },
		{ "cnp_dscp", &h->cnp_dscp, 0, 63 },
		{ "dilation", &h->dilation, 1, 1000000 },
		{ "delay_ns", &h->delay_ns, 0, 10000000000ull },
		{ "numbers", &h->numbers, 1, UINT32_MAX },
		{ "iterations", &h->iterations, 1, 1000000 },
		{ "in_place", &h->in_place, 0, 1 },
	};

	if (!strcmp(w->key, "mode")) {
		for (h->recovery = 0; h->recovery < 3; h->recovery++)
			if (!strcmp(recovery_names[h->recovery], w->value))
				return true;
		return plan_refuse(e, "mode", w->value, "gbn, sr, gb0");
	}
	if (!strcmp(w->key, "cc")) {
		h->cc = dcqcn_find(w->value);
		return h->cc || !strcmp(w->value, "none") || plan_refuse(e, "cc", w->value, "none, " DCQCN_NAMES);
	}
	return rc_read_number(numbers, sizeof(numbers) / sizeof(*numbers), w, e);
}

static inline bool rc_read_host(struct rc_plan *p, char **rest, struct plan_error *e)
{
	struct rc_word w;

	p->host = (struct rc_host){
		.mtu = 1024, .window = 256, .reorder = 3, .timeout_us = 4295000, .retries = 7, .dscp = 26, .ecn = 2,
		.ack_dscp = 26, .cnp_dscp = 48, .dilation = 1, .numbers = 1u << 20, .iterations = 1,
	};
	*e->text = 0;
	while (rc_next_word(rest, &w, e))
		if (!rc_read_host_word(&p->host, &w, e))
			return false;
	if (*e->text)
		return false;
	if (p->host.mtu & (p->host.mtu - 1))
		return plan_refuse(e, "mtu", "no power of two", "256, 512, 1024, 2048, 4096");
	if (p->host.numbers * p->host.iterations > UINT32_MAX)
		return plan_refuse(e, "numbers times iterations", "beyond 32 bits", "what an immediate carries");
	if (!p->host.ack_every)
		p->host.ack_every = p->host.window >= 64 ? 16 : (p->host.window + 3) / 4;
	return true;
}

static inline bool rc_read_buffer_name(const char *text, uint32_t *to, struct plan_error *e)
{
	for (*to = 0; *to < BUFFERS; ++*to)
		if (text && !strcmp(buffer_names[*to], text))
			return true;
	return plan_refuse(e, "a buffer", text ? text : "missing", "input, output, scratch");
}

/* BUFFER:OFFSET; changes the text. */
static inline bool rc_read_memory(struct place_in_memory *to, const char *what, char *text, struct plan_error *e)
{
	char *colon = text ? strchr(text, ':') : NULL;

	if (!colon)
		return plan_refuse(e, what, text ? text : "missing", "BUFFER:OFFSET");
	*colon = 0;
	return rc_read_buffer_name(text, &to->buffer, e) &&
	       plan_read_number(&(struct plan_number){ what, &to->offset, 0, 1ull << 40 }, colon + 1, e);
}

static inline bool rc_read_buffer(struct rc_plan *p, char **rest, struct plan_error *e)
{
	uint32_t buffer;

	return rc_read_buffer_name(strtok_r(NULL, " \t\r\n", rest), &buffer, e) &&
	       rc_read_own_number(rest, "bytes", 1ull << 36, &p->graph.bytes[buffer], e);
}

static inline bool rc_read_nic(struct rc_plan *p, char **rest, struct plan_error *e)
{
	struct rc_nic_spec *n = &p->nics[p->nic_count];
	const struct plan_number numbers[] = { { "rate_bps", &n->rate_bps, 0, 1000000000000ull } };
	struct rc_word w;
	bool fine = true;

	if (p->nic_count == RC_NICS)
		return plan_refuse(e, "a nic", "one too many", "16");
	*e->text = 0;
	if (!rc_read_own_number(rest, "a nic's number", RC_NICS, &n->number, e))
		return false;
	while (fine && rc_next_word(rest, &w, e)) {
		if (!strcmp(w.key, "src"))
			fine = plan_read_address(&n->src, "src", w.value, e);
		else if (!strcmp(w.key, "dev") && strlen(w.value) < sizeof(n->dev))
			strcpy(n->dev, w.value);
		else
			fine = rc_read_number(numbers, 1, &w, e);
	}
	if (!fine || *e->text)
		return false;
	if (n->number != p->nic_count || !n->src.any.sa_family)
		return plan_refuse(e, "a nic", "out of order or without src", "0, 1, …, each with src=");
	p->nic_count++;
	return true;
}

static inline bool rc_read_mac(uint8_t *mac, const char *text, struct plan_error *e)
{
	unsigned int b[6];
	char rest;

	if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%c", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &rest) != 6)
		return plan_refuse(e, "mac", text, "six bytes as 02:00:00:00:00:01");
	for (int i = 0; i < 6; i++)
		mac[i] = (uint8_t)b[i];
	return true;
}

static inline bool rc_qp_whole(const struct rc_plan *p, const struct rc_qp_spec *q, struct plan_error *e)
{
	if (!q->dst.any.sa_family || !q->sport || !q->dqpn || q->nic >= p->nic_count)
		return plan_refuse(e, "a qp", "incomplete", "one with dst, dqpn, sport, and nic that is there");
	if (p->nics[q->nic].src.any.sa_family != q->dst.any.sa_family)
		return plan_refuse(e, "a qp", "from one address family to the other", "one family");
	for (uint32_t i = 0; i < p->qp_count; i++)
		if (p->qps[i].number == q->number)
			return plan_refuse(e, "a qp", "a second of its number", "one");
	return true;
}

static inline bool rc_read_qp(struct rc_plan *p, char **rest, struct plan_error *e)
{
	struct rc_qp_spec q = { .dscp = p->host.dscp, .window = p->host.window };
	const struct plan_number numbers[] = {
		{ "nic", &q.nic, 0, RC_NICS - 1 },	{ "dqpn", &q.dqpn, 1, ROCE_24 },
		{ "sport", &q.sport, 1, 65535 },	{ "psn", &q.psn, 0, ROCE_24 },
		{ "epsn", &q.epsn, 0, ROCE_24 },	{ "dscp", &q.dscp, 0, 63 },
		{ "window", &q.window, 1, RC_WINDOW_MAX }, { "rate_bps", &q.rate_bps, 0, 1000000000000ull },
	};
	struct rc_word w;
	bool fine = true;

	*e->text = 0;
	if (p->qp_count == RC_QUEUE_PAIRS)
		return plan_refuse(e, "a qp", "one too many", "4096");
	if (!rc_read_own_number(rest, "a qp's number", ROCE_24, &q.number, e))
		return false;
	while (fine && rc_next_word(rest, &w, e)) {
		if (!strcmp(w.key, "dst"))
			fine = plan_read_address(&q.dst, "dst", w.value, e);
		else if (!strcmp(w.key, "mac"))
			fine = rc_read_mac(q.mac, w.value, e);
		else
			fine = rc_read_number(numbers, sizeof(numbers) / sizeof(*numbers), &w, e);
	}
	if (!fine || *e->text || !rc_qp_whole(p, &q, e))
		return false;
	p->qps = graph_grow(p->qps, p->qp_count, &p->qp_room, sizeof(*p->qps));
	p->qps[p->qp_count++] = q;
	return true;
}

static inline bool rc_find_qp(const struct rc_plan *p, uint64_t number, uint32_t *to, struct plan_error *e)
{
	for (*to = 0; *to < p->qp_count; ++*to)
		if (p->qps[*to].number == number)
			return true;
	return plan_refuse(e, "qp", "not there", "one of a qp line before");
}

/* Numbers with commas between them. */
static inline bool rc_read_after(struct graph *g, struct task *t, char *text, struct plan_error *e)
{
	char *rest;
	uint64_t number;

	for (char *one = strtok_r(text, ",", &rest); one; one = strtok_r(NULL, ",", &rest)) {
		if (!plan_read_number(&(struct plan_number){ "after", &number, 0, UINT32_MAX - 1 }, one, e))
			return false;
		graph_add_after(g, t, (uint32_t)number);
	}
	return true;
}

static inline bool rc_read_task(struct rc_plan *p, enum task_kind kind, char **rest, struct plan_error *e)
{
	struct task t = { .kind = kind, .queue_pair = GRAPH_NONE, .after = p->graph.after_count };
	uint64_t number, bytes = 0, qp = UINT64_MAX, step = 0, reduce = 0;
	const struct plan_number numbers[] = {
		{ "size", &bytes, 0, MESSAGE_BYTES_MAX }, { "qp", &qp, 0, ROCE_24 },	   { "step", &step, 0, UINT32_MAX },
		{ "reduce", &reduce, 0, 1 },		  { "compute_ns", &t.compute_ns, 0, 3600000000000ull },
	};
	struct rc_word w;
	bool fine = true;

	*e->text = 0;
	if (!rc_read_own_number(rest, "a task's number", UINT32_MAX - 1, &number, e))
		return false;
	while (fine && rc_next_word(rest, &w, e)) {
		if (!strcmp(w.key, "after"))
			fine = rc_read_after(&p->graph, &t, w.value, e);
		else if (!strcmp(w.key, "from"))
			fine = rc_read_memory(&t.from, "from", w.value, e);
		else if (!strcmp(w.key, "to"))
			fine = rc_read_memory(&t.to, "to", w.value, e);
		else
			fine = rc_read_number(numbers, sizeof(numbers) / sizeof(*numbers), &w, e);
	}
	if (!fine || *e->text || (kind != TASK_COPY && !rc_find_qp(p, qp, &t.queue_pair, e)))
		return false;
	t.number = (uint32_t)number;
	t.bytes = (uint32_t)bytes;
	t.step = (uint32_t)step;
	t.reduce = reduce;
	graph_add(&p->graph, &t);
	return true;
}

static inline bool rc_read_check(struct rc_plan *p, char **rest, struct plan_error *e)
{
	struct graph *g = &p->graph;
	struct check c = { 0 };
	uint64_t every = 1;
	const struct plan_number numbers[] = {
		{ "bytes", &c.bytes, 0, 1ull << 36 },
		{ "at", &c.input_offset, 0, 1ull << 40 },
		{ "every", &every, 1, 65535 },
	};
	struct rc_word w;
	bool fine = rc_read_memory(&c.at, "a check's place", strtok_r(NULL, " \t\r\n", rest), e);

	*e->text = fine ? 0 : *e->text;
	while (fine && rc_next_word(rest, &w, e)) {
		char dash = '-', more;

		if (strcmp(w.key, "ranks"))
			fine = rc_read_number(numbers, 3, &w, e);
		else if (sscanf(w.value, "%5u%c%5u%c", &c.first_rank, &dash, &c.last_rank, &more) != 3 || dash != '-' ||
			 c.first_rank > c.last_rank)
			fine = plan_refuse(e, "ranks", w.value, "FIRST-LAST");
	}
	if (!fine || *e->text)
		return false;
	if (c.input_offset % ELEMENT_BYTES || c.at.offset % ELEMENT_BYTES)
		return plan_refuse(e, "a check", "between elements", "offsets that are multiples of 4");
	c.every = (uint32_t)every;
	g->checks = graph_grow(g->checks, g->check_count, &g->check_room, sizeof(c));
	g->checks[g->check_count++] = c;
	return true;
}

static inline bool rc_read_held(struct rc_plan *p, char **rest, struct plan_error *e)
{
	struct graph *g = &p->graph;
	struct held h = { 0 };
	uint64_t rank = UINT64_MAX;
	const struct plan_number numbers[] = { { "bytes", &h.bytes, 0, 1ull << 36 }, { "rank", &rank, 0, 65535 } };
	struct rc_word w;
	bool fine = rc_read_own_number(rest, "what holds begins at", 1ull << 40, &h.offset, e);

	*e->text = fine ? 0 : *e->text;
	while (fine && rc_next_word(rest, &w, e))
		fine = rc_read_number(numbers, 2, &w, e);
	if (!fine || *e->text)
		return false;
	if (rank > 65535 || h.offset % ELEMENT_BYTES)
		return plan_refuse(e, "holds", "without a rank or between elements", "rank=, a multiple of 4");
	h.rank = (uint32_t)rank;
	g->held = graph_grow(g->held, g->held_count, &g->held_room, sizeof(h));
	g->held[g->held_count++] = h;
	return true;
}

/* Reads a line; changes it. */
static inline bool rc_read_line(struct rc_plan *p, char *line, struct plan_error *e)
{
	char *rest, *word = strtok_r(line, " \t\r\n", &rest);

	if (!word || *word == '#')
		return true;
	if (strcmp(word, "host") && !p->host.mtu)
		return plan_refuse(e, "the first line", word, "host KEY=VALUE…");
	if (!strcmp(word, "host"))
		return p->host.mtu ? plan_refuse(e, "a host", "a second one", "one") : rc_read_host(p, &rest, e);
	if (!strcmp(word, "buffer"))
		return rc_read_buffer(p, &rest, e);
	if (!strcmp(word, "nic"))
		return rc_read_nic(p, &rest, e);
	if (!strcmp(word, "qp"))
		return rc_read_qp(p, &rest, e);
	if (!strcmp(word, "check"))
		return rc_read_check(p, &rest, e);
	if (!strcmp(word, "holds"))
		return rc_read_held(p, &rest, e);
	for (enum task_kind kind = TASK_SEND; kind <= TASK_COPY; kind++)
		if (!strcmp(word, task_names[kind]))
			return rc_read_task(p, kind, &rest, e);
	return plan_refuse(e, "a line", word, "host, buffer, nic, qp, send, expect, copy, check, holds, end");
}

/* The whole plan was read. */
static inline bool rc_plan_whole(struct rc_plan *p, struct plan_error *e)
{
	if (!p->host.mtu || !p->nic_count)
		return plan_refuse(e, "a plan", "without a host or a nic", "both");
	p->graph.rank = (uint32_t)p->host.rank;
	p->graph.numbers = (uint32_t)p->host.numbers;
	p->graph.iterations = (uint32_t)p->host.iterations;
	return graph_seal(&p->graph, p->host.in_place, e);
}

#endif
