/* SPDX-License-Identifier: Apache-2.0 */
/* See traces.h: what is too old or too much goes. */
#include "ctl/meshd/traces/impl.h"
#include "lib/clock.h"

#include <errno.h>

#define PRUNE_NS      (4 * 1000000ull) /* at most so long in one step */
#define SHRINK_MIN    (1 << 20) /* free bytes that stay in the file: they are used again soon */
#define SIZE_HEADROOM 16	/* a part of the size is left for what one call adds */

static bool too_big(struct traces *t)
{
	int64_t used, all;

	return !db_used(&t->db, &used, &all) &&
	       (uint64_t)used > t->o.size - t->o.size / SIZE_HEADROOM;
}

/* Too much: what was listed first goes; else what came too long ago. */
static int find_one(struct traces *t, struct trace_row *row)
{
	int64_t before_ms = (int64_t)clock_wall_ms() - (int64_t)t->o.age_ms;

	return too_big(t) ? db_trace_oldest(&t->db, row)
			  : db_trace_first_seen(&t->db, before_ms, row);
}

void prune(struct traces *t, uint64_t spans_added)
{
	uint64_t end = clock_mono_ns() + PRUNE_NS, gone = 0, spans = 0;
	struct trace_row *row = &t->touched[0].now;
	int r = find_one(t, row);

	if (r || db_begin(&t->db))
		return;
	while (!r) {
		r = db_trace_delete(&t->db, row);
		gone += !r;
		spans += (uint64_t)row->spans;
		if (r || (spans > 2 * spans_added && clock_mono_ns() > end))
			break;
		r = find_one(t, row);
	}
	if (r && r != -ENOENT) {
		db_rollback(&t->db);
	} else if (!db_commit(&t->db)) {
		t->counts.pruned_traces += gone;
		t->counts.traces -= gone < t->counts.traces ? gone : t->counts.traces;
	}
}

void shrink(struct traces *t)
{
	int64_t used, all;

	if (!db_used(&t->db, &used, &all) && all - used > SHRINK_MIN &&
	    (uint64_t)all > t->o.size - t->o.size / SIZE_HEADROOM)
		db_shrink(&t->db);
}
