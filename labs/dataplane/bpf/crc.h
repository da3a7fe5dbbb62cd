/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the algorithms make of a packet's fields, fed one to four bytes at a time: the bytes in the order of the wire,
 * the first in a word's lowest eight bits. Tested against other people's CRCs in tests/dataplane.
 */
#ifndef RAILBED_CRC_H
#define RAILBED_CRC_H

/*
 * A CRC is linear: a table's entry is the exclusive or of the entries of its index's bits, 1 2 4 ... 128. Those are
 * consecutive powers of x modulo the polynomial. Table k is for the byte that k more bytes follow.
 */
#define OF_BIT(i, bit, value)	((i) >> (bit) & 1 ? (value) : 0)
#define OF_BITS(i, a, b, c, d, e, f, g, h) \
	(OF_BIT(i, 0, a) ^ OF_BIT(i, 1, b) ^ OF_BIT(i, 2, c) ^ OF_BIT(i, 3, d) ^ \
	 OF_BIT(i, 4, e) ^ OF_BIT(i, 5, f) ^ OF_BIT(i, 6, g) ^ OF_BIT(i, 7, h))
#define FOUR(of, i)		of(i), of((i) + 1), of((i) + 2), of((i) + 3)
#define SIXTEEN(of, i)		FOUR(of, i), FOUR(of, (i) + 4), FOUR(of, (i) + 8), FOUR(of, (i) + 12)
#define SIXTY_FOUR(of, i)	SIXTEEN(of, i), SIXTEEN(of, (i) + 16), SIXTEEN(of, (i) + 32), SIXTEEN(of, (i) + 48)
#define TABLE(of)		{ SIXTY_FOUR(of, 0), SIXTY_FOUR(of, 64), SIXTY_FOUR(of, 128), SIXTY_FOUR(of, 192) }

#define CRC32_0(i) \
	OF_BITS(i, 0x77073096, 0xee0e612c, 0x076dc419, 0x0edb8832, 0x1db71064, 0x3b6e20c8, 0x76dc4190, 0xedb88320)
#define CRC32_1(i) \
	OF_BITS(i, 0x191b3141, 0x32366282, 0x646cc504, 0xc8d98a08, 0x4ac21251, 0x958424a2, 0xf0794f05, 0x3b83984b)
#define CRC32_2(i) \
	OF_BITS(i, 0x01c26a37, 0x0384d46e, 0x0709a8dc, 0x0e1351b8, 0x1c26a370, 0x384d46e0, 0x709a8dc0, 0xe1351b80)
#define CRC32_3(i) \
	OF_BITS(i, 0xb8bc6765, 0xaa09c88b, 0x8f629757, 0xc5b428ef, 0x5019579f, 0xa032af3e, 0x9b14583d, 0xed59b63b)
#define CCITT_0(i)	OF_BITS(i, 0x1021, 0x2042, 0x4084, 0x8108, 0x1231, 0x2462, 0x48c4, 0x9188)
#define CCITT_1(i)	OF_BITS(i, 0x3331, 0x6662, 0xccc4, 0x89a9, 0x0373, 0x06e6, 0x0dcc, 0x1b98)

/* CRC-32 of IEEE 802.3: 0x04c11db7, lowest bit first. */
static const __u32 crc32_table[4][256] = { TABLE(CRC32_0), TABLE(CRC32_1), TABLE(CRC32_2), TABLE(CRC32_3) };
/* CRC-16/CCITT-FALSE (IBM-3740): 0x1021, highest bit first. */
static const __u16 ccitt_table[2][256] = { TABLE(CCITT_0), TABLE(CCITT_1) };

enum digest_kind {
	DIGEST_CRC32,
	DIGEST_CCITT,
	DIGEST_XOR,
};

struct digest {
	__u32 value;
	__u32 bytes;	/* seen so far */
};

static __always_inline struct digest digest_of(enum digest_kind kind)
{
	struct digest digest = {};

	digest.value = kind == DIGEST_CRC32 ? ~0U : kind == DIGEST_CCITT ? 0xffff : 0;
	return digest;
}

static __always_inline __u32 crc32_fold(__u32 crc, __u32 word, __u32 bytes)
{
	__u32 x = crc ^ word;

	switch (bytes) {
	case 1:
		return crc >> 8 ^ crc32_table[0][x & 255];
	case 2:
		return crc >> 16 ^ crc32_table[1][x & 255] ^ crc32_table[0][x >> 8 & 255];
	case 3:
		return crc >> 24 ^ crc32_table[2][x & 255] ^ crc32_table[1][x >> 8 & 255] ^
		       crc32_table[0][x >> 16 & 255];
	default:
		return crc32_table[3][x & 255] ^ crc32_table[2][x >> 8 & 255] ^ crc32_table[1][x >> 16 & 255] ^
		       crc32_table[0][x >> 24];
	}
}

static __always_inline __u32 ccitt_fold(__u32 crc, __u32 word, __u32 bytes)
{
	if (bytes >= 2) {
		crc = ccitt_table[1][(crc >> 8 ^ word) & 255] ^ ccitt_table[0][(crc ^ word >> 8) & 255];
		word >>= 16;
	}
	if (bytes == 4)
		crc = ccitt_table[1][(crc >> 8 ^ word) & 255] ^ ccitt_table[0][(crc ^ word >> 8) & 255];
	else if (bytes != 2)
		crc = (crc << 8 & 0xffff) ^ ccitt_table[0][(crc >> 8 ^ word) & 255];
	return crc;
}

/* `bytes`, 1 to 4 and known to the compiler, at the low end of a word that is 0 above them. */
static __always_inline void fold(struct digest *digest, enum digest_kind kind, __u32 word, __u32 bytes)
{
	if (kind == DIGEST_CRC32) {
		digest->value = crc32_fold(digest->value, word, bytes);
	} else if (kind == DIGEST_CCITT) {
		digest->value = ccitt_fold(digest->value, word, bytes);
	} else {
		/* Where a byte falls in its big-endian word depends on how many came before it alone. */
		__u32 by = digest->bytes % 4 * 8;

		digest->value ^= word << by | word >> (-by & 31);
		digest->bytes += bytes;
	}
}

static __always_inline __u32 digested(struct digest digest, enum digest_kind kind)
{
	return kind == DIGEST_CRC32 ? ~digest.value : kind == DIGEST_CCITT ? digest.value : bpf_ntohl(digest.value);
}

/* Murmur3's finaliser. A CRC is linear: by itself, two seeds would do no more than swap the members' names. */
static __always_inline __u32 scramble(__u32 x)
{
	x ^= x >> 16;
	x *= 0x85ebca6b;
	x ^= x >> 13;
	x *= 0xc2b2ae35;
	return x ^ x >> 16;
}

#endif
