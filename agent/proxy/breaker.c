/* SPDX-License-Identifier: Apache-2.0 */
/* See breaker.h. */
#include "agent/proxy/breaker.h"
#include "agent/proxy/policy.h"
#include "agent/proxy/proxy.h"

static uint64_t load(const __u64 *word)
{
	return __atomic_load_n(word, __ATOMIC_RELAXED);
}

/* On failure *old is what the word is now. */
static bool swap(__u64 *word, __u64 *old, __u64 next)
{
	return __atomic_compare_exchange_n(word, old, next, false, __ATOMIC_ACQ_REL,
					   __ATOMIC_RELAXED);
}

static uint64_t now_ms(const struct proxy *p)
{
	return p->loop.now_ns / 1000000;
}

static void count(struct proxy *p, __u64 window[MESH_WINDOW],
		  const struct mesh_breaker_policy *policy, bool failed)
{
	__u32 turn = mesh_window_turn(policy->window_ms, now_ms(p));
	__u64 *word = &window[mesh_window_index(turn)], old = load(word);

	while (!swap(word, &old, mesh_window_add(old, turn, failed)))
		;
}

/* --- probes --------------------------------------------------------------------------------------
 */

/* Returns the verdict; *moved: the state that the word went to, or -1. */
static uint32_t admit(struct proxy *p, __u64 *word, const struct mesh_breaker_policy *policy,
		      struct breaker_pass *pass, int *moved)
{
	__u64 old = load(word);
	struct mesh_breaker_step s;

	*moved = -1;
	do {
		s = mesh_breaker_admit(old, policy, now_ms(p));
		if (s.word == old) /* only a probe changes it */
			break;
	} while (!swap(word, &old, s.word));
	if (s.verdict == MESH_PROBE && mesh_breaker_state(old) != mesh_breaker_state(s.word))
		*moved = (int)mesh_breaker_state(s.word);
	*pass = (struct breaker_pass){.lease = s.lease,
				      .counts = s.verdict != MESH_REFUSE,
				      .probe = s.verdict == MESH_PROBE};
	return s.verdict;
}

/* The end of a probe. Returns the state that the word went to, or -1. */
static int settle(struct proxy *p, __u64 *word, const struct mesh_breaker_policy *policy,
		  const struct breaker_pass *pass, enum breaker_result r)
{
	__u64 old = load(word), next;

	do {
		next = r == BREAKER_NOTHING ? mesh_breaker_dropped(old, pass->lease)
					    : mesh_breaker_probed(old, policy, pass->lease,
								  r == BREAKER_FAILED, now_ms(p));
		if (next == old)
			return -1;
	} while (!swap(word, &old, next));
	return mesh_breaker_state(old) == mesh_breaker_state(next) ? -1
								   : (int)mesh_breaker_state(next);
}

/* --- a service -----------------------------------------------------------------------------------
 */

static void went(struct mesh_svc_stat *st, int state)
{
	if (state >= 0)
		__atomic_fetch_add(&st->went[state], 1, __ATOMIC_RELAXED);
}

bool breaker_is_closed(const struct proxy *p, uint32_t service)
{
	return mesh_breaker_state(load(&p->shared.svc_stats[service].breaker)) == MESH_CLOSED;
}

bool breaker_admit(struct proxy *p, uint32_t service, struct breaker_pass *pass)
{
	struct mesh_svc_stat *st = &p->shared.svc_stats[service];
	int moved;

	*pass = (struct breaker_pass){.counts = true};
	if (breaker_is_closed(p, service))
		return true;
	admit(p, &st->breaker, &policy_of(p, service)->breaker, pass, &moved);
	went(st, moved);
	return pass->counts;
}

static void trip(struct proxy *p, struct mesh_svc_stat *st,
		 const struct mesh_breaker_policy *policy)
{
	__u64 window[MESH_WINDOW], old = load(&st->breaker), next, failures = 0;

	for (int i = 0; i < MESH_WINDOW; i++) {
		window[i] = load(&st->window[i]);
		failures |= window[i] >> 20 & MESH_WINDOW_FULL;
	}
	if (!failures)
		return;
	do {
		next = mesh_breaker_trip(old, policy,
					 mesh_breaker_tally(old, policy, window, now_ms(p)), 0,
					 now_ms(p));
		if (next == old)
			return;
	} while (!swap(&st->breaker, &old, next));
	went(st, MESH_OPEN);
}

void breaker_result(struct proxy *p, uint32_t service, struct breaker_pass *pass,
		    enum breaker_result r)
{
	const struct mesh_breaker_policy *policy = &policy_of(p, service)->breaker;
	struct mesh_svc_stat *st = &p->shared.svc_stats[service];

	if (!pass->counts)
		return;
	if (r != BREAKER_NOTHING)
		count(p, st->window, policy, r == BREAKER_FAILED);
	if (pass->probe)
		went(st, settle(p, &st->breaker, policy, pass, r));
	else if (r != BREAKER_NOTHING)
		trip(p, st, policy);
	*pass = (struct breaker_pass){0};
}

/* --- an endpoint ---------------------------------------------------------------------------------
 */

bool breaker_may_try(const struct proxy *p, uint32_t service, uint32_t endpoint,
		     const struct breaker_pass *pass)
{
	uint64_t word = load(&p->shared.ep_stats[endpoint].breaker);

	if (mesh_breaker_state(word) == MESH_CLOSED)
		return true;
	return pass &&
	       mesh_breaker_admit(word, &policy_of(p, service)->breaker, now_ms(p)).verdict !=
		       MESH_REFUSE;
}

bool breaker_is_barred(const struct proxy *p, uint32_t endpoint)
{
	uint64_t word = load(&p->shared.ep_stats[endpoint].breaker);

	return mesh_breaker_state(word) != MESH_CLOSED && word & MESH_BREAKER_HELD;
}

bool breaker_admit_try(struct proxy *p, uint32_t service, uint32_t endpoint,
		       struct breaker_pass *pass)
{
	int moved; /* the supervisor counts these */

	*pass = (struct breaker_pass){.counts = true};
	if (mesh_breaker_state(load(&p->shared.ep_stats[endpoint].breaker)) == MESH_CLOSED)
		return true;
	return admit(p, &p->shared.ep_stats[endpoint].breaker, &policy_of(p, service)->breaker,
		     pass, &moved) != MESH_REFUSE;
}

void breaker_try_result(struct proxy *p, uint32_t service, uint32_t endpoint,
			struct breaker_pass *pass, enum breaker_result r)
{
	const struct mesh_breaker_policy *policy = &policy_of(p, service)->breaker;
	struct mesh_ep_stat *st = &p->shared.ep_stats[endpoint];

	if (!pass->counts)
		return;
	if (r != BREAKER_NOTHING)
		count(p, st->window, policy, r == BREAKER_FAILED);
	if (r == BREAKER_FAILED)
		__atomic_fetch_add(&st->consecutive, 1, __ATOMIC_RELAXED);
	else if (r == BREAKER_GOOD && load(&st->consecutive))
		__atomic_store_n(&st->consecutive, 0, __ATOMIC_RELAXED);
	if (pass->probe)
		settle(p, &st->breaker, policy, pass, r);
	*pass = (struct breaker_pass){0};
}
