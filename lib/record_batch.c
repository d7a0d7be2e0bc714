/* SPDX-License-Identifier: Apache-2.0 */
/* See record_batch.h. Writing is a copy and a look-up of each name by its pointer; nothing is
 * compared as text. */
#include "lib/record_batch.h"

#include <errno.h>
#include <mesh/abi.h>
#include <stdlib.h>
#include <string.h>

#define HEAD	    ((uint32_t)sizeof(struct record_batch_head))
#define STRINGS_MAX (64u << 10) /* where[] has 16 bits */
#define KNOWN	    4096	/* places of the table of names; a power of two */
#define SMALL	    (16u << 10) /* bytes of memory to begin with */
#define MIDDLE	    (64u << 10) /* then this, then all of RECORD_BATCH_SIZE */
#define SPARES	    16
#define WALL_NS_MAX (1LL << 61)

_Static_assert(RECORD_BATCH_NAMES *RECORD_NAME_SIZE <= STRINGS_MAX, "where[] would overflow");
_Static_assert(RECORD_BATCH_NAMES * 2 <= KNOWN, "the table of names has to have free places");
_Static_assert(sizeof(struct record) % 8 == 0 && sizeof(struct record_try) % 8 == 0 &&
		       sizeof(struct record_batch_head) % 8 == 0,
	       "pieces of a batch are aligned");

/* --- reading ------------------------------------------------------------------------- */

static bool head_is_sound(const struct record_batch_head *h, size_t len)
{
	return h->magic == RECORD_BATCH_MAGIC && h->layout == RECORD_LAYOUT && h->size <= len &&
	       h->size <= RECORD_BATCH_SIZE && h->size % 8 == 0 && h->at_names % 8 == 0 &&
	       h->at_names >= HEAD && h->at_names <= h->size && h->names &&
	       h->names <= RECORD_BATCH_NAMES && h->records && h->records <= RECORD_BATCH_MAX &&
	       h->names * sizeof(uint16_t) < h->size - h->at_names && h->wall_ns <= WALL_NS_MAX &&
	       h->wall_ns >= -WALL_NS_MAX;
}

/* Strings up to the end of the batch: the last byte ends whichever is last. */
static bool names_are_sound(const struct record_batch_view *v)
{
	const char *end = (const char *)v->head + v->head->size;
	size_t len = (size_t)(end - v->strings);

	if (end[-1])
		return false;
	for (uint32_t i = 0; i < v->head->names; i++)
		if (v->where[i] >= len ||
		    strnlen(v->strings + v->where[i], RECORD_NAME_SIZE) == RECORD_NAME_SIZE)
			return false;
	return true;
}

static bool is_name(const struct record_batch_view *v, uint32_t number)
{
	return number < v->head->names || number == MESH_NONE;
}

static bool record_is_sound(const struct record_batch_view *v, const struct record *rec,
			    uint32_t left)
{
	if (left < sizeof(*rec) || rec->size > left || rec->size < sizeof(*rec) || rec->size % 8 ||
	    rec->size > RECORD_SIZE_MAX)
		return false;
	if ((rec->kind != RECORD_REQUEST && rec->kind != RECORD_TUNNEL) ||
	    !record_fits(rec, rec->size) || !record_is_trim(rec))
		return false;
	for (uint32_t i = 0; i < rec->ntries; i++)
		if (!is_name(v, record_tries(rec)[i].endpoint))
			return false;
	return is_name(v, rec->caller) && is_name(v, rec->service) && is_name(v, rec->endpoint) &&
	       is_name(v, rec->endpoint_gen);
}

static bool records_are_sound(const struct record_batch_view *v)
{
	uint32_t at = HEAD, n = 0;

	while (at < v->head->at_names) {
		const void *rec = (const char *)v->head + at;

		if (!record_is_sound(v, rec, v->head->at_names - at))
			return false;
		at += ((const struct record *)rec)->size;
		n++;
	}
	return n == v->head->records;
}

int record_batch_check(const void *data, size_t len, struct record_batch_view *view)
{
	const struct record_batch_head *h = data;

	if ((uintptr_t)data % 8 || len < HEAD || !head_is_sound(h, len))
		return -EINVAL;
	view->head = h;
	view->where = (const void *)((const char *)data + h->at_names);
	view->strings = (const char *)(view->where + h->names);
	return names_are_sound(view) && records_are_sound(view) ? 0 : -EINVAL;
}

const struct record *record_batch_next(const struct record_batch_view *v, uint32_t *at)
{
	uint32_t here = *at ? *at : HEAD;
	const struct record *rec = (const void *)((const char *)v->head + here);

	if (here >= v->head->at_names)
		return NULL;
	*at = here + rec->size;
	return rec;
}

