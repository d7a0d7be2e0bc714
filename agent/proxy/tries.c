/* SPDX-License-Identifier: Apache-2.0 */
/* See tries.h. */
#include "agent/proxy/tries.h"
#include "agent/proxy/answer.h"
#include "agent/proxy/bulkhead.h"
#include "agent/proxy/codec_http1.h"
#include "agent/proxy/downstream.h"
#include "agent/proxy/proxy.h"
#include "agent/proxy/queue.h"
#include "agent/proxy/record.h"
#include "agent/proxy/retry.h"
#include "agent/proxy/timeout.h"
#include "agent/proxy/try.h"
#include "agent/proxy/upstream.h"
#include "agent/proxy/why.h"

static void begin_request_body(struct exchange *ex)
{
	const struct http1_head *h = &ex->request;

	if (h->framing == HTTP1_CHUNKED)
		pump_init(&ex->request_body, PUMP_CHUNKED, 0);
	else
		pump_init(&ex->request_body, PUMP_LENGTH,
			  h->framing == HTTP1_LENGTH ? h->content_length : 0);
}

/* A connection that was opened early may end before there is a request. */
static bool was_closed(const struct conn *c)
{
	return !c->connecting && (c->hung || c->eof || c->error);
}

/* A try that came to nothing by nobody's fault is not counted. */
static void try_forget(struct exchange *ex)
{
	try_end(ex, TRY_DROPPED);
	ex->tries--;
}

static enum mesh_cause nobody(const struct exchange *ex)
{
	if (ex->failure)
		return ex->failure;
	return ex->target.nsplit ? CAUSE_NO_HEALTHY_ENDPOINT : CAUSE_NO_ENDPOINT;
}

/* In front, if it has just given one up. */
static void wait_for_room(struct exchange *ex)
{
	ex->woken |= ex->fresh;
	if (!bulkhead_sit(ex->proxy, ex->service, &ex->seat) && !ex->woken) {
		ex->bulkhead = MESH_BULKHEAD_PENDING;
		answer_locally(ex, CAUSE_BULKHEAD_FULL, 0, NULL);
		return;
	}
	if (!ex->waiting_ns)
		ex->waiting_ns = ex->proxy->loop.now_ns;
	ex->state = EX_QUEUE;
	queue_join(ex);
	timeout_queue(ex);
}

static bool connect_or_wait(struct exchange *ex)
{
	switch (try_connect(ex)) {
	case TRY_STARTED:
		return true;
	case TRY_NO_ROOM:
		wait_for_room(ex);
		return false;
	default:
		answer_locally(ex, nobody(ex), 0, NULL);
		return false;
	}
}

void tries_begin(struct exchange *ex)
{
	struct conn *down = &ex->down->conn;
	size_t cap, n = 0;
	char *out;

	if (ex->up && was_closed(&ex->up->conn))
		try_forget(ex);
	ex->was_idle = ex->up;
	if (!ex->up && !connect_or_wait(ex))
		return;
	ex->begun++;
	ex->was_idle |= ex->reused;
	ex->try_ns = ex->sent_ns = ex->progress_ns = ex->proxy->loop.now_ns;
	if (!ex->waiting_ns)
		ex->waiting_ns = ex->try_ns;
	ex->request_sent = ex->request_cut = ex->request_waited = false;
	ex->state = EX_TRY;
	record_try(ex);
	http1_head_init(&ex->response);
	down->in.start = down->in.hold + ex->request.size;
	begin_request_body(ex);
	out = conn_compose(&ex->up->conn, &cap);
	if (out)
		n = codec_request(ex, down->in.mem + down->in.hold, out, cap);
	if (!n) {
		exchange_refuse(ex, CAUSE_HEADER_TOO_LARGE, 0, NULL);
		return;
	}
	conn_composed(&ex->up->conn, n);
	timeout_try(ex);
}

static bool idempotent(uint8_t method)
{
	switch (method) {
	case HTTP1_GET:
	case HTTP1_HEAD:
	case HTTP1_OPTIONS:
	case HTTP1_PUT:
	case HTTP1_DELETE:
	case HTTP1_TRACE:
		return true;
	default:
		return false;
	}
}

/* The socket took no byte of the request's head. */
static bool is_unsent(const struct exchange *ex)
{
	const struct bytes *out = &ex->up->conn.out;

	return out->mem && !out->start && !ex->request_body.bytes;
}

/*
 * Was it the connection alone that failed? One that was idle, and that the endpoint closed without
 * a byte in return, has most likely taken nothing of the request (RFC 9112 9.3.1): a method whose
 * repetition does no harm (RFC 9110 9.2.2) may take the risk, others when the socket took no byte.
 * The request goes over a new one then, which is no retry.
 */
static bool was_stale(const struct exchange *ex, enum mesh_cause cause)
{
	if (cause != CAUSE_UPSTREAM_RESET || !ex->was_idle || !ex->down->conn.in.held)
		return false;
	return is_unsent(ex) || (!ex->response.scanned && idempotent(ex->request.method));
}

void tries_again(struct exchange *ex, enum mesh_cause cause, uint32_t wait_ms)
{
	ex->failure = (uint8_t)cause;
	ex->head_ns = ex->upstream_ns = 0; /* as if there had been no answer */
	ex->status = 0;
	ex->fresh = false;
	ex->state = EX_BACKOFF;
	if (wait_ms)
		timeout_backoff(ex, wait_ms);
	else
		tries_begin(ex);
}

void tries_due(struct exchange *ex)
{
	if (ex->state == EX_BACKOFF) {
		tries_begin(ex);
		return;
	}
	tries_stop_waiting(ex);
	answer_locally(ex, CAUSE_REQUEST_TIMEOUT, 0, NULL);
}

void tries_turn(struct exchange *ex)
{
	queue_leave(ex);
	tries_begin(ex);
	if (ex->state == EX_QUEUE)
		return;
	ex->woken = false;
	queue_wake(ex->proxy, ex->service);
}

void tries_stop_waiting(struct exchange *ex)
{
	queue_leave(ex);
	bulkhead_rise(ex->proxy, &ex->seat);
	if (ex->woken)
		queue_wake(ex->proxy, ex->service);
	ex->woken = false;
}

void exchange_try_failed(struct exchange *ex, enum mesh_cause cause)
{
	uint32_t wait_ms;

	if (was_stale(ex, cause)) {
		record_no_try(ex);
		try_forget(ex);
		ex->fresh = true;
		tries_begin(ex);
		return;
	}
	why_tried(ex, cause);
	record_try_over(ex, cause);
	ex->impatient = cause == CAUSE_REQUEST_TIMEOUT && try_was_short(ex);
	try_end(ex, ex->impatient ? TRY_DROPPED : TRY_FAILED);
	if (retry_granted(ex, cause, &wait_ms))
		tries_again(ex, cause, wait_ms);
	else
		answer_locally(ex, cause, 0, NULL);
}
