/* SPDX-License-Identifier: Apache-2.0 */
/* The one rule for weights of endpoints: MESH_WEIGHT, meshctl run --weight and metadata.weight of a
 * registration. Relative to each other: 200 beside 100 is two calls of three. Pure. */
#ifndef LIB_WEIGHT_H
#define LIB_WEIGHT_H

#include <stdint.h>
#include <stdlib.h>

#define WEIGHT_MOST    1000
#define WEIGHT_DEFAULT 100
#define WEIGHT_WHAT    "a whole number from 1 to 1000"

/* 0 when it is not WEIGHT_WHAT, in decimal digits alone. */
static inline uint32_t weight_parse(const char *s)
{
	char *end;
	unsigned long v;

	if (*s < '0' || *s > '9')
		return 0;
	v = strtoul(s, &end, 10); /* ULONG_MAX when it is more than fits */
	return *end || v > WEIGHT_MOST ? 0 : (uint32_t)v;
}

#endif
