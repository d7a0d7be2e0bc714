/* SPDX-License-Identifier: Apache-2.0 */
/* See exchange.h. Nothing in here frees an exchange but finish(), which exchange_run and
 * exchange_abort call last. */
#include "agent/proxy/exchange.h"
#include "agent/proxy/admission.h"
#include "agent/proxy/answer.h"
#include "agent/proxy/codec_http1.h"
#include "agent/proxy/deadline.h"
#include "agent/proxy/downstream.h"
#include "agent/proxy/fault.h"
#include "agent/proxy/mirror.h"
#include "agent/proxy/proxy.h"
#include "agent/proxy/record.h"
#include "agent/proxy/retry.h"
#include "agent/proxy/route.h"
#include "agent/proxy/timeout.h"
#include "agent/proxy/tries.h"
#include "agent/proxy/try.h"
#include "agent/proxy/tunnel.h"
#include "agent/proxy/upstream.h"
#include "agent/proxy/why.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define RESPONSE_HEAD_MAX (BUF_SIZE - 1024)
#define HEAD_ROUNDS	  16   /* reads and interim answers before others get a turn */
#define SMALL_PIECE	  2048 /* bytes: more is no piece that Nagle holds back, but a stream */

struct exchange *exchange_new(struct downstream *d)
{
	struct proxy *p = d->conn.proxy;
	struct exchange *ex = slab_get(&p->exchanges);

	if (!ex)
		return NULL;
	memset(ex, 0, offsetof(struct exchange, request_id));
	ex->trace.begun = false;
	ex->sticky.is_set = false;
	ex->sticky.issued[0] = '\0';
	ex->request_id_len = ex->method_len = ex->path_len = ex->host_len = 0;
	ex->proxy = p;
	ex->down = d;
	ex->state = EX_HEAD;
	ex->service = ex->upstream = ex->endpoint = ex->subset = MESH_NONE;
	ex->start_ns = ex->progress_ns = p->loop.now_ns;
	http1_head_init(&ex->request);
	return ex;
}

/* Tells the upstream's share what this exchange holds. */
static void share(struct exchange *ex, uint8_t buffers)
{
	if (buffers == ex->buffers)
		return;
	buf_share(&ex->proxy->bufs, ex->upstream, ex->buffers, buffers);
	ex->buffers = buffers;
}

static uint8_t buffers_of(const struct conn *c)
{
	return (c->in.mem ? 1 : 0) + (c->out.mem ? 1 : 0);
}

static void finish(struct exchange *ex)
{
	struct proxy *p = ex->proxy;

	share(ex, 0);
	try_end(ex, TRY_DROPPED);
	tries_stop_waiting(ex);
	admission_end(ex);
	record_exchange(ex);
	timer_cancel(&p->loop, &ex->timer);
	conn_release(&ex->down->conn);
	ex->down->fate = ex->fate;
	ex->down->asked_to_close = ex->request_sent && !ex->request.keep_alive;
	ex->down->ex = NULL;
	slab_put(&p->exchanges, ex);
}

void exchange_abort(struct exchange *ex)
{
	ex->client_gone = true;
	ex->fate = FATE_RESET;
	finish(ex);
}

void exchange_refuse(struct exchange *ex, enum mesh_cause cause, uint16_t status, const char *text)
{
	record_try_over(ex, cause);
	try_end(ex, TRY_DROPPED);
	ex->request.keep_alive = false;
	answer_locally(ex, cause, status, text);
}

void exchange_bad_request(struct exchange *ex)
{
	uint16_t status = ex->request.status;
	enum mesh_cause cause = CAUSE_BAD_REQUEST;

	if (status == 431 || status == 414)
		cause = CAUSE_HEADER_TOO_LARGE;
	else if (status == 413)
		cause = CAUSE_BODY_TOO_LARGE;
	trace_request(ex, NULL); /* what it says is not to be relied on */
	trace_decide(ex);
	exchange_refuse(ex, cause, status, ex->request.reason);
}

/* --- requests ------------------------------------------------------------------------------------
 */

/* Why the connection to the endpoint is of no use: never made, or lost. */
static enum mesh_cause lost(const struct exchange *ex)
{
	return ex->up->conn.connecting ? CAUSE_CONNECT_FAILED : CAUSE_UPSTREAM_RESET;
}

/* HTTP/2 inside a tunnel would pass by all that is decided per request. RFC 9113 3.1 has retired
 * this upgrade; without it both sides go on in HTTP/1.1. */
