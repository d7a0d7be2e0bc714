/* SPDX-License-Identifier: Apache-2.0 */
/* See red_impl.h: what of RED is kept on disk, when, and what is read at the start. */
#include "ctl/meshd/red/red_impl.h"
#include "lib/log.h"
#include "lib/name.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define RECORDS_MAX (32u << 20)
#define ROW_BYTES   (256u << 10) /* a row of cells is not much longer */
#define FIRST_S	    2		 /* after a bucket has ended its first shard is written ... */
#define APART_S	    2		 /* ... and the others one after the other */

bool red_keep_ready(const struct red *r)
{
	return r->disk && r->loaded && !r->retry_ms;
}

int red_keep_failed(struct red *r, int err, uint64_t now_ms)
{
	if (r->disk)
		snprintf(r->error, sizeof(r->error), "telemetry.db: %s", red_disk_error(r->disk));
	r->counts.failures++;
	r->other = err == -EPROTOTYPE;
	r->damaged = r->damaged || err == -EBADMSG || r->other;
	r->retry_ms = now_ms + RED_RETRY_MS;
	return -EIO;
}

/* --- reading at the start ------------------------------------------------------------ */

struct loading {
	struct red *r;
	uint64_t now_ms;
};

static int load_mark(void *arg, unsigned tier, unsigned shard, uint64_t id)
{
	struct loading *l = arg;

	if (tier == RED_DISK_JOURNAL_MARK) {
		if (id > l->r->ring.floor_s)
			l->r->ring.floor_s = id;
		return 0;
	}
	if (tier < RED_TIERS && shard < RED_SHARDS)
		l->r->tier[tier].mark[shard] = id;
	if (id > l->r->journal_id)
		l->r->journal_id = id;
	return 0;
}

static int load_process(void *arg, const struct red_disk_agent *a)
{
	struct loading *l = arg;
	struct red_process *p = red_process_find(l->r, a->node, a->epoch);

	if (!p)
		p = red_process_make(l->r, a->node, a->epoch);
	p->seq = a->seq > p->seq ? a->seq : p->seq;
	p->used_s = a->used_s;
	return 0;
}

static int load_service(void *arg, const struct red_disk_service *d)
{
	struct loading *l = arg;
	struct red_service *s = NULL;

	if (!name_is_own(d->name))
		s = red_table_service(l->r->table, d->name, d->first_s);
	if (!s)
		return 0;
	s->first_s = d->first_s < s->first_s ? d->first_s : s->first_s;
	s->last_s = d->last_s > s->last_s ? d->last_s : s->last_s;
	s->called = s->called || d->called;
	return 0;
}

/* Into the ring, and into the tiers that had not been written so far. */
static int replay(void *arg, uint64_t id, uint64_t second_s, const void *records, size_t len)
{
	struct loading *l = arg;
	struct red *r = l->r;
	const uint8_t *at = records, *end = at + len;
	struct red_sum sum = {0};
	struct red_record rec;
	int more;

	while ((more = red_record_get(&at, end, true, &rec)) > 0) {
		unsigned mask = 1, shard = red_shard_of(rec.key.destination);

		for (unsigned t = 1; t < RED_TIERS; t++)
			mask |= id > r->tier[t].mark[shard] ? 1u << t : 0;
		if (!red_record_add(&sum, &rec))
			red_count_in(r, &rec.key, &sum, second_s, mask, false, l->now_ms / 1000);
		red_sum_done(&sum);
	}
	if (more < 0)
		r->counts.dropped++;
	if (id > r->journal_id)
		r->journal_id = id;
	r->replayed_id = id;
	return 0;
}

/* After a failure it goes on where it was: agents and services may be read twice, the journal not.
 * Nothing is written meanwhile, for a mark would claim what has not been read. */
static int load(struct red *r, uint64_t now_ms)
{
	struct loading l = {r, now_ms};
	int err = red_disk_marks(r->disk, load_mark, &l);

	if (!err)
		err = red_disk_agents(r->disk, load_process, &l);
	if (!err)
		err = red_disk_services(r->disk, load_service, &l);
	if (!err)
		err = red_disk_journal(r->disk, r->replayed_id + 1, replay, &l);
	r->loaded = !err;
	return err;
}

