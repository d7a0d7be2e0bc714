/* SPDX-License-Identifier: Apache-2.0 */
/* See bufpool.h. Objects are chained through their first word while they are free. */
#include "agent/proxy/bufpool.h"

#include <stdlib.h>

char *buf_get(struct bufpool *p)
{
	void *b = p->free;

	if (p->used >= BUFPOOL_MAX)
		return NULL;
	if (b) {
		p->free = *(void **)b;
		p->nfree--;
	} else {
		b = malloc(BUF_SIZE);
	}
	if (b)
		p->used++;
	return b;
}

void buf_put(struct bufpool *p, char *buf)
{
	p->used--;
	if (p->nfree == BUFPOOL_KEEP) {
		free(buf);
		return;
	}
	*(void **)(void *)buf = p->free;
	p->free = buf;
	p->nfree++;
}

void buf_share(struct bufpool *p, uint32_t upstream, uint8_t before, uint8_t now)
{
	if (upstream < MESH_MAX_UPSTREAMS)
		p->share[upstream] = (uint16_t)(p->share[upstream] - before + now);
}

bool buf_share_spent(const struct bufpool *p, uint32_t upstream)
{
	uint32_t left = p->used < BUFPOOL_NEW ? BUFPOOL_NEW - p->used : 0;

	return upstream < MESH_MAX_UPSTREAMS && p->share[upstream] > left;
}

void slab_init(struct slab *s, size_t size)
{
	s->free = NULL;
	s->size = size < sizeof(void *) ? sizeof(void *) : size;
	s->nfree = s->used = 0;
}

void *slab_get(struct slab *s)
{
	void *obj = s->free;

	if (obj) {
		s->free = *(void **)obj;
		s->nfree--;
	} else {
		obj = malloc(s->size);
	}
	if (obj)
		s->used++;
	return obj;
}

void slab_put(struct slab *s, void *obj)
{
	s->used--;
	if (s->nfree == SLAB_KEEP) {
		free(obj);
		return;
	}
	*(void **)obj = s->free;
	s->free = obj;
	s->nfree++;
}
