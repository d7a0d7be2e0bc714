/* SPDX-License-Identifier: Apache-2.0 */
/* See ids.h. */
#include "agent/registry/ids.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int ids_init(struct ids *s, uint32_t cap)
{
	memset(s, 0, sizeof(*s));
	s->freed = calloc(cap, sizeof(*s->freed));
	if (!s->freed)
		return -ENOMEM;
	s->cap = cap;
	return 0;
}

void ids_done(struct ids *s)
{
	free(s->freed);
	memset(s, 0, sizeof(*s));
}

static struct ids_freed *freed_at(const struct ids *s, uint32_t i)
{
	return &s->freed[(s->head + i) % s->cap];
}

int ids_alloc(struct ids *s, uint64_t now_ns, uint32_t *id)
{
	if (s->fresh < s->cap) {
		*id = s->fresh++;
	} else {
		if (!s->nfreed || now_ns - freed_at(s, 0)->when_ns < IDS_QUARANTINE_NS)
			return -ENOSPC;
		*id = freed_at(s, 0)->id;
		s->head = (s->head + 1) % s->cap;
		s->nfreed--;
	}
	s->used++;
	return 0;
}

void ids_free(struct ids *s, uint32_t id, uint64_t now_ns)
{
	*freed_at(s, s->nfreed) = (struct ids_freed){id, now_ns};
	s->nfreed++;
	s->used--;
}

int ids_revive(struct ids *s, uint32_t id)
{
	uint32_t i = 0;

	while (i < s->nfreed && freed_at(s, i)->id != id)
		i++;
	if (i == s->nfreed)
		return -ENOENT;
	for (; i + 1 < s->nfreed; i++)
		*freed_at(s, i) = *freed_at(s, i + 1);
	s->nfreed--;
	s->used++;
	return 0;
}

int ids_adopt(struct ids *s, uint32_t id, uint64_t now_ns)
{
	if (id >= s->cap)
		return -EINVAL;
	if (id < s->fresh)
		return ids_revive(s, id) ? -EEXIST : 0;
	while (s->fresh < id)
		*freed_at(s, s->nfreed++) = (struct ids_freed){s->fresh++, now_ns};
	s->fresh++;
	s->used++;
	return 0;
}
