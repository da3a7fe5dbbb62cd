// SPDX-License-Identifier: Apache-2.0
/*
 * One flow of `rnic send`: its socket and its packets.
 *
 * The socket is not connected: a connected one carries a hash of its own across a veth, and a router with multipath
 * hash policy 1 obeys that instead of the packet. It does not block, but is never written to beyond its buffer.
 * No GSO: every packet is one packet in every queue on its way.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h> /* errqueue.h needs it */
#include <linux/errqueue.h>
#include <unistd.h>

#include "send.h"

#define SNDBUF_FLOW (256u << 10) /* one flow's share of the host NIC's queue */
#define SNDBUF_ALL (4u << 20)	 /* and that of all flows of this process */
#define SNDBUF_LEAST (32u << 10)

#ifndef SO_SNDBUFFORCE
#define SO_SNDBUFFORCE 32
#endif

/* Payloads in the making. What follows a header is zeros, unless the flow wants its pattern. */
static struct {
	struct mmsghdr messages[BATCH];
	struct iovec parts[BATCH][2];
	struct raw_header headers[BATCH];
	unsigned char patterns[BATCH][PLAN_PAYLOAD_MAX];
} out;
static unsigned char zeros[PLAN_PAYLOAD_MAX];

static void set_option(const struct flow *f, int level, int name, int value, const char *what)
{
	if (setsockopt(f->fd, level, name, &value, sizeof(value)))
		die("flow %u: %s: %s", f->spec.id, what, strerror(errno));
}

static void set_ip_options(const struct flow *f)
{
	int tos = (int)(f->spec.dscp << 2 | f->spec.ecn);

	/* RECVERR: a packet the host's own queue drops is told (ENOBUFS) instead of lost in silence. */
	if (address_is_v6(&f->spec.src)) {
		set_option(f, IPPROTO_IPV6, IPV6_TCLASS, tos, "traffic class");
		set_option(f, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO, "no fragments");
		set_option(f, IPPROTO_IPV6, IPV6_RECVERR, 1, "errors");
	} else {
		set_option(f, IPPROTO_IP, IP_TOS, tos, "TOS");
		set_option(f, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO, "no fragments");
		set_option(f, IPPROTO_IP, IP_RECVERR, 1, "errors");
	}
}

static void set_buffer(struct flow *f, uint32_t flows)
{
	uint32_t share = SNDBUF_ALL / flows;
	int bytes = (int)f->spec.sndbuf;
	socklen_t length = sizeof(bytes);

	if (!bytes)
		bytes = (int)(share > SNDBUF_FLOW ? SNDBUF_FLOW : share < SNDBUF_LEAST ? SNDBUF_LEAST : share);
	if (setsockopt(f->fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)))
		set_option(f, SOL_SOCKET, SO_SNDBUF, bytes, "send buffer");
	getsockopt(f->fd, SOL_SOCKET, SO_SNDBUF, &bytes, &length);
	f->sndbuf = (uint32_t)bytes;
}

/* What the route's MTU leaves, asked from a connected socket that sends nothing. */
static void check_mtu(const struct flow_spec *spec)
{
	bool v6 = address_is_v6(&spec->src);
	struct address from = spec->src;
	int fd = socket(spec->src.any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0), mtu = 0;
	socklen_t length = sizeof(mtu);

	address_set_port(&from, 0);
	if (fd < 0 || bind(fd, &from.any, address_length(&from)) ||
	    connect(fd, &spec->dst.any, address_length(&spec->dst)) ||
	    getsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_MTU : IP_MTU, &mtu, &length))
		die("flow %u: no way to its destination: %s", spec->id, strerror(errno));
	close(fd);
	if (spec->bytes + ip_udp_bytes(v6) > (uint64_t)mtu)
		die("flow %u: bytes is %llu; allowed: up to %d, what an MTU of %d leaves", spec->id,
		    (unsigned long long)spec->bytes, mtu - (int)ip_udp_bytes(v6), mtu);
}

