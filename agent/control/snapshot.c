/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a compiled configuration, see snapshot.h. Runs in workers: no allocation, no system
 * calls. */
#include "agent/control/snapshot.h"

#include "agent/proxy/http1.h"
#include "lib/record.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

const struct snap_service snapshot_service_default = {
	.budget = {.percent_pm = 2000, .per_second = 10},
	.breaker = {.error_pm = 5000,
		    .min_requests = 10,
		    .window_ms = 10000,
		    .open_ms = 30000,
		    .half_open = 1,
		    .consecutive = 5,
		    .max_ejected = 50,
		    .probe_ms = 15000},
	.bulkhead = {.connections = 1024, .requests = 1024, .pending = 128, .per_source = 512},
};

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

static bool array_inside(const struct snapshot *s, uint32_t offset, uint32_t n, size_t each,
			 size_t align)
{
	return offset % align == 0 && offset >= sizeof(*s) &&
	       (uint64_t)offset + (uint64_t)n * each <= s->size;
}

static bool string_inside(const struct snapshot *s, uint32_t offset)
{
	return offset >= sizeof(*s) && offset < s->size &&
	       memchr(snapshot_string(s, offset), 0, s->size - offset);
}

static bool string_or_none(const struct snapshot *s, uint32_t offset)
{
	return !offset || string_inside(s, offset);
}

/* A name of HTTP that readers compare with what they have put into small letters. */
static bool is_small(const char *p)
{
	for (; *p; p++)
		if (*p >= 'A' && *p <= 'Z')
			return false;
	return true;
}

static bool header_or_none(const struct snapshot *s, uint32_t offset)
{
	return !offset || (string_inside(s, offset) && is_small(snapshot_string(s, offset)));
}

static bool pairs_make_sense(const struct snapshot *s, uint32_t n, uint32_t offset, bool headers)
{
	const struct snap_pair *pair = snapshot_pairs(s, offset);

	if (n && !array_inside(s, offset, n, sizeof(*pair), _Alignof(struct snap_pair)))
		return false;
	for (uint32_t i = 0; i < n; i++)
		if (!string_inside(s, pair[i].name) || !string_inside(s, pair[i].value) ||
		    (headers && !is_small(snapshot_string(s, pair[i].name))))
			return false;
	return true;
}

static bool match_makes_sense(const struct snapshot *s, const struct snap_match *m)
{
	if (m->path_kind > SNAP_PATH_TEMPLATE || !m->path != (m->path_kind == SNAP_PATH_ANY))
		return false;
	if (m->path && (!string_inside(s, m->path) || *snapshot_string(s, m->path) != '/'))
		return false;
	return string_or_none(s, m->method) && pairs_make_sense(s, m->nheaders, m->headers, true) &&
	       pairs_make_sense(s, m->nqueries, m->queries, false);
}

static bool split_makes_sense(const struct snap_split *p)
{
	uint64_t total = 0;

	if (p->n > MESH_SPLITS)
		return false;
	for (uint32_t i = 0; i < p->n; i++) {
		if (p->to[i].version >= MESH_VERSIONS || p->to[i].weight > SNAP_ALL)
			return false;
		total += p->to[i].weight;
	}
	return total || !p->n;
}

static bool retry_makes_sense(const struct snap_retry *r)
{
	return r->methods >> (HTTP1_CONNECT + 1) == 0 && r->causes >> CAUSE_MAX == 0;
}

static bool fault_makes_sense(const struct snap_fault *f)
{
	return f->delay_share <= SNAP_ALL && f->abort_share <= SNAP_ALL &&
	       (!f->abort_share || (f->abort_status >= 200 && f->abort_status <= 599));
}

static bool breaker_makes_sense(const struct mesh_breaker_policy *b)
{
	return b->half_open >= 1 && b->half_open <= 255 && b->open_ms && b->probe_ms &&
	       b->error_pm <= 10000 && b->max_ejected <= 100;
}

static bool routes_make_sense(const struct snapshot *s, const struct snap_service *v)
{
	const struct snap_route *r = snapshot_routes(s, v);

	if (v->nroutes &&
	    !array_inside(s, v->routes, v->nroutes, sizeof(*r), _Alignof(__typeof__(*r))))
		return false;
	for (uint32_t i = 0; i < v->nroutes; i++)
		if (!string_or_none(s, r[i].name) || !match_makes_sense(s, &r[i].match) ||
		    !split_makes_sense(&r[i].split) || r[i].fallback > SNAP_FALLBACK_NONE ||
		    r[i].mirror_version >= MESH_VERSIONS || r[i].mirror_share > SNAP_ALL ||
		    !retry_makes_sense(&r[i].retry) || !fault_makes_sense(&r[i].fault))
			return false;
	return true;
}

static bool service_makes_sense(const struct snapshot *s, const struct snap_service *v)
{
	if (!string_inside(s, v->name) || v->protocol > MESH_PROTO_TCP ||
	    v->policy > MESH_LB_RANDOM || v->fail_closed > 1 || v->fallback > SNAP_FALLBACK_NONE ||
	    v->sampling > SNAP_ALL)
		return false;
	if (v->upstream != MESH_NONE && v->upstream >= MESH_MAX_UPSTREAMS)
		return false;
	if (v->sticky.header && v->sticky.cookie)
		return false;
	return header_or_none(s, v->sticky.header) && string_or_none(s, v->sticky.cookie) &&
	       retry_makes_sense(&v->retry) && breaker_makes_sense(&v->breaker) &&
	       v->budget.percent_pm <= 10000 && fault_makes_sense(&v->fault) &&
	       routes_make_sense(s, v);
}

static bool services_make_sense(const struct snapshot *s)
{
	const struct snap_service *v = (const void *)((const char *)s + s->services);

	for (uint32_t i = 0; i < s->nservices; i++)
		if (v[i].name && !service_makes_sense(s, &v[i]))
			return false;
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
	if (!array_inside(s, s->services, s->nservices, sizeof(struct snap_service),
			  _Alignof(struct snap_service)) ||
	    !array_inside(s, s->by_name, s->nnames, sizeof(uint32_t), _Alignof(uint32_t)))
		return -EINVAL;
	if (!services_make_sense(s) || !names_sorted(s))
		return -EINVAL;
	if (s->gateway_default != MESH_NONE && !snapshot_service(s, s->gateway_default))
		return -EINVAL;
	return 0;
}
