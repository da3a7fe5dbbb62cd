/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of a frame where they are, or copied where the kernel has not gathered them into one piece of memory. */
#ifndef RAILBED_LOOK_H
#define RAILBED_LOOK_H

/* `size` bytes at an offset, there or in `room`; 0 when the frame is shorter. */
static __always_inline void *look(struct __sk_buff *skb, __u32 at, void *room, __u32 size)
{
	void *here = (void *)(long)skb->data + at;

	if (here + size <= (void *)(long)skb->data_end)
		return here;
	return bpf_skb_load_bytes(skb, at, room, size) ? 0 : room;
}

#endif