static const char *try_name(void *arg, uint32_t endpoint, uint32_t gen)
{
	return record_batch_name(arg, endpoint);
}

void record_batch_span(const struct record_batch_view *v, const struct record *rec,
		       struct span_names *out)
{
	*out = (struct span_names){.source = record_batch_name(v, rec->caller),
				   .service = record_batch_name(v, rec->service),
				   .instance = record_batch_name(v, rec->endpoint),
				   .version = record_batch_name(v, rec->endpoint_gen),
				   .node = record_batch_node(v),
				   .slow = rec->flags & RECORD_SLOW,
				   .endpoint = try_name,
				   .arg = (void *)v};
}

/* --- writing ------------------------------------------------------------------------- */

struct known {
	const char *name;
	uint32_t gen;	 /* of endpoints; their place may serve another later */
	uint16_t number; /* of it in the batch */
	uint16_t turn;	 /* the batch in which it got that; any other: a free place */
};

struct record_batch {
	char *data;	   /* room for a head, and the records; NULL: none yet */
	uint32_t len, cap; /* of that */
	uint32_t records, names, strings_len;
	uint16_t turn; /* never 0 */
	uint16_t where[RECORD_BATCH_NAMES];
	struct known known[KNOWN];
	char strings[STRINGS_MAX];
	char node[RECORD_NAME_SIZE];
	/* Memory of batches that were larger than MIDDLE, each of RECORD_BATCH_SIZE; how few there
	 * were since record_batch_rest(). */
	char *spare[SPARES];
	unsigned spares, fewest;
	bool large,
		was_large; /* batches were so: they begin so; one was since record_batch_rest() */
};

static struct known *place_of(struct record_batch *b, const char *name, uint32_t gen)
{
	uint64_t h = ((uintptr_t)name ^ (uint64_t)gen << 40) * 0x9e3779b97f4a7c15ULL;
	struct known *k = &b->known[h >> 52];

	while (k->turn == b->turn && (k->name != name || k->gen != gen))
		k = k == &b->known[KNOWN - 1] ? b->known : k + 1;
	return k;
}
_Static_assert(KNOWN == 1u << 12, "place_of() takes so many bits");

static uint32_t put_name(struct record_batch *b, const char *name)
{
	size_t len = strnlen(name, RECORD_NAME_SIZE - 1);

	b->where[b->names] = (uint16_t)b->strings_len;
	memcpy(b->strings + b->strings_len, name, len);
	b->strings[b->strings_len + len] = 0;
	b->strings_len += (uint32_t)len + 1;
	return b->names++;
}

/* Adds it if need be: the caller has seen to it that there is room. */
static uint32_t number_of(struct record_batch *b, const char *name, uint32_t gen)
{
	struct known *k;

	if (!*name)
		return MESH_NONE;
	k = place_of(b, name, gen);
	if (k->turn != b->turn)
		*k = (struct known){name, gen, (uint16_t)put_name(b, name), b->turn};
	return k->number;
}

static void begin(struct record_batch *b)
{
	b->len = HEAD;
	b->records = b->names = b->strings_len = 0;
	if (!++b->turn) { /* what is left of the first turns must not look like ours */
		memset(b->known, 0, sizeof(b->known));
		b->turn = 1;
	}
	put_name(b, b->node);
}

int record_batch_new(const char *node, struct record_batch **out)
{
	struct record_batch *b = calloc(1, sizeof(*b));

	if (!b)
		return -ENOMEM;
	memcpy(b->node, node, strnlen(node, RECORD_NAME_SIZE - 1));
	begin(b);
	*out = b;
	return 0;
}

void record_batch_free(struct record_batch **bp)
{
	struct record_batch *b = *bp;

	if (!b)
		return;
	free(b->data);
	while (b->spares)
		free(b->spare[--b->spares]);
	free(b);
	*bp = NULL;
}

uint32_t record_batch_count(const struct record_batch *b)
{
	return b->records;
}

/* What the names take at the end of the batch. */
static uint32_t tail_size(uint32_t names, uint32_t strings_len)
{
	return (names * (uint32_t)sizeof(uint16_t) + strings_len + 7) & ~7u;
}

/* So many bytes at least, with what is there already. */
static int grow(struct record_batch *b, uint32_t size)
{
	uint32_t cap = b->large || size > MIDDLE ? RECORD_BATCH_SIZE
		       : size > SMALL		 ? MIDDLE
						 : SMALL;
	char *data;

	if (cap == RECORD_BATCH_SIZE && !b->data && b->spares) {
		data = b->spare[--b->spares];
		b->fewest = b->spares < b->fewest ? b->spares : b->fewest;
	} else {
		data = realloc(b->data, cap);
	}
	if (!data)
		return -ENOMEM;
	b->data = data;
	b->cap = cap;
	return 0;
}

