/* SPDX-License-Identifier: Apache-2.0 */
/* See recorder.h: what is in memory. */
#include "ctl/meshd/traces/recorder_impl.h"
#include "ctl/meshd/traces/traces.h"
#include "lib/hash.h"

#include <errno.h>
#include <mesh/abi.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define PAGE	4096
#define RECORDS 4096 /* at least so many have room in memory */
#define ENTRY	384  /* bytes of an entry of one record, at least */

_Static_assert(RECORDS >= RECORD_BATCH_MAX && RECORDER_SIZE_MIN > RECORD_BATCH_SIZE + (32u << 10),
	       "a batch has to find room in an empty recorder");

/* --- marks and tags ------------------------------------------------------------------ */

uint32_t recorder_mark(const struct recorder *r, const uint8_t trace_id[16])
{
	uint64_t a, b;

	memcpy(&a, trace_id, 8);
	memcpy(&b, trace_id + 8, 8);
	a = (a ^ r->seed) * 0x9e3779b97f4a7c15ULL;
	b = (b ^ a ^ a >> 32) * 0x9e3779b97f4a7c15ULL;
	return (uint32_t)(b >> 32);
}

uint16_t recorder_tag(const struct recorder *r, const char *name)
{
	return (uint16_t)((hash64(name, strlen(name)) ^ r->seed) * 0x9e3779b97f4a7c15ULL >> 48);
}

uint32_t recorder_alias(const struct recorder *r, const char *name, size_t len)
{
	uint64_t h = (hash64(name, len) ^ r->seed) * 0x9e3779b97f4a7c15ULL;

	return 1u << (h >> 59) | 1u << (h >> 54 & 31) | 1u << (h >> 49 & 31) | 1u << (h >> 44 & 31);
}

static uint32_t aliases_of(const struct recorder *r, const struct record *rec)
{
	struct span_texts t = span_texts(rec);
	struct span_text one;
	uint32_t bits = 0;

	while (span_next_alias(&t.alias, &one))
		bits |= recorder_alias(r, one.at, one.len);
	return bits;
}

static uint32_t *chain_of(struct recorder *r, uint32_t mark)
{
	return &r->chain[mark & r->mask >> 1];
}

/* --- numbers ------------------------------------------------------------------------- */

static bool is_there(const struct recorder *r, uint32_t number)
{
	return number - r->first < r->next - r->first;
}

struct recorded *recorder_at(struct recorder *r, uint32_t number)
{
	return is_there(r, number) ? &r->rec[number & r->mask] : NULL;
}

void recorder_range(const struct recorder *r, uint32_t *first, uint32_t *end)
{
	*first = r->first;
	*end = r->next;
}

/* From a link of a chain on; one leads to older records only, else it is not good any more. */
static bool find(struct recorder *r, uint32_t mark, uint32_t link, uint32_t from, uint32_t *number)
{
	while (is_there(r, link) && link - r->first < from - r->first) {
		const struct recorded *e = &r->rec[link & r->mask];

		if (e->mark == mark) {
			*number = link;
			return true;
		}
		from = link;
		link = e->before;
	}
	return false;
}

bool recorder_newest(struct recorder *r, uint32_t mark, uint32_t *number)
{
	return find(r, mark, *chain_of(r, mark), r->next, number);
}

bool recorder_next(struct recorder *r, uint32_t mark, uint32_t *number)
{
	const struct recorded *e = recorder_at(r, *number);

	return e && find(r, mark, e->before, *number, number);
}

struct recorder_batch *recorder_batch(struct recorder *r, uint32_t i)
{
	return i < r->nbatches ? &r->batch[(r->batch_first + i) & r->batch_mask] : NULL;
}

uint32_t recorder_batch_of(struct recorder *r, uint32_t number)
{
	uint32_t low = 0, high = r->nbatches;

	while (high - low > 1) {
		uint32_t mid = (low + high) / 2;

		if (recorder_batch(r, mid)->first - r->first <= number - r->first)
			low = mid;
		else
			high = mid;
	}
	return low;
}

bool recorder_half_gone(struct recorder *r, uint32_t number)
{
	return recorder_batch(r, recorder_batch_of(r, number))->at + r->cap / 2 < r->at;
}

/* --- coming and going ---------------------------------------------------------------- */

static void drop_oldest(struct recorder *r)
{
	const struct recorder_batch *b = recorder_batch(r, 0);

	for (uint32_t i = 0; i < b->n; i++) {
		uint16_t flags = r->rec[(b->first + i) & r->mask].flags;

		if (flags & (RECORDED_LISTED | RECORDED_ONCE))
			continue;
		r->counts.kept_lost += !!(flags & RECORDED_KEPT);
		r->counts.other_lost += !(flags & RECORDED_KEPT);
	}
	r->first += b->n;
	r->batch_first++;
	r->nbatches--;
}