/* A damaged file makes room for a new one, in which what is in memory will be written. */
static void put_aside(struct red *r)
{
	char to[PATH_MAX];
	int err = red_disk_put_aside(r->dir, r->other ? "other" : "corrupt", to, sizeof(to));

	red_disk_close(&r->disk);
	r->damaged = false;
	r->stuck = err;
	r->loaded = false;
	r->journal_id = r->replayed_id = 0;
	for (unsigned t = 1; t < RED_TIERS; t++)
		memset(r->tier[t].mark, 0, sizeof(r->tier[t].mark));
	if (err)
		log_error("telemetry.db in %s is of no use (%s) and cannot be put aside: %s",
			  r->dir, r->error, strerror(-err));
	else
		log_warn("telemetry.db is of no use (%s) and is now %s: the history begins anew",
			 r->error, to);
}

static int open_once(struct red *r, uint64_t now_ms)
{
	int err = 0;

	if (!r->disk)
		err = red_disk_open(r->dir, &r->disk, r->error, sizeof(r->error));
	r->retry_ms = 0;
	if (!err)
		err = load(r, now_ms);
	if (err)
		(void)red_keep_failed(r, err, now_ms);
	else
		r->error[0] = '\0';
	return err;
}

void red_keep_open(struct red *r, uint64_t now_ms)
{
	if (open_once(r, now_ms) && r->damaged) {
		put_aside(r);
		(void)open_once(r, now_ms);
	}
	if (r->error[0])
		log_error("telemetry is in memory only: %s", r->error);
}

void red_keep_close(struct red *r)
{
	uint64_t now_ms = 0; /* nothing is tried again */

	for (unsigned t = 1; t < RED_TIERS && red_keep_ready(r); t++)
		for (unsigned i = 0; i < RED_SHARDS && red_keep_ready(r); i++)
			(void)red_keep_shard(r, t, i, now_ms);
	red_disk_close(&r->disk);
}

/* --- writing ------------------------------------------------------------------------- */

static int write_batch(struct red *r, const struct red_disk_agent *a, const struct buf *records,
		       uint64_t second_s)
{
	uint64_t id = r->journal_id;
	int err = red_disk_begin(r->disk);

	if (!err)
		err = red_disk_agent_put(r->disk, a);
	if (!err && records->len)
		err = red_disk_journal_put(r->disk, second_s, records->data, records->len, &id);
	if (!err)
		err = red_disk_commit(r->disk);
	if (err)
		red_disk_rollback(r->disk);
	else
		r->journal_id = id;
	return err;
}

int red_keep_batch(struct red *r, const struct red_process *p, const struct red_batch *b,
		   uint64_t second_s, uint64_t now_ms)
{
	struct red_disk_agent a = {p->node, p->epoch, b->seq, now_ms / 1000};
	struct buf records;
	int err;

	buf_init(&records, RECORDS_MAX);
	for (size_t i = 0; i < b->n; i++)
		red_record_put(&records, &b->deltas[i].key, 0, true, &b->deltas[i].sum);
	err = records.failed ? -ENOMEM : write_batch(r, &a, &records, second_s);
	buf_done(&records);
	if (!err) {
		if (r->error[0])
			log_info("telemetry.db takes what is written again");
		r->error[0] = '\0';
	} else if (err != -ENOMEM) {
		if (!r->error[0])
			log_error("telemetry goes on in memory only: %s", red_disk_error(r->disk));
		err = red_keep_failed(r, err, now_ms);
	}
	return err;
}

struct services {
	struct red *r;
	unsigned shard;
};

static int write_service(void *arg, struct red_service *s)
{
	const struct services *of = arg;
	struct red_disk_service d = {s->name, s->first_s, s->last_s, s->called};

	if (!s->unwritten || red_shard_of(s->name) != of->shard)
		return 0;
	return red_disk_service_put(of->r->disk, &d);
}

static int service_written(void *arg, struct red_service *s)
{
	const struct services *of = arg;

	if (s->unwritten && red_shard_of(s->name) == of->shard)
		s->unwritten = false;
	return 0;
}

/* Sorted cells into rows, one for each bucket and service (or a few, when it is long). */
static int write_cells(struct red *r, unsigned tier, const struct red_cells *c)
{
	struct buf row;
	int err = 0;

	buf_init(&row, RECORDS_MAX);
	for (uint32_t i = 0; i < c->n && !err; i++) {
		const struct red_cell *cell = &c->cell[i], *next = cell + 1;

		red_record_put(&row, &cell->series->key, 0, true, &cell->sum);
		if (i + 1 < c->n && next->start_s == cell->start_s &&
		    next->series->to == cell->series->to && row.len < ROW_BYTES)
			continue;
		err = row.failed ? -ENOMEM
				 : red_disk_cell_put(r->disk, tier, cell->start_s,
						     cell->series->to->name, row.data, row.len);
		buf_reset(&row);
	}
	buf_done(&row);
	return err;
}

