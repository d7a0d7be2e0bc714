/* SPDX-License-Identifier: Apache-2.0 */
/* What dialer.c answers, beside the descriptor. */
#ifndef TESTS_BENCH_DIALER_H
#define TESTS_BENCH_DIALER_H

#include <stdint.h>

struct dialed {
	int32_t err; /* 0, or -errno: no descriptor */
	uint32_t pad;
	uint64_t began_ns; /* CLOCK_MONOTONIC, before connect() */
};

#endif
