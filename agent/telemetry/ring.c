/* SPDX-License-Identifier: Apache-2.0 */
/* See ring.h. The writer's side runs in a worker, the reader's in the supervisor. */
#include "agent/telemetry/ring.h"

#include <string.h>

#define GIVE_BACK   64		/* records, after which their room is the writer's again */
#define FILLER_KIND 0		/* a record_kind that no record has: skip `size` bytes */
#define ANEW_FROM   (64u << 10) /* bytes from the beginning */
#define LINE	    64		/* of a cache */
#define AHEAD	    768		/* bytes behind what is read, which are fetched */
#define WHY_MAX                                                                                    \
	(sizeof(struct record_why) + WHY_CANDIDATES * sizeof(struct why_candidate) +               \
	 RECORD_TEXT_MAX + 8)

static char *data(struct ring *r)
{
	return (char *)r + RING_DATA;
}

static void put_filler(struct ring *r, uint64_t at, uint32_t size)
{
	struct {
		uint32_t size;
		uint8_t kind;
	} head = {.size = size, .kind = FILLER_KIND};

	memcpy(data(r) + at % RING_SIZE, &head, 8);
}

/* When the reader has all of it the next record goes to the beginning: what is written again and
 * again stays in the cache, and a round through all of the ring would drive others' memory out. */
static void begin_anew(struct ring *r)
{
	uint64_t next = (r->head | (RING_SIZE - 1)) + 1;

	__atomic_store_n(&r->anew, next, __ATOMIC_RELAXED);
	__atomic_store_n(&r->head, next, __ATOMIC_RELEASE);
}

void *ring_reserve(struct ring *r, uint32_t size)
{
	uint32_t used = ring_used(r), to_end, skip;

	if (!used && r->head % RING_SIZE >= ANEW_FROM)
		begin_anew(r);
	to_end = RING_SIZE - (uint32_t)(r->head % RING_SIZE);
	skip = to_end < size ? to_end : 0;
	if ((uint64_t)used + skip + size > RING_SIZE) {
		__atomic_fetch_add(&r->lost, 1, __ATOMIC_RELAXED);
		return NULL;
	}
	if (skip) {
		put_filler(r, r->head, skip);
		__atomic_store_n(&r->head, r->head + skip, __ATOMIC_RELEASE);
	}
	return data(r) + r->head % RING_SIZE;
}

void ring_commit(struct ring *r, uint32_t size)
{
	__atomic_store_n(&r->head, r->head + size, __ATOMIC_RELEASE);
}

/* Does what it says of itself fit into its size? */
static bool why_fits(const struct record_why *w, uint32_t size)
{
	return w->ncandidates <= WHY_CANDIDATES &&
	       sizeof(*w) + w->ncandidates * sizeof(struct why_candidate) + w->request_id_len +
			       w->trace_id_len + w->route_len <=
		       size;
}

static void why_trim(struct record_why *w)
{
	record_no_nul((char *)why_text(w),
		      (size_t)w->request_id_len + w->trace_id_len + w->route_len);
}

/* Copies the record at `at`, of which `left` bytes may be read. Returns its size in the ring, 0
 * when it makes no sense. *is_record is false for a filler. Sizes are checked on the copy, which
 * the worker cannot reach. */
static uint32_t take(struct ring *r, uint64_t at, uint64_t left, void *copy, bool *is_record)
{
	const char *p = data(r) + at % RING_SIZE;
	uint32_t to_end = RING_SIZE - (uint32_t)(at % RING_SIZE), size;
	const struct record *rec = copy;
	bool why;

	if (at % 8 || left < 8)
		return 0;
	memcpy(copy, p, 8);
	size = rec->size;
	*is_record = rec->kind != FILLER_KIND;
	if (size % 8 || size < 8 || size > left || size > to_end)
		return 0;
	if (!*is_record)
		return size == to_end ? size : 0;
	why = rec->kind == RECORD_WHY;
	if (size < (why ? sizeof(struct record_why) : sizeof(struct record)) ||
	    size > (why ? WHY_MAX : RECORD_SIZE_MAX))
		return 0;
	for (uint32_t i = 0; i < size; i += LINE) /* in time for the third after it */
		__builtin_prefetch(p + AHEAD + i);
	memcpy(copy, p, size);
	if (rec->size != size || rec->kind > RECORD_WHY || rec->kind == FILLER_KIND ||
	    why != (rec->kind == RECORD_WHY))
		return 0;
	if (!(why ? why_fits(copy, size) : record_fits(rec, size)))
		return 0;
	if (why)
		why_trim(copy);
	else
		record_trim(copy);
	return size;
}

uint32_t ring_drain(struct ring *r, uint32_t max, void (*fn)(const struct record *rec, void *arg),
		    void *arg, uint64_t *corrupt)
{
	_Alignas(64) char copy[WHY_MAX > RECORD_SIZE_MAX ? WHY_MAX : RECORD_SIZE_MAX];
	uint64_t head = __atomic_load_n(&r->head, __ATOMIC_ACQUIRE), tail = r->tail,
		 anew = __atomic_load_n(&r->anew, __ATOMIC_RELAXED);
	uint32_t n = 0;

	if (anew > tail && anew <= head) /* it may have gone on since we looked at head */
		tail = anew;
	while (n < max && tail != head) {
		bool is_record = false;
		uint32_t size =
			head - tail > RING_SIZE ? 0 : take(r, tail, head - tail, copy, &is_record);

		if (!size) {
			++*corrupt;
			tail = head;
			break;
		}
		tail += size;
		if (!is_record)
			continue;
		fn((const struct record *)copy, arg);
		if (++n % GIVE_BACK == 0) /* the writer goes on meanwhile */
			__atomic_store_n(&r->tail, tail, __ATOMIC_RELEASE);
	}
	__atomic_store_n(&r->tail, tail, __ATOMIC_RELEASE);
	return n;
}
