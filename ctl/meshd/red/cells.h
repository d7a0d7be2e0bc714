/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cells (what one series counted in one bucket of time) in two forms: a table in which they are
 * added up, and records, packed one behind the other, in which they are kept and read. Called by
 * red.c, ring.c, tier.c and scan.c.
 */
#ifndef MESHD_RED_CELLS_H
#define MESHD_RED_CELLS_H

#include "ctl/meshd/red/series.h"

struct red_cell {
	uint64_t start_s;
	struct red_series *series; /* holds a reference */
	struct red_sum sum;
};

struct red_cells {
	struct red_cell *cell;
	uint32_t n, cap;
	uint32_t *slot; /* open addressing: index + 1, 0 is free */
	uint32_t nslots;
	size_t bytes;
};

/* Of zeroed memory. */
void red_cells_done(struct red_cells *c);
/* 0 or -ENOMEM (nothing changed, or the histogram is not whole). */
int red_cells_add(struct red_cells *c, uint64_t start_s, struct red_series *s,
		  const struct red_sum *sum);
/* Puts the cells in the order of (start, service). Before them, none may be added until
 * red_cells_remove(). */
void red_cells_sort(struct red_cells *c);
/* Removes the first n. */
void red_cells_remove(struct red_cells *c, uint32_t n);

/* --- records ------------------------------------------------------------------------- */

/* What a record says; strings and histogram stay where they are read. Of a cell that is not packed,
 * the histogram is in `sum` and packed is NULL. */
struct red_record {
	struct red_key key;
	uint32_t id; /* of the series; 0: on disk nobody knows it */
	struct red_sum sum;
	const uint8_t *packed;
	size_t packed_len;
};

/* named: with the key itself, for disks; else with the id. */
void red_record_put(struct buf *b, const struct red_key *key, uint32_t id, bool named,
		    const struct red_sum *sum);
/* The next one, *at moves on. 1; 0: that was the last; -EINVAL: it never was packed here. */
int red_record_get(const uint8_t **at, const uint8_t *end, bool named, struct red_record *r);
/* Adds what it counts. As red_sum_add(), or -EINVAL. */
int red_record_add(struct red_sum *into, const struct red_record *r);

/* Likewise into counts by bucket, for what adds up many; they stay at their most. The histogram of
 * *into is left alone. 0 or -EINVAL (then a part was added). */
int red_record_add_dense(struct red_sum *into, uint32_t count[HISTOGRAM_BUCKETS],
			 const struct red_record *r);

#endif
