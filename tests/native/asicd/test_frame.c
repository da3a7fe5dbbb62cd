// SPDX-License-Identifier: Apache-2.0
/* 802.1Qbb and kick frames byte by byte, and how long a pause lasts. */
#undef NDEBUG
#include <assert.h>

#include "asicd/frame.h"

static const uint8_t from[6] = {0x02, 0x11, 0x22, 0x33, 0x44, 0x55};

static void test_a_pause_for_two_priorities(void)
{
	static const uint8_t wire[PFC_FRAME] = {
		0x01, 0x80, 0xc2, 0x00, 0x00, 0x01, 0x02, 0x11, 0x22, 0x33, 0x44, 0x55, 0x88, 0x08, 0x01, 0x01, 0x00, 0x18,
		0, 0, 0, 0, 0, 0, 0x12, 0x34, 0x12, 0x34,
	};
	uint8_t frame[PFC_FRAME + 2];

	memset(frame, 0xee, sizeof(frame));
	pfc_frame(frame, from, 1 << 3 | 1 << 4, 0x1234);
	assert(!memcmp(frame, wire, sizeof(wire)));
	assert(frame[PFC_FRAME] == 0xee);
}

static void test_every_set_of_priorities(void)
{
	for (unsigned priorities = 0; priorities < 256; priorities++) {
		uint8_t frame[PFC_FRAME];

		pfc_frame(frame, from, priorities, 0xffff);
		assert(frame[16] == 0 && frame[17] == priorities);
		for (int i = 0; i < 8; i++) {
			unsigned quanta = frame[18 + 2 * i] << 8 | frame[19 + 2 * i];

			assert(quanta == (priorities & 1U << i ? 0xffff : 0));
		}
		for (int i = 34; i < PFC_FRAME; i++)
			assert(!frame[i]);
	}
}

static void test_more_than_eight_priorities_there_are_not(void)
{
	uint8_t few[PFC_FRAME], many[PFC_FRAME];

	pfc_frame(few, from, 0x21, 7);
	pfc_frame(many, from, 0xff21, 7);
	assert(!memcmp(few, many, sizeof(few)));
}

static void test_to_go_on_is_a_pause_of_nothing(void)
{
	uint8_t frame[PFC_FRAME];

	pfc_frame(frame, from, 0xff, 0);
	assert(frame[17] == 0xff);
	for (int i = 18; i < PFC_FRAME; i++)
		assert(!frame[i]);
}

static void test_a_kick_is_for_nobody(void)
{
	uint8_t frame[PFC_FRAME];

	kick_frame(frame, from, 0x88b5);
	assert(frame[0] == 0x02 && !frame[1] && !frame[5]);
	assert(!memcmp(frame + 6, from, 6));
	assert(frame[12] == 0x88 && frame[13] == 0xb5);
	for (int i = 14; i < PFC_FRAME; i++)
		assert(!frame[i]);
}

static void test_how_long_a_pause_lasts(void)
{
	/* 65535 quanta of 512 bits, as the standard's tables have it. */
	assert(pause_ns(65535, 10000000000ULL) == 3355392);
	assert(pause_ns(65535, 40000000000ULL) == 838848);
	assert(pause_ns(65535, 100000000000ULL) == 335539);
	assert(pause_ns(0, 100000000000ULL) == 0);
	assert(pause_ns(1, 1000000000) == 512);
	/* The slowest port there may be: 70 minutes, and no overflow. */
	assert(pause_ns(65535, 8000) == 4194240000000ULL);
	assert(pause_ns(65535, 0) == 0);
}

int main(void)
{
	test_a_pause_for_two_priorities();
	test_every_set_of_priorities();
	test_more_than_eight_priorities_there_are_not();
	test_to_go_on_is_a_pause_of_nothing();
	test_a_kick_is_for_nobody();
	test_how_long_a_pause_lasts();
	return 0;
}
