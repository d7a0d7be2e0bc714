/* SPDX-License-Identifier: Apache-2.0 */
/* See route.h. */
#include "agent/proxy/route.h"
#include "agent/proxy/downstream.h"
#include "agent/proxy/match.h"
#include "agent/proxy/proxy.h"
#include "agent/proxy/sticky.h"
#include "agent/proxy/try.h"

#include <string.h>
#include <strings.h>

/* For a service that the configuration does not mention: as service_config_init has it. */
static const struct snap_timeouts default_timeouts = {
	.connect = 1000, .try = 3000, .request = 15000, .idle = 60000};

static const struct snap_retry default_retry = {
	.attempts = 2,
	.methods = 1u << HTTP1_GET | 1u << HTTP1_HEAD | 1u << HTTP1_OPTIONS | 1u << HTTP1_PUT |
		   1u << HTTP1_DELETE,
	.causes = 1u << CAUSE_CONNECT_FAILED | 1u << CAUSE_UPSTREAM_RESET,
	.statuses = {[12] = 1u << 6 | 1u << 7, [13] = 1u}, /* 502, 503, 504 */
	.backoff_ms = 25,
	.max_backoff_ms = 250};

static void set_service(struct exchange *ex, uint32_t service)
{
	const struct snapshot *snap = ex->proxy->snapshot;
	const struct snap_service *s = snap ? snapshot_service(snap, service) : NULL;

	ex->service = service;
	ex->timeouts = s ? s->timeouts : default_timeouts;
	ex->retry = s ? s->retry : default_retry;
	ex->routed.fallback = s ? s->fallback : SNAP_FALLBACK_SPLIT;
}

bool route_tunnel(struct exchange *ex)
{
	struct proxy *p = ex->proxy;

	if (!shared_upstream(&p->shared, ex->upstream, &ex->target))
		return false;
	if (!p->snapshot || !snapshot_service(p->snapshot, ex->target.service))
		proxy_catch_up(p);
	set_service(ex, ex->target.service);
	return true;
}

/* The service named by the path segment that starts at path[at]; its end in *end. */
static uint32_t segment_service(const struct snapshot *snap, const char *path, uint32_t len,
				uint32_t at, uint32_t *end)
{
	uint32_t stop = at;

	while (stop < len && path[stop] != '/' && path[stop] != '?')
		stop++;
	*end = stop;
	return stop > at ? snapshot_find(snap, path + at, stop - at) : MESH_NONE;
}

static uint32_t by_path(struct exchange *ex, const struct snapshot *snap, const char *path,
			uint32_t len)
{
	static const char api[] = "/api/";
	uint32_t service, end;

	if (!len || path[0] != '/')
		return MESH_NONE;
	service = segment_service(snap, path, len, 1, &end);
	if (service == MESH_NONE && len > sizeof(api) - 1 && !memcmp(path, api, sizeof(api) - 1))
		service = segment_service(snap, path, len, sizeof(api) - 1, &end);
	if (service != MESH_NONE)
		ex->path_skip = end;
	return service;
}

/* Host names mean the same in any case (RFC 9110 4.2.3), service names do not: as it is, or else in
 * small letters. */
static uint32_t by_name(const struct snapshot *snap, const char *name, uint32_t len)
{
	uint32_t service = snapshot_find(snap, name, len);
	char small[MESH_NAME_MAX];

	if (service != MESH_NONE || len > sizeof(small))
		return service;
	for (uint32_t i = 0; i < len; i++)
		small[i] = (char)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] | 0x20 : name[i]);
	return snapshot_find(snap, small, len);
}

static uint32_t by_host(const struct snapshot *snap, const char *host, uint32_t len)
{
	static const char suffix[] = ".mesh";
	const char *colon = memchr(host, ':', len);

	if (colon)
		len = (uint32_t)(colon - host);
	if (len <= sizeof(suffix) - 1 ||
	    strncasecmp(host + len - (sizeof(suffix) - 1), suffix, sizeof(suffix) - 1))
		return MESH_NONE;
	return by_name(snap, host, len - (sizeof(suffix) - 1));
}

static enum mesh_cause route_gateway(struct exchange *ex, const char *head)
{
	const struct http1_head *h = &ex->request;
	const struct snapshot *snap = ex->proxy->snapshot;
	const struct snap_service *s;
	uint32_t service;

	if (!snap)
		return CAUSE_NO_ROUTE;
	service = by_path(ex, snap, head + h->path.at, h->path.len);
	if (service == MESH_NONE)
		service = by_host(snap, head + h->host.at, h->host.len);
	if (service == MESH_NONE)
		service = snap->gateway_default;
	s = snapshot_service(snap, service);
	if (!s)
		return CAUSE_NO_ROUTE;
	set_service(ex, service);
	ex->upstream = s->upstream;
	if (!shared_upstream(&ex->proxy->shared, ex->upstream, &ex->target))
		return CAUSE_NO_ENDPOINT;
	return CAUSE_NONE;
}

static void take_route(struct exchange *ex, const struct snapshot *snap, const struct snap_route *r)
{
	ex->timeouts = r->timeouts;
	ex->retry = r->retry;
	ex->routed = (struct routed){.fault = r->fault,
				     .fallback = ex->routed.fallback,
				     .mirror_version = r->mirror_version,
				     .mirror_share = r->mirror_share};
	if (r->split.n) {
		ex->routed.split = r->split;
		ex->routed.fallback = r->fallback;
		ex->subset = MESH_NONE;
	}
	if (r->name) {
		const char *name = snapshot_string(snap, r->name);

		ex->routed.name_len = (uint32_t)strnlen(name, sizeof(ex->route));
		memcpy(ex->route, name, ex->routed.name_len);
	}
}

/* A connection that was opened before the request was known went by the service's own split. */
static void match_routes(struct exchange *ex, const char *head)
{
	const struct snapshot *snap = ex->proxy->snapshot;
	const struct snap_service *s = snap ? snapshot_service(snap, ex->service) : NULL;
	const struct snap_route *r;

	if (!s)
		return;
	r = s->nroutes ? match_route(snap, s, &ex->request, head, ex->path_skip) : NULL;
	if (r)
		take_route(ex, snap, r);
	if (s->sticky.header || s->sticky.cookie)
		sticky_read(ex, snap, &s->sticky, head);
	if (ex->up && (ex->routed.split.n || ex->sticky.is_set))
		try_give_back(ex);
}

enum mesh_cause route_request(struct exchange *ex, const char *head)
{
	enum mesh_cause cause = CAUSE_NONE;

	ex->upstream = ex->down->upstream;
	if (ex->upstream == MESH_NONE)
		cause = route_gateway(ex, head);
	else if (!route_tunnel(ex))
		cause = CAUSE_NO_ENDPOINT;
	match_routes(ex, head);
	return cause;
}
