/* SPDX-License-Identifier: Apache-2.0 */
/* See pump.h. */
#include "agent/proxy/pump.h"

#include <errno.h>
#include <string.h>

#define ROUNDS 8 /* reads and writes before others get a turn */

void pump_init(struct pump *p, enum pump_mode mode, uint64_t length)
{
	p->mode = (uint8_t)mode;
	p->last = mode == PUMP_LENGTH && !length;
	p->closes = false;
	p->ready = 0;
	p->left = length;
	p->bytes = 0;
	if (mode == PUMP_CHUNKED)
		http1_chunked_init(&p->chunked);
}

/* Looks at bytes that are new since the last time. false: they break the framing. */
static bool examine(struct pump *p, const struct conn *from)
{
	size_t n = conn_unread(from) - p->ready, used = n;
	const char *fresh;

	if (p->last || !n)
		return true;
	fresh = from->in.mem + from->in.start + p->ready;
	if (p->mode == PUMP_LENGTH) {
		used = n < p->left ? n : p->left;
		p->left -= used;
		p->last = !p->left;
	} else if (p->mode == PUMP_CHUNKED) {
		switch (http1_chunked_feed(&p->chunked, fresh, n, &used)) {
		case HTTP1_BAD:
			return false;
		case HTTP1_DONE:
			p->last = true;
			break;
		case HTTP1_MORE:
			break;
		}
	}
	p->ready += (uint32_t)used;
	return true;
}

/* Sends what is ready. false: the connection broke. */
static bool forward(struct pump *p, struct conn *from, struct conn *to)
{
	ssize_t n = p->ready;

	if (to)
		to->ending = p->closes && p->last;
	if (to)
		n = conn_send(to, p->ready ? from->in.mem + from->in.start : NULL, p->ready);
	if (n < 0)
		return false;
	p->ready -= (uint32_t)n;
	p->bytes += (uint64_t)n;
	conn_consume(from, (uint32_t)n);
	return true;
}

static enum pump_result at_end_of_stream(struct pump *p)
{
	if (p->mode != PUMP_RAW)
		return PUMP_EOF;
	p->last = true;
	return PUMP_DONE;
}

enum pump_result pump_run(struct pump *p, struct conn *from, struct conn *to)
{
	for (int round = 0; round < ROUNDS; round++) {
		ssize_t n;

		if (!examine(p, from))
			return PUMP_BAD;
		if (!forward(p, from, to))
			return PUMP_WRITE_FAILED;
		if (p->ready || (to && !conn_flushed(to)))
			return PUMP_WAIT;
		if (p->last)
			return PUMP_DONE;
		if (from->eof)
			return at_end_of_stream(p);
		if (!from->readable)
			return from->error ? PUMP_READ_FAILED : PUMP_WAIT;
		n = conn_fill(from);
		if (n == -EAGAIN)
			return PUMP_WAIT;
		if (n == -ENOBUFS)
			return PUMP_AGAIN; /* others give theirs back */
		if (n < 0)
			return PUMP_READ_FAILED;
	}
	return PUMP_AGAIN;
}
