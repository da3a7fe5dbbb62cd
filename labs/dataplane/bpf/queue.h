/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shared buffer, by SAI's rules: a queue or PG first uses what is reserved for it, then the pool's shared bytes up
 * to a static limit or to 2^alpha times what is free of the pool. Pools count shared bytes alone.
 */
#ifndef RAILBED_QUEUE_H
#define RAILBED_QUEUE_H

static __always_inline __s64 above(__s64 used, __u32 reserved)
{
	return used > (__s64)reserved ? used - reserved : 0;
}

/* How many shared bytes may be in use, as the pool stands. */
static __always_inline __s64 shared_limit(__u8 mode, __u32 limit, __s32 alpha, const struct pool_state *pool)
{
	__s64 free_bytes = (__s64)pool->size - *(volatile __s64 *)&pool->used;

	if (free_bytes < 0)
		free_bytes = 0;
	if (mode == LIMIT_STATIC)
		return limit;
	return alpha < 0 ? free_bytes >> (-alpha & 15) : free_bytes << (alpha & 15);
}

static __always_inline void raise(__u64 *mark, __s64 to)
{
	/* Two processors may raise it at once: the higher one has to win. */
	for (int i = 0; i < 4; i++) {
		__u64 was = *(volatile __u64 *)mark;

		if (to <= (__s64)was || __sync_val_compare_and_swap(mark, was, (__u64)to) == was)
			return;
	}
}

static __always_inline void pool_add(struct pool_state *pool, __s64 bytes)
{
	if (bytes > 0)
		raise(&pool->watermark, __sync_fetch_and_add(&pool->used, bytes) + bytes);
	else if (bytes < 0)
		ADD(pool->used, bytes);
}

/* Take frames out of their queue; returns the bytes they leave behind. */
static __always_inline __s64 queue_take(struct queue_state *queue, const struct queue_profile *profile,
					struct pool_state *pool, __s64 packets, __s64 bytes)
{
	__s64 before = PACKED_BYTES(__sync_fetch_and_add(&queue->depth, -PACKED(packets, bytes)));
	__s64 after = before - bytes;

	if (pool)
		pool_add(pool, above(after, profile->reserved) - above(before, profile->reserved));
	return after;
}

static __always_inline __s64 queue_release(struct queue_state *queue, const struct queue_profile *profile,
					   struct pool_state *pool, __u32 len)
{
	return queue_take(queue, profile, pool, 1, len);
}

/* Charge a frame to an egress queue. Returns false, and has changed nothing, when the queue is at its limit. */
static __always_inline int queue_charge(struct queue_state *queue, const struct queue_profile *profile,
					struct pool_state *pool, __u32 len)
{
	__s64 before = PACKED_BYTES(__sync_fetch_and_add(&queue->depth, PACKED(1, len)));
	__s64 after = before + len;
	__s64 shared = above(after, profile->reserved);
	__s64 step = shared - above(before, profile->reserved);

	if (step) {
		__s64 limit = shared_limit(profile->mode, profile->limit, profile->alpha, pool);

		if (shared > limit || *(volatile __s64 *)&pool->used + step > (__s64)pool->size) {
			/*
			 * Another processor may have charged or released on top of us: each change of the depth moves the
			 * pool by its own step, or the steps do not add up.
			 */
			ADD(pool->used, step);
			queue_release(queue, profile, pool, len);
			return 0;
		}
		pool_add(pool, step);
	}
	raise(&queue->watermark, after);
	return 1;
}

#endif
