/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ids are indexes into arrays that the kernel and the workers read. One that was freed stays out of
 * use for IDS_QUARANTINE_NS, so that whoever still holds it meets an empty place and never
 * another's; then the one that was freed longest ago goes first. Never-used ids are preferred to
 * freed ones.
 */
#ifndef AGENT_REGISTRY_IDS_H
#define AGENT_REGISTRY_IDS_H

#include <stdint.h>

#define IDS_QUARANTINE_NS 10000000000ULL

struct ids {
	uint32_t cap;
	uint32_t fresh; /* ids from here on were never used */
	uint32_t used;	/* given out now */
	uint32_t head, nfreed;
	struct ids_freed {
		uint32_t id;
		uint64_t when_ns;
	} * freed; /* circular, oldest first */
};

/* 0 or -ENOMEM. */
int ids_init(struct ids *s, uint32_t cap);
void ids_done(struct ids *s);
/* 0 with *id; -ENOSPC when all are used or in quarantine. now_ns is CLOCK_MONOTONIC. */
int ids_alloc(struct ids *s, uint64_t now_ns, uint32_t *id);
/* The id must be in use. */
void ids_free(struct ids *s, uint32_t id, uint64_t now_ns);
/* Takes a freed id into use again for what it meant before. 0 or -ENOENT. O(freed). */
int ids_revive(struct ids *s, uint32_t id);
/* Takes an id that somebody gave out before us. Those below it count as freed just now. 0; -EINVAL:
 * beyond the cap; -EEXIST: it is in use. */
int ids_adopt(struct ids *s, uint32_t id, uint64_t now_ns);

#endif