void flow_open(struct flow *f, uint32_t flows)
{
	check_mtu(&f->spec);
	f->fd = socket(f->spec.src.any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (f->fd < 0)
		die("flow %u: socket: %s", f->spec.id, strerror(errno));
	/* Flows of one source port to several destinations have a socket each. */
	set_option(f, SOL_SOCKET, SO_REUSEADDR, 1, "reuse address");
	set_ip_options(f);
	set_buffer(f, flows);
	if (bind(f->fd, &f->spec.src.any, address_length(&f->spec.src)))
		die("flow %u: bind: %s", f->spec.id, strerror(errno));
	f->schedule = (struct schedule){
		.packet_bits = 8 * wire_bytes((uint32_t)f->spec.bytes, address_is_v6(&f->spec.src)),
		.rate_bps = f->spec.rate_bps,
		.burst = (uint32_t)f->spec.burst,
	};
}

bool flow_skips(const struct flow *f, uint64_t index)
{
	return f->spec.skip && (index + 1) % f->spec.skip == 0;
}

static void write_packet(const struct flow *f, uint32_t at, uint64_t now)
{
	struct raw_header header = {
		.flags = f->spec.pattern ? RAW_PATTERN : 0,
		.length = (uint16_t)f->spec.bytes,
		.flow = f->spec.id,
		.sequence = f->next + at,
		.sent_ns = now,
	};
	size_t rest = f->spec.bytes - sizeof(header);

	raw_write(&out.headers[at], &header);
	if (f->spec.pattern)
		raw_pattern_fill(out.patterns[at], rest, header.flow, header.sequence);
	out.parts[at][0] = (struct iovec){ &out.headers[at], sizeof(header) };
	out.parts[at][1] = (struct iovec){ f->spec.pattern ? out.patterns[at] : zeros, rest };
	out.messages[at].msg_hdr = (struct msghdr){
		.msg_name = (void *)&f->spec.dst,
		.msg_namelen = address_length(&f->spec.dst),
		.msg_iov = out.parts[at],
		.msg_iovlen = 2,
	};
}

/* How many packets of `ready` go in one call: up to the next that is skipped or beyond the count. */
static uint32_t write_batch(const struct flow *f, uint32_t ready, uint64_t now)
{
	uint32_t written = 0;

	while (written < ready && !flow_skips(f, f->next + written) &&
	       !(f->spec.count && f->next + written >= f->spec.count))
		write_packet(f, written++, now);
	return written;
}

uint32_t flow_take_icmp_errors(struct flow *f)
{
	uint32_t icmp = 0;

	for (uint32_t i = 0; i < 64; i++) {
		char control[256];
		struct msghdr message = { .msg_control = control, .msg_controllen = sizeof(control) };

		if (recvmsg(f->fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
			break;
		for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
			const struct sock_extended_err *e = (const void *)CMSG_DATA(c);

			icmp += e->ee_origin == SO_EE_ORIGIN_ICMP || e->ee_origin == SO_EE_ORIGIN_ICMP6;
		}
	}
	f->icmp_errors += icmp;
	return icmp;
}

int flow_send(struct flow *f, uint32_t ready, uint64_t now)
{
	uint32_t count = write_batch(f, ready, now);
	int sent = count ? sendmmsg(f->fd, out.messages, count, MSG_DONTWAIT) : 0;

	/* An error that an earlier packet brought back from the network is not this one's. */
	for (int tries = 0; sent < 0 && errno != EAGAIN && errno != ENOBUFS && tries < 2; tries++) {
		int error = errno;
		uint32_t icmp = flow_take_icmp_errors(f);

		errno = error;
		if (!icmp && error != EINTR)
			break;
		sent = sendmmsg(f->fd, out.messages, count, MSG_DONTWAIT);
	}
	return sent;
}
