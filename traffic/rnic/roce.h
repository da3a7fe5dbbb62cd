/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RoCEv2 on the wire (InfiniBand Architecture Specification 1.2.1 chapter 9, annexes A16 and A17), as far as a
 * reliable connection that writes needs it:
 *
 *	Ethernet 14 | IPv4 20 or IPv6 40 | UDP 8, port 4791 | BTH 12 | RETH 16 or AETH 4, immediate 4 | payload | ICRC 4
 *
 *	BTH	opcode 8 | S 1 M 1 pad 2 version 4 | partition 16 | FECN 1 BECN 1 - 6 | queue pair 24 | A 1 - 7 | PSN 24
 *	RETH	address 64 | key 32 | bytes 32
 *	AETH	syndrome 8 | message sequence number 24
 *	CNP	BTH with BECN, then 16 bytes of zero
 *
 * The ICRC covers everything after Ethernet that no switch changes, as if preceded by eight bytes of ones: type of
 * service (IPv6: and flow label), time to live, both checksums and the BTH's fifth byte count as ones. So an ECN
 * mark needs no new ICRC, and the IP identification is covered: who sends must know it, hence frames made whole.
 *
 * Pure: bytes to values and back. What is read is checked to the last byte before it is believed.
 */
#ifndef RNIC_ROCE_H
#define RNIC_ROCE_H

#include <stdbool.h>

#include "crc32.h"

#define ROCE_PORT 4791
#define ROCE_PARTITION 0xffffu
#define ROCE_ETHERNET 14u
#define ROCE_UDP 8u
#define ROCE_BTH 12u
#define ROCE_RETH 16u
#define ROCE_AETH 4u
#define ROCE_IMMEDIATE 4u
#define ROCE_ICRC 4u
#define ROCE_CNP_ZEROS 16u
#define ROCE_PAYLOAD_MAX 4096u
/* The largest frame there is: IPv6, RETH, immediate, no padding as 4096 needs none. */
#define ROCE_HEAD_MAX (14u + 40u + 8u + 12u + 16u + 4u)
#define ROCE_FRAME_MAX (ROCE_HEAD_MAX + ROCE_PAYLOAD_MAX + 4u)
#define ROCE_24 0xffffffu

enum roce_opcode {
	ROCE_WRITE_FIRST = 0x06,
	ROCE_WRITE_MIDDLE = 0x07,
	ROCE_WRITE_LAST = 0x08,
	ROCE_WRITE_LAST_IMM = 0x09,
	ROCE_WRITE_ONLY = 0x0a,
	ROCE_WRITE_ONLY_IMM = 0x0b,
	ROCE_ACKNOWLEDGE = 0x11,
	ROCE_CNP = 0x81,
};

/* AETH syndromes: ACK without an end-to-end credit limit, and the NAKs (0x60 + code). */
enum roce_syndrome {
	ROCE_ACK = 0x1f,
	ROCE_NAK_SEQUENCE = 0x60,
	ROCE_NAK_INVALID = 0x61,
	ROCE_NAK_ACCESS = 0x62,
};

/* Why bytes are no packet for us. */
enum roce_fault {
	ROCE_FINE,
	ROCE_FOREIGN,	/* no UDP to our port, a fragment, or IP options */
	ROCE_MALFORMED, /* lengths that do not fit each other, or what is not there */
	ROCE_UNKNOWN,	/* an opcode this does not play */
	ROCE_CORRUPT,	/* the ICRC is another */
};

struct roce_path {
	bool v6;
	uint8_t to_mac[6], from_mac[6];
	uint8_t src[16], dst[16]; /* network order, the first 4 bytes for IPv4 */
	uint16_t sport;
	uint16_t ip_id; /* IPv4; the next packet's */
	uint8_t tos;
};

/* A packet's content, host byte order. Which fields count, the opcode says. */
struct roce_packet {
	uint8_t opcode;
	bool ack_request;
	bool becn;
	uint32_t queue_pair; /* 24 bits, the receiver's */
	uint32_t psn;	     /* 24 bits */
	uint64_t address;    /* RETH */
	uint32_t key, bytes;
	uint8_t syndrome; /* AETH */
	uint32_t message_sequence;
	uint32_t immediate;
	const uint8_t *payload;
	size_t payload_bytes;
};

