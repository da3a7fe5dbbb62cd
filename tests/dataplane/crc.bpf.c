// SPDX-License-Identifier: Apache-2.0
/*
 * The hash engine's algorithms on bytes that a test gives: what a frame has behind its Ethernet header, fed in steps of
 * cb[0] bytes. It answers in cb[1..3].
 */
#include "types.h"
#include "crc.h"

#define LONGEST	64

static __always_inline void feed(struct digest *digests, __u32 word, __u32 bytes)
{
	fold(&digests[DIGEST_CRC32], DIGEST_CRC32, word, bytes);
	fold(&digests[DIGEST_CCITT], DIGEST_CCITT, word, bytes);
	fold(&digests[DIGEST_XOR], DIGEST_XOR, word, bytes);
}

SEC("tc")
int digests_of_a_frame(struct __sk_buff *skb)
{
	struct digest digests[] = { digest_of(DIGEST_CRC32), digest_of(DIGEST_CCITT), digest_of(DIGEST_XOR) };
	__u32 step = skb->cb[0], at, left, word;

	for (__u32 i = 0; i < LONGEST; i++) {
		at = ETH_HLEN + i * step;
		if (at >= skb->len)
			break;
		left = skb->len - at < step ? skb->len - at : step;
		word = 0;
		if (left == 1 && !bpf_skb_load_bytes(skb, at, &word, 1))
			feed(digests, word, 1);
		else if (left == 2 && !bpf_skb_load_bytes(skb, at, &word, 2))
			feed(digests, word, 2);
		else if (left == 3 && !bpf_skb_load_bytes(skb, at, &word, 3))
			feed(digests, word, 3);
		else if (left == 4 && !bpf_skb_load_bytes(skb, at, &word, 4))
			feed(digests, word, 4);
		else
			return DROP;
	}
	CTX_SET(skb, cb[1], digested(digests[DIGEST_CRC32], DIGEST_CRC32));
	CTX_SET(skb, cb[2], digested(digests[DIGEST_CCITT], DIGEST_CCITT));
	CTX_SET(skb, cb[3], digested(digests[DIGEST_XOR], DIGEST_XOR));
	return NEXT;
}

char _license[] SEC("license") = "Dual BSD/GPL";
