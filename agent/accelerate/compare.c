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

/* Bytes a second, and the square of its relative error. False: it carried nothing. */
static bool rate(const struct compare_group *g, double *r, double *error2)
{
	double spread;

	if (g->batches < 2 || g->bytes <= 0 || g->seconds <= 0)
		return false;
	*r = g->bytes / g->seconds;
	spread = g->bytes2 - 2 * *r * g->both + *r * *r * g->seconds2;
	if (spread < 0) /* of rounding */
		spread = 0;
	*error2 = spread * g->batches / (g->batches - 1) / (g->bytes * g->bytes);
	return true;
}

static bool is_enough(const struct compare_group *g)
{
	return g->batches >= COMPARE_BATCHES && g->connections >= COMPARE_CONNECTIONS;
}

bool compare_groups(const struct compare_group *a, const struct compare_group *b,
		    struct compare_ratio *out)
{
	double ra, rb, ea, eb, width;

	if (!is_enough(a) || !is_enough(b) || !rate(a, &ra, &ea) || !rate(b, &rb, &eb))
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

/* As many batches of equal length as say as much: short ones among long ones hardly count. */
static double length(const struct compare_group *g)
{
	return g->seconds2 > 0 ? g->seconds * g->seconds / g->seconds2 : 0;
}

int compare_contest(const struct compare_group *a, const struct compare_group *b)
{
	double ra, rb, ea, eb, lead, width;

	if (length(a) < COMPARE_CONTEST || length(b) < COMPARE_CONTEST || !rate(a, &ra, &ea) ||
	    !rate(b, &rb, &eb))
		return 0;
	lead = log(ra / rb / COMPARE_CONTEST_GAIN);
	width = 3 * sqrt(ea + eb);
	if (fabs(lead) <= width &&
	    (a->connections < COMPARE_CONTEST_MOST || b->connections < COMPARE_CONTEST_MOST))
		return 0;
	return lead > 0 ? 1 : -1;
}
