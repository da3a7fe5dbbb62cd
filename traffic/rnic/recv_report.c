// SPDX-License-Identifier: Apache-2.0
/* What `rnic recv` writes when it ends; traffic/engines/rnic_report.py reads it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "recv.h"

static void report_source(const struct flow_key *key)
{
	char text[INET6_ADDRSTRLEN];

	if (IN6_IS_ADDR_V4MAPPED(&key->src))
		inet_ntop(AF_INET, &key->src.s6_addr[12], text, sizeof(text));
	else
		inet_ntop(AF_INET6, &key->src, text, sizeof(text));
	printf(", \"src\": \"%s\"", text);
}

static void report_dscp(const struct tally *t)
{
	const char *comma = "";

	printf(", \"dscp\": {");
	for (unsigned int dscp = 0; dscp < 64; dscp++) {
		if (!t->dscp[dscp])
			continue;
		printf("%s\"%u\": %llu", comma, dscp, (unsigned long long)t->dscp[dscp]);
		comma = ", ";
	}
	putchar('}');
}

static void report_flow(const struct tally *t)
{
	printf("{\"flow\": %u", t->key.flow);
	report_source(&t->key);
	report_number("sport", t->key.sport);
	report_number("dport", t->key.dport);
	report_number("packets", t->packets);
	report_number("bytes", t->bytes);
	report_number("ce", t->ecn[ECN_CE]);
	report_number("ect0", t->ecn[ECN_ECT0]);
	report_number("ect1", t->ecn[ECN_ECT1]);
	report_number("not_ect", t->ecn[ECN_NOT_ECT]);
	report_dscp(t);
	report_number("next_sequence", t->sequence.next);
	report_number("lost", sequence_lost(&t->sequence));
	report_number("reordered", t->sequence.reordered);
	report_number("duplicates", t->sequence.duplicates);
	report_number("unclear", t->sequence.unclear);
	report_number("corrupted", t->corrupted);
	report_number("first_ns", t->first_ns);
	report_number("last_ns", t->last_ns);
	printf(", \"delay_ns\": {\"min\": %llu", (unsigned long long)t->delays.min_ns);
	report_number("mean", delay_mean(&t->delays));
	report_number("p50", delay_quantile(&t->delays, 50));
	report_number("p99", delay_quantile(&t->delays, 99));
	report_number("max", t->delays.max_ns);
	fputs("}}", stdout);
}

void recv_report(struct receiver *r)
{
	if (r->log && fclose(r->log))
		die("the log cannot be written: %s", strerror(errno));
	printf("{\"program\": \"rnic\", \"mode\": \"recv\"");
	report_number("version", REPORT_VERSION);
	report_number("elapsed_ns", clock_ns() - r->began_ns);
	report_number("cpu_ns", cpu_ns());
	printf(", \"ended\": \"%s\"", r->ended);
	report_number("packets", r->packets);
	report_number("strangers", r->strangers);
	report_number("flows_left_out", r->flows_left_out);
	report_number("overflow", sockets_dropped(r));
	report_number("log_records", r->log_records);
	report_number("log_left_out", r->log_left_out);
	printf(", \"flows\": [");
	for (uint32_t i = 0; i < r->tallies.count; i++) {
		fputs(i ? ", " : "", stdout);
		report_flow(r->tallies.in_order[i]);
	}
	puts("]}");
	fflush(stdout);
}
