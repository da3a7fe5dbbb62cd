/* SPDX-License-Identifier: Apache-2.0 */
/* The 32-bit hash of a packet: the asked fields of those it has, one behind the other, through an algorithm. */
#ifndef RAILBED_FIELDS_H
#define RAILBED_FIELDS_H

#define INNER_FIELDS	(FIELD_INNER_SRC_MAC | FIELD_INNER_DST_MAC | FIELD_INNER_ETHERTYPE | FIELD_INNER_IP_PROTOCOL | \
			 FIELD_INNER_SRC_IP | FIELD_INNER_DST_IP | FIELD_INNER_L4_SRC_PORT | FIELD_INNER_L4_DST_PORT)
/* The inner fields by the names that the outer ones have: the ports are one bit nearer, as there is no flow label. */
#define INNER_AS_OUTER(fields) \
	(((fields) / (FIELD_INNER_SRC_MAC / FIELD_SRC_MAC) & \
	  (FIELD_SRC_MAC | FIELD_DST_MAC | FIELD_ETHERTYPE | FIELD_IP_PROTOCOL | FIELD_SRC_IP | FIELD_DST_IP)) | \
	 ((fields) / (FIELD_INNER_L4_SRC_PORT / FIELD_L4_SRC_PORT) & (FIELD_L4_SRC_PORT | FIELD_L4_DST_PORT)))

/* What a packet is hashed by. */
struct packet {
	struct layer outer;
	struct bth bth;
	__u32 has;		/* enum hash_field, without the inner ones */
	__u32 local;		/* the ingress port's */
};

static __always_inline void fold_mac(struct digest *digest, enum digest_kind kind, const __u16 *mac)
{
	fold(digest, kind, mac[0] | (__u32)mac[1] << 16, 4);
	fold(digest, kind, mac[2], 2);
}

static __always_inline void fold_address(struct digest *digest, enum digest_kind kind, const struct layer *layer,
					 const __u32 *address)
{
	if (layer->ethertype == bpf_htons(ETH_P_IPV6)) {
		fold(digest, kind, address[0], 4);
		fold(digest, kind, address[1], 4);
		fold(digest, kind, address[2], 4);
	}
	fold(digest, kind, address[3], 4);
}

static __always_inline void fold_layer(struct digest *digest, enum digest_kind kind, const struct layer *layer,
				       __u32 fields)
{
	if (fields & FIELD_SRC_MAC)
		fold_mac(digest, kind, layer->mac + 3);
	if (fields & FIELD_DST_MAC)
		fold_mac(digest, kind, layer->mac);
	if (fields & FIELD_ETHERTYPE)
		fold(digest, kind, layer->ethertype, 2);
	if (fields & FIELD_IP_PROTOCOL)
		fold(digest, kind, layer->protocol, 1);
	if (fields & FIELD_SRC_IP)
		fold_address(digest, kind, layer, layer->src);
	if (fields & FIELD_DST_IP)
		fold_address(digest, kind, layer, layer->dst);
	if (fields & FIELD_IPV6_FLOW_LABEL)
		fold(digest, kind, layer->label, 3);
	if (fields & FIELD_L4_SRC_PORT)
		fold(digest, kind, layer->sport, 2);
	if (fields & FIELD_L4_DST_PORT)
		fold(digest, kind, layer->dport, 2);
}

/* The frame inside is read only where it is asked for: last in the order, and seldom. */
static __always_inline void fold_inner(struct __sk_buff *skb, struct digest *digest, enum digest_kind kind,
				       const struct layer *outer, __u32 fields)
{
	struct layer inner = {};

	if (read_inner(skb, outer, &inner))
		fold_layer(digest, kind, &inner, INNER_AS_OUTER(fields) & inner.has);
}

static __always_inline __u32 digest_fields(struct __sk_buff *skb, const struct packet *packet, __u32 fields,
					   enum digest_kind kind)
{
	struct digest digest = digest_of(kind);

	if (fields & FIELD_IN_PORT)
		fold(&digest, kind, bpf_htons(packet->local + 1), 2);
	fold_layer(&digest, kind, &packet->outer, fields & packet->has);
	if (fields & packet->has & FIELD_DST_QP)
		fold(&digest, kind, packet->bth.queue_pair, 3);
	if (fields & INNER_FIELDS)
		fold_inner(skb, &digest, kind, &packet->outer, fields);
	return digested(digest, kind);
}

/* Not static: the verifier looks at each once, whoever calls it and with what. It wants to hear that they may be 0. */
__noinline __u32 ccitt_of(struct __sk_buff *skb, const struct packet *packet, __u32 fields)
{
	return packet ? digest_fields(skb, packet, fields, DIGEST_CCITT) : 0;
}

__noinline __u32 xor_of(struct __sk_buff *skb, const struct packet *packet, __u32 fields)
{
	return packet ? digest_fields(skb, packet, fields, DIGEST_XOR) : 0;
}

__noinline __u32 crc32_of(struct __sk_buff *skb, const struct packet *packet, __u32 fields)
{
	return packet ? digest_fields(skb, packet, fields, DIGEST_CRC32) : 0;
}

static __always_inline __u32 raw_hash(struct __sk_buff *skb, struct port_state *port, const struct packet *packet,
				      const struct ecmp_profile *rule)
{
	switch (rule->algorithm) {
	case HASH_XOR:
		return xor_of(skb, packet, rule->fields);
	case HASH_RANDOM:
		return draw(port);
	case HASH_CRC_32LO:
		return crc32_of(skb, packet, rule->fields) & 0xffff;
	case HASH_CRC_32HI:
		return crc32_of(skb, packet, rule->fields) >> 16;
	case HASH_CRC_CCITT:
		return ccitt_of(skb, packet, rule->fields);
	case HASH_CRC_XOR:
		return crc32_of(skb, packet, rule->fields) ^ xor_of(skb, packet, rule->fields);
	default:
		return crc32_of(skb, packet, rule->fields);
	}
}

/* Two tiers with one algorithm and one seed would choose alike: seeds and offsets are what tells them apart. */
static __always_inline __u32 hash_of(struct __sk_buff *skb, struct port_state *port, const struct packet *packet,
				     const struct ecmp_profile *rule)
{
	__u32 h = scramble(raw_hash(skb, port, packet, rule) ^ rule->seed), by = rule->offset & 31;

	return h >> by | h << (-by & 31);
}

#endif