int red_keep_shard(struct red *r, unsigned tier, unsigned shard, uint64_t now_ms)
{
	struct red_tier *t = &r->tier[tier];
	struct services of = {r, shard};
	int err;

	if (!t->cells[shard].n && t->mark[shard] == r->journal_id)
		return 0;
	red_cells_sort(&t->cells[shard]);
	err = red_disk_begin(r->disk);
	if (!err)
		err = write_cells(r, tier, &t->cells[shard]);
	if (!err) /* those that only call too: what the journal has of them goes with the mark */
		err = red_table_services(r->table, write_service, &of);
	if (!err)
		err = red_disk_mark_put(r->disk, tier, shard, r->journal_id);
	if (!err)
		err = red_disk_commit(r->disk);
	if (err) {
		red_disk_rollback(r->disk);
		red_cells_remove(&t->cells[shard], 0);
		return red_keep_failed(r, err, now_ms);
	}
	(void)red_table_services(r->table, service_written, &of);
	t->mark[shard] = r->journal_id;
	red_cells_done(&t->cells[shard]);
	return 0;
}

/* --- what is due --------------------------------------------------------------------- */

static bool shard_due(struct red_tier *t, unsigned shard, uint64_t now_s)
{
	uint64_t *due = &t->due_s[shard], was = *due;

	if (was && now_s < was && was <= now_s + 2 * t->period_s) /* else the clock has jumped */
		return false;
	*due = now_s - now_s % t->period_s + FIRST_S + shard * APART_S;
	if (*due <= now_s)
		*due += t->period_s;
	return was != 0;
}

static void write_due(struct red *r, uint64_t now_ms)
{
	for (unsigned t = 1; t < RED_TIERS; t++)
		for (unsigned i = 0; i < RED_SHARDS; i++)
			if (shard_due(&r->tier[t], i, now_ms / 1000)) {
				(void)red_keep_shard(r, t, i, now_ms);
				return; /* the next one at the next tick */
			}
}

static uint64_t back(uint64_t now_s, uint64_t by_s)
{
	return now_s > by_s ? now_s - by_s : 0;
}

static void prune(struct red *r, uint64_t now_ms)
{
	uint64_t now_s = now_ms / 1000;
	struct red_disk_keep k = {.journal_s = back(now_s, RED_RING_S + 1),
				  .journal_id = r->journal_id};
	int err;

	for (unsigned t = 1; t < RED_TIERS; t++) {
		k.cells_s[t] = back(now_s, r->tier[t].keep_s + r->tier[t].step_s);
		for (unsigned i = 0; i < RED_SHARDS; i++)
			if (r->tier[t].mark[i] < k.journal_id)
				k.journal_id = r->tier[t].mark[i];
	}
	err = red_disk_prune(r->disk, &k);
	if (err)
		(void)red_keep_failed(r, err, now_ms);
}

/* A journal that is too long is written into the tiers before its time, what holds most of it back
 * first, so that it can go. */
static void shorten(struct red *r, uint64_t now_ms)
{
	unsigned tier = 1, shard = 0;

	for (unsigned t = 1; t < RED_TIERS; t++)
		for (unsigned i = 0; i < RED_SHARDS; i++)
			if (r->tier[t].mark[i] < r->tier[tier].mark[shard]) {
				tier = t;
				shard = i;
			}
	(void)red_keep_shard(r, tier, shard, now_ms);
}

static void try_again(struct red *r, uint64_t now_ms)
{
	if ((!r->damaged || r->stuck) && now_ms < r->retry_ms &&
	    r->retry_ms <= now_ms + RED_RETRY_MS)
		return;
	if (r->damaged)
		put_aside(r);
	if (!r->loaded && !open_once(r, now_ms))
		log_info("telemetry.db in %s is in use", r->dir);
	else if (r->loaded)
		r->retry_ms = 0;
}

void red_keep_tick(struct red *r, uint64_t now_ms)
{
	if (!red_keep_ready(r)) {
		try_again(r, now_ms);
		return;
	}
	write_due(r, now_ms);
	if (red_keep_ready(r) && r->ticks % 2)
		prune(r, now_ms);
	if (red_keep_ready(r) && red_disk_journal_full(r->disk))
		shorten(r, now_ms);
}