/* Is there room for so many bytes, whatever the names of a record are? */
static int make_room(struct record_batch *b, uint32_t size)
{
	const uint32_t names = 4 + RECORD_TRIES;

	if (b->records == RECORD_BATCH_MAX || b->names + names > RECORD_BATCH_NAMES ||
	    b->len + size + tail_size(b->names + names, b->strings_len + names * RECORD_NAME_SIZE) >
		    RECORD_BATCH_SIZE)
		return -ENOSPC;
	return b->len + size > b->cap ? grow(b, b->len + size) : 0;
}

/* Reads the original: what was just written may not be in the cache yet, and is waited for. */
static void name_tries(struct record_batch *b, struct record *rec, uint32_t instance,
		       const struct record *from, const struct span_names *n)
{
	const struct record_try *was = record_tries(from);
	struct record_try *tries = (struct record_try *)(rec + 1);

	for (uint32_t i = 0; i < from->ntries; i++) {
		uint32_t number = MESH_NONE;

		if (was[i].endpoint == from->endpoint && was[i].gen == from->endpoint_gen)
			number = instance;
		else if (was[i].endpoint != MESH_NONE)
			number = number_of(b, n->endpoint(n->arg, was[i].endpoint, was[i].gen),
					   was[i].gen);
		tries[i].endpoint = number;
		tries[i].gen = 0;
	}
}

int record_batch_add(struct record_batch *b, const struct record *from, const struct span_names *n)
{
	int err = make_room(b, from->size);
	struct record *rec;
	uint32_t instance;

	if (err)
		return err;
	rec = (struct record *)(b->data + b->len);
	memcpy(rec, from, from->size);
	rec->caller = number_of(b, n->source, 0);
	rec->service = number_of(b, n->service, 0);
	instance = number_of(b, n->instance, from->endpoint_gen);
	rec->endpoint = instance;
	rec->endpoint_gen = number_of(b, n->version, from->endpoint_gen);
	rec->upstream = MESH_NONE;
	rec->flags = (uint16_t)((from->flags & ~RECORD_SLOW) | (n->slow ? RECORD_SLOW : 0));
	name_tries(b, rec, instance, from, n);
	b->len += from->size;
	b->records++;
	for (uint32_t i = 0; i < 256; i += 64)
		__builtin_prefetch(b->data + b->len + i, 1);
	return 0;
}

/* The head before the records, and the names behind them: there is room. */
static void finish(struct record_batch *b, char *data, uint32_t size, int64_t wall_ns)
{
	uint32_t where = b->names * (uint32_t)sizeof(uint16_t);

	memset(data + size - 8, 0, 8); /* what fills the last word */
	memcpy(data + b->len, b->where, where);
	memcpy(data + b->len + where, b->strings, b->strings_len);
	*(struct record_batch_head *)data = (struct record_batch_head){.magic = RECORD_BATCH_MAGIC,
								       .layout = RECORD_LAYOUT,
								       .size = size,
								       .records = b->records,
								       .at_names = b->len,
								       .names = b->names,
								       .wall_ns = wall_ns};
}

/* Memory for a batch of that size, with its records: of a large one that which they are in, of
 * others a piece that fits. NULL: there is none. */
static char *memory_for(struct record_batch *b, uint32_t size)
{
	char *data;

	if (size > MIDDLE) {
		if (size > b->cap && grow(b, size))
			return NULL;
		data = b->data;
		b->data = NULL;
		b->cap = 0;
		b->large = b->was_large = true;
		return data;
	}
	data = malloc(size);
	if (data)
		memcpy(data + HEAD, b->data + HEAD, b->len - HEAD);
	return data;
}

int record_batch_take(struct record_batch *b, int64_t wall_ns, void **out, size_t *len)
{
	uint32_t size = b->len + tail_size(b->names, b->strings_len);
	char *data;

	if (!b->records)
		return -ENODATA;
	data = memory_for(b, size);
	if (data)
		finish(b, data, size, wall_ns);
	begin(b);
	*out = data;
	*len = size;
	return data ? 0 : -ENOMEM;
}

size_t record_batch_memory(size_t len)
{
	return len > MIDDLE ? RECORD_BATCH_SIZE : len;
}

void record_batch_reuse(struct record_batch *b, void *batch)
{
	const struct record_batch_head *h = batch;

	if (h && h->size > MIDDLE && b->spares < SPARES)
		b->spare[b->spares++] = batch;
	else
		free(batch);
}

void record_batch_rest(struct record_batch *b)
{
	if (b->fewest)
		free(b->spare[--b->spares]);
	b->fewest = b->spares;
	b->large = b->was_large;
	b->was_large = false;
	if (b->large || b->records || b->cap <= SMALL)
		return;
	free(b->data);
	b->data = NULL;
	b->cap = 0;
}
