/* SPDX-License-Identifier: Apache-2.0 */
/* See red.h: taking batches. What is kept on disk is in keep.c, what is asked for in window.c. */
#include "ctl/meshd/red/red_impl.h"
#include "lib/name.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

const char *const red_lost_words[] = {"ring", "series", "spans", "tapped", "whys", NULL};

static const struct red_tier tiers[RED_TIERS] = {
	{.step_s = 1, .keep_s = RED_RING_S},
	{.step_s = 10, .keep_s = 3 * 3600, .period_s = 60},
	{.step_s = 300, .keep_s = RED_KEEP_S, .period_s = 300},
};

int red_new(const char *dir, uint64_t now_ms, struct red **out)
{
	struct red *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	memcpy(r->tier, tiers, sizeof(tiers));
	r->process = calloc(RED_AGENTS_MAX, sizeof(*r->process));
	if (!r->process || red_table_new(&r->table) ||
	    getrandom(&r->seed, sizeof(r->seed), 0) != sizeof(r->seed)) {
		red_free(&r);
		return -ENOMEM;
	}
	snprintf(r->dir, sizeof(r->dir), "%s", dir ? dir : "");
	if (dir)
		red_keep_open(r, now_ms);
	*out = r;
	return 0;
}

void red_free(struct red **r)
{
	if (!*r)
		return;
	if ((*r)->disk)
		red_keep_close(*r);
	for (int t = 1; t < RED_TIERS; t++)
		for (int i = 0; i < RED_SHARDS; i++)
			red_cells_done(&(*r)->tier[t].cells[i]);
	red_ring_done(&(*r)->ring);
	red_table_free(&(*r)->table);
	free((*r)->process);
	free(*r);
	*r = NULL;
}

const char *red_error(const struct red *r)
{
	return r->error;
}

/* --- processes of agents ------------------------------------------------------------- */

struct red_process *red_process_find(const struct red *r, const char *node, const char *epoch)
{
	for (unsigned i = 0; i < r->processes; i++)
		if (!strcmp(r->process[i].epoch, epoch) && !strcmp(r->process[i].node, node))
			return &r->process[i];
	return NULL;
}

/* Who has to go for another one: of a node that has many already the oldest, else of all, when
 * there is no room. */
static struct red_process *process_to_drop(const struct red *r, const char *node)
{
	struct red_process *of_node = NULL, *oldest = NULL;
	unsigned n = 0;

	for (unsigned i = 0; i < r->processes; i++) {
		struct red_process *p = &r->process[i];

		if (!oldest || p->order < oldest->order)
			oldest = p;
		if (strcmp(p->node, node))
			continue;
		n++;
		if (!of_node || p->order < of_node->order)
			of_node = p;
	}
	if (n >= RED_NODE_AGENTS)
		return of_node;
	return r->processes == RED_AGENTS_MAX ? oldest : NULL;
}

struct red_process *red_process_make(struct red *r, const char *node, const char *epoch)
{
	struct red_process *p = process_to_drop(r, node);

	if (p && red_keep_ready(r))
		(void)red_disk_agent_drop(r->disk, p->node, p->epoch); /* else it goes by age */
	if (!p)
		p = &r->process[r->processes++];
	*p = (struct red_process){.order = ++r->order};
	strncpy(p->node, node, RED_NAME_MAX);
	strncpy(p->epoch, epoch, RED_NAME_MAX);
	return p;
}

bool red_seen(const struct red *r, const char *node, const char *epoch, uint64_t seq)
{
	const struct red_process *p = red_process_find(r, node, epoch);

	return p && seq <= p->seq;
}

static void process_took(struct red *r, struct red_process *p, const struct red_batch *b,
			 uint64_t now_ms)
{
	p->missing += p->seq ? b->seq - p->seq - 1 : 0;
	p->seq = b->seq;
	p->used_s = now_ms / 1000;
	p->order = ++r->order;
	p->batches++;
	memcpy(p->lost, b->lost, sizeof(p->lost));
	r->counts.batches++;
}

/* --- counting ------------------------------------------------------------------------ */

static void service_seen(struct red_service *s, uint64_t second_s)
{
	s->first_s = second_s < s->first_s ? second_s : s->first_s;
	s->last_s = second_s > s->last_s ? second_s : s->last_s;
	s->unwritten = true;
}

static void service_called(struct red_service *s, const struct red_sum *sum, uint64_t second_s,
			   bool live)
{
	service_seen(s, second_s);
	s->called = true;
	if (live) {
		s->requests += sum->requests;
		s->errors += sum->errors;
	}
}

