// SPDX-License-Identifier: Apache-2.0
/*
 * How frames leave: whole, by packet sockets, through the device's queues (so that whoever plays the host's port can
 * hold a class back), many a system call. A full socket is a NIC whose port is paused.
 */
#include <errno.h>
#include <ifaddrs.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "rc.h"

#define WIRE_SNDBUF (256 << 10)

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

static bool is_address(const struct sockaddr *a, const struct address *wanted)
{
	const struct sockaddr_in *v4 = (const void *)a;
	const struct sockaddr_in6 *v6 = (const void *)a;

	if (!a || a->sa_family != wanted->any.sa_family)
		return false;
	return a->sa_family == AF_INET ? !memcmp(&v4->sin_addr, &wanted->v4.sin_addr, 4) :
					 !memcmp(&v6->sin6_addr, &wanted->v6.sin6_addr, 16);
}

static void find_device(struct rc_nic *nic)
{
	struct ifaddrs *all;

	if (*nic->spec.dev) {
		strcpy(nic->dev, nic->spec.dev);
		return;
	}
	if (getifaddrs(&all))
		die("getifaddrs: %s", strerror(errno));
	for (struct ifaddrs *a = all; a; a = a->ifa_next)
		if (is_address(a->ifa_addr, &nic->spec.src))
			snprintf(nic->dev, sizeof(nic->dev), "%s", a->ifa_name);
	freeifaddrs(all);
	if (!*nic->dev)
		die("nic %llu: no interface has its src; allowed: an address of this host", (unsigned long long)nic->spec.number);
}

static void ask_device(struct rc_nic *nic, uint32_t mtu)
{
	struct ifreq request = { 0 };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool v6 = address_is_v6(&nic->spec.src);
	int most = (int)roce_wire_bytes(ROCE_WRITE_ONLY_IMM, mtu, v6) - 24 - (int)ROCE_ETHERNET;

	strcpy(request.ifr_name, nic->dev);
	if (fd < 0 || ioctl(fd, SIOCGIFINDEX, &request))
		die("%s: %s", nic->dev, strerror(errno));
	nic->index = request.ifr_ifindex;
	if (ioctl(fd, SIOCGIFHWADDR, &request))
		die("%s: its address: %s", nic->dev, strerror(errno));
	memcpy(nic->mac, request.ifr_hwaddr.sa_data, 6);
	if (ioctl(fd, SIOCGIFMTU, &request))
		die("%s: its MTU: %s", nic->dev, strerror(errno));
	nic->mtu = request.ifr_mtu;
	close(fd);
	if (most > nic->mtu)
		die("mtu is %u, which makes IP packets of %d bytes; %s takes up to %d", mtu, most, nic->dev, nic->mtu);
}

void nic_open(struct rc_nic *nic, const struct rc_nic_spec *spec, const struct rc_host *host)
{
	nic->spec = *spec;
	find_device(nic);
	ask_device(nic, (uint32_t)host->mtu);
	receive_open(nic, host->delay_ns);
}

static struct wire *wire_open(struct rc *rc, struct rc_nic *nic, uint8_t dscp)
{
	struct wire *w = zeroed(1, sizeof(*w));
	struct sockaddr_ll at = { .sll_family = AF_PACKET, .sll_ifindex = nic->index };
	int bytes = WIRE_SNDBUF;

	/* Protocol 0: it receives nothing. */
	w->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (w->fd < 0 || bind(w->fd, (struct sockaddr *)&at, sizeof(at)))
		die("packet socket on %s: %s", nic->dev, strerror(errno));
	if (setsockopt(w->fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)))
		die("send buffer: %s", strerror(errno));
	w->nic = (uint32_t)(nic - rc->nics);
	w->dscp = dscp;
	for (uint32_t i = 0; i < RC_FRAMES; i++)
		w->messages[i].msg_hdr.msg_iov = w->parts[i];
	return w;
}

