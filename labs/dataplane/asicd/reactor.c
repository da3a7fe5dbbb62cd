// SPDX-License-Identifier: Apache-2.0
/*
 * The loop that plays PFC: a threshold is crossed, a frame goes out, the far end's program sees it, its gate closes;
 * and back. It also minds the time: pauses end, pauses are asked for again, the watchdog polls.
 *
 * Imitates: 802.1Qbb per priority with quanta, refresh at half the pause, replacement, expiry; SONiC's PFC watchdog
 * with its actions drop, forward and alert. Real silicon reacts within its response time (F6: some hundred quanta at
 * most); here the reaction is a wakeup, a frame and one netlink change, and is measured: headroom has to cover it.
 */
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <sched.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "asicd.h"
#include "frame.h"
#include "reaction.h"

#define MS		1000000ULL
#define EVENTS_A_TURN	256	/* a flood of PFC must not keep timers and commands waiting */
#define LOOK_NS		(250 * MS)	/* how often groups are looked at, events or none */

struct loop {
	struct asic *asic;
	struct ring_buffer *ring;
	uint64_t look_due;
	int timer;
	uint64_t armed;		/* when the timer rings, 0: it has rung */
	int left;		/* events this turn may still take */
};

/*
 * Have the timer ring no later than `due`. One that rings too early only makes the loop look once more; setting it is
 * what costs, a trap into the hypervisor on a virtual processor, and most pauses end long before their time.
 */
static void arm(struct loop *loop, uint64_t due)
{
	struct itimerspec when = {.it_value = {.tv_sec = due / (1000 * MS), .tv_nsec = due % (1000 * MS)}};

	if (loop->armed && loop->armed <= due)
		return;
	loop->armed = due;
	timerfd_settime(loop->timer, TFD_TIMER_ABSTIME, &when, NULL);
}

/* Returns true when it was sent. A port that is down takes none, and the far end's pause runs out by itself. */
static int send_frame(int packet, const struct port *port, const uint8_t *frame)
{
	struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = port->ifindex, .sll_halen = 6};

	memcpy(to.sll_addr, frame, 6);
	return sendto(packet, frame, PFC_FRAME, MSG_DONTWAIT, (void *)&to, sizeof(to)) == PFC_FRAME;
}

void port_kick(const struct namespace *ns, const struct port *port)
{
	uint8_t frame[PFC_FRAME];

	kick_frame(frame, port->mac, ETH_P_KICK);
	send_frame(ns->kick, port, frame);
}

static struct namespace *namespace_of(struct asic *asic, unsigned port)
{
	return &asic->node[asic->port[port].node].ns;
}

static struct port_profile *profile_of(struct asic *asic, unsigned port)
{
	return &asic->profiles[asic->ports[port].profile];
}

static int live(struct asic *asic, unsigned port)
{
	return port && port <= asic->port_count && asic->node[asic->port[port].node].attached;
}

/* Ask the far end of `number` to pause `priorities`, or to go on (quanta 0). */
static void send_pfc(struct asic *asic, unsigned number, unsigned priorities, unsigned quanta)
{
	struct port_state *state = &asic->ports[number];
	struct port *port = &asic->port[number];
	uint64_t now = now_ns(), lasts = pause_ns(quanta, state->rate_bps);
	uint8_t frame[PFC_FRAME];
	int sent;

	pfc_frame(frame, port->mac, priorities, quanta);
	sent = send_frame(namespace_of(asic, number)->packet, port, frame);
	asic->due[number] = 0;
	for (int i = 0; i < QUEUES; i++) {
		if (!(priorities & 1 << i))
			continue;
		port->priority[i].refresh_at = quanta ? now + lasts / 2 : 0;
		if (quanta)
			state->pfc_tx[i] += sent;
		else
			state->pfc_xon_tx[i] += sent;
	}
}