void red_count_in(struct red *r, const struct red_key *key, const struct red_sum *sum,
		  uint64_t second_s, unsigned mask, bool live, uint64_t now_s)
{
	struct red_series *s = NULL;
	struct red_service *from;
	unsigned shard = red_shard_of(key->destination);
	bool folded, whole;

	if (name_is_own(key->source) || name_is_own(key->destination))
		return; /* nobody's traffic, from an agent that does not know that yet */
	if (second_s + RED_KEEP_S > now_s)
		s = red_table_series(r->table, key, now_s, &folded);
	if (!s) {
		r->counts.dropped++;
		return;
	}
	service_called(s->to, sum, second_s, live);
	from = red_table_service(r->table, s->key.source, second_s);
	if (from)
		service_seen(from, second_s);
	whole = !(mask & 1) || !red_ring_add(&r->ring, second_s, s, sum, now_s);
	for (unsigned t = 1; t < RED_TIERS; t++) {
		struct red_tier *tier = &r->tier[t];

		if (mask & 1u << t)
			whole = !red_cells_add(&tier->cells[shard],
					       second_s - second_s % tier->step_s, s, sum) &&
				whole;
	}
	if (!whole)
		r->counts.dropped++;
}

static void relieve(struct red *r, unsigned t, uint64_t now_ms)
{
	struct red_tier *tier = &r->tier[t];
	size_t bytes = 0;
	unsigned most = 0;

	for (unsigned i = 0; i < RED_SHARDS; i++) {
		bytes += tier->cells[i].bytes;
		if (tier->cells[i].bytes > tier->cells[most].bytes)
			most = i;
	}
	if (bytes <= RED_TIER_BYTES)
		return;
	if (!red_keep_ready(r) || red_keep_shard(r, t, most, now_ms)) {
		uint32_t n = (tier->cells[most].n + 3) / 4;

		red_cells_sort(&tier->cells[most]);
		red_cells_remove(&tier->cells[most], n);
		r->counts.dropped += n;
	}
}

/* What waits must not grow without end: it is written before its time, or the oldest is dropped. */
static void relieve_all(struct red *r, uint64_t now_ms)
{
	for (unsigned t = 1; t < RED_TIERS; t++)
		relieve(r, t, now_ms);
}

int red_take(struct red *r, const struct red_batch *b, uint64_t now_ms)
{
	struct red_process *p = red_process_find(r, b->node, b->epoch);
	uint64_t time_ms = b->time_ms;

	if (p && b->seq <= p->seq) {
		p->duplicates++;
		r->counts.duplicates++;
		return -EALREADY;
	}
	if (time_ms > now_ms + RED_FUTURE_MS) {
		time_ms = now_ms;
		r->counts.shifted++;
	}
	if (!p)
		p = red_process_make(r, b->node, b->epoch);
	if (r->dir[0] && (!red_keep_ready(r) || red_keep_batch(r, p, b, time_ms / 1000, now_ms)))
		r->counts.unwritten++;
	process_took(r, p, b, now_ms);
	for (size_t i = 0; i < b->n; i++)
		red_count_in(r, &b->deltas[i].key, &b->deltas[i].sum, time_ms / 1000,
			     (1u << RED_TIERS) - 1, true, now_ms / 1000);
	relieve_all(r, now_ms);
	return 0;
}

void red_tick(struct red *r, uint64_t now_ms)
{
	r->ticks++;
	red_ring_pack(&r->ring, now_ms / 1000);
	if (r->dir[0])
		red_keep_tick(r, now_ms);
	relieve_all(r, now_ms);
}

/* --- what there is ------------------------------------------------------------------- */

int red_agents(const struct red *r, int (*fn)(void *arg, const struct red_agent *a), void *arg)
{
	int err = 0;

	for (unsigned i = 0; i < r->processes && !err; i++) {
		const struct red_process *p = &r->process[i];
		struct red_agent a = {p->node,	  p->epoch,	 p->seq,    {0},
				      p->batches, p->duplicates, p->missing};
		bool last = true;

		for (unsigned j = 0; j < r->processes && last; j++)
			last = strcmp(r->process[j].node, p->node) ||
			       r->process[j].order <= p->order;
		memcpy(a.lost, p->lost, sizeof(a.lost));
		if (last)
			err = fn(arg, &a);
	}
	return err;
}

void red_count(const struct red *r, struct red_counts *c)
{
	*c = r->counts;
	c->memory_bytes =
		sizeof(*r) + red_ring_memory(&r->ring) + RED_AGENTS_MAX * sizeof(*r->process);
	red_table_count(r->table, c);
	for (unsigned t = 1; t < RED_TIERS; t++)
		for (unsigned i = 0; i < RED_SHARDS; i++)
			c->memory_bytes += r->tier[t].cells[i].bytes;
	c->since_s[0] = r->ring.floor_s;
	c->durable = red_keep_ready(r);
	if (!r->disk)
		return;
	c->disk_bytes = red_disk_bytes(r->disk);
	c->log_bytes = red_disk_log_bytes(r->disk);
	for (unsigned t = 1; t < RED_TIERS; t++)
		(void)red_disk_oldest_s(r->disk, t, &c->since_s[t]); /* 0 when it cannot be read */
}

bool red_knows(const struct red *r, const char *service)
{
	const struct red_service *s = red_table_find(r->table, service);

	return s && (s->called || strcmp(service, RED_OTHER));
}
