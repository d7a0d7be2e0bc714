/* SPDX-License-Identifier: Apache-2.0 */
/* See series.h: hash tables of fixed size, with a secret in the hash: agents choose the names. */
#include "ctl/meshd/red/series.h"
#include "lib/hash.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define SPARE	  4096 /* slots that only "other" callers of a service may take ... */
#define LAST	  16   /* ... and of these, those that are for "other" services */
#define SLOTS	  (RED_SERIES_MAX + SPARE)
#define SLOT_BITS 15
#define BUCKETS	  32768
#define NO_SLOT	  UINT32_MAX
#define LOOK_MAX  64 /* at the longest unused ones, for one that may go */
_Static_assert(SLOTS < 1u << SLOT_BITS && 1u << SLOT_BITS == RED_SLOTS, "parts of an id");

struct red_table {
	uint64_t seed;
	struct red_series *series; /* [SLOTS] */
	uint32_t bucket[BUCKETS];
	uint32_t free, free_other, oldest, newest;
	unsigned number, others; /* others: in the spare slots */
	uint32_t generation;
	struct red_service *service; /* [RED_SERVICES_MAX], open addressing would move them */
	uint32_t service_bucket[RED_SERVICES_MAX];
	uint32_t service_next[RED_SERVICES_MAX];
	unsigned services;
	uint64_t evicted, folded;
};

const char *const red_protocol_words[] = {"http", "tcp", NULL};
const char *const red_outcome_words[] = {"ok", "client-error", "error", "none", NULL};

unsigned red_shard_of(const char *service)
{
	return (unsigned)(hash64(service, strlen(service)) % RED_SHARDS);
}

static uint64_t mix(uint64_t h, const char *s)
{
	for (; *s; s++)
		h = (h ^ (unsigned char)*s) * 0x9e3779b97f4a7c15u;
	return (h ^ h >> 29) * 0xbf58476d1ce4e5b9u;
}

static uint32_t bucket_of(const struct red_table *t, const struct red_key *k)
{
	uint64_t h = mix(mix(mix(t->seed, k->source), k->destination), k->version);

	h = (h ^ ((uint64_t)k->protocol << 8 | k->outcome)) * 0x9e3779b97f4a7c15u;
	return (uint32_t)(h >> 40) % BUCKETS;
}

static bool same(const struct red_key *a, const struct red_key *b)
{
	return a->protocol == b->protocol && a->outcome == b->outcome &&
	       !strcmp(a->source, b->source) && !strcmp(a->destination, b->destination) &&
	       !strcmp(a->version, b->version);
}

static uint32_t *free_list(struct red_table *t, uint32_t i)
{
	return i < RED_SERIES_MAX ? &t->free : &t->free_other;
}

int red_table_new(struct red_table **out)
{
	struct red_table *t = calloc(1, sizeof(*t));

	if (t) {
		t->series = calloc(SLOTS, sizeof(*t->series));
		t->service = calloc(RED_SERVICES_MAX, sizeof(*t->service));
	}
	if (!t || !t->series || !t->service ||
	    getrandom(&t->seed, sizeof(t->seed), 0) != sizeof(t->seed)) {
		red_table_free(&t);
		return -ENOMEM;
	}
	t->free = t->free_other = t->oldest = t->newest = NO_SLOT;
	for (uint32_t i = SLOTS; i-- > 0;) {
		t->series[i].next = *free_list(t, i);
		*free_list(t, i) = i;
	}
	memset(t->bucket, 0xff, sizeof(t->bucket));
	memset(t->service_bucket, 0xff, sizeof(t->service_bucket));
	red_table_service(t, RED_OTHER, 0)->refs = 1; /* there is always room for it */
	*out = t;
	return 0;
}

void red_table_free(struct red_table **t)
{
	if (!*t)
		return;
	free((*t)->series);
	free((*t)->service);
	free(*t);
	*t = NULL;
}