static inline bool roce_has_reth(uint8_t opcode)
{
	return opcode == ROCE_WRITE_FIRST || opcode == ROCE_WRITE_ONLY || opcode == ROCE_WRITE_ONLY_IMM;
}

static inline bool roce_has_immediate(uint8_t opcode)
{
	return opcode == ROCE_WRITE_LAST_IMM || opcode == ROCE_WRITE_ONLY_IMM;
}

static inline bool roce_is_write(uint8_t opcode)
{
	return opcode >= ROCE_WRITE_FIRST && opcode <= ROCE_WRITE_ONLY_IMM;
}

static inline bool roce_ends_message(uint8_t opcode)
{
	return roce_is_write(opcode) && opcode >= ROCE_WRITE_LAST;
}

/* Headers between BTH and payload. */
static inline uint32_t roce_extension_bytes(uint8_t opcode)
{
	if (opcode == ROCE_ACKNOWLEDGE)
		return ROCE_AETH;
	if (opcode == ROCE_CNP)
		return ROCE_CNP_ZEROS;
	return (roce_has_reth(opcode) ? ROCE_RETH : 0) + (roce_has_immediate(opcode) ? ROCE_IMMEDIATE : 0);
}

static inline uint32_t roce_ip_bytes(bool v6)
{
	return v6 ? 40 : 20;
}

/* What a packet occupies on a real link: preamble 8, gap 12, frame check sequence 4, and all of the frame. */
static inline uint32_t roce_wire_bytes(uint8_t opcode, uint32_t payload, bool v6)
{
	return 24 + ROCE_ETHERNET + roce_ip_bytes(v6) + ROCE_UDP + ROCE_BTH + roce_extension_bytes(opcode) +
	       (payload + 3) / 4 * 4 + ROCE_ICRC;
}

static inline void roce_put(uint8_t *to, uint64_t value, int bytes)
{
	for (int i = 0; i < bytes; i++)
		to[i] = (uint8_t)(value >> 8 * (bytes - 1 - i));
}

static inline uint64_t roce_get(const uint8_t *from, int bytes)
{
	uint64_t value = 0;

	for (int i = 0; i < bytes; i++)
		value = value << 8 | from[i];
	return value;
}

/* The CRC of an IP packet's headers, up to and with the BTH, as the ICRC looks at them. */
static inline uint32_t roce_icrc_head(const uint8_t *ip, uint32_t ip_bytes)
{
	uint8_t head[8 + 40 + ROCE_UDP + ROCE_BTH];
	uint32_t head_bytes = ip_bytes + ROCE_UDP + ROCE_BTH;
	uint8_t *at = head + 8;

	memset(head, 0xff, 8);
	memcpy(at, ip, head_bytes);
	if (ip_bytes == 40) {
		at[0] |= 0x0f;
		memset(at + 1, 0xff, 3);
		at[7] = 0xff;
	} else {
		at[1] = at[8] = at[10] = at[11] = 0xff;
	}
	at[ip_bytes + 6] = at[ip_bytes + 7] = 0xff;
	at[ip_bytes + ROCE_UDP + 4] = 0xff;
	return crc32_add(CRC32_START, head, 8 + head_bytes);
}

/* The ICRC of an IP packet whose UDP header is at `ip_bytes` and whose ICRC is at `end`. */
static inline uint32_t roce_icrc(const uint8_t *ip, uint32_t ip_bytes, size_t end)
{
	uint32_t head = ip_bytes + ROCE_UDP + ROCE_BTH;

	return ~crc32_add(roce_icrc_head(ip, ip_bytes), ip + head, end - head);
}

static inline uint16_t roce_ip_checksum(const uint8_t *ip)
{
	uint32_t sum = 0;

	for (int i = 0; i < 20; i += 2)
		sum += (uint32_t)roce_get(ip + i, 2);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t) ~((sum & 0xffff) + (sum >> 16));
}

static inline void roce_write_ip(uint8_t *ip, const struct roce_path *path, uint32_t ip_payload)
{
	if (path->v6) {
		roce_put(ip, 0x60000000u | (uint32_t)path->tos << 20, 4);
		roce_put(ip + 4, ip_payload, 2);
		ip[6] = 17;
		ip[7] = 64;
		memcpy(ip + 8, path->src, 16);
		memcpy(ip + 24, path->dst, 16);
		return;
	}
	ip[0] = 0x45;
	ip[1] = path->tos;
	roce_put(ip + 2, 20 + ip_payload, 2);
	roce_put(ip + 4, path->ip_id, 2);
	roce_put(ip + 6, 0x4000, 2); /* do not fragment */
	ip[8] = 64;
	ip[9] = 17;
	roce_put(ip + 10, 0, 2);
	memcpy(ip + 12, path->src, 4);
	memcpy(ip + 16, path->dst, 4);
	roce_put(ip + 10, roce_ip_checksum(ip), 2);
}

