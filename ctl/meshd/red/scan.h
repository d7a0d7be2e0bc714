/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a span of time out of all tiers, each part of it from the coarsest one that has exactly
 * that: a minute is a few seconds, some tens of seconds, and a few seconds again. Called by
 * window.c.
 */
#ifndef MESHD_RED_SCAN_H
#define MESHD_RED_SCAN_H

#include "ctl/meshd/red/red_impl.h"

struct red_scan {
	uint64_t from_s, to_s; /* [from, to) */
	uint64_t step_s;       /* no bucket that is read crosses a multiple of it */
	const char *service;   /* the destination; NULL: all */
	uint64_t now_s;
	uint64_t at_s; /* so far it has come; begins as from_s */
	/* Called for each record; non-zero ends it and is returned. Names are good until then. */
	int (*visit)(void *arg, uint64_t start_s, const struct red_record *rec);
	void *arg;
};

/* Reads a part that takes a few milliseconds. Between parts the world may go on: what is read is
 * never read again, wherever it has gone meanwhile. 1: there is more; 0; what visit said; -EIO. */
int red_scan(struct red *r, struct red_scan *q);
/* How fine is what is known of that second? In seconds. */
uint64_t red_scan_resolution(const struct red *r, uint64_t at_s, uint64_t now_s);

#endif