/* --- services ------------------------------------------------------------------------ */

static uint32_t *service_bucket(const struct red_table *t, const char *name)
{
	return (uint32_t *)&t->service_bucket[(mix(t->seed, name) >> 40) % RED_SERVICES_MAX];
}

struct red_service *red_table_find(const struct red_table *t, const char *name)
{
	uint32_t i = *service_bucket(t, name);

	while (i != NO_SLOT && strcmp(t->service[i].name, name))
		i = t->service_next[i];
	return i == NO_SLOT ? NULL : &t->service[i];
}

static void service_drop(struct red_table *t, uint32_t i)
{
	uint32_t *at = service_bucket(t, t->service[i].name);

	while (*at != i)
		at = &t->service_next[*at];
	*at = t->service_next[i];
	t->service[i] = (struct red_service){0};
	t->services--;
}

/* A free one, else the longest unused. */
static uint32_t service_room(struct red_table *t)
{
	uint32_t best = NO_SLOT;

	for (uint32_t i = 0; i < RED_SERVICES_MAX; i++) {
		const struct red_service *s = &t->service[i];

		if (!s->name[0])
			return i;
		if (!s->refs && (best == NO_SLOT || s->last_s < t->service[best].last_s))
			best = i;
	}
	if (best != NO_SLOT)
		service_drop(t, best);
	return best;
}

struct red_service *red_table_service(struct red_table *t, const char *name, uint64_t now_s)
{
	struct red_service *s = red_table_find(t, name);
	uint32_t i, *at;

	if (s)
		return s;
	i = service_room(t);
	if (i == NO_SLOT)
		return NULL;
	s = &t->service[i];
	strncpy(s->name, name, RED_NAME_MAX);
	s->first_s = s->last_s = now_s;
	at = service_bucket(t, name);
	t->service_next[i] = *at;
	*at = i;
	t->services++;
	return s;
}

int red_table_services(const struct red_table *t, int (*fn)(void *arg, struct red_service *s),
		       void *arg)
{
	int r = 0;

	for (uint32_t i = 0; i < RED_SERVICES_MAX && !r; i++)
		if (t->service[i].name[0])
			r = fn(arg, &t->service[i]);
	return r;
}

/* --- series -------------------------------------------------------------------------- */

struct red_series *red_table_by_id(const struct red_table *t, uint32_t id)
{
	struct red_series *s = &t->series[red_slot(id) % SLOTS];

	return id && s->id == id ? s : NULL;
}

static struct red_series *find(const struct red_table *t, const struct red_key *key)
{
	uint32_t i = t->bucket[bucket_of(t, key)];

	while (i != NO_SLOT && !same(&t->series[i].key, key))
		i = t->series[i].next;
	return i == NO_SLOT ? NULL : &t->series[i];
}

static void unlink_use(struct red_table *t, struct red_series *s)
{
	*(s->older != NO_SLOT ? &t->series[s->older].newer : &t->oldest) = s->newer;
	*(s->newer != NO_SLOT ? &t->series[s->newer].older : &t->newest) = s->older;
}

static void link_use(struct red_table *t, struct red_series *s, uint64_t now_s)
{
	uint32_t i = (uint32_t)(s - t->series);

	s->used_s = now_s;
	s->older = t->newest;
	s->newer = NO_SLOT;
	*(t->newest != NO_SLOT ? &t->series[t->newest].newer : &t->oldest) = i;
	t->newest = i;
}

static void drop(struct red_table *t, struct red_series *s)
{
	uint32_t *at = &t->bucket[bucket_of(t, &s->key)], i = (uint32_t)(s - t->series);

	while (*at != i)
		at = &t->series[*at].next;
	*at = s->next;
	unlink_use(t, s);
	s->to->refs--;
	s->id = 0;
	s->next = *free_list(t, i);
	*free_list(t, i) = i;
	t->number--;
}

