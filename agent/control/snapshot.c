/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a compiled configuration, see snapshot.h. Runs in workers: no allocation, no system
 * calls. */
#include "agent/control/snapshot.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

static const uint32_t *names_of(const struct snapshot *s)
{
	return (const void *)((const char *)s + s->by_name);
}

uint32_t snapshot_find(const struct snapshot *s, const char *name, size_t len)
{
	const uint32_t *ids = names_of(s);
	uint32_t lo = 0, hi = s->nnames;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		const struct snap_service *v = snapshot_service(s, ids[mid]);
		const char *other = snapshot_string(s, v->name);
		size_t n = strlen(other);
		int c = memcmp(name, other, len < n ? len : n);

		if (!c && len == n)
			return ids[mid];
		if (c > 0 || (!c && len > n))
			lo = mid + 1;
		else
			hi = mid;
	}
	return MESH_NONE;
}

static bool array_inside(const struct snapshot *s, uint32_t offset, uint32_t n, size_t each)
{
	return offset % 4 == 0 && offset >= sizeof(*s) &&
	       (uint64_t)offset + (uint64_t)n * each <= s->size;
}

static bool string_inside(const struct snapshot *s, uint32_t offset)
{
	return offset >= sizeof(*s) && offset < s->size &&
	       memchr(snapshot_string(s, offset), 0, s->size - offset);
}

static bool services_make_sense(const struct snapshot *s)
{
	const struct snap_service *v = (const void *)((const char *)s + s->services);

	for (uint32_t i = 0; i < s->nservices; i++) {
		if (!v[i].name)
			continue;
		if (!string_inside(s, v[i].name) || v[i].protocol > MESH_PROTO_TCP ||
		    v[i].policy > MESH_LB_RANDOM)
			return false;
		if (v[i].upstream != MESH_NONE && v[i].upstream >= MESH_MAX_UPSTREAMS)
			return false;
	}
	return true;
}

static bool names_sorted(const struct snapshot *s)
{
	const uint32_t *ids = names_of(s);
	const char *before = NULL;

	for (uint32_t i = 0; i < s->nnames; i++) {
		const struct snap_service *v = snapshot_service(s, ids[i]);
		const char *name;

		if (!v)
			return false;
		name = snapshot_string(s, v->name);
		if (before && strcmp(before, name) >= 0)
			return false;
		before = name;
	}
	return true;
}

int snapshot_check(const void *block, size_t size)
{
	const struct snapshot *s = block;

	if (size < sizeof(*s) || s->magic != SNAPSHOT_MAGIC || s->format != SNAPSHOT_FORMAT ||
	    s->size != size)
		return -EINVAL;
	if (s->nservices > MESH_MAX_SERVICES || s->nnames > s->nservices)
		return -EINVAL;
	if (!array_inside(s, s->services, s->nservices, sizeof(struct snap_service)) ||
	    !array_inside(s, s->by_name, s->nnames, sizeof(uint32_t)))
		return -EINVAL;
	if (!services_make_sense(s) || !names_sorted(s))
		return -EINVAL;
	if (s->gateway_default != MESH_NONE && !snapshot_service(s, s->gateway_default))
		return -EINVAL;
	return 0;
}