/* Close or open the gates of a port so that they are as its priorities say. */
static void set_gates(struct asic *asic, unsigned number)
{
	struct port_profile *profile = profile_of(asic, number);
	struct namespace *ns = namespace_of(asic, number);
	struct port *port = &asic->port[number];
	unsigned wanted = 0, opened = 0;

	for (int i = 0; i < QUEUES; i++)
		if (port->priority[i].paused_until)
			wanted |= 1U << (profile->queue_of_priority[i] & 7);
	wanted &= port->gates & ~port->forwarding & ~asic->ports[number].watchdog_drop;
	for (unsigned q = 0; q < QUEUES; q++) {
		unsigned bit = 1U << q;
		int failed;

		if (!((wanted ^ port->closed) & bit))
			continue;
		failed = port_gate(ns, port, q, !(wanted & bit));
		if (failed) {
			asic->state->gate_errors++;
			continue;
		}
		port->closed ^= bit;
		opened |= bit & ~wanted;
	}
	asic->ports[number].gates_closed = port->closed;
	if (opened)
		port_kick(ns, port);
}

static void hold(struct asic *asic, unsigned number, int priority, uint64_t until)
{
	struct priority *timer = &asic->port[number].priority[priority];
	uint64_t now = now_ns();

	if (timer->paused_since)
		asic->ports[number].paused_ns[priority] += now - timer->paused_since;
	asic->due[number] = 0;
	timer->paused_until = until;
	timer->paused_since = until ? now : 0;
}

/*
 * All that a port holds back goes on. What it has asked for holds only where its profile still has a group that will
 * take it back: for the rest nobody would ever say XON.
 */
void port_resume(struct asic *asic, unsigned number)
{
	struct port_profile *profile = profile_of(asic, number);
	struct port *port = &asic->port[number];
	unsigned asked = 0, kept = 0;

	for (int i = 0; i < QUEUES; i++) {
		hold(asic, number, i, 0);
		port->priority[i].crossed_at = 0;
		asked |= port->priority[i].refresh_at ? 1U << i : 0;
		kept |= profile->pg[i].priorities;
	}
	asked &= ~(kept & profile->pfc_enable);
	if (asked)
		send_pfc(asic, number, asked, 0);
	asic->port[number].forwarding = 0;
	set_gates(asic, number);
}

static void measure(struct asic *asic, unsigned number, unsigned priorities)
{
	struct port *asker = &asic->port[asic->port[number].peer];
	struct asicd_state *state = asic->state;
	uint64_t now = now_ns();

	for (int i = 0; i < QUEUES; i++) {
		uint64_t crossed = asker->priority[i].crossed_at;

		if (!(priorities & 1U << i) || !crossed)
			continue;
		asker->priority[i].crossed_at = 0;
		reaction_add((uint64_t *)state->reaction, REACTION_BUCKETS, REACTION_STEP_NS, now - crossed);
		state->reaction_count++;
		state->reaction_sum_ns += now - crossed;
		if (now - crossed > state->reaction_max_ns)
			state->reaction_max_ns = now - crossed;
	}
}

/* A port has received PFC. */
static void take_pfc(struct asic *asic, const struct event *event)
{
	uint64_t now = now_ns(), rate = asic->ports[event->port].rate_bps;

	for (int i = 0; i < QUEUES; i++)
		if (event->priorities & 1 << i)
			hold(asic, event->port, i, event->quanta[i] ? now + pause_ns(event->quanta[i], rate) : 0);
	set_gates(asic, event->port);
	measure(asic, event->port, event->priorities);
}

/* When a slow receiver will be down to its XON mark. */
static uint64_t room_at(const struct receiver *slow)
{
	uint64_t lasts = slow->drain_bps ? slow->xon_bytes * 8000000000ULL / slow->drain_bps : 0;

	return slow->busy_until_ns > lasts ? slow->busy_until_ns - lasts : 0;
}

