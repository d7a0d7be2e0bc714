/* SPDX-License-Identifier: Apache-2.0 */
/* See exchange.h. Nothing in here frees an exchange but finish(), which exchange_run and
 * exchange_abort call last. */
#include "agent/proxy/exchange.h"
#include "agent/proxy/codec_http1.h"
#include "agent/proxy/downstream.h"
#include "agent/proxy/proxy.h"
#include "agent/proxy/record.h"
#include "agent/proxy/route.h"
#include "agent/proxy/try.h"
#include "agent/proxy/upstream.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define DETECT_WAIT_MS                                                                             \
	1000 /* no endpoint can be reached, and the caller has not spoken: how long it may */
#define RESPONSE_HEAD_MAX (BUF_SIZE - 1024)

static void on_timer(struct timer *t);

struct exchange *exchange_new(struct downstream *d)
{
	struct proxy *p = d->conn.proxy;
	struct exchange *ex = slab_get(&p->exchanges);

	if (!ex)
		return NULL;
	memset(ex, 0, offsetof(struct exchange, request_id));
	ex->request_id_len = ex->method_len = ex->path_len = ex->host_len = 0;
	ex->proxy = p;
	ex->down = d;
	ex->state = EX_HEAD;
	ex->service = ex->upstream = ex->endpoint = MESH_NONE;
	ex->start_ns = ex->progress_ns = p->loop.now_ns;
	http1_head_init(&ex->request);
	return ex;
}

static void unqueue(struct exchange *ex)
{
	struct proxy *p = ex->proxy;
	struct exchange **at = &p->again;

	if (!ex->queued)
		return;
	while (*at != ex)
		at = &(*at)->next_again;
	*at = ex->next_again;
	if (!*at)
		p->again_last = at;
	ex->queued = false;
	p->nagain--;
}

static void finish(struct exchange *ex)
{
	struct proxy *p = ex->proxy;

	try_end(ex, TRY_DROPPED);
	record_exchange(ex);
	timer_cancel(&p->loop, &ex->timer);
	unqueue(ex);
	conn_release(&ex->down->conn);
	ex->down->fate = ex->fate;
	ex->down->ex = NULL;
	slab_put(&p->exchanges, ex);
}

void exchange_abort(struct exchange *ex)
{
	ex->client_gone = true;
	ex->fate = FATE_RESET;
	finish(ex);
}

static void over(struct exchange *ex, enum exchange_fate fate)
{
	ex->fate = (uint8_t)fate;
}

/* --- local answers -------------------------------------------------------------------------------
 */

static const struct {
	uint16_t status;
	const char *text;
} answers[CAUSE_MAX] = {
	[CAUSE_BREAKER_OPEN] = {503, "Service unavailable"},
	[CAUSE_NO_ENDPOINT] = {503, "the service has no endpoint"},
	[CAUSE_NO_HEALTHY_ENDPOINT] = {503, "the service has no healthy endpoint"},
	[CAUSE_NO_ROUTE] = {404, "no service is meant by this host and path"},
	[CAUSE_BULKHEAD_FULL] = {503, "too many requests to the service at once"},
	[CAUSE_CONNECT_FAILED] = {503, "the endpoint could not be connected to"},
	[CAUSE_CONNECT_TIMEOUT] = {504, "the endpoint did not accept the connection in time"},
	[CAUSE_TRY_TIMEOUT] = {504, "the endpoint did not answer in time"},
	[CAUSE_REQUEST_TIMEOUT] = {504, "no endpoint answered in time"},
	[CAUSE_UPSTREAM_RESET] = {502, "the endpoint closed the connection before it had answered"},
	[CAUSE_UPSTREAM_PROTOCOL] = {502, "the endpoint's answer is not valid HTTP"},
	[CAUSE_BAD_REQUEST] = {400, "bad request"},
	[CAUSE_HEADER_TOO_LARGE] = {431, "the request's head is too large"},
	[CAUSE_BODY_TOO_LARGE] = {413, "the request's body is too large"},
	[CAUSE_RETRY_BUDGET] = {503, "the retry budget is used up"},
	[CAUSE_FAULT_INJECTED] = {503, "injected fault"},
	[CAUSE_DRAINING] = {503, "the proxy is draining"},
	[CAUSE_DENIED] = {403, "denied"},
};

static bool without_body(const struct http1_head *h)
{
	return h->framing == HTTP1_NO_BODY || (h->framing == HTTP1_LENGTH && !h->content_length);
}

