/* SPDX-License-Identifier: Apache-2.0 */
/* See fault.h. */
#include "agent/proxy/fault.h"
#include "agent/proxy/answer.h"
#include "agent/proxy/proxy.h"
#include "agent/proxy/timeout.h"
#include "agent/proxy/try.h"

static bool strikes(struct proxy *p, uint32_t share)
{
	if (!share || share >= SNAP_ALL)
		return share;
	return (uint64_t)proxy_random(p) * SNAP_ALL >> 32 < share;
}

/* What the first fault has not struck with already. */
static void draw(struct exchange *ex, const struct snap_fault *f)
{
	struct proxy *p = ex->proxy;

	if (f->until_ms && p->loop.now_ns / 1000000 >= f->until_ms)
		return;
	if (!ex->fault_delay_ms && strikes(p, f->delay_share))
		ex->fault_delay_ms = f->delay_ms;
	if (!ex->fault_status && strikes(p, f->abort_share))
		ex->fault_status = (uint16_t)f->abort_status;
}

static const struct snap_fault *chaos(const struct exchange *ex)
{
	const struct snapshot *snap = ex->proxy->snapshot;
	const struct snap_service *s = snap ? snapshot_service(snap, ex->service) : NULL;

	return s && (s->fault.delay_share || s->fault.abort_share) ? &s->fault : NULL;
}

static void answer(struct exchange *ex)
{
	/* an answer of these statuses has no content (RFC 9110 15.3.5, 15.4.5) */
	bool bare = ex->fault_status == 204 || ex->fault_status == 205 || ex->fault_status == 304;

	ex->flags |= RECORD_ABORTED;
	try_end(ex, TRY_DROPPED);
	answer_locally(ex, CAUSE_FAULT_INJECTED, ex->fault_status, bare ? "" : NULL);
}

bool fault_begin(struct exchange *ex)
{
	const struct snap_fault *f = chaos(ex);

	if (ex->routed.fault.delay_share || ex->routed.fault.abort_share)
		draw(ex, &ex->routed.fault);
	if (f)
		draw(ex, f);
	if (ex->fault_delay_ms) {
		ex->flags |= RECORD_DELAYED;
		ex->state = EX_DELAY;
		ex->waiting_ns = ex->delay_ns = ex->proxy->loop.now_ns;
		timeout_delay(ex);
		return true;
	}
	if (!ex->fault_status)
		return false;
	answer(ex);
	return true;
}

void fault_due(struct exchange *ex)
{
	if (ex->fault_status)
		answer(ex);
	else
		exchange_admit(ex);
}

void fault_timed_out(struct exchange *ex)
{
	try_end(ex, TRY_DROPPED);
	answer_locally(ex, CAUSE_REQUEST_TIMEOUT, 0, NULL);
}
