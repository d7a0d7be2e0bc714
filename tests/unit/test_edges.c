/* SPDX-License-Identifier: Apache-2.0 */
/* edges: found where they were put, freed when idle, never under somebody's hands. */
#include "agent/health/edges.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define S 1000000000ULL

static struct mesh_edge shared[MESH_MAX_EDGES];
static struct edges e;

static int make(void **state)
{
	memset(shared, 0, sizeof(shared));
	memset(&e, 0, sizeof(e));
	e.shared = shared;
	return 0;
}

/* As a worker does it, by the words of mesh/edge.h. NULL: the table is full. */
static struct mesh_edge *enter(__u64 key, uint32_t worker)
{
	for (;;) {
		struct mesh_edge *free = NULL, *m = NULL;
		__u64 zero = 0;

		for (uint32_t i = 0; i < MESH_EDGE_PROBES && !m; i++) {
			struct mesh_edge *at = &shared[mesh_edge_place(key, i)];
			__u64 have = __atomic_load_n(&at->key, __ATOMIC_SEQ_CST);

			if (have == key)
				m = at;
			else if (!have && !free)
				free = at;
		}
		if (!m && !free)
			return NULL;
		if (!m && !__atomic_compare_exchange_n(&free->key, &zero, key, false,
						       __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
			continue;
		m = m ? m : free;
		__atomic_fetch_add(&m->worker[worker], 1, __ATOMIC_SEQ_CST);
		if (__atomic_load_n(&m->key, __ATOMIC_SEQ_CST) == key)
			return m;
		__atomic_fetch_sub(&m->worker[worker], 1, __ATOMIC_SEQ_CST);
	}
}

static void leave(struct mesh_edge *m, uint32_t worker)
{
	__atomic_fetch_sub(&m->worker[worker], 1, __ATOMIC_SEQ_CST);
}

static void an_idle_one_is_freed_after_ten_seconds(void **state)
{
	__u64 key = mesh_edge_key(3, 5);
	struct mesh_edge *m = enter(key, 1);

	assert_ptr_equal(enter(key, 2), m);
	for (uint64_t t = 100; t < 130; t++)
		assert_int_equal(edges_sweep(&e, t * S), 1);
	leave(m, 1);
	leave(m, 2);
	for (uint64_t t = 130; t < 141; t++)
		assert_int_equal(edges_sweep(&e, t * S), 1 - (t == 140));
	assert_int_equal(m->key, 0);
	assert_ptr_equal(enter(key, 1), m);
}

static void a_request_in_between_starts_the_wait_again(void **state)
{
	struct mesh_edge *m = enter(mesh_edge_key(0, 0), 0);

	leave(m, 0);
	edges_sweep(&e, 100 * S);
	edges_sweep(&e, 101 * S);
	enter(mesh_edge_key(0, 0), 0);
	edges_sweep(&e, 105 * S);
	leave(m, 0);
	edges_sweep(&e, 106 * S);
	edges_sweep(&e, 112 * S);
	assert_int_not_equal(m->key, 0);
	edges_sweep(&e, 117 * S);
	assert_int_equal(m->key, 0);
}

static void another_ones_key_in_the_same_place_waits_for_itself(void **state)
{
	struct mesh_edge *m = enter(7, 0);

	leave(m, 0);
	edges_sweep(&e, 100 * S);
	edges_sweep(&e, 101 * S);
	m->key = 8; /* freed and claimed between two looks */
	edges_sweep(&e, 120 * S);
	assert_int_equal(m->key, 8);
}

static void keys_of_a_full_stretch_are_not_limited(void **state)
{
	__u64 key = mesh_edge_key(MESH_EDGE_GATEWAY, 9);

	for (uint32_t i = 0; i < MESH_EDGE_PROBES; i++)
		shared[mesh_edge_place(key, i)].key = 1000 + i;
	assert_null(enter(key, 0));
}

/* --- a worker that comes and goes while the supervisor frees --- */

static bool over;

static void *come_and_go(void *arg)
{
	uint32_t worker = (uint32_t)(uintptr_t)arg;

	for (uint32_t i = 0; i < 200000; i++) {
		struct mesh_edge *m = enter(mesh_edge_key(1, i & 3), worker);

		if (m)
			leave(m, worker);
	}
	__atomic_store_n(&over, true, __ATOMIC_RELEASE);
	return NULL;
}

static void gauges_end_at_zero_whatever_is_freed_meanwhile(void **state)
{
	pthread_t t[2];
	uint64_t now = 100 * S;

	over = false;
	for (uintptr_t i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&t[i], NULL, come_and_go, (void *)i), 0);
	while (!__atomic_load_n(&over, __ATOMIC_ACQUIRE)) {
		edges_sweep(&e, now);
		now += 11 * S;
	}
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	for (uint32_t i = 0; i < MESH_MAX_EDGES; i++)
		for (int w = 0; w < MESH_MAX_WORKERS; w++)
			assert_int_equal(shared[i].worker[w], 0);
	for (int i = 0; i < 3; i++, now += 11 * S)
		edges_sweep(&e, now);
	assert_int_equal(edges_sweep(&e, now), 0);
}

#define story(fn) cmocka_unit_test_setup(fn, make)

int main(void)
{
	const struct CMUnitTest tests[] = {
		story(an_idle_one_is_freed_after_ten_seconds),
		story(a_request_in_between_starts_the_wait_again),
		story(another_ones_key_in_the_same_place_waits_for_itself),
		story(keys_of_a_full_stretch_are_not_limited),
		story(gauges_end_at_zero_whatever_is_freed_meanwhile),
	};

	return cmocka_run_group_tests_name("edges", tests, NULL, NULL);
}
