/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DCQCN (Zhu et al., SIGCOMM 2015): the notification point's CNPs and the reaction point's rate.
 *
 *	NP	a marked packet: one CNP, at most one in `cnp_interval`
 *	RP	a CNP: R_T <- R_C, R_C <- R_C (1 - alpha/2), at most once in `cut_interval`
 *		alpha <- (1-g) alpha + g with a CNP, (1-g) alpha for every `alpha_timer` without one
 *		every `rate_timer` and every `rate_bytes` since the last cut is a step of its counter:
 *		both counters up to F: fast recovery; both beyond: R_T += i R_HAI; else R_T += R_AI
 *		then R_C <- (R_C + R_T) / 2
 *
 * Rates begin at the line's. Time dilation s (a link s times slower than the real one) multiplies every time and
 * divides every rate; bytes stay.
 *
 * The sets: `sigcomm15` is the paper's deployed one; `mlx` the defaults of NVIDIA's firmware (mlxconfig, DOCA);
 * `ns3` the configuration of HPCC's simulator, which echoes every mark and lets its sender react every 4 us, so the
 * CNP interval here is that. Firmware details that are not public (how ECN marks coalesce between queue pairs, the
 * ramp after idle time) are not played.
 *
 * Pure arithmetic on nanoseconds and bit/s.
 */
#ifndef RNIC_DCQCN_H
#define RNIC_DCQCN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct dcqcn_set {
	const char *name;
	uint64_t cnp_interval_ns, cut_interval_ns, alpha_timer_ns, rate_timer_ns;
	uint64_t rate_bytes;
	double g, first_alpha;
	uint32_t fast_steps; /* F */
	uint64_t ai_bps, hai_bps, least_bps; /* R_HAI 0: there is no hyper increase */
	bool alpha_by_timer; /* else a CNP raises alpha at once, and the timer only lowers it */
	bool clamp_target;   /* every cut sets R_T; else only the first after an increase */
};

static const struct dcqcn_set dcqcn_sets[] = {
	{ .name = "dcqcn-sigcomm15", .cnp_interval_ns = 50000, .alpha_timer_ns = 55000, .rate_timer_ns = 55000,
	  .rate_bytes = 10000000, .g = 1.0 / 256, .first_alpha = 1, .fast_steps = 5, .ai_bps = 40000000,
	  .least_bps = 1000000, .clamp_target = true },
	{ .name = "dcqcn-mlx", .cnp_interval_ns = 4000, .cut_interval_ns = 4000, .alpha_timer_ns = 1000,
	  .rate_timer_ns = 300000, .rate_bytes = 32767 * 64, .g = 5.0 / 1024, .first_alpha = 1023.0 / 1024,
	  .fast_steps = 1, .ai_bps = 5000000, .hai_bps = 50000000, .least_bps = 1000000, .alpha_by_timer = true },
	{ .name = "dcqcn-ns3", .cnp_interval_ns = 4000, .cut_interval_ns = 4000, .alpha_timer_ns = 1000,
	  .rate_timer_ns = 900000, .rate_bytes = 0, .g = 1.0 / 256, .first_alpha = 1, .fast_steps = 1,
	  .ai_bps = 50000000, .hai_bps = 100000000, .least_bps = 100000000, .alpha_by_timer = true },
};

#define DCQCN_SETS (sizeof(dcqcn_sets) / sizeof(*dcqcn_sets))
#define DCQCN_NAMES "dcqcn-sigcomm15, dcqcn-mlx, dcqcn-ns3"

static inline const struct dcqcn_set *dcqcn_find(const char *name)
{
	for (size_t i = 0; i < DCQCN_SETS; i++)
		if (!strcmp(dcqcn_sets[i].name, name))
			return &dcqcn_sets[i];
	return NULL;
}

static inline struct dcqcn_set dcqcn_dilated(const struct dcqcn_set *set, uint64_t dilation)
{
	struct dcqcn_set slow = *set;

	slow.cnp_interval_ns *= dilation;
	slow.cut_interval_ns *= dilation;
	slow.alpha_timer_ns *= dilation;
	slow.rate_timer_ns *= dilation;
	slow.ai_bps /= dilation;
	slow.hai_bps /= dilation;
	slow.least_bps = slow.least_bps / dilation > 1000 ? slow.least_bps / dilation : 1000;
	return slow;
}

/* One queue pair's reaction point. */
struct reaction_point {
	const struct dcqcn_set *set;
	double line_bps, rate_bps, target_bps, alpha;
	bool limited; /* there was a CNP, and the rate is not back at the line's */
	bool cnp_since_alpha, cnp_waiting, raised;
	uint64_t alpha_ns, step_ns, cut_ns; /* when the next comes; for the cut when it is allowed again */
	uint64_t bytes;
	uint32_t timer_steps, byte_steps;
	uint64_t cnps, cuts;
};