/*
 * What an event of a group comes to: two processors may cross the threshold one way and the other and tell in the other
 * order. Each tells after it has crossed, so the group as it stands when the last one is read is what counts.
 */
static int kind_now(struct asic *asic, const struct event *event)
{
	struct port *port = &asic->port[event->port];
	unsigned asked = 0;

	if (event->kind != EVENT_XOFF && event->kind != EVENT_XON)
		return event->kind;
	for (int i = 0; i < QUEUES; i++)
		asked |= port->priority[i].refresh_at ? 1U << i : 0;
	asked &= event->priorities;
	if (__atomic_load_n(&asic->ports[event->port].xoff, __ATOMIC_SEQ_CST) & 1U << (event->pg & 7))
		return asked == event->priorities ? 0 : EVENT_XOFF;
	return asked ? EVENT_XON : 0;
}

static int take_event(void *context, void *data, size_t size)
{
	struct loop *loop = context;
	struct asic *asic = loop->asic;
	const struct event *event = data;
	struct port *port;

	if (size < sizeof(*event) || !live(asic, event->port))
		return --loop->left > 0 ? 0 : -EAGAIN;
	asic->due[event->port] = 0;
	port = &asic->port[event->port];
	switch (kind_now(asic, event)) {
	case EVENT_XOFF:
	case EVENT_SLOW:
		for (int i = 0; i < QUEUES; i++)
			if (event->priorities & 1 << i)
				port->priority[i].crossed_at = event->time_ns;
		asic->state->pauses++;
		send_pfc(asic, event->port, event->priorities, profile_of(asic, event->port)->quanta);
		if (event->kind == EVENT_SLOW)
			port->slow_due = room_at(&asic->receivers[event->port]);
		break;
	case EVENT_XON:
		asic->state->resumes++;
		send_pfc(asic, event->port, event->priorities, 0);
		break;
	case EVENT_PFC:
		take_pfc(asic, event);
		break;
	}
	return --loop->left > 0 ? 0 : -EAGAIN;
}

static void slow_receiver(struct asic *asic, unsigned number, uint64_t now)
{
	struct receiver *slow = &asic->receivers[number];
	struct port *port = &asic->port[number];
	uint64_t at = room_at(slow);

	if (at > now) {
		port->slow_due = at;
		return;
	}
	port->slow_due = 0;
	__atomic_store_n(&slow->xoff, 0, __ATOMIC_SEQ_CST);
	asic->state->resumes++;
	send_pfc(asic, number, profile_of(asic, number)->pfc_enable, 0);
}

static void storm(struct asic *asic, unsigned number, unsigned q, int begins)
{
	struct queue_state *queue = &asic->queues[number * QUEUES + q];
	unsigned action = profile_of(asic, number)->watchdog_action;
	struct port *port = &asic->port[number];
	const char *node = asic->node[port->node].ns.path;

	queue->watchdog_state = begins;
	if (begins) {
		queue->watchdog_detected++;
		say("PFC Watchdog detected PFC storm on port %s of %s, queue index %u", port->name, node, q);
	} else {
		queue->watchdog_restored++;
		say("PFC Watchdog storm restored on port %s of %s, queue index %u", port->name, node, q);
	}
	if (action == WATCHDOG_DROP) {
		if (begins)
			__atomic_fetch_or(&asic->ports[number].watchdog_drop, 1U << q, __ATOMIC_SEQ_CST);
		else
			__atomic_fetch_and(&asic->ports[number].watchdog_drop, ~(1U << q), __ATOMIC_SEQ_CST);
	} else if (action == WATCHDOG_FORWARD) {
		port->forwarding = begins ? port->forwarding | 1U << q : port->forwarding & ~(1U << q);
	}
	set_gates(asic, number);
}

