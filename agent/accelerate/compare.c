/* SPDX-License-Identifier: Apache-2.0 */
/* See compare.h. */
#include "agent/accelerate/compare.h"

#include <math.h>

static void fade(struct compare_group *g)
{
	double *sum[] = {&g->batches, &g->connections, &g->bytes,   &g->seconds,
			 &g->bytes2,  &g->both,	       &g->seconds2};

	for (unsigned i = 0; i < sizeof(sum) / sizeof(sum[0]); i++)
		*sum[i] /= 2;
}

void compare_add(struct compare_group *g, uint64_t connections, uint64_t bytes,
		 uint64_t duration_ns)
{
	double b = (double)bytes, s = (double)duration_ns / 1e9;

	if (!connections)
		return;
	if (g->batches >= COMPARE_MEMORY)
		fade(g);
	g->batches++;
	g->connections += (double)connections;
	g->bytes += b;
	g->seconds += s;
	g->bytes2 += b * b;
	g->both += b * s;
	g->seconds2 += s * s;
}

/* Bytes a second, and the square of its relative error. */
static bool rate(const struct compare_group *g, double *r, double *error2)
{
	double spread;

	if (g->batches < COMPARE_BATCHES || g->connections < COMPARE_CONNECTIONS || g->bytes <= 0 ||
	    g->seconds <= 0)
		return false;
	*r = g->bytes / g->seconds;
	spread = g->bytes2 - 2 * *r * g->both + *r * *r * g->seconds2;
	if (spread < 0) /* of rounding */
		spread = 0;
	*error2 = spread * g->batches / (g->batches - 1) / (g->bytes * g->bytes);
	return true;
}

bool compare_groups(const struct compare_group *a, const struct compare_group *b,
		    struct compare_ratio *out)
{
	double ra, rb, ea, eb, width;

	if (!rate(a, &ra, &ea) || !rate(b, &rb, &eb))
		return false;
	/* on the scale of logarithms, on which twice and half are equally far from 1 */
	width = exp(1.96 * sqrt(ea + eb));
	out->ratio = ra / rb;
	out->low = out->ratio / width;
	out->high = out->ratio * width;
	return true;
}

bool compare_slower(const struct compare_group *a, const struct compare_group *b)
{
	struct compare_ratio r;

	if (!compare_groups(a, b, &r))
		return false;
	return r.high / r.ratio * r.high < 0.97;
}
