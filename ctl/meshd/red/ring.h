/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The finest tier: the last ten minutes by the second, in memory. A second is added up in a table
 * while it may still change, then packed; what comes late is packed behind it. Bounded in bytes:
 * the oldest seconds go first. Called by red.c and scan.c.
 */
#ifndef MESHD_RED_RING_H
#define MESHD_RED_RING_H

#include "ctl/meshd/red/cells.h"

#define RED_RING_S     600
#define RED_RING_BYTES (40u << 20)
#define RED_OPEN_BYTES (8u << 20) /* of seconds that are not packed yet */
#define RED_OPEN_S     2	  /* a second is packed when it is that old */

struct red_second {
	uint64_t at_s;
	uint8_t *records;
	uint32_t len;
};

struct red_ring {
	struct red_second second[RED_RING_S];
	struct red_cells open;
	size_t bytes;
	uint64_t floor_s;	       /* seconds before it are not whole */
	uint64_t gap_from_s, gap_to_s; /* nor will these be, when they come; gap_to_s 0: all will */
};

/* Of zeroed memory. */
void red_ring_done(struct red_ring *g);
/* Is the second one that the ring holds, at that time? */
bool red_ring_holds(const struct red_ring *g, uint64_t at_s, uint64_t now_s);
/* 0 or -ENOMEM. */
int red_ring_add(struct red_ring *g, uint64_t at_s, struct red_series *s, const struct red_sum *sum,
		 uint64_t now_s);
/* Packs what is old enough. */
void red_ring_pack(struct red_ring *g, uint64_t now_s);
size_t red_ring_memory(const struct red_ring *g);

#endif
