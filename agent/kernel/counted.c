/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What became of connect() calls, since this agent began. What an agent before it has counted is
 * taken off here and not in the map: its entries hold `waiting` too, and whoever writes an entry
 * anew takes away what a hook is adding to it in that moment.
 */
#include "agent/kernel/impl.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>

struct counted {
	uint64_t cgroup;
	uint64_t n[MESH_COV_WAYS];
};

static int by_cgroup(const void *a, const void *b)
{
	uint64_t x = ((const struct counted *)a)->cgroup, y = ((const struct counted *)b)->cgroup;

	return (x > y) - (x < y);
}

static struct counted *counted_before(const struct kernel *k, uint64_t cgroup)
{
	const struct counted key = {.cgroup = cgroup};

	return k->ncounted ? bsearch(&key, k->counted, k->ncounted, sizeof(key), by_cgroup) : NULL;
}

int kernel_coverage(struct kernel *k, uint64_t cgroup, struct mesh_coverage *out)
{
	const struct counted *c = counted_before(k, cgroup);

	if (bpf_map_lookup_elem(k->map[KM_COVERAGE], &cgroup, out) < 0)
		return -errno;
	for (uint32_t way = 0; c && way < MESH_COV_WAYS; way++)
		out->n[way] -= c->n[way];
	return 0;
}

/* Nobody else removes entries, so the walk meets each of them once. */
int kernel_coverage_reset(struct kernel *k)
{
	struct counted *v = calloc(MESH_MAX_WORKLOADS, sizeof(*v));
	uint64_t key, *last = NULL;
	struct mesh_coverage now;
	uint32_t n = 0;

	if (!v)
		return -ENOMEM;
	while (n < MESH_MAX_WORKLOADS &&
	       bpf_map_get_next_key(k->map[KM_COVERAGE], last, &key) == 0) {
		last = &key;
		if (bpf_map_lookup_elem(k->map[KM_COVERAGE], &key, &now) < 0)
			continue;
		v[n].cgroup = key;
		for (uint32_t way = 0; way < MESH_COV_WAYS; way++)
			v[n].n[way] = now.n[way];
		n++;
	}
	qsort(v, n, sizeof(*v), by_cgroup);
	free(k->counted);
	k->counted = v;
	k->ncounted = n;
	return 0;
}

void kernel_counted_forget(struct kernel *k, uint64_t cgroup)
{
	struct counted *c = counted_before(k, cgroup);

	if (c)
		*c = (struct counted){.cgroup = cgroup};
}