static void watch(struct asic *asic, unsigned number, uint64_t now)
{
	struct port_profile *profile = profile_of(asic, number);
	struct port_state *state = &asic->ports[number];
	struct port *port = &asic->port[number];

	for (unsigned q = 0; q < QUEUES; q++) {
		struct queue_state *queue = &asic->queues[number * QUEUES + q];
		struct seen is = {.waiting_bytes = PACKED_BYTES(queue->depth), .sent_packets = queue->sent_packets};
		enum watchdog_news news;

		if (!(profile->watchdog_queues & 1 << q))
			continue;
		for (int i = 0; i < QUEUES; i++) {
			struct priority *timer = &port->priority[i];

			if ((profile->queue_of_priority[i] & 7) != q || !(profile->pfc_enable & 1 << i))
				continue;
			is.pfc_received += state->pfc_rx[i];
			is.paused_ns += state->paused_ns[i] + (timer->paused_since ? now - timer->paused_since : 0);
		}
		news = watchdog_poll(&port->dog[q], &is, profile->watchdog_poll_ms, profile->watchdog_detect_ms,
				     profile->watchdog_restore_ms);
		if (news != WATCHDOG_NONE)
			storm(asic, number, q, news == WATCHDOG_DETECTED);
	}
	/*
	 * A poll that comes late is not caught up on: polls keep their distance, from when they have looked. What `now` says
	 * may be a millisecond old by then, and a storm that began meanwhile would be detected that much too soon.
	 */
	port->dog_due = now_ns() + profile->watchdog_poll_ms * MS;
}

static uint64_t sooner(uint64_t due, uint64_t at)
{
	return at && at < due ? at : due;
}

/* Do what is due on one port; returns when the next thing will be. */
static uint64_t port_timers(struct asic *asic, unsigned number, uint64_t now, uint64_t due)
{
	struct port_profile *profile = profile_of(asic, number);
	struct port *port = &asic->port[number];
	unsigned expired = 0, again = 0;

	for (int i = 0; i < QUEUES; i++) {
		struct priority *timer = &port->priority[i];

		if (timer->paused_until && timer->paused_until <= now) {
			hold(asic, number, i, 0);
			expired = 1;
		}
		if (timer->refresh_at && timer->refresh_at <= now)
			again |= 1U << i;
		due = sooner(due, timer->paused_until);
	}
	if (expired)
		set_gates(asic, number);
	if (again) {
		asic->state->refreshes++;
		send_pfc(asic, number, again, profile->quanta);
	}
	if (port->slow_due && port->slow_due <= now)
		slow_receiver(asic, number, now);
	if (profile->watchdog_queues && profile->watchdog_poll_ms) {
		if (port->dog_due <= now)
			watch(asic, number, now);
		due = sooner(due, port->dog_due);
	}
	for (int i = 0; i < QUEUES; i++)
		due = sooner(due, port->priority[i].refresh_at);
	return sooner(due, port->slow_due);
}

/* A group and what its sender was last told, looked at twice: an event may still be on its way. */
static void look_at(struct asic *asic, unsigned number, int priority, int xoff)
{
	struct port *port = &asic->port[number];
	unsigned bit = 1U << priority;

	if (!!port->priority[priority].refresh_at == !!xoff || asic->receivers[number].xoff) {
		port->suspect &= ~bit;
	} else if (port->suspect & bit) {
		port->suspect &= ~bit;
		asic->state->events_late++;
		send_pfc(asic, number, bit, xoff ? profile_of(asic, number)->quanta : 0);
	} else {
		port->suspect |= bit;
	}
}

/* What no event will tell: a gate that could not be moved, and a slow receiver whose event was lost. */
static void look_at_port(struct asic *asic, unsigned number)
{
	struct port *port = &asic->port[number];

	set_gates(asic, number);
	if (!asic->receivers[number].xoff || port->slow_due)
		return;
	asic->state->events_late++;
	port->slow_due = room_at(&asic->receivers[number]) ?: 1;
	asic->due[number] = 0;
	send_pfc(asic, number, profile_of(asic, number)->pfc_enable, profile_of(asic, number)->quanta);
}

