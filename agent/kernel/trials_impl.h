/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What trials are written with: pairs of connected sockets whose streams carry a known pattern.
 * Included by trials*.c only. Functions that return bool say false after they noted why in the run;
 * so a trial is a chain of && and the first link that breaks is what is reported.
 */
#ifndef AGENT_KERNEL_TRIALS_IMPL_H
#define AGENT_KERNEL_TRIALS_IMPL_H

#include "agent/kernel/trials.h"

#include <sys/socket.h>

#define TRIAL_WAIT_MS  400 /* for what must happen; only a trial that fails waits as long */
#define TRIAL_STALL_MS 40  /* no event for so long with bytes to be read: there will be none */
#define TRIAL_FDS      32

enum trial_way { TRIAL_TCP, TRIAL_REDIRECT, TRIAL_ANY };

/* One end of a connection: what it sent and what it has read, as positions in the pattern. */
struct trial_end {
	int fd;
	const struct trial_end *peer;
	uint64_t sent, got;
};

struct trial_pair {
	struct trial_end a, b; /* who connected, who accepted; non-blocking, TCP_NODELAY */
};			       /* not to be copied */

/* How a pair is made. All zero: 127.0.0.1 in the caller's namespace, any ports. */
struct trial_how {
	const char *ip; /* NULL: 127.0.0.1; "::1", "::ffff:127.0.0.1" make an IPv6 client */
	unsigned netns_a, netns_b; /* index into env->netns */
	uint16_t port_a, port_b;   /* 0: any */
	bool fast_open;		   /* the first bytes travel in the SYN */
	bool defer;	/* the accepting side does not exist before the first bytes come */
	unsigned early; /* bytes sent before accept() (with fast_open: in the SYN) */
};

struct trial_run {
	const struct trial_env *env;
	enum trial_outcome outcome;
	char *why;
	int steered;	   /* enum trial_way that was asked for last, -1: none yet */
	int fd[TRIAL_FDS]; /* closed at the end of the trial */
	unsigned nfds;
};

/* Notes the reason (the first one counts); always false. */
__attribute__((format(printf, 2, 3))) bool trial_fail(struct trial_run *r, const char *fmt, ...);
__attribute__((format(printf, 2, 3))) bool trial_skip(struct trial_run *r, const char *fmt, ...);
/* Takes care of fd (closes it with the trial), or fails with errno when it is negative. */
bool trial_own(struct trial_run *r, int fd, const char *what);
/* Closes it now. */
void trial_close(struct trial_run *r, int *fd);
/* Milliseconds until a wait of `ms` that begins now has to end. */
int trial_left(const struct trial_run *r, int ms);

bool trial_steer(struct trial_run *r, enum trial_way way);
bool trial_pair(struct trial_run *r, struct trial_pair *p);
bool trial_pair_how(struct trial_run *r, const struct trial_how *how, struct trial_pair *p);
/* The same in two steps: until the client is connected; the early bytes and accept(). */
bool trial_pair_begin(struct trial_run *r, const struct trial_how *how, struct trial_pair *p,
		      int *listener);
bool trial_pair_end(struct trial_run *r, const struct trial_how *how, struct trial_pair *p,
		    int *listener);

/* Sends the next n bytes of the pattern as one message and looks that they took the way. For
 * TRIAL_REDIRECT all that was sent by TCP has to be read, else the way is not free. */
bool trial_give(struct trial_run *r, struct trial_end *e, size_t n, enum trial_way way);
/* Bytes that were sent on fd by TCP; what skipped it is not among them. */
uint64_t trial_tcp_bytes(int fd);
/* Waits until all that `from` sent by TCP is there, read or not. */
bool trial_arrived(struct trial_run *r, const struct trial_end *from, const struct trial_end *to);
/* Sends until nothing is taken any more; never blocks. */
bool trial_fill(struct trial_run *r, struct trial_end *e);
/* Reads once, n bytes at most; looks at the pattern. -1: noted, 0: nothing there (*eof: nor ever).
 */
long trial_read(struct trial_run *r, struct trial_end *e, size_t n, bool *eof);
/* Reads the next n bytes, waiting for them. */
bool trial_take(struct trial_run *r, struct trial_end *e, size_t n);
/* Reads the end of the stream, and nothing else. */
bool trial_take_end(struct trial_run *r, struct trial_end *e);
/* The pattern's bytes from `at`, and whether buf has them. */
void trial_pattern(uint64_t at, uint8_t *buf, size_t n);
bool trial_right(struct trial_run *r, uint64_t at, const uint8_t *buf, size_t n);
/* poll() for one descriptor. Says nothing: what is missing is the caller's to note. */
bool trial_wait(struct trial_run *r, int fd, short events);
bool trial_block(struct trial_run *r, int fd); /* blocking, with a receive timeout */

/* trials_read.c */
bool trial_redirects(struct trial_run *r);
bool trial_fionread(struct trial_run *r);
bool trial_peek(struct trial_run *r);
bool trial_epoll_edge(struct trial_run *r);
bool trial_epoll_level(struct trial_run *r);
bool trial_short_read(struct trial_run *r);
bool trial_wait_all(struct trial_run *r);
bool trial_sleeper(struct trial_run *r);
bool trial_woken(struct trial_run *r);
/* trials_stream.c */
bool trial_order(struct trial_run *r);
bool trial_duplex(struct trial_run *r);
bool trial_pressure(struct trial_run *r);
bool trial_window(struct trial_run *r);
bool trial_half_close(struct trial_run *r);
bool trial_fin(struct trial_run *r);
bool trial_unread_close(struct trial_run *r);
/* trials_copy.c */
bool trial_splice_out(struct trial_run *r);
bool trial_splice_in(struct trial_run *r);
bool trial_sendfile(struct trial_run *r);
/* trials_place.c */
bool trial_early(struct trial_run *r);
bool trial_fast_open(struct trial_run *r);
bool trial_twins_loopback(struct trial_run *r);
bool trial_twins_network(struct trial_run *r);
bool trial_across(struct trial_run *r);

#endif
