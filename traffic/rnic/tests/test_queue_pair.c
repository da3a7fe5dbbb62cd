// SPDX-License-Identifier: Apache-2.0
/*
 * A requester and a responder with a link between them that loses, doubles, reorders and corrupts; a tick is a
 * packet's time. What arrives is compared byte for byte, the share of the link that carried it with theory.
 */
#undef NDEBUG
#include <assert.h>
#include <stdio.h>

#include "../requester.h"
#include "../responder.h"

#define MTU 64u
#define FLIGHTS 2048u
#define BYTES (1u << 20)

struct flight {
	uint64_t due;
	bool there, to_responder;
	struct roce_packet packet;
	uint8_t payload[MTU];
};

struct link {
	double loss, doubled, corrupted, ack_loss;
	uint32_t every; /* every n-th packet towards the responder is lost, counted as a switch would */
	uint32_t delay, jitter;
};

static struct flight flights[FLIGHTS];
static uint32_t flights_used; /* none is there from here on */
static uint8_t sent_bytes[BYTES], got_bytes[BYTES];
static uint64_t seed;

static double chance(void)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (double)(seed >> 11) / (double)(1ull << 53);
}

struct world {
	struct link link;
	struct requester a;
	struct responder b;
	uint64_t now, carried, delivered;
	uint32_t done[64], messages;
};

static void put(struct world *w, const struct roce_packet *p, bool to_responder)
{
	double lost = to_responder ? w->link.loss : w->link.ack_loss;
	int copies = chance() < w->link.doubled ? 2 : 1;

	if (to_responder && w->link.every && ++w->carried % w->link.every == 0)
		return;
	for (int i = 0; i < copies; i++) {
		struct flight *f = flights;

		/* What is corrupted on the way the ICRC finds: it is as lost. */
		if (chance() < lost || chance() < w->link.corrupted)
			continue;
		while (f->there)
			assert(++f < flights + FLIGHTS);
		if (f == flights + flights_used)
			flights_used++;
		*f = (struct flight){ .there = true, .to_responder = to_responder, .packet = *p,
				      .due = w->now + w->link.delay + (uint64_t)(chance() * w->link.jitter) };
		if (p->payload_bytes)
			memcpy(f->payload, p->payload, p->payload_bytes);
		f->packet.payload = f->payload;
	}
}

static void deliver(struct world *w, const struct roce_packet *p)
{
	struct response said = responder_take(&w->b, p);

	if (said.place) {
		assert(said.number < w->messages && said.offset + p->payload_bytes <= BYTES);
		assert(!w->done[said.number]);
		memcpy(got_bytes + said.offset, p->payload, p->payload_bytes);
	}
	for (uint32_t i = 0; i < w->b.complete_count; i++)
		w->done[w->b.complete[i]]++;
	if (said.answer) {
		struct roce_packet answer = { .opcode = ROCE_ACKNOWLEDGE, .psn = said.psn, .syndrome = said.syndrome,
					      .message_sequence = said.message_sequence };

		put(w, &answer, false);
	}
}

static void tick(struct world *w)
{
	struct roce_packet p;

	for (uint32_t i = 0; i < flights_used; i++)
		if (flights[i].there && flights[i].due <= w->now) {
			flights[i].there = false;
			if (flights[i].to_responder)
				deliver(w, &flights[i].packet);
			else
				requester_take(&w->a, &flights[i].packet, w->now);
		}
	while (flights_used && !flights[flights_used - 1].there)
		flights_used--;
	if (w->a.deadline_ns && w->a.deadline_ns <= w->now)
		requester_time_out(&w->a, w->now);
	if (requester_sendable(&w->a)) {
		requester_next(&w->a, w->now, &p);
		put(w, &p, true);
	}
	w->now++;
}

static struct world *a_world(enum recovery recovery, struct link link, uint32_t messages, uint32_t packets)
{
	static struct world w;
	struct requester_settings set = { .recovery = recovery, .mtu = MTU, .window = 512, .ack_every = 4, .reorder = 1,
					  .retries = 7, .timeout_ns = 1000, .first_psn = 0xfffff0 };

