/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Buffers of one size for everything that waits in user space, and free lists for the objects
 * around them. What is idle holds no buffer. Nothing is allocated per request once a worker is
 * warm.
 */
#ifndef PROXY_BUFPOOL_H
#define PROXY_BUFPOOL_H

#include <mesh/abi.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BUF_SIZE    16384 /* also the limit for a whole head */
#define BUFPOOL_MAX 8192  /* 128 MiB a worker */
#define BUFPOOL_NEW                                                                                \
	(BUFPOOL_MAX / 4 * 3) /* no new request is begun above this: what runs can finish */
#define BUFPOOL_SPARE                                                                              \
	(BUFPOOL_NEW / 4) /* above this no request is kept for a second try once it was sent */

/* Free ones that are kept for the next. */
#ifdef __SANITIZE_ADDRESS__
#define BUFPOOL_KEEP 0 /* so that the sanitizer sees what is used after its end */
#define SLAB_KEEP    0
#else
#define BUFPOOL_KEEP 256
#define SLAB_KEEP    1024
#endif

struct bufpool {
	void *free;
	uint32_t nfree, used;
	uint16_t share[MESH_MAX_UPSTREAMS]; /* of those in use, what an upstream's exchanges hold */
};

/* NULL at the limit or without memory. */
char *buf_get(struct bufpool *p);
void buf_put(struct bufpool *p, char *buf);

/* An exchange with that upstream holds `now` buffers and held `before`. */
void buf_share(struct bufpool *p, uint32_t upstream, uint8_t before, uint8_t now);
/* Does it hold more than what is left for all? Then it gets no new request: one that hangs leaves
 * half to the others, two a third, and so on. */
bool buf_share_spent(const struct bufpool *p, uint32_t upstream);

struct slab {
	void *free;
	size_t size;
	uint32_t nfree, used;
};

/* size of one object, at least a pointer. */
void slab_init(struct slab *s, size_t size);
/* Content is what it was before: the caller sets every field it reads. NULL without memory. */
void *slab_get(struct slab *s);
void slab_put(struct slab *s, void *obj);

#endif
