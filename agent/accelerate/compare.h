/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two groups of connections compared by how many bytes they carried in each second of their lives:
 * those that skip TCP, and those that a draw has kept from it. Honest: an estimate comes with the
 * interval that holds the true value in 95 of 100 cases, and without enough samples there is none.
 * Pure; floating point, so user space only.
 */
#ifndef AGENT_ACCELERATE_COMPARE_H
#define AGENT_ACCELERATE_COMPARE_H

#include <stdbool.h>
#include <stdint.h>

#define COMPARE_BATCHES	    10	 /* of a group, before anything is said of it */
#define COMPARE_CONNECTIONS 30	 /* likewise */
#define COMPARE_MEMORY	    1024 /* batches after which what is old counts half */

/* Connections of a group that closed between two looks are a batch: they saw the same load, so they
 * are no independent samples, while batches are. */
struct compare_group {
	double batches, connections;
	double bytes, seconds;	       /* sums over batches */
	double bytes2, both, seconds2; /* of squares and of products */
};

struct compare_ratio {
	double ratio, low, high; /* of bytes per connection-second, first group to second */
};

/* Nothing happens for a batch without connections. */
void compare_add(struct compare_group *g, uint64_t connections, uint64_t bytes,
		 uint64_t duration_ns);

/* Ratio of sums, its variance by linearisation over the batches (Cochran, Sampling
 * Techniques, 6.4), of the quotient by the sum of the relative variances. False: too few samples,
 * or one group carried nothing. */
bool compare_groups(const struct compare_group *a, const struct compare_group *b,
		    struct compare_ratio *out);

/* Is it proven that the first group is slower, by more than 3 percent? Asked again and again, so it
 * takes twice the interval of compare_groups(): chance alone says so once in 20,000 times. */
bool compare_slower(const struct compare_group *a, const struct compare_group *b);

#define COMPARE_CONTEST	     6	  /* batches that a group's time is spread over, at least */
#define COMPARE_CONTEST_MOST 24	  /* connections of each group after which the mean decides */
#define COMPARE_CONTEST_GAIN 1.03 /* what the first group must be to the second to win */

/* A contest of two groups of equal chance, which has to end: > 0 when the first has won, < 0 when
 * it has lost, 0 while that is open. What is not clear by three standard errors is decided by the
 * mean at the end. */
int compare_contest(const struct compare_group *a, const struct compare_group *b);

#endif