/* For an entry of so many bytes at `at`, and for its records. */
static void make_room(struct recorder *r, uint64_t at, uint32_t bytes, uint32_t records)
{
	while (r->nbatches &&
	       (recorder_batch(r, 0)->at + r->cap < at + bytes || r->nbatches > r->batch_mask ||
		r->next - r->first + records > r->mask + 1))
		drop_oldest(r);
}

static bool has_parent(const struct record *rec)
{
	static const uint8_t none[sizeof(rec->parent_id)];

	return !(rec->flags & RECORD_ROOT) &&
	       (rec->parent_len || memcmp(rec->parent_id, none, sizeof(none)));
}

/* What is in the file before the oldest entry, and not overwritten yet, is older still. */
void recorder_forget(struct recorder *r, uint64_t before_ms, uint64_t bytes)
{
	const struct recorder_batch *b;

	while (bytes && (b = recorder_batch(r, 0)) && b->came_ms < before_ms) {
		uint64_t lost = r->counts.kept_lost, end = b->at + file_entry(b->n, b->size);
		uint64_t from =
			r->at > r->cap && r->clean < r->at - r->cap ? r->at - r->cap : r->clean;
		uint64_t len = from < end ? end - from : 0;

		len = len < bytes ? len : bytes;
		len = len < r->cap - from % r->cap ? len : r->cap - from % r->cap;
		if (file_zero(r, from, (uint32_t)len))
			return; /* it is tried again */
		r->clean = from + len;
		bytes -= len;
		if (r->clean < end)
			continue;
		drop_oldest(r);
		r->counts.kept_lost = lost;
	}
}

void recorder_drop(struct recorder *r)
{
	while (r->nbatches)
		drop_oldest(r);
}

uint16_t recorded_flags(const struct record *rec)
{
	bool error = span_error(rec), ended = rec->status && rec->status < 400;
	bool urgent = error || rec->flags & RECORD_SLOW ||
		      span_took_ns(rec) >= TRACES_SLOW_MS * 1000000ULL ||
		      (ended && *cause_name(rec->cause) && !(rec->flags & RECORD_CLIENT_GONE));
	bool sampled = rec->flags & RECORD_SAMPLED;

	return (uint16_t)((rec->flags & RECORD_TRACED ? 0 : RECORDED_LISTED | RECORDED_NONE) |
			  (sampled ? RECORDED_SAMPLED : 0) | (urgent ? RECORDED_URGENT : 0) |
			  (error ? RECORDED_ERROR : 0) | (sampled || urgent ? RECORDED_KEPT : 0) |
			  (rec->alias_len ? RECORDED_ALIAS : 0) |
			  (has_parent(rec) ? 0 : RECORDED_ROOT));
}

static void put_record(struct recorder *r, const struct record *rec, uint32_t at, int64_t ago_ms,
		       const uint16_t *tags)
{
	uint64_t us = rec->duration_ns / 1000;
	uint32_t mark = recorder_mark(r, rec->trace_id);

	__builtin_prefetch(chain_of(r, mark), 1);
	r->rec[r->next++ & r->mask] = (struct recorded){
		.mark = mark,
		.took_us = us > UINT32_MAX ? UINT32_MAX : (uint32_t)us,
		.at = (uint16_t)(at / 8),
		.caller = tags[rec->caller == MESH_NONE ? RECORD_BATCH_NAMES : rec->caller],
		.service = tags[rec->service == MESH_NONE ? RECORD_BATCH_NAMES : rec->service],
		.flags = recorded_flags(rec),
		.aliases = rec->alias_len ? aliases_of(r, rec) : 0,
		.ago_ms = ago_ms < 0		? 0
			  : ago_ms > UINT32_MAX ? UINT32_MAX
						: (uint32_t)ago_ms};
}

/* Once their places, which are all over the memory, have come to the cache. */
static void link_records(struct recorder *r, const struct recorder_batch *b)
{
	for (uint32_t n = b->first; n != b->first + b->n; n++) {
		struct recorded *e = &r->rec[n & r->mask];
		uint32_t *chain = chain_of(r, e->mark);

		e->before = *chain;
		*chain = n;
	}
}

static void put_tags(const struct recorder *r, const struct record_batch_view *v, uint16_t *tags)
{
	for (uint32_t i = 0; i < v->head->names; i++)
		tags[i] = recorder_tag(r, record_batch_name(v, i));
	tags[RECORD_BATCH_NAMES] = recorder_tag(r, "");
}