static inline uint8_t *roce_write_transport(uint8_t *at, const struct roce_packet *p, uint32_t pad)
{
	at[0] = p->opcode;
	at[1] = (uint8_t)(0x40 | pad << 4); /* the path is migrated, as of any connection without another */
	roce_put(at + 2, ROCE_PARTITION, 2);
	at[4] = p->becn ? 0x40 : 0;
	roce_put(at + 5, p->queue_pair, 3);
	at[8] = p->ack_request ? 0x80 : 0;
	roce_put(at + 9, p->psn, 3);
	at += ROCE_BTH;
	if (roce_has_reth(p->opcode)) {
		roce_put(at, p->address, 8);
		roce_put(at + 8, p->key, 4);
		roce_put(at + 12, p->bytes, 4);
		at += ROCE_RETH;
	}
	if (roce_has_immediate(p->opcode)) {
		roce_put(at, p->immediate, 4);
		at += ROCE_IMMEDIATE;
	}
	if (p->opcode == ROCE_ACKNOWLEDGE) {
		roce_put(at, (uint64_t)p->syndrome << 24 | (p->message_sequence & ROCE_24), 4);
		at += ROCE_AETH;
	}
	if (p->opcode == ROCE_CNP) {
		memset(at, 0, ROCE_CNP_ZEROS);
		at += ROCE_CNP_ZEROS;
	}
	return at;
}

/* A frame in three pieces, of which the middle one is the packet's payload where it is. */
struct roce_frame {
	uint32_t head, tail; /* bytes before and after the payload */
	uint8_t trailer[3 + ROCE_ICRC];
};

/* Headers to `to`, which has room for ROCE_HEAD_MAX. Counts the path's IP identification. */
static inline void roce_write_around(uint8_t *to, struct roce_frame *frame, struct roce_path *path,
				     const struct roce_packet *p)
{
	uint8_t *ip = to + ROCE_ETHERNET, *at;
	uint32_t ip_bytes = roce_ip_bytes(path->v6), pad = (uint32_t)-p->payload_bytes & 3, crc;
	uint32_t transport = ROCE_UDP + ROCE_BTH + roce_extension_bytes(p->opcode) + (uint32_t)p->payload_bytes + pad +
			     ROCE_ICRC;

	memcpy(to, path->to_mac, 6);
	memcpy(to + 6, path->from_mac, 6);
	roce_put(to + 12, path->v6 ? 0x86dd : 0x0800, 2);
	roce_write_ip(ip, path, transport);
	path->ip_id++;
	at = ip + ip_bytes;
	roce_put(at, path->sport, 2);
	roce_put(at + 2, ROCE_PORT, 2);
	roce_put(at + 4, transport, 2);
	roce_put(at + 6, 0, 2); /* no checksum, the ICRC is one */
	at = roce_write_transport(at + ROCE_UDP, p, pad);
	frame->head = (uint32_t)(at - to);
	frame->tail = pad + ROCE_ICRC;
	memset(frame->trailer, 0, pad);
	crc = roce_icrc_head(ip, ip_bytes);
	ip += ip_bytes + ROCE_UDP + ROCE_BTH;
	crc = crc32_add(crc, ip, (size_t)(at - ip));
	if (p->payload_bytes)
		crc = crc32_add(crc, p->payload, p->payload_bytes);
	crc = htole32(~crc32_add(crc, frame->trailer, pad));
	memcpy(frame->trailer + pad, &crc, sizeof(crc));
}

/* A whole frame to `to`, which has room for ROCE_FRAME_MAX; its bytes. */
static inline uint32_t roce_write(uint8_t *to, struct roce_path *path, const struct roce_packet *p)
{
	struct roce_frame frame;

	roce_write_around(to, &frame, path, p);
	if (p->payload_bytes)
		memcpy(to + frame.head, p->payload, p->payload_bytes);
	memcpy(to + frame.head + p->payload_bytes, frame.trailer, frame.tail);
	return frame.head + (uint32_t)p->payload_bytes + frame.tail;
}