	memset(&w, 0, sizeof(w));
	memset(flights, 0, sizeof(flights));
	flights_used = 0;
	memset(got_bytes, 0, sizeof(got_bytes));
	w.link = link;
	w.messages = messages;
	w.now = 1;
	assert(requester_open(&w.a, &set) && responder_open(&w.b, recovery, MTU, set.window, set.first_psn));
	for (uint32_t i = 0; i < messages; i++)
		assert(requester_post(&w.a, i, sent_bytes, packets * MTU - i % 3, 0));
	return &w;
}

static void close_world(struct world *w)
{
	requester_close(&w->a);
	responder_close(&w->b);
}

/* The share of the ticks in which a packet was sent that counted; 0 when it did not end in `most` ticks. */
static double play(struct world *w, uint64_t most)
{
	uint64_t packets = w->a.end;
	double share;

	while (w->a.finished < w->a.count && !w->a.failed && w->now < most)
		tick(w);
	share = w->a.finished == w->a.count ? (double)packets / (double)w->now : 0;
	for (uint32_t i = 0; share > 0 && i < w->messages; i++)
		assert(w->done[i] == 1);
	if (share > 0)
		assert(!memcmp(got_bytes, sent_bytes, w->a.messages[0].bytes));
	return share;
}

static void test_a_clean_link_carries_all_once(enum recovery recovery)
{
	struct world *w = a_world(recovery, (struct link){ .delay = 10 }, 7, 100);

	assert(play(w, 100000) > 0.95);
	assert(!w->a.retransmitted && !w->a.naks && !w->a.timeouts && !w->b.out_of_order && !w->b.duplicates);
	assert(!w->a.nonsense && w->b.message_sequence == 7 && w->a.transmissions == 700);
	close_world(w);
}

static void test_all_arrives_whatever_the_link_does(enum recovery recovery)
{
	struct link bad = { .loss = 0.02, .doubled = 0.02, .corrupted = 0.01, .ack_loss = 0.02, .delay = 10 };

	for (seed = 1; seed <= 40; seed++) {
		struct world *w;

		bad.jitter = seed % 2 && recovery != GO_BACK_0 ? 20 : 0;
		w = a_world(recovery, bad, 9, 25);
		assert(play(w, 3000000) > 0);
		assert(w->a.retransmitted && w->a.naks && w->b.duplicates);
		close_world(w);
	}
}

static void test_a_dead_link_ends_the_retries(enum recovery recovery)
{
	struct world *w = a_world(recovery, (struct link){ .loss = 1, .delay = 10 }, 2, 25);

	play(w, 100000);
	/* The first time-out and seven retries, a thousand ticks each. */
	assert(w->a.failed && !w->a.failed_syndrome && w->a.timeouts == 8 && w->now > 8000 && w->now < 8100);
	close_world(w);
	w = a_world(recovery, (struct link){ .ack_loss = 1, .delay = 10 }, 2, 25);
	play(w, 100000);
	assert(w->a.failed && w->a.timeouts == 8 && w->done[0] == 1 && w->done[1] == 1);
	close_world(w);
}

static void near(double found, double wanted, const char *what)
{
	if (found < 0.9 * wanted || found > 1.1 * wanted) {
		fprintf(stderr, "%s: %.4f, by theory %.4f\n", what, found, wanted);
		assert(!"more than 10 % off theory");
	}
}

/* W: what is sent between a packet and the news of its loss: twice the delay, the packet that shows it, the tick. */
static void test_the_link_is_used_as_theory_says(void)
{
	struct link link = { .delay = 31 };
	double loss = 1.0 / 256, w_packets = 2 * 31 + 2;
	struct world *w;

	link.loss = loss;
	seed = 7;
	w = a_world(SELECTIVE_REPEAT, link, 50, 2000);
	near(play(w, 10000000), 1 - loss, "selective repeat");
	close_world(w);
	w = a_world(GO_BACK_N, link, 50, 2000);
	near(play(w, 10000000), (1 - loss) / (1 + loss * (w_packets - 1)), "go back N");
	assert(!w->a.timeouts); /* also where a packet is lost again */
	/* What was sent between a loss and its NAK is what the sender counts. */
	assert(w->a.went_back > 300 && w->a.sent_past > (uint64_t)(w_packets - 2) * w->a.went_back);
	assert(w->a.sent_past < (uint64_t)(w_packets + 2) * w->a.went_back);
	close_world(w);
	link.loss = 0;
	link.every = 256;
	w = a_world(GO_BACK_N, link, 50, 2000);
	near(play(w, 10000000), 1 - w_packets / 256, "go back N, every 256th lost");
	close_world(w);
	w = a_world(GO_BACK_0, link, 1, 1000);
	assert(play(w, 1000000) == 0 && !w->done[0]);
	close_world(w);
	/* Go back 0 at random: M p / ((1 - p)^-M - 1), and the round trip until the news of each loss. */
	link = (struct link){ .loss = 0.01, .delay = 1 };
	w = a_world(GO_BACK_0, link, 64, 100);
	near(play(w, 10000000), 100 * 0.01 / (1 / 0.36603 - 1) / (1 + 0.01 * 4), "go back 0"); /* 0.99^100 */
	close_world(w);
}

