/* SPDX-License-Identifier: Apache-2.0 */
/* The spans of a trace in the order of a waterfall: each below its parent, siblings by time. Pure.
 */
#ifndef CTL_MESHCTL_TRACE_TREE_H
#define CTL_MESHCTL_TRACE_TREE_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

struct trace_row {
	const cJSON *span;
	double start, duration; /* ms since the trace began; never negative */
	unsigned depth;		/* 0: a root */
	bool last;		/* of its siblings */
	bool leaf;
};

struct trace_tree {
	struct trace_row *rows;
	size_t n;
	double begin;  /* ms since 1970 */
	double length; /* ms, to the latest end */
};

/* Whatever the spans say of their parents (none, each other, themselves): every one is in it once.
 * 0, or -ENOMEM (then there is nothing to free). */
int trace_tree_build(const cJSON *spans, struct trace_tree *t);
void trace_tree_done(struct trace_tree *t);

#endif