/* The longest unused one goes, when nothing needs it any more. A clock that was put back makes the
 * times of some later than now: they count as unused. */
static void evict(struct red_table *t, uint64_t now_s)
{
	uint32_t i = t->oldest;
	uint64_t idle;

	for (int looked = 0; i != NO_SLOT && looked < LOOK_MAX; looked++, i = t->series[i].newer) {
		struct red_series *s = &t->series[i];

		idle = now_s > s->used_s ? now_s - s->used_s : s->used_s - now_s;
		if (s->refs || i >= RED_SERIES_MAX || idle < RED_SERIES_IDLE)
			continue;
		drop(t, s);
		t->evicted++;
		return;
	}
}

enum rank { OWN, OTHER_CALLER, OTHER_SERVICE };

static uint32_t room(struct red_table *t, enum rank rank, uint64_t now_s)
{
	uint32_t *list = rank == OWN ? &t->free : &t->free_other, i;

	if (rank == OTHER_CALLER && t->others >= SPARE - LAST)
		return NO_SLOT;
	if (*list == NO_SLOT && rank == OWN)
		evict(t, now_s);
	i = *list;
	if (i == NO_SLOT)
		return i;
	*list = t->series[i].next;
	t->others += rank != OWN;
	return i;
}

static void set_key(struct red_series *s, const struct red_key *key)
{
	char *p = s->text;

	memset(s->text, 0, sizeof(s->text));
	s->key = *key;
	s->key.source = strncpy(p, key->source, RED_NAME_MAX);
	s->key.destination = strncpy(p + RED_NAME_MAX + 1, key->destination, RED_NAME_MAX);
	s->key.version = strncpy(p + 2 * (RED_NAME_MAX + 1), key->version, RED_NAME_MAX);
}

static struct red_series *make(struct red_table *t, const struct red_key *key, enum rank rank,
			       uint64_t now_s)
{
	struct red_service *to = red_table_service(t, key->destination, now_s);
	uint32_t i, b = bucket_of(t, key);
	struct red_series *s;

	if (!to)
		return NULL;
	to->refs++; /* a series that goes for it must not take it along */
	i = room(t, rank, now_s);
	if (i == NO_SLOT) {
		to->refs--;
		return NULL;
	}
	s = &t->series[i];
	memset(s, 0, sizeof(*s));
	set_key(s, key);
	t->generation = (t->generation + 1) & ((1u << (32 - SLOT_BITS)) - 1);
	t->generation += !t->generation; /* an id is never 0 */
	s->id = t->generation << SLOT_BITS | i;
	s->to = to;
	s->next = t->bucket[b];
	t->bucket[b] = i;
	link_use(t, s, now_s);
	t->number++;
	return s;
}

struct red_series *red_table_series(struct red_table *t, const struct red_key *key, uint64_t now_s,
				    bool *folded)
{
	struct red_key k = *key;
	struct red_series *s = find(t, key);

	*folded = false;
	if (!s)
		s = make(t, key, OWN, now_s);
	if (!s) {
		*folded = true;
		k.source = k.version = RED_OTHER;
		s = find(t, &k);
		if (!s)
			s = make(t, &k, OTHER_CALLER, now_s);
	}
	if (!s) {
		k.destination = RED_OTHER;
		s = find(t, &k);
		if (!s)
			s = make(t, &k, OTHER_SERVICE, now_s);
	}
	t->folded += *folded;
	if (s) {
		unlink_use(t, s);
		link_use(t, s, now_s);
	}
	return s;
}

void red_table_count(const struct red_table *t, struct red_counts *c)
{
	c->series = t->number;
	c->services = t->services - 1; /* but for "other" */
	c->evicted = t->evicted;
	c->folded = t->folded;
	c->memory_bytes +=
		SLOTS * sizeof(*t->series) + RED_SERVICES_MAX * sizeof(*t->service) + sizeof(*t);
}
