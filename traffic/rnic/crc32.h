/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CRC of Ethernet (reflected 0x04c11db7), which is the RoCEv2 ICRC's too, over pieces: start with CRC32_START,
 * end with ~.
 *
 * Two ways to the same value: eight tables (Sarwate's, eight bytes a step), and carry-less multiplication where
 * the processor has it (Gopal et al., "Fast CRC Computation Using PCLMULQDQ", Intel 2009: their constants for this
 * polynomial, reflected). At 4096 bytes a packet the first is 2 us, as much as sending it; the second a tenth.
 */
#ifndef RNIC_CRC32_H
#define RNIC_CRC32_H

#include <endian.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define CRC32_START 0xffffffffu
#define CRC32_REFLECTED 0xedb88320u

static uint32_t crc32_tables[8][256];

static inline void crc32_fill_tables(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t crc = i;

		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? CRC32_REFLECTED : 0);
		crc32_tables[0][i] = crc;
	}
	for (uint32_t i = 0; i < 256; i++)
		for (int t = 1; t < 8; t++)
			crc32_tables[t][i] = crc32_tables[t - 1][i] >> 8 ^ crc32_tables[0][crc32_tables[t - 1][i] & 0xff];
}

static inline uint32_t crc32_by_table(uint32_t crc, const uint8_t *from, size_t bytes)
{
	uint32_t low, high;

	if (!crc32_tables[0][1])
		crc32_fill_tables();
	for (; bytes >= 8; from += 8, bytes -= 8) {
		memcpy(&low, from, 4);
		memcpy(&high, from + 4, 4);
		low = le32toh(low) ^ crc;
		high = le32toh(high);
		crc = crc32_tables[7][low & 0xff] ^ crc32_tables[6][low >> 8 & 0xff] ^ crc32_tables[5][low >> 16 & 0xff] ^
		      crc32_tables[4][low >> 24] ^ crc32_tables[3][high & 0xff] ^ crc32_tables[2][high >> 8 & 0xff] ^
		      crc32_tables[1][high >> 16 & 0xff] ^ crc32_tables[0][high >> 24];
	}
	for (; bytes; from++, bytes--)
		crc = crc >> 8 ^ crc32_tables[0][(crc ^ *from) & 0xff];
	return crc;
}

#if defined(__x86_64__)
#define CRC32_FOLD_LEAST 64u

__attribute__((target("pclmul,sse4.1"))) static inline __m128i crc32_fold(__m128i sum, __m128i by, __m128i next)
{
	__m128i low = _mm_clmulepi64_si128(sum, by, 0x00), high = _mm_clmulepi64_si128(sum, by, 0x11);

	return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

/* `bytes` is a multiple of 16 and at least CRC32_FOLD_LEAST. */
__attribute__((target("pclmul,sse4.1"))) static inline uint32_t crc32_by_folding(uint32_t crc, const uint8_t *from,
										 size_t bytes)
{
	const __m128i by_512 = _mm_set_epi64x(0x01c6e41596, 0x0154442bd4);
	const __m128i by_128 = _mm_set_epi64x(0x00ccaa009e, 0x01751997d0);
	const __m128i by_64 = _mm_set_epi64x(0, 0x0163cd6124);
	const __m128i barrett = _mm_set_epi64x(0x01f7011641, 0x01db710641);
	const __m128i low_32 = _mm_set_epi32(0, -1, 0, -1);
	const __m128i *at = (const __m128i *)from;
	__m128i a = _mm_loadu_si128(at), b = _mm_loadu_si128(at + 1), c = _mm_loadu_si128(at + 2);
	__m128i d = _mm_loadu_si128(at + 3), t;

	a = _mm_xor_si128(a, _mm_cvtsi32_si128((int)crc));
	for (at += 4, bytes -= 64; bytes >= 64; at += 4, bytes -= 64) {
		a = crc32_fold(a, by_512, _mm_loadu_si128(at));
		b = crc32_fold(b, by_512, _mm_loadu_si128(at + 1));
		c = crc32_fold(c, by_512, _mm_loadu_si128(at + 2));
		d = crc32_fold(d, by_512, _mm_loadu_si128(at + 3));
	}
	a = crc32_fold(a, by_128, b);
	a = crc32_fold(a, by_128, c);
	a = crc32_fold(a, by_128, d);
	for (; bytes; at++, bytes -= 16)
		a = crc32_fold(a, by_128, _mm_loadu_si128(at));
	t = _mm_clmulepi64_si128(a, by_128, 0x10);
	a = _mm_xor_si128(_mm_srli_si128(a, 8), t);
	t = _mm_srli_si128(a, 4);
	a = _mm_xor_si128(_mm_clmulepi64_si128(_mm_and_si128(a, low_32), by_64, 0x00), t);
	t = _mm_clmulepi64_si128(_mm_and_si128(a, low_32), barrett, 0x10);
	t = _mm_clmulepi64_si128(_mm_and_si128(t, low_32), barrett, 0x00);
	return (uint32_t)_mm_extract_epi32(_mm_xor_si128(a, t), 1);
}
#endif

static inline uint32_t crc32_add(uint32_t crc, const void *from, size_t bytes)
{
#if defined(__x86_64__)
	if (bytes >= CRC32_FOLD_LEAST && __builtin_cpu_supports("pclmul")) {
		size_t folded = bytes & ~(size_t)15;

		crc = crc32_by_folding(crc, from, folded);
		from = (const uint8_t *)from + folded;
		bytes -= folded;
	}
#endif
	return crc32_by_table(crc, from, bytes);
}

#endif
