/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's events, from the ring buffer to a callback on the loop. */
#include "agent/kernel/impl.h"

#include "lib/clock.h"

#include <errno.h>
#include <stddef.h>

#define AT_ONCE	   1024	       /* events of one round */
#define AT_ONCE_NS 20000000ULL /* for them; one may begin before and end after */

/* Whoever listens and closes in a loop makes events faster than they are read: so a round ends, and
 * others have their turn. An error ends it, but behind the event that it is about: none is lost. */
static int on_record(void *ctx, void *data, size_t size)
{
	struct kernel *k = ctx;

	if (size >= sizeof(struct mesh_event))
		k->fn(data, k->arg);
	return ++k->taken >= AT_ONCE || clock_mono_ns() >= k->round_end_ns ? -EAGAIN : 0;
}

static void on_rest(struct timer *t);

static int consume(struct kernel *k)
{
	int r;

	k->taken = 0;
	k->round_end_ns = clock_mono_ns() + AT_ONCE_NS;
	r = ring_buffer__consume(k->ring);
	if (r != -EAGAIN)
		return r;
	timer_arm(k->loop, &k->rest, 0, on_rest); /* a CLOSE would not make the descriptor ready */
	return (int)k->taken;
}

static void on_rest(struct timer *t)
{
	consume((struct kernel *)((char *)t - offsetof(struct kernel, rest)));
}

static void on_ready(struct watch *w, uint32_t events)
{
	consume((struct kernel *)((char *)w - offsetof(struct kernel, watch)));
}

int kernel_events_start(struct kernel *k, struct loop *l,
			void (*fn)(const struct mesh_event *e, void *arg), void *arg)
{
	int r;

	if (k->ring)
		return -EALREADY;
	k->fn = fn;
	k->arg = arg;
	k->ring = ring_buffer__new(k->map[KM_EVENTS], on_record, k, NULL);
	if (!k->ring)
		return -errno;
	r = loop_add(l, &k->watch, ring_buffer__epoll_fd(k->ring), EPOLLIN, on_ready);
	if (r) {
		ring_buffer__free(k->ring);
		k->ring = NULL;
		return r;
	}
	k->loop = l;
	return 0;
}

int kernel_events_drain(struct kernel *k)
{
	return k->ring ? consume(k) : 0;
}

void kernel_events_stop(struct kernel *k)
{
	if (!k->ring)
		return;
	timer_cancel(k->loop, &k->rest);
	loop_del(k->loop, &k->watch);
	ring_buffer__free(k->ring);
	k->ring = NULL;
}
