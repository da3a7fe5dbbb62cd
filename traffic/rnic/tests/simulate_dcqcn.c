// SPDX-License-Identifier: Apache-2.0
/*
 * How fair DCQCN is, and how soon: rnic's own reaction and notification points at one port, packet by packet. Senders
 * are paced and begin at the line's rate; the port marks as packets leave, by the depth they leave behind; a CNP takes
 * half a millisecond. Written for scripts/simulate_dcqcn, which says what it prints.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "../dcqcn.h"

#define SENDERS 16u
#define QUEUE 65536u
#define CNPS 1024u
#define CNP_S 0.0005
#define ALLOWED 0.05

struct asked {
	const char *set;
	double line_bps, settle_s, judged_s, least, most, chance;
	uint32_t dilation, senders, wire, frame, runs;
};

struct cnp {
	double at;
	uint32_t to;
};

struct port {
	uint32_t queue[QUEUE], first, count;
	double free_s;
	struct cnp cnps[CNPS];
	uint32_t cnp_first, cnp_count;
};

struct outcome {
	double worst, jain, marked, depth;
};

static uint64_t seed;

static double chance(void)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (double)(seed >> 11) / (double)(1ull << 53);
}

static bool marks(const struct asked *a, double behind)
{
	if (behind < a->least)
		return false;
	return behind >= a->most || chance() < a->chance * (behind - a->least) / (a->most - a->least);
}

static void arrive(const struct asked *a, struct port *p, uint32_t from, double now)
{
	if (!p->count)
		p->free_s = now + a->wire * 8 / a->line_bps;
	if (p->count == QUEUE)
		abort();
	p->queue[(p->first + p->count++) % QUEUE] = from;
}

/* A packet leaves: whose it is, and whether it is marked. */
static uint32_t leave(const struct asked *a, struct port *p, bool *marked)
{
	uint32_t from = p->queue[p->first++ % QUEUE];

	p->first %= QUEUE;
	p->count--;
	p->free_s += a->wire * 8 / a->line_bps;
	*marked = marks(a, (double)p->count * a->frame);
	return from;
}

static struct outcome judge(const struct asked *a, const double *got, double packets, double marked, double depth)
{
	struct outcome out = { .marked = marked / packets, .depth = depth / packets };
	double sum = 0, squares = 0;

	for (uint32_t i = 0; i < a->senders; i++) {
		double off = fabs(got[i] * a->senders * 8 / (a->line_bps * a->judged_s) - 1);

		out.worst = off > out.worst ? off : out.worst;
		sum += got[i];
		squares += got[i] * got[i];
	}
	out.jain = sum * sum / squares / a->senders;
	return out;
}

static struct outcome run(const struct asked *a)
{
	struct dcqcn_set set = dcqcn_dilated(dcqcn_find(a->set), a->dilation);
	struct reaction_point r[SENDERS];
	struct notification_point n[SENDERS] = { 0 };
	double next[SENDERS], got[SENDERS] = { 0 }, packets = 0, marked = 0, depth = 0, now = 0;
	static struct port p;

	p = (struct port){ 0 };
	for (uint32_t i = 0; i < a->senders; i++) {
		reaction_open(&r[i], &set, (uint64_t)a->line_bps);
		next[i] = chance() * a->wire * 8 / a->line_bps;
	}
	while (now < a->settle_s + a->judged_s) {
		bool steady = now >= a->settle_s, ce;
		uint32_t who = 0;

		for (uint32_t i = 1; i < a->senders; i++)
			who = next[i] < next[who] ? i : who;
		now = next[who];
		if (p.cnp_count && p.cnps[p.cnp_first].at <= now && (!p.count || p.cnps[p.cnp_first].at <= p.free_s)) {
			now = p.cnps[p.cnp_first].at;
			reaction_take_cnp(&r[p.cnps[p.cnp_first].to], (uint64_t)(now * 1e9));
			p.cnp_first = (p.cnp_first + 1) % CNPS;
			p.cnp_count--;
		} else if (p.count && p.free_s <= now) {
			now = p.free_s;
			who = leave(a, &p, &ce);
			got[who] += steady ? a->wire : 0;
			packets += steady;
			marked += steady && ce;
			depth += steady ? (double)p.count * a->frame : 0;
			if (ce && notification_due(&n[who], &set, (uint64_t)(now * 1e9)))
				p.cnps[(p.cnp_first + p.cnp_count++) % CNPS] = (struct cnp){ now + CNP_S, who };
		} else {
			reaction_advance(&r[who], (uint64_t)(now * 1e9));
			reaction_count_sent(&r[who], a->wire);
			next[who] = now + a->wire * 8 / (r[who].limited ? r[who].rate_bps : a->line_bps);
			arrive(a, &p, who, now);
		}
	}
	return judge(a, got, packets, marked, depth);
}

int main(int argc, char **argv)
{
	struct outcome mean = { .jain = 0 }, one;
	struct asked a;
	double largest = 0, least = 1;
	uint32_t beyond = 0;

	if (argc != 13 || !dcqcn_find(argv[1]) || atoi(argv[3]) < 1 || atoi(argv[3]) > (int)SENDERS) {
		fprintf(stderr, "SET DILATION SENDERS LINE_BPS WIRE FRAME SETTLE_S JUDGED_S KMIN KMAX CHANCE RUNS\n");
		return 2;
	}
	a = (struct asked){
		.set = argv[1], .dilation = (uint32_t)atoi(argv[2]), .senders = (uint32_t)atoi(argv[3]),
		.line_bps = atof(argv[4]), .wire = (uint32_t)atoi(argv[5]), .frame = (uint32_t)atoi(argv[6]),
		.settle_s = atof(argv[7]), .judged_s = atof(argv[8]), .least = atof(argv[9]), .most = atof(argv[10]),
		.chance = atof(argv[11]), .runs = (uint32_t)atoi(argv[12]),
	};
	for (uint32_t i = 0; i < a.runs; i++) {
		seed = i + 1;
		one = run(&a);
		mean.worst += one.worst / a.runs;
		mean.marked += one.marked / a.runs;
		mean.depth += one.depth / a.runs;
		beyond += one.worst > ALLOWED;
		largest = one.worst > largest ? one.worst : largest;
		least = one.jain < least ? one.jain : least;
	}
	printf("%2u senders, %3.0f s: worst %.1f %% off C/N on average, %.1f %% at most, beyond 5 %% in %u of %u runs; "
	       "Jain %.4f at least; p %.4f, q %.0f kB\n", a.senders, a.judged_s, 100 * mean.worst, 100 * largest, beyond,
	       a.runs, least, mean.marked, mean.depth / 1e3);
	return 0;
}
