/* SPDX-License-Identifier: Apache-2.0 */
/* See admission.h. */
#include "agent/proxy/admission.h"
#include "agent/proxy/proxy.h"

enum mesh_cause admission_begin(struct exchange *ex)
{
	struct proxy *p = ex->proxy;

	ex->bulkhead = (uint8_t)bulkhead_enter(p, ex->service, ex->down, ex->state == EX_TUNNEL,
					       &ex->place);
	if (ex->bulkhead)
		return CAUSE_BULKHEAD_FULL;
	if (breaker_admit(p, ex->service, &ex->pass))
		return CAUSE_NONE;
	bulkhead_leave(p, ex->service, &ex->place);
	return CAUSE_BREAKER_OPEN;
}

/* Is this how callers learn, after at least one try, that the service is in trouble? When there was
 * no room or nobody left for another, it is the first that failed. */
static bool is_failure(enum mesh_cause cause)
{
	switch (cause) {
	case CAUSE_BULKHEAD_FULL:
	case CAUSE_NO_ENDPOINT:
	case CAUSE_NO_HEALTHY_ENDPOINT:
	case CAUSE_CONNECT_FAILED:
	case CAUSE_CONNECT_TIMEOUT:
	case CAUSE_TRY_TIMEOUT:
	case CAUSE_REQUEST_TIMEOUT:
	case CAUSE_UPSTREAM_RESET:
	case CAUSE_UPSTREAM_PROTOCOL:
		return true;
	default:
		return false;
	}
}

static enum breaker_result result(const struct exchange *ex)
{
	if (ex->local && (!ex->tries || ex->status < 500 || ex->impatient))
		return BREAKER_NOTHING;
	if (ex->cause != CAUSE_NONE)
		return is_failure(ex->cause) ? BREAKER_FAILED : BREAKER_NOTHING;
	if (!ex->status)
		return BREAKER_NOTHING;
	return ex->status >= 500 ? BREAKER_FAILED : BREAKER_GOOD;
}

void admission_settled(struct exchange *ex)
{
	breaker_result(ex->proxy, ex->service, &ex->pass, BREAKER_GOOD);
}

void admission_end(struct exchange *ex)
{
	breaker_result(ex->proxy, ex->service, &ex->pass, result(ex));
	bulkhead_leave(ex->proxy, ex->service, &ex->place);
}
