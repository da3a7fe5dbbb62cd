// SPDX-License-Identifier: Apache-2.0
/* What `rnic send` writes when it ends; traffic/engines/rnic_report.py reads it. */
#include <stdio.h>
#include <string.h>

#include "send.h"

static void report_flow(const struct flow *f)
{
	const char *fault = punctuality_fault(&f->kept, &f->schedule);

	printf("{\"flow\": %u", f->spec.id);
	report_number("packets", f->packets);
	report_number("bytes", f->packets * f->spec.bytes);
	report_number("wire_bytes", f->packets * f->schedule.packet_bits / 8);
	report_number("next_sequence", f->next);
	report_number("skipped", f->skipped);
	report_number("refused", f->refused);
	report_number("host_drops", f->host_drops);
	report_number("icmp_errors", f->icmp_errors);
	report_number("first_ns", f->kept.first_ns);
	report_number("last_ns", f->kept.last_ns);
	report_number("rate_bps", f->schedule.rate_bps);
	report_number("mean_bps", punctuality_mean_bps(&f->kept, &f->schedule));
	printf(", \"mean_judged\": %s", punctuality_mean_judged(&f->kept, &f->schedule) ? "true" : "false");
	report_number("late_packets", f->kept.late);
	report_number("late_bound_ns", schedule_late_bound(&f->schedule));
	report_number("late_worst_ns", f->kept.worst_ns);
	report_number("held_back_ns", f->schedule.held_back_ns);
	report_number("held_back_times", f->held_back_times);
	report_number("sndbuf", f->sndbuf);
	report_text("error", f->error ? strerror(f->error) : NULL);
	printf(", \"paced_ok\": %s", fault ? "false" : "true");
	report_text("paced_because", fault);
	putchar('}');
}

void send_report(const struct sender *s)
{
	bool paced = true;

	for (uint32_t i = 0; i < s->count; i++)
		paced &= !punctuality_fault(&s->flows[i].kept, &s->flows[i].schedule);
	printf("{\"program\": \"rnic\", \"mode\": \"send\"");
	report_number("version", REPORT_VERSION);
	report_number("go_ns", s->go_ns);
	report_number("elapsed_ns", clock_ns() > s->began_ns ? clock_ns() - s->began_ns : 0);
	report_number("cpu_ns", cpu_ns());
	report_number("woken_late_ns", s->woken_late_ns);
	report_text("ended", s->ended);
	printf(", \"paced_ok\": %s, \"flows\": [", paced ? "true" : "false");
	for (uint32_t i = 0; i < s->count; i++) {
		fputs(i ? ", " : "", stdout);
		report_flow(&s->flows[i]);
	}
	puts("]}");
	fflush(stdout);
}
