/* SPDX-License-Identifier: Apache-2.0 */
/* See edges.h. */
#include "agent/health/edges.h"

#include <stdbool.h>

static bool idle(const struct mesh_edge *m)
{
	uint32_t sum = 0;

	for (int i = 0; i < MESH_MAX_WORKERS; i++)
		sum |= __atomic_load_n(&m->worker[i], __ATOMIC_SEQ_CST);
	return !sum;
}

static bool swap(struct mesh_edge *m, __u64 old, __u64 next)
{
	return __atomic_compare_exchange_n(&m->key, &old, next, false, __ATOMIC_SEQ_CST,
					   __ATOMIC_SEQ_CST);
}

/* False when somebody came in between. */
static bool let_go(struct mesh_edge *m, uint64_t key)
{
	if (!swap(m, key, 0))
		return false;
	if (idle(m))
		return true;
	swap(m, 0, key);
	return false;
}

uint32_t edges_sweep(struct edges *e, uint64_t now_ns)
{
	uint32_t used = 0;

	for (uint32_t i = 0; i < MESH_MAX_EDGES; i++) {
		struct mesh_edge *m = &e->shared[i];
		uint64_t key = __atomic_load_n(&m->key, __ATOMIC_RELAXED);

		if (!key)
			continue;
		if (key != e->seen[i].key || !idle(m)) {
			e->seen[i].key = key;
			e->seen[i].since_ns = 0;
		} else if (!e->seen[i].since_ns) {
			e->seen[i].since_ns = now_ns;
		} else if (now_ns - e->seen[i].since_ns >= MESH_EDGE_IDLE_NS && let_go(m, key)) {
			e->seen[i].key = 0;
			continue;
		}
		used++;
	}
	return used;
}
