// SPDX-License-Identifier: Apache-2.0
/*
 * How packets come: by raw IP sockets, which are after the host's tc ingress, where the soft ASIC sets its marks (a
 * packet socket is before it), and which show the IP header that the ICRC covers. A UDP socket on the port, with a
 * filter that takes nothing, keeps the kernel from answering each packet with "port unreachable".
 */
#include <errno.h>
#include <linux/filter.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "rc.h"

#define RCVBUF (32 << 20)
#define CONTROL_BYTES 128

#ifndef SO_MEMINFO
#define SO_MEMINFO 55
#endif
#define MEMINFO_DROPS 8 /* SK_MEMINFO_DROPS of linux/sock_diag.h */

static struct {
	struct mmsghdr messages[RC_RECEIVES];
	struct iovec parts[RC_RECEIVES];
	struct sockaddr_in6 sources[RC_RECEIVES];
	char controls[RC_RECEIVES][CONTROL_BYTES] __attribute__((aligned(8)));
} got;

static void set_option(int fd, int level, int name, int value, const char *what)
{
	if (setsockopt(fd, level, name, &value, sizeof(value)))
		die("%s: %s", what, strerror(errno));
}

static void set_filter(int fd, struct sock_filter *code, unsigned short count)
{
	struct sock_fprog program = { .len = count, .filter = code };

	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)))
		die("socket filter: %s", strerror(errno));
}

static int bound(const struct address *at, int type, int protocol, uint16_t port)
{
	struct address here = *at;
	int fd = socket(at->any.sa_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);

	if (fd < 0)
		die("raw IP socket: %s; allowed: as root, or with CAP_NET_RAW", strerror(errno));
	address_set_port(&here, port);
	if (bind(fd, &here.any, address_length(&here)))
		die("bind%s: %s", port ? " to port 4791" : "", strerror(errno));
	return fd;
}

/* UDP to our port, from the IP header on for IPv4 and from UDP on for IPv6; all else stays out of the buffer. */
static void filter_port(int fd, bool v6)
{
	struct sock_filter v4_code[] = {
		BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 0),
		BPF_STMT(BPF_LD | BPF_H | BPF_IND, 2),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ROCE_PORT, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 0x40000),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sock_filter v6_code[] = {
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 2),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ROCE_PORT, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 0x40000),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};

	set_filter(fd, v6 ? v6_code : v4_code, v6 ? 4 : 5);
}

/* What came before the filter was set is not ours: it may be a peer's datagram that asks for our MAC address. */
static void drop_earlier(int fd)
{
	char none;

	while (recv(fd, &none, sizeof(none), 0) >= 0)
		;
}

void receive_open(struct rc_nic *nic, bool stamps)
{
	bool v6 = address_is_v6(&nic->spec.src);
	struct sock_filter nothing[] = { BPF_STMT(BPF_RET | BPF_K, 0) };
	int bytes = RCVBUF, fd = bound(&nic->spec.src, SOCK_RAW, IPPROTO_UDP, 0);

	filter_port(fd, v6);
	drop_earlier(fd);
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)))
		set_option(fd, SOL_SOCKET, SO_RCVBUF, bytes, "receive buffer");
	if (stamps)
		set_option(fd, SOL_SOCKET, SO_TIMESTAMPNS, 1, "time stamps");
	if (v6) {
		set_option(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1, "traffic class");
		set_option(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1, "hop limit");
	}
	nic->receive_fd = fd;
	nic->guard_fd = bound(&nic->spec.src, SOCK_DGRAM, 0, ROCE_PORT);
	set_filter(nic->guard_fd, nothing, 1);
}

static uint64_t realtime_ahead_ns(void)
{
	struct timespec real;

	clock_gettime(CLOCK_REALTIME, &real);
	return (uint64_t)real.tv_sec * NSEC + (uint64_t)real.tv_nsec - clock_ns();
}