struct wire *wire_of(struct rc *rc, struct rc_nic *nic, uint8_t dscp)
{
	for (uint32_t i = 0; i < rc->wire_count; i++)
		if (rc->wires[i]->dscp == dscp && &rc->nics[rc->wires[i]->nic] == nic)
			return rc->wires[i];
	if (rc->wire_count == RC_WIRES)
		die("more than %u pairs of nic and dscp", RC_WIRES);
	rc->wires[rc->wire_count] = wire_open(rc, nic, dscp);
	return rc->wires[rc->wire_count++];
}

bool wire_has_room(const struct wire *w)
{
	return !w->blocked && w->first + w->count < RC_FRAMES;
}

uint32_t wire_put(struct wire *w, struct roce_path *path, const struct roce_packet *p)
{
	uint32_t at = w->first + w->count++;
	uint8_t *head = w->frames[at] + 2; /* the IP header on a multiple of four */
	struct roce_frame *around = &w->around[at];

	roce_write_around(head, around, path, p);
	w->parts[at][0] = (struct iovec){ head, around->head };
	w->parts[at][1] = (struct iovec){ (void *)p->payload, p->payload_bytes };
	w->parts[at][2] = (struct iovec){ around->trailer, around->tail };
	w->messages[at].msg_hdr.msg_iovlen = 3;
	w->due[at] = (struct due){ 0 };
	return around->head + (uint32_t)p->payload_bytes + around->tail;
}

void wire_due(struct wire *w, const struct due *due)
{
	w->due[w->first + w->count - 1] = *due;
}

/*
 * What waits for longer keeps its payload as the ICRC saw it (the collective goes on with that memory), and has no
 * schedule: its port is paused.
 */
static void wire_keep(struct wire *w)
{
	for (uint32_t at = w->first; at < w->first + w->count; at++) {
		uint8_t *to = w->frames[at] + 2;

		w->due[at].frame_ns = 0;
		if (w->messages[at].msg_hdr.msg_iovlen == 1)
			continue;
		for (uint32_t i = 0; i < 3; i++) {
			if (i && w->parts[at][i].iov_len)
				memcpy(to, w->parts[at][i].iov_base, w->parts[at][i].iov_len);
			to += w->parts[at][i].iov_len;
		}
		w->parts[at][0].iov_len = (size_t)(to - (uint8_t *)w->parts[at][0].iov_base);
		w->messages[at].msg_hdr.msg_iovlen = 1;
	}
}

static void count_left(struct rc_nic *nic, const struct due *due, uint32_t count)
{
	uint64_t left = clock_ns();

	for (uint32_t i = 0; i < count; i++)
		pace_add(&nic->pace, &due[i], left);
}

static void wire_flush(struct rc *rc, struct wire *w, uint64_t now)
{
	struct rc_nic *nic = &rc->nics[w->nic];

	while (w->count && !w->blocked) {
		int sent = sendmmsg(w->fd, w->messages + w->first, w->count, MSG_DONTWAIT);

		if (sent > 0) {
			count_left(nic, w->due + w->first, (uint32_t)sent);
			w->first += (uint32_t)sent;
			w->count -= (uint32_t)sent;
		} else if (errno == EAGAIN || errno == EWOULDBLOCK) {
			w->blocked = true;
			w->blocked_since_ns = now;
			nic->held_back_times++;
			wire_keep(w);
			return;
		} else {
			/* The frame is gone, as on a link that is down; its queue pair will miss it. */
			*(errno == ENOBUFS ? &nic->host_drops : &nic->refused) += 1;
			nic->error = errno;
			w->first++;
			w->count--;
		}
	}
	if (!w->count)
		w->first = 0;
}

void wires_flush(struct rc *rc, uint64_t now)
{
	for (uint32_t i = 0; i < rc->wire_count; i++)
		if (rc->wires[i]->count)
			wire_flush(rc, rc->wires[i], now);
}

void wire_unblock(struct rc *rc, struct wire *w, uint64_t now)
{
	w->blocked = false;
	rc->nics[w->nic].held_back_ns += now - w->blocked_since_ns;
	wire_flush(rc, w, now);
}
