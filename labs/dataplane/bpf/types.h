/* SPDX-License-Identifier: Apache-2.0 */
/* What the programs are compiled against: the kernel's own ABI headers and libbpf's. */
#ifndef RAILBED_TYPES_H
#define RAILBED_TYPES_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "asic.h"

#define NEXT		TC_ACT_UNSPEC	/* tcx: the next program; cls_bpf: the next filter; then it passes */
#define DROP		TC_ACT_SHOT

/* clang folds stores to two context fields into one through a moved pointer, which the verifier refuses. */
#define CTX_SET(skb, field, value)	(*(volatile typeof((skb)->field) *)&(skb)->field = (value))

#define ADD(where, n)	((void)__sync_fetch_and_add(&(where), (n)))

#endif
