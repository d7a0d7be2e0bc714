/* SPDX-License-Identifier: Apache-2.0 */
/* See loop.h. */
#include "lib/loop.h"
#include "lib/clock.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

static void alarm_rang(struct watch *w, uint32_t events)
{
	struct loop *l = (struct loop *)((char *)w - offsetof(struct loop, alarm));

	l->alarm_ms = 0; /* not read: it is edge-triggered, and setting it anew clears it */
}

static int alarm_init(struct loop *l)
{
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), r;

	if (fd < 0)
		return -errno;
	r = loop_add(l, &l->alarm, fd, EPOLLIN | EPOLLET, alarm_rang);
	if (r)
		close(fd);
	return r;
}

int loop_init(struct loop *l)
{
	int r;

	memset(l, 0, sizeof(*l));
	l->alarm.fd = -1;
	l->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (l->epfd < 0)
		return -errno;
	l->now_ns = clock_mono_ns();
	l->tick = l->now_ns / 1000000 / LOOP_TICK_MS;
	r = alarm_init(l);
	if (r)
		loop_done(l);
	return r;
}

void loop_done(struct loop *l)
{
	if (l->epfd >= 0)
		close(l->epfd);
	if (l->alarm.fd >= 0)
		close(l->alarm.fd);
	l->epfd = l->alarm.fd = -1;
}

int loop_add(struct loop *l, struct watch *w, int fd, uint32_t events,
	     void (*fn)(struct watch *, uint32_t))
{
	struct epoll_event ev = {.events = events, .data.ptr = w};

	if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, fd, &ev) < 0)
		return -errno;
	w->fn = fn;
	w->fd = fd;
	return 0;
}

int loop_mod(struct loop *l, struct watch *w, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = w};

	return epoll_ctl(l->epfd, EPOLL_CTL_MOD, w->fd, &ev) < 0 ? -errno : 0;
}

void loop_forget(struct loop *l, struct watch *w)
{
	w->fd = -1;
	for (int i = l->next; i < l->nready; i++)
		if (l->ready[i].data.ptr == w)
			l->ready[i].data.ptr = NULL;
}

void loop_del(struct loop *l, struct watch *w)
{
	if (w->fd < 0 || !w->fn)
		return;
	epoll_ctl(l->epfd, EPOLL_CTL_DEL, w->fd,
		  NULL); /* fails only if the fd is gone, which is fine */
	loop_forget(l, w);
}

void timer_cancel(struct loop *l, struct timer *t)
{
	if (!t->prev)
		return;
	*t->prev = t->next;
	if (t->next)
		t->next->prev = t->prev;
	t->prev = NULL;
	l->armed--;
}

static void slot_insert(struct loop *l, unsigned slot, struct timer *t)
{
	t->next = l->wheel[slot];
	t->prev = &l->wheel[slot];
	if (t->next)
		t->next->prev = &t->next;
	l->wheel[slot] = t;
	l->used[slot / 64] |= 1ULL << slot % 64;
	l->armed++;
}

void timer_arm(struct loop *l, struct timer *t, uint64_t ms, void (*fn)(struct timer *))
{
	uint64_t tick;

	timer_cancel(l, t);
	t->fn = fn;
	t->when_ms = l->now_ns / 1000000 + ms + 1; /* + 1: now_ns is rounded down; never early */
	tick = t->when_ms / LOOP_TICK_MS;
	if (tick < l->tick)
		tick = l->tick;
	slot_insert(l, tick % LOOP_WHEEL, t);
}

/* Fires what is due in one slot. A handler may arm and cancel any timer, so the slot is emptied
 * into a private list first, whose links stay valid under cancellation. */
static void fire_slot(struct loop *l, unsigned slot, uint64_t now_ms)
{
	struct timer *due = l->wheel[slot], *t;

	l->wheel[slot] = NULL;
	l->used[slot / 64] &= ~(1ULL << slot % 64);
	if (due)
		due->prev = &due;
	while ((t = due)) {
		timer_cancel(l, t);
		if (t->when_ms <= now_ms)
			t->fn(t);
		else /* another turn of the wheel, or later in this tick */
			slot_insert(l, slot, t);
	}
}