/* After make_room(). */
static void put_batch(struct recorder *r, const struct record_batch_view *v, uint64_t at,
		      uint64_t came_ms)
{
	struct recorder_batch b = {.at = at,
				   .came_ms = came_ms,
				   .first_us = INT64_MAX,
				   .last_us = 0,
				   .wall_ns = v->head->wall_ns,
				   .size = v->head->size,
				   .at_names = v->head->at_names,
				   .names = v->head->names,
				   .first = r->next,
				   .n = v->head->records};
	uint16_t tags[RECORD_BATCH_NAMES + 1];
	const struct record *rec;
	uint32_t next = 0;

	put_tags(r, v, tags);
	while ((rec = record_batch_next(v, &next))) {
		int64_t us = (int64_t)(record_batch_wall(v, rec->start_ns) / 1000);

		put_record(r, rec, next - rec->size, (int64_t)came_ms - us / 1000, tags);
		b.first_us = us < b.first_us ? us : b.first_us;
		b.last_us = us > b.last_us ? us : b.last_us;
	}
	link_records(r, &b);
	r->batch[(r->batch_first + r->nbatches++) & r->batch_mask] = b;
	r->at = at + file_entry(b.n, b.size);
}

int recorder_add(struct recorder *r, const struct record_batch_view *v, uint64_t came_ms,
		 uint32_t *first)
{
	uint32_t bytes = file_entry(v->head->records, v->head->size), n = v->head->records;
	uint64_t at = r->at;
	int err;

	if (at % r->cap + bytes > r->cap)
		at += r->cap - at % r->cap;
	make_room(r, at, bytes, n);
	err = file_write(r, v, at, came_ms);
	if (err)
		return err;
	*first = r->next;
	put_batch(r, v, at, came_ms);
	return 0;
}

/* --- what is listed ------------------------------------------------------------------ */

static bool bit(const uint8_t *bits, uint32_t i)
{
	return bits[i / 8] >> i % 8 & 1;
}

static void put_bits(struct recorder *r, const struct recorder_batch *b, const uint8_t *bits)
{
	for (uint32_t i = 0; i < b->n; i++) {
		struct recorded *e = &r->rec[(b->first + i) & r->mask];

		if (bit(bits, i) || e->flags & RECORDED_NONE)
			e->flags |= RECORDED_LISTED;
		else
			e->flags &= (uint16_t)~RECORDED_LISTED;
	}
}

static void get_bits(struct recorder *r, const struct recorder_batch *b, uint8_t *bits)
{
	memset(bits, 0, BITS_MAX);
	for (uint32_t i = 0; i < b->n; i++)
		if (r->rec[(b->first + i) & r->mask].flags & RECORDED_LISTED)
			bits[i / 8] |= (uint8_t)(1u << i % 8);
}

/* Of those that were changed; NULL: it has made room. Not any more. */
static struct recorder_batch *take_changed(struct recorder *r, uint32_t i)
{
	struct recorder_batch *b = recorder_batch(r, r->changed[i] - r->batch_first);

	if (b)
		b->changed = false;
	return b;
}

/* Those that have made room leave it to others: there are never more than batches. */
static void forget_gone(struct recorder *r)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < r->nchanged; i++)
		if (recorder_batch(r, r->changed[i] - r->batch_first))
			r->changed[n++] = r->changed[i];
	r->nchanged = n;
}

static void change(struct recorder *r, uint32_t batch)
{
	struct recorder_batch *b = recorder_batch(r, batch);

	if (b->changed)
		return;
	if (r->nchanged > r->batch_mask)
		forget_gone(r);
	b->changed = true;
	r->changed[r->nchanged++] = r->batch_first + batch;
}

void recorder_set_listed(struct recorder *r, uint32_t number)
{
	struct recorded *e = recorder_at(r, number);

	if (!e)
		return;
	e->flags |= RECORDED_LISTED;
	change(r, recorder_batch_of(r, number));
}

static void unlist(struct recorded *e)
{
	if (e->flags & RECORDED_LISTED && !(e->flags & RECORDED_NONE))
		e->flags = (uint16_t)((e->flags & ~RECORDED_LISTED) | RECORDED_ONCE);
}

void recorder_set_unlisted(struct recorder *r, uint32_t number)
{
	struct recorded *e = recorder_at(r, number);

	if (!e)
		return;
	unlist(e);
	change(r, recorder_batch_of(r, number));
}

/* What cannot be written is listed again after a restart. */
void recorder_save(struct recorder *r)
{
	uint8_t bits[BITS_MAX];

	for (uint32_t i = 0; i < r->nchanged; i++) {
		const struct recorder_batch *b = take_changed(r, i);

		if (!b)
			continue;
		get_bits(r, b, bits);
		(void)file_bits_write(r, b, bits);
	}
	r->nchanged = 0;
}

