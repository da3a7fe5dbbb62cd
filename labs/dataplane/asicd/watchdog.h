/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PFC watchdog of one queue, by SONiC's rules for the virtual switch and Mellanox (swss pfc_detect_*.lua,
 * pfc_restore.lua). Every poll is bad or good:
 *   bad: (bytes wait, none left, PFC came)  or  (none wait, none left, and it was paused more than 0.8 of the time)
 * A countdown from the detection time runs down by each bad poll and starts anew at a good one; so a storm is
 * detected between `detect` and `detect + poll` after it began. It is over after `restore` without a PFC frame,
 * counted in the same way. Pure.
 */
#ifndef RAILBED_WATCHDOG_H
#define RAILBED_WATCHDOG_H

#include <stdint.h>

struct seen {
	int64_t waiting_bytes;
	uint64_t sent_packets;
	uint64_t pfc_received;
	uint64_t paused_ns;
};

struct watchdog {
	int storm;
	int begun;		/* `last` holds a poll */
	int64_t left_ms;	/* of the detection or the restoration time */
	struct seen last;
};

enum watchdog_news { WATCHDOG_NONE, WATCHDOG_DETECTED, WATCHDOG_RESTORED };

static inline int bad_poll(const struct seen *was, const struct seen *is, uint64_t poll_ns)
{
	if (is->sent_packets != was->sent_packets)
		return 0;
	if (is->waiting_bytes > 0)
		return is->pfc_received != was->pfc_received;
	return is->paused_ns - was->paused_ns > poll_ns / 10 * 8;
}

/* One poll. While a storm lasts the queue is emptied, so only PFC frames tell whether it is over. */
static inline enum watchdog_news watchdog_poll(struct watchdog *dog, const struct seen *is, uint32_t poll_ms,
					       uint32_t detect_ms, uint32_t restore_ms)
{
	struct seen was = dog->last;
	int first = !dog->begun;

	dog->last = *is;
	dog->begun = 1;
	if (first) {
		dog->left_ms = detect_ms;
		return WATCHDOG_NONE;
	}
	if (!dog->storm) {
		if (!bad_poll(&was, is, (uint64_t)poll_ms * 1000000)) {
			dog->left_ms = detect_ms;
			return WATCHDOG_NONE;
		}
		/* As in SONiC: a bad poll that finds no more than one poll's time left is the storm. */
		if (dog->left_ms > poll_ms) {
			dog->left_ms -= poll_ms;
			return WATCHDOG_NONE;
		}
		dog->storm = 1;
		dog->left_ms = restore_ms;
		return WATCHDOG_DETECTED;
	}
	if (is->pfc_received != was.pfc_received) {
		dog->left_ms = restore_ms;
		return WATCHDOG_NONE;
	}
	if (dog->left_ms > poll_ms) {
		dog->left_ms -= poll_ms;
		return WATCHDOG_NONE;
	}
	dog->storm = 0;
	dog->left_ms = detect_ms;
	return WATCHDOG_RESTORED;
}

#endif