static bool upgrade_to_h2c(const struct exchange *ex, const char *head)
{
	const struct http1_head *h = &ex->request;
	struct http1_slice v;

	if (!h->upgrade || !h->index[HTTP1_H_UPGRADE])
		return false;
	v = h->headers[h->index[HTTP1_H_UPGRADE] - 1].value;
	for (uint32_t i = 0; i + 3 <= v.len; i++) /* anywhere in the list */
		if (!strncasecmp(head + v.at + i, "h2c", 3))
			return true;
	return false;
}

/* Why it goes to nobody, or CAUSE_NONE. */
static enum mesh_cause judge(struct exchange *ex, const char *head)
{
	enum mesh_cause cause = route_request(ex, head);

	if (cause != CAUSE_NONE)
		return cause;
	if (!codec_max_forwards(&ex->request, head))
		return CAUSE_MAX_FORWARDS;
	if (!deadline_read(ex, head))
		return CAUSE_REQUEST_TIMEOUT;
	return buf_share_spent(&ex->proxy->bufs, ex->upstream) ? CAUSE_BULKHEAD_FULL : CAUSE_NONE;
}

void exchange_admit(struct exchange *ex)
{
	enum mesh_cause cause = admission_begin(ex);

	if (cause == CAUSE_NONE) {
		retry_earn(ex);
		tries_begin(ex);
		return;
	}
	if (ex->up)
		try_give_back(ex);
	answer_locally(ex, cause, 0, NULL);
}

void exchange_request(struct exchange *ex)
{
	struct conn *down = &ex->down->conn;
	enum mesh_cause cause;

	conn_hold(down);
	if (upgrade_to_h2c(ex, down->in.mem + down->in.hold))
		ex->request.upgrade = false;
	record_request(ex, down->in.mem + down->in.hold);
	trace_request(ex, down->in.mem + down->in.hold);
	conn_consume(down, ex->request.size);
	cause = judge(ex, down->in.mem + down->in.hold);
	trace_decide(ex);
	if (cause == CAUSE_NONE) {
		if (!fault_begin(ex))
			exchange_admit(ex);
		return;
	}
	try_end(ex, TRY_DROPPED);
	if (cause == CAUSE_MAX_FORWARDS && ex->request.method == HTTP1_OPTIONS)
		answer_locally(ex, cause, 200, "");
	else
		answer_locally(ex, cause, 0, NULL);
}

/* --- running -------------------------------------------------------------------------------------
 */

static bool moved(struct exchange *ex, const struct pump *p, uint64_t before)
{
	if (p->bytes == before)
		return false;
	ex->progress_ns = ex->proxy->loop.now_ns;
	return true;
}

static void run_request(struct exchange *ex)
{
	uint64_t before = ex->request_body.bytes;

	if (ex->request_sent || ex->request_cut)
		return;
	switch (pump_run(&ex->request_body, &ex->down->conn, &ex->up->conn)) {
	case PUMP_DONE:
		ex->request_sent = true;
		if (ex->routed.mirror_share)
			mirror_offer(ex);
		if (ex->proxy->bufs.used > BUFPOOL_SPARE)
			conn_release(&ex->down->conn);
		if (ex->request_waited && ex->state == EX_TRY) {
			ex->sent_ns = ex->waiting_ns = ex->proxy->loop.now_ns;
			timeout_try(ex);
		}
		break;
	case PUMP_WRITE_FAILED: /* it may have answered first: read on */
		ex->request_cut = true;
		ex->up->conn.readable = true;
		break;
	case PUMP_EOF:
	case PUMP_READ_FAILED:
		ex->client_gone = true;
		exchange_over(ex, FATE_RESET);
		break;
	case PUMP_BAD:
		if (ex->state == EX_TRY)
			exchange_refuse(ex, CAUSE_BAD_REQUEST, 0, "malformed chunked body");
		else
			exchange_over(ex, FATE_RESET);
		break;
	case PUMP_AGAIN:
		downstream_again(ex->down);
		break;
	case PUMP_WAIT:
		break;
	}
	moved(ex, &ex->request_body, before);
	/* waiting for the connection is no reason for more time */
	if (ex->request_sent || ex->request_waited || !ex->up || ex->up->conn.connecting)
		return;
	ex->request_waited = true;
	if (ex->state == EX_TRY)
		timeout_try(ex);
}

