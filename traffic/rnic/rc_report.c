// SPDX-License-Identifier: Apache-2.0
/* What `rnic rc` writes when it ends; traffic/engines/rnic_rc.py reads it. Times are CLOCK_MONOTONIC. */
#include <stdio.h>
#include <string.h>

#include "rc.h"

static void report_bins(const struct bins *b)
{
	uint32_t used = RC_BINS;

	while (used && !b->bytes[used - 1])
		used--;
	report_number("bin_ns", b->width_ns);
	printf(", \"bins\": [");
	for (uint32_t i = 0; i < used; i++)
		printf("%s%llu", i ? ", " : "", (unsigned long long)b->bytes[i]);
	putchar(']');
}

static void report_qp(const struct rc *rc, const struct queue_pair *qp)
{
	const struct requester *a = &qp->requester;
	const struct responder *b = &qp->responder;

	printf("{\"qp\": %llu", (unsigned long long)qp->spec.number);
	report_number("sport", qp->spec.sport);
	report_number("sent_packets", qp->sent_packets);
	report_number("sent_bytes", qp->sent_bytes);
	report_number("sent_wire_bytes", qp->sent_wire_bytes);
	report_number("retransmitted", a->retransmitted);
	report_number("timeouts", a->timeouts);
	report_number("naks", a->naks);
	report_number("went_back", a->went_back);
	report_number("sent_past", a->sent_past);
	report_number("nonsense", a->nonsense);
	report_number("acks", qp->got_acks);
	report_number("cnps", qp->got_cnps);
	report_number("received_packets", qp->got_packets);
	report_number("received_bytes", qp->got_bytes);
	report_number("ce", qp->got_ce);
	report_number("out_of_order", b->out_of_order);
	report_number("duplicates", b->duplicates);
	report_number("beyond_window", b->beyond);
	report_number("sent_naks", b->naks);
	report_number("sent_acks", qp->acks_sent);
	report_number("sent_cnps", qp->cnps_sent);
	report_number("round_trips", qp->round_trips);
	report_number("round_trip_min_ns", qp->round_trip_least_ns);
	report_number("round_trip_mean_ns", qp->round_trips ? qp->round_trip_sum_ns / qp->round_trips : 0);
	report_number("round_trip_max_ns", qp->round_trip_most_ns);
	report_number("first_ns", qp->first_ns);
	report_number("last_ns", qp->last_ns);
	report_number("rate_bps", rc->plan.host.cc ? (uint64_t)qp->reaction.rate_bps : qp->spec.rate_bps);
	report_number("cuts", qp->reaction.cuts);
	printf(", \"failed\": %s", a->failed || b->failed ? "true" : "false");
	report_bins(&qp->bins);
	putchar('}');
}

static void report_nic(const struct rc_nic *nic)
{
	printf("{\"nic\": %llu", (unsigned long long)nic->spec.number);
	report_text("dev", nic->dev);
	report_number("rate_bps", nic->spec.rate_bps);
	report_number("packets", nic->sent_packets);
	report_number("wire_bytes", nic->wire_bytes);
	report_number("busy_ns", nic->busy_ns);
	report_number("paced_packets", nic->pace.packets);
	report_number("late_packets", nic->pace.late);
	report_number("late_worst_ns", nic->pace.worst_ns);
	report_number("stretches", nic->pace.stretches);
	report_number("due_ns", pace_due_ns(&nic->pace));
	report_number("took_ns", pace_took_ns(&nic->pace));
	printf(", \"mean_judged\": %s", pace_mean_judged(&nic->pace) ? "true" : "false");
	report_number("first_ns", nic->first_ns);
	report_number("last_ns", nic->last_ns);
	report_number("held_back_ns", nic->held_back_ns);
	report_number("held_back_times", nic->held_back_times);
	report_number("host_drops", nic->host_drops);
	report_number("refused", nic->refused);
	report_text("error", nic->error ? strerror(nic->error) : NULL);
	printf(", \"paced_ok\": %s}", pace_kept(&nic->pace) ? "true" : "false");
}

