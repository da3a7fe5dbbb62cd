/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `rnic send` reads: one line a flow, then `end`, then (once it has said `ready to send`) `go NANOSECONDS`.
 *
 *	flow ID src=IP dst=IP sport=N dport=N [count=N] [duration_ms=N] [bytes=N] [rate_bps=N] [dscp=N] [ecn=N]
 *	        [burst=N] [start_ms=N] [skip=N] [pattern=0|1] [sndbuf=N]
 *
 * Text to values, nothing else: no socket is opened here.
 */
#ifndef RNIC_PLAN_H
#define RNIC_PLAN_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "packet.h"

#define PLAN_LINE 512
#define PLAN_FLOWS 4096u
#define PLAN_PAYLOAD_MAX 65507u

struct address {
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	};
};

struct flow_spec {
	uint32_t id;
	struct address src, dst;
	uint64_t sport, dport;
	uint64_t count;	      /* 0: no limit */
	uint64_t duration_ms; /* 0: no limit */
	uint64_t bytes;	      /* payload, header included */
	uint64_t rate_bps;    /* on the wire; 0: as fast as the socket takes it */
	uint64_t dscp, ecn;
	uint64_t burst;	   /* packets sent back to back, at the same mean rate */
	uint64_t start_ms; /* after go */
	uint64_t skip;	   /* for tests: every n-th sequence number is left out */
	uint64_t pattern;
	uint64_t sndbuf; /* bytes; 0: a share of what the host NIC may queue */
};

struct plan_error {
	char text[160];
};

struct plan_number {
	const char *key;
	uint64_t *to;
	uint64_t least, most;
};

static inline bool plan_refuse(struct plan_error *e, const char *what, const char *found, const char *allowed)
{
	snprintf(e->text, sizeof(e->text), "%s is %.40s; allowed: %s", what, found, allowed);
	return false;
}

static inline bool plan_digits(const char *text, uint64_t *to)
{
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*to = strtoull(text, &end, 10);
	return !errno && !*end;
}

static inline bool plan_read_number(const struct plan_number *n, const char *text, struct plan_error *e)
{
	char allowed[64];
	uint64_t value;

	if (plan_digits(text, &value) && value >= n->least && value <= n->most) {
		*n->to = value;
		return true;
	}
	snprintf(allowed, sizeof(allowed), "%llu to %llu", (unsigned long long)n->least, (unsigned long long)n->most);
	return plan_refuse(e, n->key, text, allowed);
}

static inline bool plan_read_address(struct address *to, const char *key, const char *text, struct plan_error *e)
{
	memset(to, 0, sizeof(*to));
	if (inet_pton(AF_INET, text, &to->v4.sin_addr) == 1)
		to->any.sa_family = AF_INET;
	else if (inet_pton(AF_INET6, text, &to->v6.sin6_addr) == 1)
		to->any.sa_family = AF_INET6;
	else
		return plan_refuse(e, key, text, "an IPv4 or IPv6 address");
	return true;
}

/* The port has its place at the same offset in both families. */
static inline void address_set_port(struct address *a, uint16_t port)
{
	a->v4.sin_port = htons(port);
}

static inline bool address_is_v6(const struct address *a)
{
	return a->any.sa_family == AF_INET6;
}

static inline socklen_t address_length(const struct address *a)
{
	return address_is_v6(a) ? sizeof(a->v6) : sizeof(a->v4);
}

static inline bool plan_read_word(struct flow_spec *f, char *word, struct plan_error *e)
{
	const struct plan_number numbers[] = {
		{ "sport", &f->sport, 1, 65535 },
		{ "dport", &f->dport, 1, 65535 },
		{ "count", &f->count, 0, 1ull << 48 },
		{ "duration_ms", &f->duration_ms, 0, 86400000 },
		{ "bytes", &f->bytes, sizeof(struct raw_header), PLAN_PAYLOAD_MAX },
		{ "rate_bps", &f->rate_bps, 0, 1000000000000ull },
		{ "dscp", &f->dscp, 0, 63 },
		{ "ecn", &f->ecn, 0, 3 },
		{ "burst", &f->burst, 1, 65535 },
		{ "start_ms", &f->start_ms, 0, 86400000 },
		{ "skip", &f->skip, 0, 1ull << 48 },
		{ "pattern", &f->pattern, 0, 1 },
		{ "sndbuf", &f->sndbuf, 0, 1u << 30 },
	};
	char *text = strchr(word, '=');

	if (!text)
		return plan_refuse(e, "a setting", word, "KEY=VALUE");
	*text++ = 0;
	if (!strcmp(word, "src"))
		return plan_read_address(&f->src, "src", text, e);
	if (!strcmp(word, "dst"))
		return plan_read_address(&f->dst, "dst", text, e);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
		if (!strcmp(word, numbers[i].key))
			return plan_read_number(&numbers[i], text, e);
	return plan_refuse(e, "a key", word, "those `rnic --help` lists");
}

/* What a flow is missing or contradicts itself in. */
static inline bool plan_whole(struct flow_spec *f, struct plan_error *e)
{
	if (!f->src.any.sa_family || !f->dst.any.sa_family || !f->sport || !f->dport)
		return plan_refuse(e, "a flow", "incomplete", "one with src, dst, sport and dport");
	if (f->src.any.sa_family != f->dst.any.sa_family)
		return plan_refuse(e, "a flow", "from one address family to the other", "one family");
	if (f->skip == 1)
		return plan_refuse(e, "skip", "1", "0, or 2 and more: every n-th is left out");
	address_set_port(&f->src, (uint16_t)f->sport);
	address_set_port(&f->dst, (uint16_t)f->dport);
	return true;
}

/* Reads a line that starts with "flow"; changes `line`. */
static inline bool plan_read_flow(struct flow_spec *f, char *line, struct plan_error *e)
{
	uint64_t id;
	char *rest, *word = strtok_r(line, " \t\r\n", &rest);

	memset(f, 0, sizeof(*f));
	f->bytes = 1024;
	f->burst = 1;
	if (!word || strcmp(word, "flow"))
		return plan_refuse(e, "a line", word ? word : "empty", "flow ID KEY=VALUE…");
	word = strtok_r(NULL, " \t\r\n", &rest);
	if (!word || !plan_digits(word, &id) || id > UINT32_MAX)
		return plan_refuse(e, "a flow's id", word ? word : "missing", "0 to 4294967295");
	f->id = (uint32_t)id;
	while ((word = strtok_r(NULL, " \t\r\n", &rest)))
		if (!plan_read_word(f, word, e))
			return false;
	return plan_whole(f, e);
}

#endif
