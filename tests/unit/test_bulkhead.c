/* SPDX-License-Identifier: Apache-2.0 */
/* The bulkhead: who comes in, who waits and who is refused, and that no sequence of requests gets
 * above a limit. */
#include <mesh/bulkhead.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after the types that it needs */
#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define NONE	 MESH_BULKHEAD_NONE

static void who_comes_in(void **state)
{
	static const struct {
		const char *what;
		__u32 requests, per_source; /* limits */
		__u32 all, mine;	    /* in flight */
		__u32 want;
	} cases[] = {
		{"nobody is there", 10, 5, 0, 0, NONE},
		{"the last place", 10, 5, 9, 4, NONE},
		{"full", 10, 5, 10, 0, MESH_BULKHEAD_REQUESTS},
		{"more than full", 10, 5, 11, 0, MESH_BULKHEAD_REQUESTS},
		{"more than ever", 10, 5, ~0U, 0, MESH_BULKHEAD_REQUESTS},
		{"too many of mine", 10, 5, 5, 5, MESH_BULKHEAD_SOURCE},
		{"full, and of mine", 10, 5, 10, 5, MESH_BULKHEAD_REQUESTS},
		{"others are many, I am not", 10, 5, 9, 0, NONE},
		{"a limit of one", 1, 1, 0, 0, NONE},
		{"a limit of one, in use", 1, 0, 1, 0, MESH_BULKHEAD_REQUESTS},
		{"no limit", 0, 0, ~0U, ~0U, NONE},
		{"no limit but mine", 0, 5, ~0U, 5, MESH_BULKHEAD_SOURCE},
		{"no limit of mine", 10, 0, 9, ~0U, NONE},
		{"the highest limits", ~0U, ~0U, ~0U - 1, ~0U - 1, NONE},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct mesh_bulkhead_policy p = {.connections = 1,
						 .requests = cases[i].requests,
						 .per_source = cases[i].per_source};
		/* connections are another question */
		struct mesh_bulkhead_use u = {.connections = 99,
					      .pending = 99,
					      .requests = cases[i].all,
					      .from_source = cases[i].mine};

		if (mesh_bulkhead_request(&p, &u) != cases[i].want)
			fail_msg("%s: %u", cases[i].what, mesh_bulkhead_request(&p, &u));
	}
}

static void who_gets_a_connection(void **state)
{
	static const struct {
		const char *what;
		__u32 connections, pending; /* limits */
		__u32 there, waiting;
		__u32 want;
	} cases[] = {
		{"the first", 2, 3, 0, 0, NONE},
		{"the last", 2, 3, 1, 0, NONE},
		{"wait", 2, 3, 2, 0, MESH_BULKHEAD_CONNECTIONS},
		{"the last place in the queue", 2, 3, 2, 2, MESH_BULKHEAD_CONNECTIONS},
		{"the queue is full", 2, 3, 2, 3, MESH_BULKHEAD_PENDING},
		{"more than full", 2, 3, 9, ~0U, MESH_BULKHEAD_PENDING},
		{"nobody may wait", 2, 0, 2, 0, MESH_BULKHEAD_PENDING},
		{"nobody has to", 2, 0, 1, 0, NONE},
		{"others wait, but there is room again", 2, 3, 1, 3, NONE},
		{"no limit", 0, 0, ~0U, ~0U, NONE},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct mesh_bulkhead_policy p = {.connections = cases[i].connections,
						 .pending = cases[i].pending,
						 .requests = 1,
						 .per_source = 1};
		/* requests are another question */
		struct mesh_bulkhead_use u = {.connections = cases[i].there,
					      .pending = cases[i].waiting,
					      .requests = 99,
					      .from_source = 99};

		if (mesh_bulkhead_connect(&p, &u) != cases[i].want)
			fail_msg("%s: %u", cases[i].what, mesh_bulkhead_connect(&p, &u));
	}
}

#define SOURCES 4

static unsigned seed = 1;

static __u32 upto(__u32 n)
{
	return (__u32)rand_r(&seed) % (n + 1);
}

/* One noisy caller and some quiet ones come and go: limits hold, and the quiet ones are never
 * refused because of the noisy one as long as there is room for all of them. */
static void noisy_caller_takes_only_its_share(void **state)
{
	__u32 reasons[MESH_BULKHEAD_CONNECTIONS + 1] = {0};

	for (int round = 0; round < 200; round++) {
		struct mesh_bulkhead_policy p = {.requests = 1 + upto(50),
						 .per_source = 1 + upto(50)};
		__u32 from[SOURCES] = {0}, all = 0;

		for (int i = 0; i < 2000; i++) {
			__u32 who = upto(2) ? 0 : upto(SOURCES - 1), reason;
			struct mesh_bulkhead_use u = {.requests = all, .from_source = from[who]};

			if (from[who] && !upto(who ? 1 : 3)) {
				from[who]--;
				all--;
				continue;
			}
			reason = mesh_bulkhead_request(&p, &u);
			reasons[reason]++;
			if (reason == NONE) {
				from[who]++;
				all++;
			}
			assert_true(all <= p.requests && from[who] <= p.per_source);
			if (p.per_source * SOURCES <= p.requests)
				assert_int_not_equal(reason, MESH_BULKHEAD_REQUESTS);
		}
	}
	assert_true(reasons[NONE] > 1000);
	assert_true(reasons[MESH_BULKHEAD_REQUESTS] > 1000);
	assert_true(reasons[MESH_BULKHEAD_SOURCE] > 1000);
}

/* Connections and the queue for them: neither gets above its limit, nobody waits while there is
 * room, nobody is refused while there is room to wait. */
static void queue_stays_within_its_limit(void **state)
{
	for (int round = 0; round < 200; round++) {
		struct mesh_bulkhead_policy p = {.connections = 1 + upto(20), .pending = upto(10)};
		struct mesh_bulkhead_use u = {0};

		for (int i = 0; i < 2000; i++) {
			__u32 reason = mesh_bulkhead_connect(&p, &u);

			assert_int_equal(reason == NONE, u.connections < p.connections);
			assert_int_equal(reason == MESH_BULKHEAD_PENDING,
					 u.connections == p.connections && u.pending == p.pending);
			u.connections += reason == NONE;
			u.pending += reason == MESH_BULKHEAD_CONNECTIONS;
			assert_true(u.connections <= p.connections && u.pending <= p.pending);
			if (u.connections && !upto(2)) { /* one is free: the queue comes first */
				if (u.pending)
					u.pending--;
				else
					u.connections--;
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_comes_in),
		cmocka_unit_test(who_gets_a_connection),
		cmocka_unit_test(noisy_caller_takes_only_its_share),
		cmocka_unit_test(queue_stays_within_its_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
