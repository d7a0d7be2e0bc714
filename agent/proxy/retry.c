/* SPDX-License-Identifier: Apache-2.0 */
/* See retry.h. */
#include "agent/proxy/retry.h"
#include "agent/proxy/breaker.h"
#include "agent/proxy/downstream.h"
#include "agent/proxy/policy.h"
#include "agent/proxy/proxy.h"
#include "agent/proxy/timeout.h"
#include "agent/proxy/try.h"

#include <mesh/ewma.h>

static uint64_t now_ms(const struct exchange *ex)
{
	return ex->proxy->loop.now_ns / 1000000;
}

/* --- the budget ----------------------------------------------------------------------------------
 */

/* A full one stays full; most are, and then nothing is written. */
void retry_earn(struct exchange *ex)
{
	const struct mesh_budget_policy *policy = &policy_of(ex->proxy, ex->service)->budget;
	__u64 *word = &ex->proxy->shared.svc_stats[ex->service].budget,
	      old = __atomic_load_n(word, __ATOMIC_RELAXED), next;

	do {
		if ((old & 0xffffffff) >= mesh_budget_cap(policy))
			return;
		next = mesh_budget_earn(old, policy, now_ms(ex));
	} while (!__atomic_compare_exchange_n(word, &old, next, true, __ATOMIC_RELAXED,
					      __ATOMIC_RELAXED));
}

static bool budget_take(struct exchange *ex)
{
	const struct mesh_budget_policy *policy = &policy_of(ex->proxy, ex->service)->budget;
	__u64 *word = &ex->proxy->shared.svc_stats[ex->service].budget,
	      old = __atomic_load_n(word, __ATOMIC_RELAXED);
	struct mesh_budget_step s;

	do {
		s = mesh_budget_take(old, policy, now_ms(ex));
		if (!s.granted)
			return false;
	} while (!__atomic_compare_exchange_n(word, &old, s.word, true, __ATOMIC_RELAXED,
					      __ATOMIC_RELAXED));
	return true;
}

/* --- the decision --------------------------------------------------------------------------------
 */

void retry_avoid(struct exchange *ex)
{
	if (ex->navoid < EXCHANGE_AVOIDED)
		ex->avoid[ex->navoid++] = ex->endpoint;
}

static bool is_condition(const struct exchange *ex, enum mesh_cause cause)
{
	if (cause == CAUSE_NONE)
		return snap_retry_has_status(&ex->retry, ex->status);
	return ex->retry.causes >> cause & 1;
}

/* All that does not depend on anybody else. */
static bool is_allowed(const struct exchange *ex)
{
	const struct http1_head *h = &ex->request;

	return ex->tries <= ex->retry.attempts && ex->tries < UINT8_MAX &&
	       h->method != HTTP1_OTHER && ex->retry.methods >> h->method & 1 &&
	       ex->down->conn.in.held && !ex->pass.probe;
}

/* Full jitter: who failed together does not come back together. */
static uint32_t backoff(struct exchange *ex)
{
	uint32_t most = ex->retry.max_backoff_ms, n = ex->tries ? ex->tries - 1 : 0;
	uint64_t ms = (uint64_t)ex->retry.backoff_ms << (n < 20 ? n : 20);

	if (ms > most)
		ms = most;
	return (uint32_t)(proxy_random(ex->proxy) % (ms + 1));
}

/* What the endpoint that would be asked usually takes; 0: not known. false: there is nobody. */
static bool usual_ms(struct exchange *ex, uint64_t *ms)
{
	struct proxy *p = ex->proxy;
	uint32_t endpoint = try_likely(ex);
	uint64_t word;

	if (endpoint == MESH_NONE)
		return false;
	word = __atomic_load_n(&p->shared.ep_stats[endpoint].ewma, __ATOMIC_RELAXED);
	*ms = mesh_ewma_read(word, p->loop.now_ns) / 1000000;
	return true;
}

bool retry_granted(struct exchange *ex, enum mesh_cause cause, uint32_t *wait_ms)
{
	uint64_t usual;

	if (!is_condition(ex, cause) || !is_allowed(ex))
		return false;
	if (!breaker_is_closed(ex->proxy, ex->service))
		return false;
	retry_avoid(ex);
	*wait_ms = backoff(ex);
	if (!usual_ms(ex, &usual) || timeout_left(ex) <= *wait_ms + usual)
		return false;
	if (budget_take(ex))
		return true;
	ex->flags |= RECORD_NO_BUDGET;
	return false;
}
