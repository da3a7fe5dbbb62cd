/* SPDX-License-Identifier: Apache-2.0 */
/* 802.1Qbb and kick frames as bytes, and the time a pause lasts. Pure. */
#ifndef RAILBED_FRAME_H
#define RAILBED_FRAME_H

#include <stdint.h>
#include <string.h>

#define PFC_FRAME	60	/* the least an Ethernet frame may have, FCS not counted */
#define QUANTUM_BITS	512

static inline void put16(uint8_t *at, unsigned value)
{
	at[0] = value >> 8;
	at[1] = value;
}

/* Write a PFC frame: `priorities` (bits) pause for `quanta` (0: go on). `frame` has PFC_FRAME bytes. */
static inline void pfc_frame(uint8_t *frame, const uint8_t *from, unsigned priorities, unsigned quanta)
{
	static const uint8_t group[6] = {0x01, 0x80, 0xc2, 0x00, 0x00, 0x01};

	memset(frame, 0, PFC_FRAME);
	memcpy(frame, group, 6);
	memcpy(frame + 6, from, 6);
	put16(frame + 12, 0x8808);
	put16(frame + 14, 0x0101);
	put16(frame + 16, priorities & 0xff);
	for (int i = 0; i < 8; i++)
		if (priorities & 1U << i)
			put16(frame + 18 + 2 * i, quanta);
}

/* A frame that only wakes a port's queues; the far end drops it. */
static inline void kick_frame(uint8_t *frame, const uint8_t *from, unsigned ethertype)
{
	memset(frame, 0, PFC_FRAME);
	frame[0] = 0x02;
	memcpy(frame + 6, from, 6);
	put16(frame + 12, ethertype);
}

/* How long a pause of `quanta` lasts at a port's rate, in ns. */
static inline uint64_t pause_ns(unsigned quanta, uint64_t rate_bps)
{
	return rate_bps ? (uint64_t)quanta * QUANTUM_BITS * 1000000000ULL / rate_bps : 0;
}

#endif