static void test_what_arrives_early_is_not_sent_twice(void)
{
	struct world *w = a_world(SELECTIVE_REPEAT, (struct link){ .delay = 10, .jitter = 8 }, 4, 500);

	w->a.set.reorder = 16;
	assert(play(w, 100000) > 0.9);
	assert(w->b.out_of_order > 500 && !w->a.retransmitted && !w->b.duplicates);
	close_world(w);
	w = a_world(GO_BACK_N, (struct link){ .delay = 10, .jitter = 8 }, 4, 500);
	assert(play(w, 1000000) < 0.5);
	assert(w->a.retransmitted > 500);
	close_world(w);
}

static void test_the_window_holds(void)
{
	struct world *w = a_world(GO_BACK_N, (struct link){ .delay = 50 }, 1, 1000);

	w->a.set.window = 10;
	w->a.set.ack_every = 1000;
	while (w->a.finished < w->a.count) {
		tick(w);
		assert(requester_outstanding(&w->a) <= 10);
	}
	/* Ten packets a round trip, and the last of them asks for the answer. */
	assert(w->now > 100 * 100 && w->now < 100 * 115 && !w->a.timeouts);
	close_world(w);
}

static void test_nonsense_changes_nothing(enum recovery recovery)
{
	struct world *w = a_world(recovery, (struct link){ .delay = 10 }, 2, 50);
	struct roce_packet p = { .opcode = ROCE_ACKNOWLEDGE };

	for (int i = 0; i < 20; i++)
		tick(w);
	for (uint32_t i = 0; i < 1000; i++) {
		p.psn = 0xfffff0 + 20 + i * 16001;
		p.syndrome = (uint8_t)(i % 2 ? ROCE_ACK : ROCE_NAK_SEQUENCE);
		p.psn = place_psn(p.psn, 0);
		requester_take(&w->a, &p, w->now);
	}
	assert(w->a.nonsense && w->a.acknowledged <= w->a.sent && w->a.next <= w->a.sent);
	close_world(w);
}

static void test_a_write_out_of_turn_is_refused(void)
{
	struct world *w = a_world(GO_BACK_N, (struct link){ .delay = 10 }, 1, 2);
	struct roce_packet p = { .opcode = ROCE_WRITE_MIDDLE, .psn = 0xfffff0, .payload_bytes = MTU };
	struct response said = responder_take(&w->b, &p);

	assert(said.answer && said.syndrome == ROCE_NAK_INVALID && !said.place && w->b.failed);
	p = (struct roce_packet){ .opcode = ROCE_ACKNOWLEDGE, .psn = said.psn, .syndrome = said.syndrome };
	requester_take(&w->a, &p, 1);
	assert(w->a.failed && w->a.failed_syndrome == ROCE_NAK_INVALID && !requester_sendable(&w->a));
	close_world(w);
}

int main(void)
{
	for (uint32_t i = 0; i < BYTES; i++)
		sent_bytes[i] = (uint8_t)(i * 167 + (i >> 8) * 13 + (i >> 16));
	for (enum recovery recovery = GO_BACK_N; recovery <= GO_BACK_0; recovery++) {
		test_a_clean_link_carries_all_once(recovery);
		test_all_arrives_whatever_the_link_does(recovery);
		test_a_dead_link_ends_the_retries(recovery);
		test_nonsense_changes_nothing(recovery);
	}
	test_the_link_is_used_as_theory_says();
	test_what_arrives_early_is_not_sent_twice();
	test_the_window_holds();
	test_a_write_out_of_turn_is_refused();
	return 0;
}
