/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See tail.h. Places in the ring are counted from the start and never again the same, so that one
 * can tell whether what it stands for has been overwritten; the entries of a bucket are linked by
 * these, from the newest back. Nearly all that is put here is never asked for, so entries are only
 * written one behind the other, and put into buckets when somebody asks (find_buckets()): a bucket
 * for each would be the one memory access of a request that no cache has.
 */
#include "agent/telemetry/tail.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#define BUCKETS 8192 /* a power of two */
#define CHUNK	65536
#define CHUNKS	(TAIL_BYTES / CHUNK)
#define AHEAD	1024 /* bytes behind the entry that are fetched to be written next */
#define LINE	64   /* of a cache */

struct entry {
	uint64_t older; /* the one before in its bucket, when it has one; 0: none */
	uint64_t at_ns;
	uint32_t size; /* with this head */
	uint32_t taken;
	/* a record; with GAP nothing: the next one did not fit before the end */
};
#define GAP 2

struct tail {
	uint64_t seed;		/* trace ids are the callers': they must not choose the bucket */
	uint64_t looked;	/* entries, by all takes */
	uint64_t head;		/* where the next one is put; the first is at TAIL_BYTES */
	uint64_t found;		/* up to there they are in buckets */
	uint64_t last_ns;	/* of the newest; 0: the memory is not in use */
	uint64_t first[CHUNKS]; /* entry that begins in each part of the ring */
	uint64_t *newest;	/* by bucket */
	char *bytes;
};
#define MAPPED (TAIL_BYTES + BUCKETS * sizeof(uint64_t))

int tail_new(struct tail **out)
{
	struct tail *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	if (getrandom(&t->seed, sizeof(t->seed), 0) != sizeof(t->seed)) {
		free(t);
		return -EIO;
	}
	t->bytes = mmap(NULL, MAPPED, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (t->bytes == MAP_FAILED) {
		int err = -errno;

		free(t);
		return err;
	}
	t->newest = (uint64_t *)(t->bytes + TAIL_BYTES);
	t->head = t->found = TAIL_BYTES;
	*out = t;
	return 0;
}

void tail_free(struct tail **tp)
{
	if (*tp)
		munmap((*tp)->bytes, MAPPED);
	free(*tp);
	*tp = NULL;
}

static uint64_t *bucket_of(struct tail *t, const uint8_t trace_id[16])
{
	uint64_t a, b;

	memcpy(&a, trace_id, 8);
	memcpy(&b, trace_id + 8, 8);
	a = (a ^ t->seed) * 0x9e3779b97f4a7c15u;
	b = (b ^ (a >> 32) ^ a) * 0x9e3779b97f4a7c15u;
	return &t->newest[(b >> 32) & (BUCKETS - 1)];
}

static struct entry *at(const struct tail *t, uint64_t place)
{
	return (struct entry *)(t->bytes + place % TAIL_BYTES);
}

static const struct record *record_of(const struct entry *e)
{
	return (const struct record *)(e + 1);
}

/* Room up to the end of the ring that is not enough for what comes. */
static void leave_gap(struct tail *t, uint32_t to_end)
{
	if (to_end >= sizeof(struct entry))
		*at(t, t->head) = (struct entry){.size = to_end, .taken = GAP};
	t->head += to_end;
	t->first[0] = t->head;
}

void tail_put(struct tail *t, const struct record *rec, uint64_t now_ns)
{
	uint32_t size = (uint32_t)sizeof(struct entry) + rec->size;
	uint32_t to_end = TAIL_BYTES - (uint32_t)(t->head % TAIL_BYTES);
	uint64_t end;
	struct entry *e;

	if (to_end < size)
		leave_gap(t, to_end);
	e = at(t, t->head);
	for (uint32_t i = 0; i < size; i += LINE) /* the end of the ring does no harm */
		__builtin_prefetch((const char *)e + AHEAD + i, 1);
	*e = (struct entry){.at_ns = now_ns, .size = size};
	memcpy(e + 1, rec, rec->size);
	end = t->head + size;
	if (end / CHUNK != t->head / CHUNK) /* who comes next is the first of it */
		t->first[end / CHUNK % CHUNKS] = end;
	t->head = end;
	t->last_ns = now_ns;
}

/* The first one that has no bucket, or the oldest that has not been written over. */
static uint64_t to_be_found(const struct tail *t)
{
	uint64_t oldest = t->head - TAIL_BYTES;

	if (t->found >= oldest)
		return t->found;
	/* the next part begins with one that is whole, or at the head */
	return t->first[(oldest / CHUNK + 1) % CHUNKS];
}

static void find_buckets(struct tail *t)
{
	uint64_t place = to_be_found(t);

	while (place < t->head) {
		uint32_t to_end = TAIL_BYTES - (uint32_t)(place % TAIL_BYTES);
		struct entry *e = at(t, place);
		uint64_t *newest;

		if (to_end < sizeof(*e)) {
			place += to_end;
			continue;
		}
		if (e->taken != GAP) {
			newest = bucket_of(t, record_of(e)->trace_id);
			e->older = *newest;
			*newest = place;
		}
		place += e->size;
	}
	t->found = t->head;
}

uint32_t tail_take(struct tail *t, const uint8_t trace_id[16], uint64_t now_ns,
		   void (*fn)(const struct record *rec, void *arg), void *arg)
{
	uint32_t n = 0, looked = 0;
	uint64_t place;

	find_buckets(t);
	place = t->last_ns ? *bucket_of(t, trace_id) : 0;

	/* what lies further back than the ring is long has been written over */
	while (place && place + TAIL_BYTES >= t->head && looked++ < TAIL_LOOK_MAX) {
		struct entry *e = at(t, place);

		if (e->at_ns + TAIL_KEEP_NS < now_ns)
			break;
		place = e->older;
		if (e->taken || memcmp(record_of(e)->trace_id, trace_id, 16))
			continue;
		e->taken = 1;
		fn(record_of(e), arg);
		n++;
	}
	t->looked += looked;
	return n;
}

uint64_t tail_looked(const struct tail *t)
{
	return t->looked;
}

bool tail_in_use(const struct tail *t)
{
	return t->last_ns;
}

void tail_beat(struct tail *t, uint64_t now_ns)
{
	if (!t->last_ns || t->last_ns + TAIL_KEEP_NS >= now_ns)
		return;
	if (madvise(t->bytes, MAPPED, MADV_DONTNEED))
		memset(t->newest, 0, BUCKETS * sizeof(*t->newest));
	t->head = t->found = TAIL_BYTES;
	t->last_ns = 0;
}
