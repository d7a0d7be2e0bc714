/* SPDX-License-Identifier: Apache-2.0 */
/* See accelerate.h. */
#include "agent/accelerate/accelerate.h"

#include <stdlib.h>
#include <string.h>

#define BATCH_MS 1000
#define EARLY_MS 60000 /* a contest is not put off for longer */

void accelerate_forget(struct accelerate *a, uint32_t upstream)
{
	if (!a->row[upstream])
		return;
	free(a->row[upstream]);
	a->row[upstream] = NULL;
}

void accelerate_done(struct accelerate *a)
{
	for (uint32_t i = 0; i < MESH_MAX_UPSTREAMS; i++)
		accelerate_forget(a, i);
}

const char *accelerate_contest_name(uint32_t contest)
{
	static const char *const names[] = {
		[MESH_GAIN_NO_CONTEST] = "none",   [MESH_GAIN_CONTEST] = "running",
		[MESH_GAIN_WON] = "won",	   [MESH_GAIN_LOST] = "lost",
		[MESH_GAIN_GIVEN_UP] = "given-up",
	};

	return names[contest];
}

const char *accelerate_state_name(uint32_t state)
{
	static const char *const names[] = {
		[MESH_GAIN_YES] = "enrolled",	     [MESH_GAIN_ONE_WAY] = "one-way",
		[MESH_GAIN_NEW] = "new-connections", [MESH_GAIN_BY_TCP] = "by-tcp",
		[MESH_GAIN_SLOWER] = "slower",
	};

	return names[state];
}

/* A counter that went back was made anew. */
static uint64_t since(uint64_t now, uint64_t before)
{
	return now >= before ? now - before : now;
}

static void difference(const struct mesh_accel_group *now, const struct mesh_accel_group *before,
		       struct mesh_accel_group *out)
{
	*out = (struct mesh_accel_group){
		.opened = since(now->opened, before->opened),
		.closed = since(now->closed, before->closed),
		.duration_ns = since(now->duration_ns, before->duration_ns),
		.messages = since(now->messages, before->messages),
		.turns = since(now->turns, before->turns),
		.redirected = since(now->redirected, before->redirected),
		.tcp = since(now->tcp, before->tcp),
		.closed_bytes = since(now->closed_bytes, before->closed_bytes),
	};
}

static struct accelerate_row *row_of(struct accelerate *a, uint32_t upstream)
{
	struct accelerate_row **row = &a->row[upstream];

	if (!*row)
		*row = calloc(1, sizeof(**row));
	return *row;
}

static void batch(struct compare_group *g, const struct mesh_accel_group *now,
		  struct mesh_accel_group *before, bool brief)
{
	struct mesh_accel_group d;

	difference(now, before, &d);
	if (!brief)
		compare_add(g, d.closed, d.closed_bytes, d.duration_ns);
	*before = *now;
}

static bool is_brief(const struct mesh_accel *now, uint64_t now_ms)
{
	bool any = false;

	for (int i = 0; i < MESH_HOPS; i++)
		any |= mesh_brief_is(now->brief[i], now_ms / 1000);
	return any;
}

/* A second is a batch, however often the counters are looked at. Brief connections are slower when
 * they are enrolled: that is known, and is not to be held against those that come later. */
static void compare(struct accelerate_row *row, uint64_t now_ms)
{
	bool brief = is_brief(&row->last, now_ms);

	if (now_ms - row->batch_ms < BATCH_MS)
		return;
	row->batch_ms = now_ms;
	batch(&row->enrolled, &row->sum.group[MESH_ACCEL_ENROLLED],
	      &row->batched.group[MESH_ACCEL_ENROLLED], brief);
	batch(&row->control, &row->sum.group[MESH_ACCEL_CONTROL],
	      &row->batched.group[MESH_ACCEL_CONTROL], brief);
}

/* Who closes at the beginning of a contest was opened before it, when nearly all were enrolled, or
 * nearly none: of the smaller half only the quick ones have closed by then. So for as long as a
 * connection lasts on average, nothing counts. */
static bool is_early(const struct accelerate_row *row, uint64_t now_ms)
{
	const struct mesh_accel_group *on = &row->sum.group[MESH_ACCEL_ENROLLED],
				      *off = &row->sum.group[MESH_ACCEL_CONTROL];
	uint64_t closed = on->closed + off->closed,
		 mean_ms = closed ? (on->duration_ns + off->duration_ns) / closed / 1000000 : 0;

	return now_ms - row->gain.contest_ms < (mean_ms < EARLY_MS ? mean_ms : EARLY_MS);
}

/* What the running contest has come to. Each beat is a batch: the halves share its noise. */
static uint32_t contest(struct accelerate_row *row, const struct mesh_accel_group *d,
			uint64_t now_ms)
{
	static const int group[] = {MESH_ACCEL_ENROLLED, MESH_ACCEL_CONTROL};
	int said;

	if (row->gain.contest != MESH_GAIN_CONTEST || is_early(row, now_ms))
		return 0;
	for (int i = 0; i < 2; i++)
		compare_add(&row->contest[i], d[group[i]].closed, d[group[i]].closed_bytes,
			    d[group[i]].duration_ns);
	said = compare_contest(&row->contest[0], &row->contest[1]);
	return said ? (said > 0 ? MESH_GAIN_WON : MESH_GAIN_LOST) : 0;
}

static void judge(struct accelerate_row *row, const struct mesh_accel_group *d, uint64_t now_ms)
{
	const struct mesh_accel_group *on = &d[MESH_ACCEL_ENROLLED];
	struct mesh_gain_sample s = {.opened = on->opened,
				     .closed = on->closed,
				     .messages = on->messages,
				     .turns = on->turns,
				     .bytes = on->redirected + on->tcp,
				     .redirected = on->redirected,
				     .slower = compare_slower(&row->enrolled, &row->control),
				     .contest = contest(row, d, now_ms),
				     .held_back = d[MESH_ACCEL_CONTROL].opened,
				     .brief = is_brief(&row->last, now_ms)};
	struct mesh_gain before = row->gain;

	row->hold_back = mesh_gain_step(&row->gain, &s, now_ms);
	if (row->gain.contests != before.contests)
		memset(row->contest, 0, sizeof(row->contest));
	if (row->gain.judged == before.judged)
		return;
	row->evidence = before;
	row->evidence.closed += s.closed;
	row->evidence.messages += s.messages;
	row->evidence.turns += s.turns;
	row->evidence.bytes += s.bytes;
	row->evidence.redirected += s.redirected;
}

struct accelerate_row *accelerate_beat(struct accelerate *a, uint32_t upstream,
				       const struct mesh_accel *now, uint64_t now_ms, bool *changed)
{
	struct accelerate_row *row = row_of(a, upstream);
	struct mesh_accel_group d[MESH_ACCEL_GROUPS];
	uint32_t before;

	*changed = false;
	if (!row)
		return NULL;
	row->busy = row->known && memcmp(&row->last, now, sizeof(*now));
	if (!row->known)
		row->last = *now;
	row->known = true;
	for (int i = 0; i < MESH_ACCEL_GROUPS; i++) {
		difference(&now->group[i], &row->last.group[i], &d[i]);
		mesh_accel_add(&row->sum.group[i], &d[i]);
	}
	row->last = *now;
	compare(row, now_ms);
	before = mesh_gain_said(&row->gain);
	judge(row, d, now_ms);
	*changed = (before == MESH_GAIN_YES) != (mesh_gain_said(&row->gain) == MESH_GAIN_YES);
	row->changes += *changed;
	return row;
}
