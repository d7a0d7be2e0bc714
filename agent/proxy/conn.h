/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A non-blocking socket with what has been read and not consumed (in) and what has been composed
 * and not sent (out). Watched edge-triggered from beginning to end; `readable` and `writable`
 * remember the last answer of the kernel, so that a direction is tried exactly as long as it may
 * succeed.
 */
#ifndef PROXY_CONN_H
#define PROXY_CONN_H

#include "agent/proxy/bufpool.h"
#include "lib/loop.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct proxy;

/*
 * One buffer: [hold, start) was consumed but is kept for a possible second try, [start, end) is
 * unread. The memory is there only while it is needed.
 */
struct bytes {
	char *mem;
	uint32_t hold, start, end;
	bool held; /* hold is in force; cleared when the room was needed for more */
};

struct conn {
	struct watch watch;
	struct proxy *proxy;
	struct bytes in, out;
	bool readable, writable;
	bool watches_out; /* epoll tells when it can be written to again */
	bool connecting;  /* connect() is under way, nothing is known of the peer */
	bool hung;   /* the peer's FIN or RST (or urgent data) was announced: reading goes on until
			it is met */
	bool handed; /* somebody else made the socket, and may not have closed his copy yet */
	bool eof;    /* the peer sent FIN and all before it was read */
	bool ending; /* FIN follows what is being sent now: its last segment waits for it */
	bool shut;   /* we sent FIN */
	int error;   /* errno of what broke it, 0 while it works */
};

/* Without a socket yet: connecting, neither readable nor writable. */
void conn_init(struct conn *c, struct proxy *p);
/* Takes fd over (also on failure). 0 or -errno. */
int conn_open(struct conn *c, int fd, void (*fn)(struct watch *, uint32_t));
/* Closes and gives the buffers back. rst: with a reset, so that the peer cannot take what it has
 * for the whole. */
void conn_close(struct conn *c, bool rst);
/* Books what epoll said. */
void conn_note(struct conn *c, uint32_t events);

static inline uint32_t conn_unread(const struct conn *c)
{
	return c->in.end - c->in.start;
}

/* Reads what fits. > 0 bytes; 0 end of stream; -EAGAIN; -ENOBUFS: the buffer is full of unread
 * bytes, or there is none to be had; -errno (also in c->error). Room is made by moving bytes and,
 * if that is not enough, by giving up what is held. */
ssize_t conn_fill(struct conn *c);
/* Bytes [start, start + n) are done with. Gives the memory back when nothing is left or held. */
void conn_consume(struct conn *c, uint32_t n);
/* From here on consumed bytes are kept, until conn_release. */
void conn_hold(struct conn *c);
void conn_release(struct conn *c);

/* Sends out, then n bytes at `more`. Returns how many of `more` went (0 .. n), into the socket or,
 * when they are few, into out; or -errno for a broken connection (also in c->error). Blocked is not
 * an error: then c->writable is false. */
ssize_t conn_send(struct conn *c, const char *more, size_t n);
/* Room for composing at the end of out: *cap bytes; NULL when there is no buffer. conn_composed
 * says how many were used. */
char *conn_compose(struct conn *c, size_t *cap);
void conn_composed(struct conn *c, size_t n);
static inline bool conn_flushed(const struct conn *c)
{
	return c->out.start == c->out.end;
}
/* FIN, if there is a connection and everything in out is gone; else it is to be called again. */
void conn_shutdown(struct conn *c);

#endif
