/* The kernel's events, from the ring buffer to a callback on the loop. */
#include "agent/kernel/impl.h"

#include <errno.h>
#include <stddef.h>

static int on_record(void *ctx, void *data, size_t size)
{
	struct kernel *k = ctx;

	if (size >= sizeof(struct mesh_event))
		k->fn(data, k->arg);
	return 0;
}

static void on_ready(struct watch *w, uint32_t events)
{
	struct kernel *k = (struct kernel *)((char *)w - offsetof(struct kernel, watch));

	ring_buffer__consume(k->ring); /* fails only when on_record does */
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
	return k->ring ? ring_buffer__consume(k->ring) : 0;
}

void kernel_events_stop(struct kernel *k)
{
	if (!k->ring)
		return;
	loop_del(k->loop, &k->watch);
	ring_buffer__free(k->ring);
	k->ring = NULL;
}
