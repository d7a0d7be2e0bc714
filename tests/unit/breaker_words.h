/* SPDX-License-Identifier: Apache-2.0 */
/* The words of a breaker as tests/unit/test_breaker*.c write them, and the policy they test with.
 */
#ifndef TESTS_BREAKER_WORDS_H
#define TESTS_BREAKER_WORDS_H

#include <mesh/breaker.h>

#define T0   1000000ULL
#define HELD MESH_BREAKER_HELD

/* The contract's defaults, with three probes. */
static const struct mesh_breaker_policy P = {.error_pm = 5000,
					     .min_requests = 10,
					     .window_ms = 10000,
					     .open_ms = 30000,
					     .half_open = 3,
					     .consecutive = 5,
					     .max_ejected = 50,
					     .probe_ms = 5000};

/* Words, spelled out once more. */
#define half(level, leases, wins, at)                                                              \
	(1ULL << 62 | (__u64)(level) << 57 | (__u64)(leases) << 49 | (__u64)(wins) << 41 | (at))
#define closed(level, at)  ((__u64)(level) << 57 | (at))
#define open_at(level, at) (2ULL << 62 | (__u64)(level) << 57 | (at))

#endif