/* Addresses, type of service and length; where the UDP header is, or 0 for what is foreign or does not fit. */
static inline uint32_t roce_read_ip(struct roce_path *path, const uint8_t *ip, size_t *bytes)
{
	size_t length;

	memset(path, 0, sizeof(*path));
	if (*bytes >= 20 && ip[0] == 0x45) {
		length = (size_t)roce_get(ip + 2, 2);
		path->tos = ip[1];
		path->ip_id = (uint16_t)roce_get(ip + 4, 2);
		memcpy(path->src, ip + 12, 4);
		memcpy(path->dst, ip + 16, 4);
		if (ip[9] != 17 || roce_get(ip + 6, 2) & 0x3fff)
			return 0;
	} else if (*bytes >= 40 && ip[0] >> 4 == 6) {
		length = 40 + (size_t)roce_get(ip + 4, 2);
		path->v6 = true;
		path->tos = (uint8_t)(roce_get(ip, 2) >> 4);
		memcpy(path->src, ip + 8, 16);
		memcpy(path->dst, ip + 24, 16);
		if (ip[6] != 17)
			return 0;
	} else {
		return 0;
	}
	if (length > *bytes)
		return 0;
	*bytes = length; /* what is after it, a link has padded */
	return roce_ip_bytes(path->v6);
}

static inline bool roce_known(uint8_t opcode)
{
	return roce_is_write(opcode) || opcode == ROCE_ACKNOWLEDGE || opcode == ROCE_CNP;
}

static inline void roce_read_extension(struct roce_packet *p, const uint8_t *at)
{
	if (roce_has_reth(p->opcode)) {
		p->address = roce_get(at, 8);
		p->key = (uint32_t)roce_get(at + 8, 4);
		p->bytes = (uint32_t)roce_get(at + 12, 4);
		at += ROCE_RETH;
	}
	if (roce_has_immediate(p->opcode))
		p->immediate = (uint32_t)roce_get(at, 4);
	if (p->opcode == ROCE_ACKNOWLEDGE) {
		p->syndrome = at[0];
		p->message_sequence = (uint32_t)roce_get(at + 1, 3);
	}
}

/* Reads an IP packet. `path` is as it came: src is who sent it. The payload stays where it is. */
static inline enum roce_fault roce_read(struct roce_packet *p, struct roce_path *path, const uint8_t *ip, size_t bytes)
{
	uint32_t ip_bytes = roce_read_ip(path, ip, &bytes), pad, extension, icrc;
	const uint8_t *udp = ip + ip_bytes, *bth = udp + ROCE_UDP;
	size_t head = ip_bytes + ROCE_UDP + ROCE_BTH;

	memset(p, 0, sizeof(*p));
	if (!ip_bytes || bytes < ip_bytes + ROCE_UDP || roce_get(udp + 2, 2) != ROCE_PORT)
		return ROCE_FOREIGN;
	path->sport = (uint16_t)roce_get(udp, 2);
	if (roce_get(udp + 4, 2) != bytes - ip_bytes || bytes < head + ROCE_ICRC || bth[1] & 0x0f)
		return ROCE_MALFORMED;
	p->opcode = bth[0];
	p->becn = bth[4] & 0x40;
	p->queue_pair = (uint32_t)roce_get(bth + 5, 3);
	p->ack_request = bth[8] & 0x80;
	p->psn = (uint32_t)roce_get(bth + 9, 3);
	if (!roce_known(p->opcode))
		return ROCE_UNKNOWN;
	pad = bth[1] >> 4 & 3;
	extension = roce_extension_bytes(p->opcode);
	if (bytes < head + extension + pad + ROCE_ICRC)
		return ROCE_MALFORMED;
	memcpy(&icrc, ip + bytes - ROCE_ICRC, sizeof(icrc));
	if (le32toh(icrc) != roce_icrc(ip, ip_bytes, bytes - ROCE_ICRC))
		return ROCE_CORRUPT;
	roce_read_extension(p, bth + ROCE_BTH);
	p->payload = ip + head + extension;
	p->payload_bytes = bytes - head - extension - pad - ROCE_ICRC;
	if (p->payload_bytes > ROCE_PAYLOAD_MAX || (!roce_is_write(p->opcode) && p->payload_bytes + pad))
		return ROCE_MALFORMED;
	return ROCE_FINE;
}

#endif