/* Passes an interim answer (1xx) on, unless the caller cannot know what it is. */
static void interim(struct exchange *ex)
{
	struct conn *up = &ex->up->conn, *down = &ex->down->conn;
	size_t cap, n = 0;
	char *out;

	if (ex->request.minor) {
		out = conn_compose(down, &cap);
		if (out)
			n = codec_response(ex, up->in.mem + up->in.start, false, out, cap);
		conn_composed(down, n);
		conn_send(down, NULL, 0); /* an error will be met again */
	}
	conn_consume(up, ex->response.size);
	conn_release(down); /* it has begun to answer: not to be asked again */
	if (ex->response.status == 100 && ex->request.expect_continue) {
		ex->request.expect_continue = false; /* it is the caller's turn */
		ex->progress_ns = ex->proxy->loop.now_ns;
		timeout_try(ex);
	}
	http1_head_init(&ex->response);
}

static void begin_response_body(struct exchange *ex)
{
	const struct http1_head *h = &ex->response;

	switch (h->framing) {
	case HTTP1_CHUNKED:
		pump_init(&ex->response_body, PUMP_CHUNKED, 0);
		break;
	case HTTP1_UNTIL_CLOSE:
		pump_init(&ex->response_body, PUMP_RAW, 0);
		break;
	default:
		pump_init(&ex->response_body, PUMP_LENGTH,
			  h->framing == HTTP1_LENGTH ? h->content_length : 0);
	}
	ex->response_body.closes = !ex->keep_client;
}

/* Of an answer whose head is read: can its connection serve again, once the body is through? */
static void look_at_connection(struct exchange *ex)
{
	const struct conn *up = &ex->up->conn;

	ex->reusable = ex->response.keep_alive && ex->response.framing != HTTP1_UNTIL_CLOSE;
	ex->keep_alive_ms = codec_keep_alive_ms(&ex->response, up->in.mem + up->in.start);
}

/* Another endpoint may know better. What is here of the answer's body by now is read, for the sake
 * of the connection; what is not is not waited for. */
static void drop_answer(struct exchange *ex)
{
	bool whole;

	look_at_connection(ex);
	begin_response_body(ex);
	conn_consume(&ex->up->conn, ex->response.size);
	whole = ex->reusable && ex->request_sent &&
		pump_run(&ex->response_body, &ex->up->conn, NULL) == PUMP_DONE;
	try_end(ex, whole ? TRY_GOOD : TRY_SPENT);
	pump_init(&ex->response_body, PUMP_LENGTH, 0);
}

static void switch_protocols(struct exchange *ex)
{
	pump_init(&ex->request_body, PUMP_RAW, 0);
	pump_init(&ex->response_body, PUMP_RAW, 0);
	timer_cancel(&ex->proxy->loop, &ex->timer);
	ex->state = EX_TUNNEL;
}

/* The answer's head is whole: tells the caller. From here on there is no other try. */
static void begin_response(struct exchange *ex)
{
	struct conn *up = &ex->up->conn, *down = &ex->down->conn;
	struct proxy *p = ex->proxy;
	bool keep = ex->request.keep_alive && ex->request_sent &&
		    ex->response.framing != HTTP1_UNTIL_CLOSE &&
		    (!p->draining || downstream_has_more(ex->down));
	uint32_t wait_ms;
	size_t cap, n = 0;
	char *out;

	ex->head_ns = p->loop.now_ns;
	ex->status = ex->response.status;
	try_answered(ex);
	record_try_over(ex, CAUSE_NONE);
	if (retry_granted(ex, CAUSE_NONE, &wait_ms)) {
		why_tried(ex, CAUSE_NONE);
		drop_answer(ex);
		tries_again(ex, CAUSE_NONE, wait_ms);
		return;
	}
	out = conn_compose(down, &cap);
	if (out)
		n = codec_response(ex, up->in.mem + up->in.start, keep, out, cap);
	if (!n) {
		exchange_try_failed(ex, CAUSE_UPSTREAM_PROTOCOL);
		return;
	}
	shared_learn(&p->shared, ex->upstream, MESH_LEARNED_HTTP);
	look_at_connection(ex);
	ex->keep_client = keep;
	conn_composed(down, n);
	conn_consume(up, ex->response.size);
	conn_release(down);
	if (ex->status == 101) {
		switch_protocols(ex);
		return;
	}
	begin_response_body(ex);
	ex->progress_ns = ex->head_ns;
	ex->state = EX_BODY;
}