void recorder_restore(struct recorder *r)
{
	uint8_t bits[BITS_MAX];

	for (uint32_t i = 0; i < r->nchanged; i++) {
		const struct recorder_batch *b = take_changed(r, i);

		if (b && !file_bits_read(r, b, bits))
			put_bits(r, b, bits);
	}
	r->nchanged = 0;
}

void recorder_unlist(struct recorder *r)
{
	for (uint32_t n = r->first; n != r->next; n++)
		unlist(&r->rec[n & r->mask]);
	for (uint32_t i = 0; i < r->nbatches; i++)
		change(r, i);
	recorder_save(r);
}

/* --- reading ------------------------------------------------------------------------- */

/* The record alone, with all names of its batch. */
const struct record *recorder_read(struct recorder *r, uint32_t number, struct record_batch_view *v)
{
	struct record_batch_head *h = (void *)r->read;
	struct record *rec = (void *)(h + 1);
	const struct recorded *e = recorder_at(r, number);
	const struct recorder_batch *b;
	uint32_t at, left, names;

	if (!e)
		return NULL;
	b = recorder_batch(r, recorder_batch_of(r, number));
	at = e->at * 8u;
	left = b->at_names - at < RECORD_SIZE_MAX ? b->at_names - at : (uint32_t)RECORD_SIZE_MAX;
	names = b->size - b->at_names;
	if (names > NAMES_MAX || file_read(r, b, at, rec, left) || rec->size > left ||
	    rec->size % 8 || file_read(r, b, b->at_names, (char *)rec + rec->size, names))
		return NULL;
	*h = (struct record_batch_head){.magic = RECORD_BATCH_MAGIC,
					.layout = RECORD_LAYOUT,
					.size = (uint32_t)sizeof(*h) + rec->size + names,
					.records = 1,
					.at_names = (uint32_t)sizeof(*h) + rec->size,
					.names = b->names,
					.wall_ns = b->wall_ns};
	if (record_batch_check(h, h->size, v) || recorder_mark(r, rec->trace_id) != e->mark)
		return NULL;
	return rec;
}

/* --- the whole ----------------------------------------------------------------------- */

uint64_t recorder_bytes(uint64_t size)
{
	size = size < RECORDER_SIZE_MIN ? RECORDER_SIZE_MIN : size;
	size = size > RECORDER_SIZE_MAX ? RECORDER_SIZE_MAX : size;
	return size / PAGE * PAGE;
}

static int make_tables(struct recorder *r)
{
	uint32_t n = RECORDS, m = RECORDS / 4;

	while (n < RECORDER_RECORDS_MAX && n < r->cap / sizeof(struct record))
		n *= 2;
	while (m < RECORDER_BATCHES_MAX && m < r->cap / ENTRY)
		m *= 2;
	r->mask = n - 1;
	r->batch_mask = m - 1;
	r->rec = calloc(n, sizeof(*r->rec));
	r->chain = calloc(n / 2, sizeof(*r->chain));
	r->batch = calloc(m, sizeof(*r->batch));
	r->changed = calloc(m, sizeof(*r->changed));
	return r->rec && r->chain && r->batch && r->changed ? 0 : -ENOMEM;
}

static void found(struct recorder *r, const struct record_batch_view *v, uint64_t at,
		  uint64_t came_ms, const uint8_t *bits)
{
	uint32_t bytes = file_entry(v->head->records, v->head->size);

	if (at < r->at)
		return;
	make_room(r, at, bytes, v->head->records);
	put_batch(r, v, at, came_ms);
	put_bits(r, recorder_batch(r, r->nbatches - 1), bits);
}

int recorder_open(const char *dir, uint64_t size, bool make, struct recorder **out)
{
	struct recorder *r = calloc(1, sizeof(*r));
	struct recorder_counts gone;
	int err;

	if (!r)
		return -ENOMEM;
	r->first = r->next = 1; /* no chain begins with 0 */
	err = getrandom(&r->seed, sizeof(r->seed), 0) == sizeof(r->seed) ? 0 : -EIO;
	r->fd = -1;
	if (!err)
		err = file_open(r, dir, recorder_bytes(size), make);
	gone = r->counts;
	if (!err)
		err = make_tables(r);
	if (!err)
		err = file_each(r, found);
	if (err) {
		recorder_close(&r);
		return err;
	}
	r->counts = gone;
	*out = r;
	return 0;
}

void recorder_close(struct recorder **r)
{
	if (!*r)
		return;
	file_close(*r);
	free((*r)->rec);
	free((*r)->chain);
	free((*r)->batch);
	free((*r)->changed);
	free(*r);
	*r = NULL;
}

void recorder_count(const struct recorder *r, struct recorder_counts *out)
{
	*out = r->counts;
	out->records = r->next - r->first;
	out->batches = r->nbatches;
}
