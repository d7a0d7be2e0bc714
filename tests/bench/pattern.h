/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bodies that can be checked byte by byte without keeping them: byte i is a function of (seed, i).
 * Used by the origin, which makes and checks them, and by the soak client, which does the reverse.
 */
#ifndef TESTS_BENCH_PATTERN_H
#define TESTS_BENCH_PATTERN_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* splitmix64: a full-period mix, so that equal words at different places or seeds are as rare as
 * chance has it. */
static inline uint64_t pattern_mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

static inline void pattern_fill(uint64_t seed, uint64_t off, void *out, size_t n)
{
	unsigned char *p = out;

	while (n) {
		uint64_t word = pattern_mix(seed ^ (off >> 3));
		size_t at = off & 7, k = 8 - at < n ? 8 - at : n;

		memcpy(p, (char *)&word + at, k);
		p += k;
		off += k;
		n -= k;
	}
}

/* Is p[0..n) what pattern_fill(seed, off) makes? */
static inline bool pattern_check(uint64_t seed, uint64_t off, const void *p, size_t n)
{
	const unsigned char *q = p;

	while (n) {
		uint64_t word = pattern_mix(seed ^ (off >> 3));
		size_t at = off & 7, k = 8 - at < n ? 8 - at : n;

		if (memcmp(q, (char *)&word + at, k))
			return false;
		q += k;
		off += k;
		n -= k;
	}
	return true;
}

/* A small generator for tools: the same seed gives the same run. */
struct rng {
	uint64_t state;
};

static inline uint64_t rng_next(struct rng *r)
{
	return pattern_mix(r->state++);
}

static inline uint64_t rng_below(struct rng *r, uint64_t n)
{
	return rng_next(r) % n;
}

#endif