static void run_response_head(struct exchange *ex)
{
	for (int round = 0; ex->state == EX_TRY; round++) {
		struct conn *up = &ex->up->conn; /* another one after a failed try */
		ssize_t n;

		if (round == HEAD_ROUNDS) {
			downstream_again(ex->down);
			return;
		}
		if (conn_unread(up)) {
			switch (http1_response_parse(&ex->response, up->in.mem + up->in.start,
						     conn_unread(up), RESPONSE_HEAD_MAX,
						     ex->request.method)) {
			case HTTP1_BAD:
				/* one caller that speaks HTTP to a database tells nothing of it */
				shared_learn(&ex->proxy->shared, ex->upstream,
					     MESH_LEARNED_NOTHING);
				exchange_try_failed(ex, CAUSE_UPSTREAM_PROTOCOL);
				return;
			case HTTP1_DONE:
				if (ex->response.status == 101 && !ex->request.upgrade)
					exchange_try_failed(ex, CAUSE_UPSTREAM_PROTOCOL);
				else if (ex->response.status < 200 && ex->response.status != 101)
					interim(ex);
				else
					begin_response(ex);
				continue;
			case HTTP1_MORE:
				break;
			}
		}
		if (!up->readable) {
			if (up->eof || up->error)
				exchange_try_failed(ex, lost(ex));
			else if (conn_unread(up))
				upconn_acknowledge(ex->up);
			return;
		}
		n = conn_fill(up);
		if (n == -ENOBUFS)
			downstream_again(ex->down);
		if (n == -EAGAIN || n == -ENOBUFS)
			return;
	}
}

/* The answer is out. Both connections may go on if both bodies are whole. */
static void complete(struct exchange *ex)
{
	try_end(ex, ex->reusable && ex->request_sent ? TRY_GOOD : TRY_SPENT);
	exchange_over(ex, ex->keep_client ? FATE_KEEP : FATE_CLOSE);
}

static void run_response_body(struct exchange *ex)
{
	uint64_t before = ex->response_body.bytes;

	switch (pump_run(&ex->response_body, &ex->up->conn, &ex->down->conn)) {
	case PUMP_DONE:
		complete(ex);
		return;
	case PUMP_AGAIN:
		downstream_again(ex->down);
		break;
	case PUMP_WAIT:
		/* what is written in pieces is small; a stream is acknowledged as it goes */
		if (ex->response_body.bytes - before < SMALL_PIECE)
			upconn_acknowledge(ex->up);
		break;
	case PUMP_WRITE_FAILED:
		ex->client_gone = true;
		exchange_over(ex, FATE_RESET);
		return;
	case PUMP_EOF:
	case PUMP_BAD:
	case PUMP_READ_FAILED: /* the head is out: all we can do is not to let it look whole */
		ex->cause = CAUSE_UPSTREAM_RESET;
		try_end(ex, TRY_FAILED);
		exchange_over(ex, FATE_RESET);
		return;
	}
	if (moved(ex, &ex->response_body, before) || !ex->timed_body) {
		if (!ex->timed_body)
			timeout_body(ex);
		ex->timed_body = true;
	}
}

static void run_http(struct exchange *ex)
{
	uint8_t begun;

	if (ex->state == EX_QUEUE && ex->woken)
		tries_turn(ex);
	do { /* again while one try after the other fails at once */
		begun = ex->begun;
		if (ex->state == EX_TRY || ex->state == EX_BODY)
			run_request(ex);
		if (!ex->fate && ex->state == EX_TRY)
			run_response_head(ex);
		if (!ex->fate && ex->state == EX_BODY)
			run_response_body(ex);
	} while (!ex->fate && ex->state == EX_TRY && ex->begun != begun);
}

static void run_answer(struct exchange *ex)
{
	struct conn *down = &ex->down->conn;

	down->ending = !ex->response.keep_alive;
	if (conn_send(down, NULL, 0) < 0) {
		ex->client_gone = true;
		exchange_over(ex, FATE_RESET);
	} else if (conn_flushed(down)) {
		exchange_over(ex, ex->response.keep_alive ? FATE_KEEP : FATE_CLOSE);
	}
}

/* --- driven by the loop --------------------------------------------------------------------------
 */

bool exchange_run(struct exchange *ex)
{
	if (!ex->fate) {
		if (ex->state == EX_TUNNEL)
			tunnel_run(ex);
		else
			run_http(ex);
	}
	if (!ex->fate && ex->state == EX_TUNNEL) /* an upgrade has just begun */
		tunnel_run(ex);
	if (!ex->fate && ex->state == EX_ANSWER)
		run_answer(ex);
	if (ex->fate) {
		finish(ex);
		return true;
	}
	share(ex, buffers_of(&ex->down->conn) + (ex->up ? buffers_of(&ex->up->conn) : 0));
	return false;
}
