/* SPDX-License-Identifier: Apache-2.0 */
/* See traces.h: what is too old or too much goes. */
#include "ctl/meshd/traces/impl.h"
#include "lib/clock.h"

#include <errno.h>

#define PRUNE_NS      (4 * 1000000ull) /* at most so long in one step */
#define SHRINK_MIN    (1 << 20) /* free bytes that stay in the file: they are used again soon */
#define SIZE_HEADROOM 16	/* a part of the size is left for what one call adds */
#define PASS_MAX      512 /* traces that were asked for, and stay, are passed over in one step */

static bool too_big(struct traces *t)
{
	int64_t used, all;

	return !db_used(&t->db, &used, &all) &&
	       (uint64_t)used > t->o.size - t->o.size / SIZE_HEADROOM;
}

/* Who asks must not empty the file of all else: but for the newest of them, traces that are there
 * because somebody asked go first, unless they became something else since. *passed: how many of
 * these were passed over in this step; each is a look into the file. */
static int find_asked(struct traces *t, struct trace_row *row, unsigned *passed)
{
	struct asked *a = &t->asked;

	for (; a->n > TRACES_DEMAND_BURST && *passed < PASS_MAX; ++*passed) {
		int r = db_trace_by_id(&t->db, a->id[a->first++ % ASKED_MAX], row);

		a->n--;
		if (r ? r != -ENOENT : !row->errors && row->duration_us < TRACES_SLOW_MS * 1000)
			return r;
	}
	return -ENOENT;
}

/* Too much: these, else what was listed first goes; else what came too long ago. */
static int find_one(struct traces *t, struct trace_row *row, unsigned *passed, bool *asked)
{
	int64_t before_ms = (int64_t)clock_wall_ms() - (int64_t)t->o.age_ms;
	bool big = too_big(t);
	int r = big ? find_asked(t, row, passed) : -ENOENT;

	*asked = !r;
	if (r != -ENOENT)
		return r;
	return big ? db_trace_oldest(&t->db, row) : db_trace_first_seen(&t->db, before_ms, row);
}

static int delete_one(struct traces *t, const struct trace_row *row, bool asked)
{
	int r = db_trace_delete(&t->db, row);

	if (!r && asked)
		records_unlist(t, row->key);
	return r;
}

/* r: of the deletions. */
static void prune_end(struct traces *t, int r, uint64_t gone)
{
	bool failed = r && r != -ENOENT;

	if (failed)
		db_rollback(&t->db);
	else
		failed = db_commit(&t->db);
	if (t->recorder && failed)
		recorder_restore(t->recorder);
	else if (t->recorder)
		recorder_save(t->recorder);
	if (failed)
		return;
	t->counts.pruned_traces += gone;
	t->counts.traces -= gone < t->counts.traces ? gone : t->counts.traces;
}

void prune(struct traces *t, uint64_t spans_added)
{
	uint64_t end = clock_mono_ns() + PRUNE_NS, gone = 0, spans = 0;
	struct trace_row *row = &t->touched[0].now;
	unsigned passed = 0;
	bool asked;
	int r = find_one(t, row, &passed, &asked);

	if (r || db_begin(&t->db))
		return;
	while (!r) {
		r = delete_one(t, row, asked);
		gone += !r;
		spans += (uint64_t)row->spans;
		if (r || (spans > 2 * spans_added && clock_mono_ns() > end))
			break;
		r = find_one(t, row, &passed, &asked);
	}
	prune_end(t, r, gone);
}

void shrink(struct traces *t)
{
	int64_t used, all;

	if (!db_used(&t->db, &used, &all) && all - used > SHRINK_MIN &&
	    (uint64_t)all > t->o.size - t->o.size / SIZE_HEADROOM)
		db_shrink(&t->db);
}