static inline void reaction_open(struct reaction_point *r, const struct dcqcn_set *set, uint64_t line_bps)
{
	*r = (struct reaction_point){
		.set = set, .line_bps = (double)line_bps, .rate_bps = (double)line_bps, .target_bps = (double)line_bps,
		.alpha = set->first_alpha,
	};
}

static inline void reaction_cut(struct reaction_point *r, uint64_t now)
{
	const struct dcqcn_set *set = r->set;
	double rate = r->rate_bps * (1 - r->alpha / 2);

	if (set->clamp_target || r->raised || !r->cuts)
		r->target_bps = r->rate_bps;
	r->rate_bps = rate > (double)set->least_bps ? rate : (double)set->least_bps;
	if (r->rate_bps > r->line_bps)
		r->rate_bps = r->line_bps;
	r->cuts++;
	r->raised = r->cnp_waiting = false;
	r->cut_ns = now + set->cut_interval_ns;
	r->step_ns = now + set->rate_timer_ns;
	r->timer_steps = r->byte_steps = 0;
	r->bytes = 0;
}

static inline void reaction_raise_alpha(struct reaction_point *r)
{
	r->alpha = (1 - r->set->g) * r->alpha + r->set->g;
}

static inline void reaction_increase(struct reaction_point *r)
{
	uint32_t low = r->timer_steps < r->byte_steps ? r->timer_steps : r->byte_steps;
	uint32_t high = r->timer_steps > r->byte_steps ? r->timer_steps : r->byte_steps;

	r->raised = true;
	if (low > r->set->fast_steps && r->set->hai_bps)
		r->target_bps += (double)(low - r->set->fast_steps) * (double)r->set->hai_bps;
	else if (high > r->set->fast_steps)
		r->target_bps += (double)r->set->ai_bps;
	if (r->target_bps > r->line_bps)
		r->target_bps = r->line_bps;
	r->rate_bps = (r->rate_bps + r->target_bps) / 2;
	/* Halving the distance never ends. */
	if (r->rate_bps > 0.9999 * r->line_bps) {
		r->rate_bps = r->line_bps;
		r->limited = false;
	}
}

/* When something happens by itself; never while nothing is limited. */
static inline uint64_t reaction_next_ns(const struct reaction_point *r)
{
	uint64_t next = r->step_ns < r->alpha_ns ? r->step_ns : r->alpha_ns;

	if (!r->limited)
		return UINT64_MAX;
	return r->cnp_waiting && r->cut_ns < next ? r->cut_ns : next;
}

/* Plays everything that was due until `now`, in its order. */
static inline void reaction_advance(struct reaction_point *r, uint64_t now)
{
	uint64_t next;

	while ((next = reaction_next_ns(r)) <= now) {
		if (r->cnp_waiting && next == r->cut_ns) {
			reaction_cut(r, next);
		} else if (next == r->alpha_ns) {
			if (r->cnp_since_alpha && r->set->alpha_by_timer)
				reaction_raise_alpha(r);
			else
				r->alpha *= 1 - r->set->g;
			r->cnp_since_alpha = false;
			r->alpha_ns += r->set->alpha_timer_ns;
		} else {
			r->timer_steps++;
			r->step_ns += r->set->rate_timer_ns;
			reaction_increase(r);
		}
	}
}

static inline void reaction_take_cnp(struct reaction_point *r, uint64_t now)
{
	reaction_advance(r, now);
	r->cnps++;
	if (!r->limited) {
		r->limited = true;
		r->alpha_ns = now + r->set->alpha_timer_ns;
		r->alpha = r->set->first_alpha;
	}
	r->cnp_since_alpha = true;
	if (now >= r->cut_ns)
		reaction_cut(r, now);
	else
		r->cnp_waiting = true;
	if (!r->set->alpha_by_timer) {
		reaction_raise_alpha(r);
		r->alpha_ns = now + r->set->alpha_timer_ns;
	}
}

static inline void reaction_count_sent(struct reaction_point *r, uint64_t bytes)
{
	if (!r->limited || !r->set->rate_bytes)
		return;
	for (r->bytes += bytes; r->bytes >= r->set->rate_bytes; r->bytes -= r->set->rate_bytes) {
		r->byte_steps++;
		reaction_increase(r);
	}
}

/* One queue pair's notification point: whether a marked packet at `now` is answered with a CNP. */
struct notification_point {
	uint64_t allowed_ns;
	uint64_t cnps;
};

static inline bool notification_due(struct notification_point *n, const struct dcqcn_set *set, uint64_t now)
{
	if (now < n->allowed_ns)
		return false;
	n->allowed_ns = now + set->cnp_interval_ns;
	n->cnps++;
	return true;
}

#endif