/* IPv6's header as it came, as far as the ICRC looks at it. */
static void make_ip6(struct slot *slot, const struct rc_nic *nic, const struct sockaddr_in6 *from, uint8_t tclass)
{
	uint8_t *ip = slot->packet;

	roce_put(ip, 0x60000000u | (uint32_t)tclass << 20, 4);
	roce_put(ip + 4, slot->bytes, 2);
	ip[6] = IPPROTO_UDP;
	ip[7] = 64;
	memcpy(ip + 8, &from->sin6_addr, 16);
	memcpy(ip + 24, &nic->spec.src.v6.sin6_addr, 16);
	slot->bytes += 40;
}

static void finish_slot(struct slot *slot, const struct rc_nic *nic, uint32_t i, uint64_t now, uint64_t ahead)
{
	struct msghdr *message = &got.messages[i].msg_hdr;
	struct timespec stamp;
	int tclass = 0;

	slot->bytes = message->msg_flags & MSG_TRUNC ? 0 : got.messages[i].msg_len;
	slot->arrived_ns = now;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS) {
			memcpy(&tclass, CMSG_DATA(c), sizeof(tclass));
		} else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS) {
			memcpy(&stamp, CMSG_DATA(c), sizeof(stamp));
			slot->arrived_ns = (uint64_t)stamp.tv_sec * NSEC + (uint64_t)stamp.tv_nsec - ahead;
		}
	}
	if (slot->arrived_ns > now)
		slot->arrived_ns = now;
	if (address_is_v6(&nic->spec.src))
		make_ip6(slot, nic, &got.sources[i], (uint8_t)tclass);
}

/* As many as fit one behind another into the ring. */
static bool receive_from(struct rc *rc, struct rc_nic *nic)
{
	uint32_t begin = (rc->slot_first + rc->slot_count) % RC_SLOTS, room = RC_SLOTS - rc->slot_count;
	uint32_t head = address_is_v6(&nic->spec.src) ? 40 : 0;
	uint64_t ahead, now;
	int count;

	room = room < RC_SLOTS - begin ? room : RC_SLOTS - begin;
	room = room < RC_RECEIVES ? room : RC_RECEIVES;
	for (uint32_t i = 0; i < room; i++) {
		got.parts[i] = (struct iovec){ rc->slots[begin + i].packet + head, ROCE_FRAME_MAX };
		got.messages[i].msg_hdr = (struct msghdr){
			.msg_iov = &got.parts[i], .msg_iovlen = 1, .msg_control = got.controls[i],
			.msg_controllen = CONTROL_BYTES, .msg_name = head ? &got.sources[i] : NULL,
			.msg_namelen = head ? sizeof(got.sources[i]) : 0,
		};
	}
	count = room ? recvmmsg(nic->receive_fd, got.messages, room, MSG_DONTWAIT, NULL) : 0;
	if (count <= 0)
		return false;
	ahead = realtime_ahead_ns();
	now = clock_ns();
	for (int i = 0; i < count; i++)
		finish_slot(&rc->slots[begin + (uint32_t)i], nic, (uint32_t)i, now, ahead);
	rc->slot_count += (uint32_t)count;
	return count == (int)room;
}

bool receive(struct rc *rc)
{
	bool more = false;

	for (uint32_t i = 0; i < rc->plan.nic_count; i++)
		more |= receive_from(rc, &rc->nics[i]);
	return more;
}

uint64_t receive_overflow(const struct rc *rc)
{
	uint64_t dropped = 0;

	for (uint32_t i = 0; i < rc->plan.nic_count; i++) {
		uint32_t words[MEMINFO_DROPS + 1] = { 0 };
		socklen_t length = sizeof(words);

		if (!getsockopt(rc->nics[i].receive_fd, SOL_SOCKET, SO_MEMINFO, words, &length))
			dropped += words[MEMINFO_DROPS];
	}
	return dropped;
}
