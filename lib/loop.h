/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop of every daemon here: epoll for descriptors, a hashed wheel for timers.
 * Single-threaded. A watch and a timer are embedded in the object they serve; nothing is allocated
 * per event.
 *
 * A handler may free its own object, and may close any other: loop_del() makes sure that events
 * already fetched for that watch are not delivered.
 */
#ifndef LIB_LOOP_H
#define LIB_LOOP_H

#include "lib/spin.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#define LOOP_EVENTS 64	 /* fetched by one epoll_wait */
#define LOOP_WHEEL  1024 /* slots of the wheel */
#define LOOP_TICK_MS                                                                               \
	8 /* width of a slot: a timer fires at most this much late (plus load), never early */

struct loop;

struct watch {
	void (*fn)(struct watch *w, uint32_t events);
	int fd; /* -1: not in the loop */
};

struct timer {
	struct timer *next, **prev; /* prev is NULL while it is not armed */
	uint64_t when_ms;
	void (*fn)(struct timer *t);
};

struct loop {
	int epfd;
	bool stop;
	bool busy;  /* set by a handler that left work behind: the next round does not wait */
	bool spins; /* set by the owner: look for a moment before sleeping, see spin.h */
	struct spin spin;
	uint64_t now_ns; /* CLOCK_MONOTONIC, read after each epoll_wait */
	uint64_t tick;	 /* the next wheel slot to look at */
	unsigned armed;
	struct epoll_event ready[LOOP_EVENTS];
	int nready, next;
	struct timer *wheel[LOOP_WHEEL];
	uint64_t used[LOOP_WHEEL / 64]; /* slots that may hold timers */
	struct watch alarm; /* a timerfd that ends a wait without end when a timer is due */
	uint64_t alarm_ms;  /* when it rings; 0: it is not set */
	void (*after)(struct loop *l); /* optional: runs once after each batch of events */
};

/* 0 or -errno. */
int loop_init(struct loop *l);
void loop_done(struct loop *l);

/* Watches fd for `events` (EPOLLIN, EPOLLET ...). fd stays the caller's. 0 or -errno. */
int loop_add(struct loop *l, struct watch *w, int fd, uint32_t events,
	     void (*fn)(struct watch *, uint32_t));
int loop_mod(struct loop *l, struct watch *w, uint32_t events);
/* Stops watching; does not close. Harmless when it is not watched. */
void loop_del(struct loop *l, struct watch *w);
/* The same without telling epoll: for a descriptor that is closed next and has no duplicates, which
 * epoll notices itself. */
void loop_forget(struct loop *l, struct watch *w);

/* (Re)arms a timer `ms` milliseconds after l->now_ns (the start of this round: a handler that has
 * worked for long adds its own time). O(1). */
void timer_arm(struct loop *l, struct timer *t, uint64_t ms, void (*fn)(struct timer *));
/* Harmless when it is not armed. */
void timer_cancel(struct loop *l, struct timer *t);

/* Runs until l->stop. 0 or -errno of epoll_wait. */
int loop_run(struct loop *l);
/* One round: waits at most timeout_ms (-1: until something happens), delivers what there is. 0 or
 * -errno. */
int loop_once(struct loop *l, int timeout_ms);

#endif