/* Answers in the endpoint's stead. status 0: what goes with the cause; text NULL likewise. */
static void answer(struct exchange *ex, enum mesh_cause cause, uint16_t status, const char *text)
{
	struct conn *down = &ex->down->conn;
	bool keep = ex->request.keep_alive && without_body(&ex->request) && ex->request.size;
	const char *service = NULL;
	const struct snap_service *s;
	size_t cap, n = 0;
	char *out;

	ex->local = true;
	ex->cause = (uint8_t)cause;
	ex->status = status ? status : answers[cause].status;
	s = ex->proxy->snapshot ? snapshot_service(ex->proxy->snapshot, ex->service) : NULL;
	if (s)
		service = snapshot_string(ex->proxy->snapshot, s->name);
	out = conn_compose(down, &cap);
	if (out)
		n = codec_answer(ex, text ? text : answers[cause].text, service, keep, out, cap);
	if (!n) {
		over(ex, FATE_RESET);
		return;
	}
	conn_composed(down, n);
	conn_release(down);
	timer_arm(&ex->proxy->loop, &ex->timer,
		  ex->timeouts.idle ? ex->timeouts.idle : DOWN_LINGER_MS, on_timer);
	ex->state = EX_ANSWER;
	ex->response.keep_alive = keep;
}

void exchange_bad_request(struct exchange *ex)
{
	uint16_t status = ex->request.status;
	enum mesh_cause cause = CAUSE_BAD_REQUEST;

	if (status == 431 || status == 414)
		cause = CAUSE_HEADER_TOO_LARGE;
	else if (status == 413)
		cause = CAUSE_BODY_TOO_LARGE;
	ex->request.keep_alive = false;
	answer(ex, cause, status, ex->request.reason);
}

/* --- tries ---------------------------------------------------------------------------------------
 */

static uint64_t ms_since(const struct exchange *ex, uint64_t ns)
{
	return (ex->proxy->loop.now_ns - ns) / 1000000;
}

static uint64_t sooner(uint64_t a, uint32_t limit, uint64_t passed)
{
	uint64_t left = limit > passed ? limit - passed : 0;

	return limit && left < a ? left : a;
}

/* One timer for all that bounds the way to the answer's head; on_timer finds out which it was. */
static void arm_try_timer(struct exchange *ex)
{
	const struct snap_timeouts *t = &ex->timeouts;
	uint64_t ms = UINT64_MAX;

	if (!ex->request_sent && ex->request_waited && !ex->up->conn.connecting) {
		ms = sooner(ms, t->idle, ms_since(ex, ex->progress_ns));
	} else {
		ms = sooner(ms, t->try, ms_since(ex, ex->sent_ns));
		ms = sooner(ms, t->request, ms_since(ex, ex->waiting_ns));
		if (ex->up->conn.connecting)
			ms = sooner(ms, t->connect, ms_since(ex, ex->try_ns));
	}
	if (ms == UINT64_MAX)
		timer_cancel(&ex->proxy->loop, &ex->timer);
	else
		timer_arm(&ex->proxy->loop, &ex->timer, ms, on_timer);
}

static void begin_request_body(struct exchange *ex)
{
	const struct http1_head *h = &ex->request;

	if (h->framing == HTTP1_CHUNKED)
		pump_init(&ex->request_body, PUMP_CHUNKED, 0);
	else
		pump_init(&ex->request_body, PUMP_LENGTH,
			  h->framing == HTTP1_LENGTH ? h->content_length : 0);
}

