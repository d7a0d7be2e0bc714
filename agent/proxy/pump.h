/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One direction of a message body or a tunnel: bytes from one connection's buffer to another's
 * socket, counted or parsed for their end, not copied (but for a few behind a head). Back-pressure
 * is by not reading: at most one buffer a direction waits in user space.
 */
#ifndef PROXY_PUMP_H
#define PROXY_PUMP_H

#include "agent/proxy/conn.h"
#include "agent/proxy/http1.h"

enum pump_mode {
	PUMP_LENGTH,  /* `left` bytes */
	PUMP_CHUNKED, /* chunked framing, passed on as it is */
	PUMP_RAW,     /* until end of stream */
};

enum pump_result {
	PUMP_WAIT,  /* nothing to do until one of the two sockets moves */
	PUMP_AGAIN, /* could go on, but others want a turn */
	PUMP_DONE,  /* the body is over and sent */
	PUMP_EOF,   /* LENGTH, CHUNKED: the sender stopped in the middle. RAW ends with DONE */
	PUMP_BAD,   /* CHUNKED: malformed */
	PUMP_READ_FAILED,
	PUMP_WRITE_FAILED,
};

struct pump {
	uint8_t mode;	/* enum pump_mode */
	bool last;	/* the end of the body has been seen in `ready` or before */
	bool closes;	/* whoever receives it gets a FIN behind it */
	uint32_t ready; /* bytes from in.start on that were found to belong to the body and are not
			   sent */
	uint64_t left;	/* LENGTH: body bytes not yet seen */
	uint64_t bytes; /* sent so far */
	struct http1_chunked chunked;
};

void pump_init(struct pump *p, enum pump_mode mode, uint64_t length);
/* Moves what can be moved; also sends what is composed in to->out, before any body byte. `to` may
 * be NULL: bytes are read and dropped. */
enum pump_result pump_run(struct pump *p, struct conn *from, struct conn *to);

#endif