static void run_timers(struct loop *l)
{
	uint64_t now_ms = l->now_ns / 1000000, last = now_ms / LOOP_TICK_MS;

	if (last - l->tick > LOOP_WHEEL && last > l->tick)
		l->tick = last - LOOP_WHEEL;
	/* the current slot is looked at again until its time is over */
	for (; l->armed && l->tick <= last; l->tick++) {
		fire_slot(l, l->tick % LOOP_WHEEL, now_ms);
		if (l->tick == last)
			return;
	}
	l->tick = last;
}

/* How many slots from `slot` on, around the wheel, until one that may hold timers; LOOP_WHEEL if
 * none. */
static unsigned slots_ahead(const struct loop *l, unsigned slot)
{
	unsigned word = slot / 64, bit = slot % 64;
	uint64_t bits = l->used[word] >> bit;

	if (bits)
		return (unsigned)__builtin_ctzll(bits);
	for (unsigned i = 1; i <= LOOP_WHEEL / 64; i++) {
		bits = l->used[(word + i) % (LOOP_WHEEL / 64)];
		if (bits)
			return i * 64 - bit + (unsigned)__builtin_ctzll(bits);
	}
	return LOOP_WHEEL;
}

/* The end of the next slot in use: then everything in it is due. */
static uint64_t due_ms(const struct loop *l)
{
	return (l->tick + slots_ahead(l, l->tick % LOOP_WHEEL) + 1) * LOOP_TICK_MS;
}

/* epoll_wait() with a timeout starts and stops a timer of the kernel at each call, for half a
 * microsecond and more; the alarm stays set over many, and rings in vain when a timer was
 * cancelled.
 */
static bool set_alarm(struct loop *l, uint64_t due)
{
	struct itimerspec at = {
		.it_value = {.tv_sec = (time_t)(due / 1000),
			     .tv_nsec = (long)(due % 1000) * 1000000},
	};

	if (l->alarm_ms && l->alarm_ms <= due)
		return true;
	if (timerfd_settime(l->alarm.fd, TFD_TIMER_ABSTIME, &at, NULL) < 0)
		return false;
	l->alarm_ms = due;
	return true;
}

/* What epoll_wait() is told, so that it ends when a timer is due. */
static int wait_ms(struct loop *l, int timeout_ms)
{
	uint64_t now_ms = l->now_ns / 1000000, due;

	if (!l->armed)
		return timeout_ms;
	due = due_ms(l);
	if (due <= now_ms)
		return 0;
	if (timeout_ms < 0 && set_alarm(l, due))
		return -1;
	due -= now_ms;
	return timeout_ms >= 0 && (uint64_t)timeout_ms < due ? timeout_ms : (int)due;
}

static int fetch(struct loop *l, int timeout_ms)
{
	int n = epoll_wait(l->epfd, l->ready, LOOP_EVENTS, timeout_ms);

	l->now_ns = clock_mono_ns();
	return n;
}

/* Looks for SPIN_NS at most. The result is that of epoll_wait. */
static int look(struct loop *l)
{
	uint64_t until = 0;
	int n;

	do {
		n = fetch(l, 0);
		if (!until)
			until = l->now_ns + SPIN_NS;
	} while (!n && l->now_ns < until);
	if (n)
		spin_hit(&l->spin);
	else
		spin_missed(&l->spin);
	return n;
}

int loop_once(struct loop *l, int timeout_ms)
{
	timeout_ms = l->busy ? 0 : wait_ms(l, timeout_ms);
	l->busy = false;
	l->nready = l->spins && timeout_ms && spin_wanted(&l->spin) ? look(l) : 0;
	if (!l->nready)
		l->nready = fetch(l, timeout_ms);
	if (l->nready < 0 && errno != EINTR)
		return -errno;
	for (l->next = 0; l->next < l->nready;) {
		struct epoll_event *ev = &l->ready[l->next++];
		struct watch *w = ev->data.ptr;

		if (w)
			w->fn(w, ev->events);
	}
	run_timers(l);
	if (l->after)
		l->after(l);
	return 0;
}

int loop_run(struct loop *l)
{
	int r = 0;

	while (!l->stop && !r)
		r = loop_once(l, -1);
	return r;
}