/* Begins a try; ex->up may be there already, from the detection of the protocol. */
static void try_begin(struct exchange *ex)
{
	struct conn *down = &ex->down->conn;
	size_t cap, n = 0;
	char *out;

	if (!ex->up && !try_connect(ex)) {
		answer(ex, ex->target.nsplit ? CAUSE_NO_HEALTHY_ENDPOINT : CAUSE_NO_ENDPOINT, 0,
		       NULL);
		return;
	}
	ex->try_ns = ex->sent_ns = ex->proxy->loop.now_ns;
	if (!ex->waiting_ns)
		ex->waiting_ns = ex->try_ns;
	ex->request_sent = ex->request_cut = ex->request_waited = false;
	ex->state = EX_TRY;
	http1_head_init(&ex->response);
	down->in.start = down->in.hold + ex->request.size;
	begin_request_body(ex);
	out = conn_compose(&ex->up->conn, &cap);
	if (out)
		n = codec_request(ex, down->in.mem + down->in.hold, out, cap);
	if (!n) {
		try_end(ex, TRY_DROPPED);
		ex->request.keep_alive = false;
		answer(ex, CAUSE_HEADER_TOO_LARGE, 0, NULL);
		return;
	}
	conn_composed(&ex->up->conn, n);
	arm_try_timer(ex);
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

/*
 * May the request be sent again? Only while all of it can still be read. A connection that was
 * never made has seen nothing of it. A pooled connection that the endpoint closed without a byte in
 * return has most likely not processed it (RFC 9112 9.3.1), and a method whose repetition does no
 * harm (RFC 9110 9.2.2) may take the risk.
 */
static bool may_try_again(const struct exchange *ex, enum mesh_cause cause)
{
	if (ex->tries >= EXCHANGE_TRIES || !ex->down->conn.in.held)
		return false;
	if (cause == CAUSE_CONNECT_FAILED || cause == CAUSE_CONNECT_TIMEOUT)
		return true;
	return cause == CAUSE_UPSTREAM_RESET && ex->reused && !ex->response.scanned &&
	       idempotent(ex->request.method);
}

static void try_failed(struct exchange *ex, enum mesh_cause cause)
{
	bool again = may_try_again(ex, cause), stale = cause == CAUSE_UPSTREAM_RESET && ex->reused;

	try_end(ex, stale && again ? TRY_DROPPED : TRY_FAILED);
	if (!again) {
		answer(ex, cause, 0, NULL);
		return;
	}
	ex->fresh = stale;
	try_begin(ex);
}

/* Why the connection to the endpoint is of no use: never made, or lost. */
static enum mesh_cause lost(const struct exchange *ex)
{
	return ex->up->conn.connecting ? CAUSE_CONNECT_FAILED : CAUSE_UPSTREAM_RESET;
}

void exchange_request(struct exchange *ex)
{
	struct conn *down = &ex->down->conn;
	enum mesh_cause cause;

	conn_hold(down);
	record_request(ex, down->in.mem + down->in.hold);
	cause = route_request(ex, down->in.mem + down->in.hold);
	if (cause != CAUSE_NONE) {
		try_end(ex, TRY_DROPPED);
		conn_consume(down, ex->request.size);
		answer(ex, cause, 0, NULL);
		return;
	}
	try_begin(ex);
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
		if (ex->request_waited && ex->state == EX_TRY) {
			ex->sent_ns = ex->waiting_ns = ex->proxy->loop.now_ns;
			arm_try_timer(ex);
		}
		break;
	case PUMP_WRITE_FAILED: /* it may have answered first: read on */
		ex->request_cut = true;
		ex->up->conn.readable = true;
		break;
	case PUMP_EOF:
	case PUMP_READ_FAILED:
		ex->client_gone = true;
		over(ex, FATE_RESET);
		break;
	case PUMP_BAD:
		try_end(ex, TRY_DROPPED);
		ex->request.keep_alive = false;
		if (ex->state == EX_TRY)
			answer(ex, CAUSE_BAD_REQUEST, 0, "malformed chunked body");
		else
			over(ex, FATE_RESET);
		break;
	case PUMP_AGAIN:
		exchange_again(ex);
		break;
	case PUMP_WAIT:
		break;
	}
	if (!ex->request_sent)
		ex->request_waited = true;
	moved(ex, &ex->request_body, before);
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
	bool keep =
		ex->request.keep_alive && ex->response.framing != HTTP1_UNTIL_CLOSE && !p->draining;
	size_t cap, n = 0;
	char *out = conn_compose(down, &cap);

	ex->head_ns = p->loop.now_ns;
	ex->upstream_ns = ex->head_ns - ex->try_ns;
	ex->status = ex->response.status;
	shared_latency(&p->shared, ex->endpoint, ex->upstream_ns, ex->head_ns, ex->status >= 500);
	if (out)
		n = codec_response(ex, up->in.mem + up->in.start, keep, out, cap);
	if (!n) {
		try_failed(ex, CAUSE_UPSTREAM_PROTOCOL);
		return;
	}
	ex->reusable = ex->response.keep_alive && ex->response.framing != HTTP1_UNTIL_CLOSE;
	ex->keep_alive_ms = codec_keep_alive_ms(&ex->response, up->in.mem + up->in.start);
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
	while (ex->state == EX_TRY) {
		struct conn *up = &ex->up->conn; /* another one after a failed try */
		ssize_t n;

		if (conn_unread(up)) {
			switch (http1_response_parse(&ex->response, up->in.mem + up->in.start,
						     conn_unread(up), RESPONSE_HEAD_MAX,
						     ex->request.method)) {
			case HTTP1_BAD:
				try_failed(ex, CAUSE_UPSTREAM_PROTOCOL);
				return;
			case HTTP1_DONE:
				if (ex->response.status == 101 && !ex->request.upgrade)
					try_failed(ex, CAUSE_UPSTREAM_PROTOCOL);
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
				try_failed(ex, lost(ex));
			return;
		}
		n = conn_fill(up);
		if (n == -ENOBUFS)
			exchange_again(ex);
		if (n == -EAGAIN || n == -ENOBUFS)
			return;
	}
}

/* The answer is out. Both connections may go on if both bodies are whole. */
static void complete(struct exchange *ex)
{
	bool whole = ex->request_sent;

	try_end(ex, ex->reusable && whole ? TRY_GOOD : TRY_SPENT);
	over(ex, ex->keep_client && whole ? FATE_KEEP : FATE_CLOSE);
}

static void run_response_body(struct exchange *ex)
{
	uint64_t before = ex->response_body.bytes;

	switch (pump_run(&ex->response_body, &ex->up->conn, &ex->down->conn)) {
	case PUMP_DONE:
		complete(ex);
		return;
	case PUMP_AGAIN:
		exchange_again(ex);
		break;
	case PUMP_WAIT:
		break;
	case PUMP_WRITE_FAILED:
		ex->client_gone = true;
		over(ex, FATE_RESET);
		return;
	case PUMP_EOF:
	case PUMP_BAD:
	case PUMP_READ_FAILED: /* the head is out: all we can do is not to let it look whole */
		ex->cause = CAUSE_UPSTREAM_RESET;
		try_end(ex, TRY_FAILED);
		over(ex, FATE_RESET);
		return;
	}
	if (moved(ex, &ex->response_body, before) || !ex->timed_body) {
		if (!ex->timed_body && ex->timeouts.idle)
			timer_arm(&ex->proxy->loop, &ex->timer, ex->timeouts.idle, on_timer);
		ex->timed_body = true;
	}
}

static void run_http(struct exchange *ex)
{
	uint8_t tries;

	do { /* again while one try after the other fails at once */
		tries = ex->tries;
		if (ex->state == EX_TRY || ex->state == EX_BODY)
			run_request(ex);
		if (!ex->fate && ex->state == EX_TRY)
			run_response_head(ex);
		if (!ex->fate && ex->state == EX_BODY)
			run_response_body(ex);
	} while (!ex->fate && ex->state == EX_TRY && ex->tries != tries);
}

static void run_answer(struct exchange *ex)
{
	struct conn *down = &ex->down->conn;

	if (conn_send(down, NULL, 0) < 0) {
		ex->client_gone = true;
		over(ex, FATE_RESET);
	} else if (conn_flushed(down)) {
		over(ex, ex->response.keep_alive ? FATE_KEEP : FATE_CLOSE);
	}
}

/* --- tunnels -------------------------------------------------------------------------------------
 */

void exchange_detect(struct exchange *ex)
{
	ex->state = EX_DETECT;
	ex->upstream = ex->down->upstream;
	if (!route_tunnel(ex) || !try_connect(ex))
		timer_arm(&ex->proxy->loop, &ex->timer, DETECT_WAIT_MS, on_timer);
}

bool exchange_spoken_to(const struct exchange *ex)
{
	return ex->up && !ex->up->conn.error && ex->up->conn.readable;
}

void exchange_detect_on(struct exchange *ex)
{
	while (ex->up && ex->up->conn.error) {
		try_end(ex, TRY_FAILED);
		if (ex->tries >= EXCHANGE_TRIES || !try_connect(ex))
			timer_arm(&ex->proxy->loop, &ex->timer, DETECT_WAIT_MS, on_timer);
	}
}

void exchange_tunnel(struct exchange *ex)
{
	timer_cancel(&ex->proxy->loop, &ex->timer);
	pump_init(&ex->request_body, PUMP_RAW, 0);
	pump_init(&ex->response_body, PUMP_RAW, 0);
	ex->state = EX_TUNNEL;
	if (!ex->up && !try_connect(ex))
		over(ex, FATE_RESET);
}

/* One direction. Returns true when it is over. */
static bool run_tunnel_side(struct exchange *ex, struct pump *p, struct conn *from, struct conn *to)
{
	switch (pump_run(p, from, to)) {
	case PUMP_DONE:
		conn_shutdown(to);
		return true;
	case PUMP_AGAIN:
		exchange_again(ex);
		return false;
	case PUMP_WAIT:
		return false;
	default:
		over(ex, FATE_RESET);
		return false;
	}
}

static void run_tunnel(struct exchange *ex)
{
	struct conn *down = &ex->down->conn;
	bool there, back;

	while (ex->up && ex->up->conn.error && ex->up->conn.connecting) {
		try_end(ex, TRY_FAILED);
		if (ex->tries >= EXCHANGE_TRIES || !try_connect(ex))
			over(ex, FATE_RESET);
	}
	if (!ex->up)
		return;
	there = run_tunnel_side(ex, &ex->request_body, down, &ex->up->conn);
	back = run_tunnel_side(ex, &ex->response_body, &ex->up->conn, down);
	if (ex->fate == FATE_RESET || !there || !back)
		return;
	try_end(ex, TRY_SPENT);
	over(ex, FATE_CLOSE);
}

/* --- driven by the loop --------------------------------------------------------------------------
 */

bool exchange_run(struct exchange *ex)
{
	if (!ex->fate) {
		if (ex->state == EX_TUNNEL)
			run_tunnel(ex);
		else
			run_http(ex);
	}
	if (!ex->fate && ex->state == EX_TUNNEL) /* an upgrade has just begun */
		run_tunnel(ex);
	if (!ex->fate && ex->state == EX_ANSWER)
		run_answer(ex);
	if (!ex->fate)
		return false;
	finish(ex);
	return true;
}

static void try_timeout(struct exchange *ex)
{
	const struct snap_timeouts *t = &ex->timeouts;
	bool uploading = !ex->request_sent && ex->request_waited && !ex->up->conn.connecting;

	if (uploading && t->idle && ms_since(ex, ex->progress_ns) >= t->idle)
		over(ex, FATE_RESET);
	else if (!uploading && t->request && ms_since(ex, ex->waiting_ns) >= t->request)
		try_failed(ex, CAUSE_REQUEST_TIMEOUT);
	else if (!uploading && ex->up->conn.connecting && t->connect &&
		 ms_since(ex, ex->try_ns) >= t->connect)
		try_failed(ex, CAUSE_CONNECT_TIMEOUT);
	else if (!uploading && t->try && ms_since(ex, ex->sent_ns) >= t->try)
		try_failed(ex, CAUSE_TRY_TIMEOUT);
	else
		arm_try_timer(ex);
}

static void body_timeout(struct exchange *ex)
{
	uint64_t passed = ms_since(ex, ex->progress_ns);

	if (!ex->timeouts.idle)
		return;
	if (passed < ex->timeouts.idle) {
		timer_arm(&ex->proxy->loop, &ex->timer, ex->timeouts.idle - passed, on_timer);
		return;
	}
	ex->cause = CAUSE_UPSTREAM_RESET;
	over(ex, FATE_RESET);
}

static void on_timer(struct timer *t)
{
	struct exchange *ex = (struct exchange *)((char *)t - offsetof(struct exchange, timer));

	if (ex->state == EX_TRY)
		try_timeout(ex);
	else if (ex->state == EX_BODY)
		body_timeout(ex);
	else
		over(ex, FATE_RESET); /* nobody to reach, or the caller does not take our answer */
	downstream_run(ex->down);
}

void exchange_again(struct exchange *ex)
{
	struct proxy *p = ex->proxy;

	p->loop.busy = true;
	if (ex->queued)
		return;
	ex->queued = true;
	ex->next_again = NULL;
	*p->again_last = ex;
	p->again_last = &ex->next_again;
	p->nagain++;
}

void exchange_run_again(struct loop *l)
{
	struct proxy *p = (struct proxy *)((char *)l - offsetof(struct proxy, loop));

	/* those that queue themselves once more wait for the next round */
	for (uint32_t n = p->nagain; n && p->again; n--) {
		struct exchange *ex = p->again;

		unqueue(ex);
		downstream_run(ex->down);
	}
}