/* A task of the last iteration that was begun. */
static void report_task(const struct rc *rc, const struct task *t)
{
	printf("{\"task\": %u", t->number);
	report_text("kind", task_names[t->kind]);
	report_number("step", t->step);
	report_number("bytes", t->bytes);
	if (t->queue_pair == GRAPH_NONE)
		report_text("qp", NULL);
	else
		report_number("qp", rc->qps[t->queue_pair].spec.number);
	report_number("ready_ns", t->ready_ns);
	report_number("begun_ns", t->begun_ns);
	report_number("done_ns", t->done_ns);
	putchar('}');
}

static void report_head(const struct rc *rc)
{
	printf("{\"program\": \"rnic\", \"mode\": \"rc\"");
	report_number("version", REPORT_VERSION);
	report_number("rank", rc->plan.host.rank);
	report_number("go_ns", rc->go_ns);
	report_number("elapsed_ns", clock_ns() > rc->begin_ns && rc->begin_ns ? clock_ns() - rc->begin_ns : 0);
	report_number("cpu_ns", cpu_ns());
	report_number("woken_late_ns", rc->woken_late_ns);
	report_text("ended", rc->ended);
	report_text("failure", rc->failure);
	report_number("iterations", rc->plan.graph.iteration);
	printf(", \"wrong\": ");
	printf(rc->checked ? "%llu" : "null", (unsigned long long)rc->wrong);
	report_number("left", rc->plan.graph.left);
	report_number("overflow", receive_overflow(rc));
	report_number("foreign", rc->foreign);
	report_number("malformed", rc->malformed);
	report_number("unknown", rc->unknown);
	report_number("corrupt", rc->corrupt);
	report_number("strangers", rc->strangers);
	report_number("misplaced", rc->misplaced);
	report_number("round_trip_p50_ns", delay_quantile(&rc->round_trips, 50));
	report_number("round_trip_p99_ns", delay_quantile(&rc->round_trips, 99));
}

static void report_times(const char *key, const uint64_t *times, uint32_t count)
{
	printf(", \"%s\": [", key);
	for (uint32_t i = 0; i < count; i++)
		printf("%s%llu", i ? ", " : "", (unsigned long long)times[i]);
	putchar(']');
}

void rc_tell_progress(const struct rc *rc, uint64_t number)
{
	const struct graph *g = &rc->plan.graph;
	uint64_t messages = 0, sent = 0, received = 0;

	for (uint32_t i = 0; i < rc->plan.qp_count; i++) {
		messages += rc->qps[i].requester.finished;
		sent += rc->qps[i].sent_bytes;
		received += rc->qps[i].got_bytes;
	}
	printf("progress iterations=%u of=%u messages=%llu sent_bytes=%llu received_bytes=%llu number=%llu\n", g->iteration,
	       graph_end(g), (unsigned long long)messages, (unsigned long long)sent, (unsigned long long)received,
	       (unsigned long long)number);
	fflush(stdout);
}

void rc_report(const struct rc *rc)
{
	const struct graph *g = &rc->plan.graph;

	report_head(rc);
	report_times("began_ns", rc->began_ns, g->iteration);
	report_times("ended_ns", rc->ended_ns, g->iteration);
	printf(", \"nics\": [");
	for (uint32_t i = 0; i < rc->plan.nic_count; i++) {
		fputs(i ? ", " : "", stdout);
		report_nic(&rc->nics[i]);
	}
	printf("], \"qps\": [");
	for (uint32_t i = 0; i < rc->plan.qp_count; i++) {
		fputs(i ? ", " : "", stdout);
		report_qp(rc, &rc->qps[i]);
	}
	printf("], \"tasks\": [");
	for (uint32_t i = 0; i < g->count; i++) {
		fputs(i ? ", " : "", stdout);
		report_task(rc, &g->tasks[i]);
	}
	puts("]}");
	fflush(stdout);
}
