/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers that look random and are the same in each run: what fails, fails again. xorshift64. */
#ifndef TESTS_RANDOM_H
#define TESTS_RANDOM_H

#include <stdint.h>

static uint64_t seed = 1; /* never 0 */

static inline uint64_t draw(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static inline unsigned below(unsigned n)
{
	return (unsigned)(draw() % n);
}

#endif
