/* SPDX-License-Identifier: Apache-2.0 */
/* See timeout.h. */
#include "agent/proxy/timeout.h"
#include "agent/proxy/downstream.h"
#include "agent/proxy/fault.h"
#include "agent/proxy/proxy.h"
#include "agent/proxy/tries.h"
#include "agent/proxy/tunnel.h"
#include "agent/proxy/upstream.h"

static void on_timer(struct timer *t);

static void arm(struct exchange *ex, uint64_t ms)
{
	timer_arm(&ex->proxy->loop, &ex->timer, ms, on_timer);
}

static uint64_t ms_since(const struct exchange *ex, uint64_t ns)
{
	return (ex->proxy->loop.now_ns - ns) / 1000000;
}

static uint64_t sooner(uint64_t a, uint32_t limit, uint64_t passed)
{
	uint64_t left = limit > passed ? limit - passed : 0;

	return limit && left < a ? left : a;
}

/* Is it the caller's turn? Who asked whether to send a body (Expect: 100-continue) waits for the
 * endpoint, until it says so, or begins all the same (RFC 9110 10.1.1). */
static bool is_uploading(const struct exchange *ex)
{
	return !ex->request_sent && ex->request_waited &&
	       (!ex->request.expect_continue || ex->request_body.bytes);
}

/* One timer for all that bounds the way to the answer's head; on_timer finds out which it was. */
void timeout_try(struct exchange *ex)
{
	const struct snap_timeouts *t = &ex->timeouts;
	uint64_t ms = UINT64_MAX;

	if (is_uploading(ex)) {
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
		arm(ex, ms);
}

void timeout_delay(struct exchange *ex)
{
	uint64_t passed = ms_since(ex, ex->delay_ns);
	uint64_t left = ex->fault_delay_ms > passed ? ex->fault_delay_ms - passed : 0;

	arm(ex, sooner(left, ex->timeouts.request, ms_since(ex, ex->waiting_ns)));
}

void timeout_body(struct exchange *ex)
{
	if (ex->timeouts.idle)
		arm(ex, ex->timeouts.idle);
}

void timeout_answer(struct exchange *ex)
{
	arm(ex, ex->timeouts.idle ? ex->timeouts.idle : DOWN_LINGER_MS);
}

void timeout_connect(struct exchange *ex)
{
	uint64_t ms = sooner(UINT64_MAX, ex->timeouts.connect, ms_since(ex, ex->try_ns));

	if (ms == UINT64_MAX || !ex->up->conn.connecting)
		timer_cancel(&ex->proxy->loop, &ex->timer);
	else
		arm(ex, ms);
}

void timeout_backoff(struct exchange *ex, uint32_t wait_ms)
{
	arm(ex, wait_ms);
}

void timeout_queue(struct exchange *ex)
{
	uint64_t ms = timeout_left(ex);

	if (ms == UINT64_MAX)
		timer_cancel(&ex->proxy->loop, &ex->timer);
	else
		arm(ex, ms);
}

uint64_t timeout_left(const struct exchange *ex)
{
	return sooner(UINT64_MAX, ex->timeouts.request,
		      ex->waiting_ns ? ms_since(ex, ex->waiting_ns) : 0);
}

void timeout_detect(struct exchange *ex)
{
	arm(ex, DETECT_WAIT_MS);
}

/* Is there something for `to` that it does not take? */
static bool is_stuck(const struct pump *p, const struct conn *to)
{
	return p->ready || !conn_flushed(to);
}

static void upload_due(struct exchange *ex)
{
	if (is_stuck(&ex->request_body, &ex->up->conn))
		exchange_try_failed(ex, CAUSE_TRY_TIMEOUT);
	else
		exchange_refuse(ex, CAUSE_REQUEST_TIMEOUT, 408,
				"the request's body did not come in time");
}

static void try_due(struct exchange *ex)
{
	const struct snap_timeouts *t = &ex->timeouts;
	bool uploading = is_uploading(ex);

	if (uploading && t->idle && ms_since(ex, ex->progress_ns) >= t->idle)
		upload_due(ex);
	else if (!uploading && t->request && ms_since(ex, ex->waiting_ns) >= t->request)
		exchange_try_failed(ex, CAUSE_REQUEST_TIMEOUT);
	else if (!uploading && ex->up->conn.connecting && t->connect &&
		 ms_since(ex, ex->try_ns) >= t->connect)
		exchange_try_failed(ex, CAUSE_CONNECT_TIMEOUT);
	else if (!uploading && t->try && ms_since(ex, ex->sent_ns) >= t->try)
		exchange_try_failed(ex, CAUSE_TRY_TIMEOUT);
	else
		timeout_try(ex);
}

static void delay_due(struct exchange *ex)
{
	uint32_t limit = ex->timeouts.request;

	if (limit && ms_since(ex, ex->waiting_ns) >= limit)
		fault_timed_out(ex);
	else if (ms_since(ex, ex->delay_ns) >= ex->fault_delay_ms)
		fault_due(ex);
	else
		timeout_delay(ex);
}

static void body_due(struct exchange *ex)
{
	uint64_t passed = ms_since(ex, ex->progress_ns);

	if (!ex->timeouts.idle)
		return;
	if (passed < ex->timeouts.idle) {
		arm(ex, ex->timeouts.idle - passed);
		return;
	}
	if (is_stuck(&ex->response_body, &ex->down->conn))
		ex->client_gone = true;
	else
		ex->cause = CAUSE_UPSTREAM_RESET;
	exchange_over(ex, FATE_RESET);
}

static void on_timer(struct timer *t)
{
	struct exchange *ex = (struct exchange *)((char *)t - offsetof(struct exchange, timer));

	if (ex->state == EX_TRY)
		try_due(ex);
	else if (ex->state == EX_DELAY)
		delay_due(ex);
	else if (ex->state == EX_BACKOFF || ex->state == EX_QUEUE)
		tries_due(ex);
	else if (ex->state == EX_BODY)
		body_due(ex);
	else if (ex->state == EX_DETECT || ex->state == EX_TUNNEL)
		tunnel_due(ex);
	else /* the caller does not take our answer */
		exchange_over(ex, FATE_RESET);
	downstream_run(ex->down);
}
