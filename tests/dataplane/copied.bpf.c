// SPDX-License-Identifier: Apache-2.0
/*
 * The hash engine as it meets a frame that the kernel has not gathered: all of it is to be copied. BPF_PROG_RUN makes
 * no such frames; a sender of large packets does.
 */
#include "types.h"

#define RAILBED_LOOK_H

static __always_inline void *look(struct __sk_buff *skb, __u32 at, void *room, __u32 size)
{
	return bpf_skb_load_bytes(skb, at, room, size) ? 0 : room;
}

#include "hash.bpf.c"
