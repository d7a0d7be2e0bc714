/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Destinations: which address:port leads to which upstream. Several owners may hold the same
 * address (two processes with SO_REUSEPORT, two namespaces with the same private network): the
 * first holder decides, and the entry then names no single workload.
 */
#include "agent/registry/impl.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int dest_set_add(struct dest_set *s, const uint8_t ip[16], uint16_t port, uint64_t netns,
		 uint32_t upstream)
{
	struct dest_hold *h;

	if (s->n == s->cap) {
		uint32_t cap = s->cap ? s->cap * 2 : 8;
		struct dest_hold *v = realloc(s->v, cap * sizeof(*v));

		if (!v)
			return -ENOMEM;
		s->v = v;
		s->cap = cap;
	}
	h = &s->v[s->n++];
	memset(h, 0, sizeof(*h));
	memcpy(h->key.ip, ip, 16);
	h->key.port = htons(port);
	h->key.netns = netns;
	h->upstream = upstream;
	return 0;
}

static int compare(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct mesh_dest_key));
}

static void sort_unique(struct dest_set *s)
{
	uint32_t n = 0;

	if (!s->n)
		return;
	qsort(s->v, s->n, sizeof(*s->v), compare);
	for (uint32_t i = 0; i < s->n; i++)
		if (!n || compare(&s->v[n - 1], &s->v[i]))
			s->v[n++] = s->v[i];
	s->n = n;
}

static struct dest_entry **bucket(struct registry *r, const struct mesh_dest_key *key)
{
	uint64_t h = 14695981039346656037ULL;

	for (size_t i = 0; i < sizeof(*key); i++)
		h = (h ^ ((const uint8_t *)key)[i]) * 1099511628211ULL;
	return &r->dests[(h ^ h >> 32) % DEST_BUCKETS];
}

static struct dest_entry *entry_find(struct registry *r, const struct mesh_dest_key *key)
{
	struct dest_entry *e = *bucket(r, key);

	while (e && compare(&e->key, key))
		e = e->next;
	return e;
}

bool dest_is_held(struct registry *r, const struct mesh_dest_key *key, uint32_t owner)
{
	const struct dest_entry *e = entry_find(r, key);

	return e && e->n && e->holders[0].owner == owner;
}

static void entry_touch(struct registry *r, struct dest_entry *e)
{
	r->dirty = true;
	if (e->dirty)
		return;
	e->dirty = true;
	e->next_dirty = r->dirty_dests;
	r->dirty_dests = e;
}

int dest_entry_get(struct registry *r, const struct mesh_dest_key *key, struct dest_entry **out)
{
	struct dest_entry **b = bucket(r, key), *e = entry_find(r, key);

	if (!e) {
		if (r->ndests >= MESH_MAX_DESTS) {
			r->full++;
			return -ENOSPC;
		}
		e = calloc(1, sizeof(*e));
		if (!e)
			return -ENOMEM;
		e->key = *key;
		e->next = *b;
		*b = e;
		r->ndests++;
		entry_touch(r, e);
	}
	*out = e;
	return 0;
}

static int hold(struct registry *r, uint32_t owner, const struct dest_hold *h)
{
	struct dest_entry *e;
	int err = dest_entry_get(r, &h->key, &e);

	if (err)
		return err;
	for (uint32_t i = 0; i < e->n; i++) {
		if (e->holders[i].owner != owner)
			continue;
		if (e->holders[i].upstream != h->upstream)
			entry_touch(r, e);
		e->holders[i].upstream = h->upstream;
		return 0;
	}
	if (e->n == e->cap) {
		uint32_t cap = e->cap ? e->cap * 2 : 1;
		struct holder *v = realloc(e->holders, cap * sizeof(*v));

		if (!v)
			return -ENOMEM;
		e->holders = v;
		e->cap = cap;
	}
	e->holders[e->n++] = (struct holder){owner, h->upstream};
	entry_touch(r, e);
	return 0;
}

static void release(struct registry *r, uint32_t owner, const struct mesh_dest_key *key)
{
	struct dest_entry *e = entry_find(r, key);
	uint32_t i = 0;

	if (!e)
		return;
	while (i < e->n && e->holders[i].owner != owner)
		i++;
	if (i == e->n)
		return;
	memmove(&e->holders[i], &e->holders[i + 1], (e->n - i - 1) * sizeof(*e->holders));
	e->n--;
	entry_touch(r, e);
}

int dests_replace(struct registry *r, uint32_t owner, struct dest_set *have, struct dest_set *want)
{
	struct dest_set old = *have;
	uint32_t i = 0, j = 0;
	int error = 0;

	sort_unique(want);
	while (i < old.n || j < want->n) {
		int c = i == old.n ? 1 : j == want->n ? -1 : compare(&old.v[i], &want->v[j]);

		if (c < 0) {
			release(r, owner, &old.v[i].key);
		} else {
			/* also when it was held before: that time there may have been no room */
			int err = hold(r, owner, &want->v[j]);

			error = error ? error : err;
		}
		i += c <= 0;
		j += c >= 0;
	}
	*have = *want;
	*want = (struct dest_set){.v = old.v, .cap = old.cap};
	return error;
}

static void entry_free(struct registry *r, struct dest_entry *e)
{
	struct dest_entry **p = bucket(r, &e->key);

	while (*p != e)
		p = &(*p)->next;
	*p = e->next;
	free(e->holders);
	free(e);
	r->ndests--;
}

static int entry_write(struct registry *r, struct dest_entry *e)
{
	struct mesh_dest d;

	if (!e->n)
		return e->written ? r->sink.dest(r->sink.arg, &e->key, NULL) : 0;
	d.upstream = e->holders[0].upstream;
	if (e->holders[0].owner & HOLDER_VIRTUAL)
		d.workload = MESH_VIRTUAL;
	else if (e->n == 1 && !(e->holders[0].owner & HOLDER_EXTERNAL))
		d.workload = e->holders[0].owner;
	else
		d.workload = MESH_NONE;
	return r->sink.dest(r->sink.arg, &e->key, &d);
}

void dests_write(struct registry *r, bool removals, int *error)
{
	struct dest_entry **p = &r->dirty_dests, *e;

	while ((e = *p)) {
		int err;

		if (!e->n != removals) {
			p = &e->next_dirty;
			continue;
		}
		err = entry_write(r, e);
		if (err) { /* stays in the list for the next flush */
			*error = *error ? *error : err;
			p = &e->next_dirty;
			continue;
		}
		*p = e->next_dirty;
		e->dirty = false;
		e->written = true;
		if (!e->n)
			entry_free(r, e);
	}
}

void dests_done(struct registry *r)
{
	for (uint32_t i = 0; i < DEST_BUCKETS; i++)
		while (r->dests[i])
			entry_free(r, r->dests[i]);
}
