/* SPDX-License-Identifier: Apache-2.0 */
/* See outlier.h. Pure. */
#include "agent/health/outlier.h"

#include "agent/registry/registry.h"

#include <stdlib.h>

/* By share of failures, then by failures in a row; of equals always the same. */
static int worst_first(const void *a, const void *b)
{
	const struct outlier *x = a, *y = b;
	uint64_t fx = (uint64_t)x->tally.failed * (y->tally.total ? y->tally.total : 1),
		 fy = (uint64_t)y->tally.failed * (x->tally.total ? x->tally.total : 1);

	if (fx != fy)
		return fx > fy ? -1 : 1;
	if (x->consecutive != y->consecutive)
		return x->consecutive > y->consecutive ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

static uint64_t tripped(const struct outlier *o, const struct mesh_breaker_policy *p,
			uint64_t now_ms)
{
	return o->spared ? o->word
			 : mesh_breaker_trip(o->word, p, o->tally, o->consecutive, now_ms);
}

void outlier_judge(struct outlier *v, uint32_t n, const struct mesh_breaker_policy *p,
		   uint64_t now_ms)
{
	uint64_t most = (uint64_t)n * p->max_ejected / 100, out = 0;
	bool any = false;

	if (most >= n)
		most = n ? n - 1 : 0;
	for (uint32_t i = 0; i < n; i++) {
		v[i].next = v[i].word;
		out += mesh_breaker_state(v[i].word) != MESH_CLOSED;
		any |= tripped(&v[i], p, now_ms) != v[i].word;
	}
	if (!any || out >= most)
		return;
	qsort(v, n, sizeof(*v), worst_first);
	for (uint32_t i = 0; i < n && out < most; i++) {
		v[i].next = tripped(&v[i], p, now_ms);
		out += v[i].next != v[i].word;
	}
}

uint64_t outlier_wait_ms(uint64_t word, const struct mesh_breaker_policy *p, uint64_t now_ms)
{
	uint64_t wait = mesh_breaker_wait_ms(p, mesh_breaker_level(word)),
		 age = mesh_breaker_age(word, now_ms);

	if (mesh_breaker_state(word) != MESH_OPEN || word & MESH_BREAKER_HELD || age >= wait)
		return 0;
	return wait - age;
}

uint32_t outlier_status(uint64_t word, const struct mesh_breaker_policy *p, uint64_t now_ms)
{
	if (mesh_breaker_state(word) == MESH_CLOSED)
		return 0;
	if (word & MESH_BREAKER_HELD)
		return ENDPOINT_EJECTED | ENDPOINT_HELD;
	return ENDPOINT_EJECTED | (outlier_wait_ms(word, p, now_ms) ? 0 : ENDPOINT_PROBING);
}