/* Events may be lost when the ring is full: what the groups say counts. */
static void look_at_groups(struct asic *asic)
{
	static struct pg_state seen[256 * QUEUES];
	uint32_t from = 0, *in = NULL, left = (asic->port_count + 1) * QUEUES, done = 0;

	while (left) {
		static uint32_t keys[256 * QUEUES];
		uint32_t count = left < 256 * QUEUES ? left : 256 * QUEUES;

		if (bpf_map_lookup_batch(asic->groups_fd, in, &from, keys, seen, &count, NULL) && errno != ENOENT)
			return;
		if (!count)
			return;
		for (uint32_t i = 0; i < count; i++) {
			unsigned port = (done + i) / QUEUES, pg = (done + i) % QUEUES, priorities;

			if (!live(asic, port))
				continue;
			priorities = profile_of(asic, port)->pg[pg].priorities & profile_of(asic, port)->pfc_enable;
			for (int p = 0; p < QUEUES; p++)
				if (priorities & 1 << p)
					look_at(asic, port, p, seen[i].xoff);
			/* XON follows what leaves: from a group that holds nothing, nothing will. */
			if (seen[i].xoff)
				give_back_group(asic, port, asic->ports[port].local, pg, 0, 0);
			if (!pg)
				look_at_port(asic, port);
		}
		done += count;
		left -= count < left ? count : left;
		in = &from;
	}
}

static void take_fifo(struct asic *asic)
{
	struct sched_param first = {.sched_priority = 1};

	asic->state->fifo = !pthread_setschedparam(pthread_self(), SCHED_FIFO, &first);
}

void *reactor(void *argument)
{
	struct loop loop = {.asic = argument};
	struct asic *asic = loop.asic;
	struct epoll_event wanted = {.events = EPOLLIN}, happened[3];
	int epoll;

	take_fifo(asic);
	loop.ring = ring_buffer__new(asic->events_fd, take_event, &loop, NULL);
	loop.timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	epoll = epoll_create1(EPOLL_CLOEXEC);
	if (!loop.ring || epoll < 0 || loop.timer < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, loop.timer, &wanted) ||
	    epoll_ctl(epoll, EPOLL_CTL_ADD, ring_buffer__epoll_fd(loop.ring), &wanted) ||
	    epoll_ctl(epoll, EPOLL_CTL_ADD, asic->wake, &wanted)) {
		say("the reactor cannot start: %s", strerror(errno));
		_exit(1);
	}
	while (!asic->stopping) {
		uint64_t now, due;
		struct timespec used;
		uint64_t rung;

		pthread_mutex_lock(&asic->lock);
		/* A frame that is sent is received before send returns: what it causes is here already. */
		loop.left = EVENTS_A_TURN;
		while (ring_buffer__consume(loop.ring) > 0)
			;
		now = now_ns();
		if (loop.armed && loop.armed <= now && read(loop.timer, &rung, sizeof(rung)) == sizeof(rung))
			loop.armed = 0;
		due = now + 1000 * MS;
		for (unsigned i = 1; i <= asic->port_count; i++) {
			if (asic->due[i] <= now)
				asic->due[i] = live(asic, i) ? port_timers(asic, i, now, now + 1000 * MS) : now + LOOK_NS;
			due = sooner(due, asic->due[i]);
		}
		if (loop.look_due <= now) {
			loop.look_due = now + LOOK_NS;
			look_at_groups(asic);
			clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
			asic->state->cpu_ns = used.tv_sec * 1000 * MS + used.tv_nsec;
			asic->state->alive_ns = now;
		}
		due = sooner(due, loop.look_due);
		pthread_mutex_unlock(&asic->lock);
		arm(&loop, due);
		epoll_wait(epoll, happened, 3, -1);
	}
	ring_buffer__free(loop.ring);
	close(loop.timer);
	close(epoll);
	return NULL;
}
