/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The compiled configuration: one immutable, position-independent block in a sealed memfd that the
 * supervisor makes and every worker maps read-only. Offsets are from the start of the block; 0 is
 * "none". Endpoints are not in it: they change by the second and live in the BPF arrays.
 */
#ifndef AGENT_CONTROL_SNAPSHOT_H
#define AGENT_CONTROL_SNAPSHOT_H

#include <mesh/abi.h>
#include <mesh/breaker.h>
#include <mesh/budget.h>
#include <mesh/bulkhead.h>
#include <stdint.h>
#include <stddef.h>

#define SNAPSHOT_MAGIC	0x706e736d /* "msnp" */
#define SNAPSHOT_FORMAT 3
#define SNAPSHOT_MAX	(256u << 20)

/* Shares of traffic are in millionths: 1000000 is all of it. */
#define SNAP_ALL 1000000

struct snap_timeouts { /* milliseconds, 0: none */
	uint32_t connect, try, request, idle;
};

/* retry.on: causes as bits of enum mesh_cause, statuses 400 to 599 as bits. A method that enum
 * http1_method has no name for is never retried. */
struct snap_retry {
	uint32_t attempts; /* tries after the first */
	uint32_t methods;  /* bits of enum http1_method */
	uint32_t causes;
	uint8_t statuses[25]; /* bit n: 400 + n */
	uint8_t pad[3];
	uint32_t backoff_ms, max_backoff_ms;
};

static inline int snap_retry_has_status(const struct snap_retry *r, uint32_t status)
{
	uint32_t n = status - 400;

	return n < 200 && r->statuses[n / 8] >> n % 8 & 1;
}

static inline void snap_retry_add_status(struct snap_retry *r, uint32_t status)
{
	uint32_t n = status - 400;

	if (n < 200)
		r->statuses[n / 8] |= (uint8_t)(1u << n % 8);
}

/* Weights of versions by their number (mesh_upstream.version[]); n of 0: no split. Each is at most
 * SNAP_ALL; they add up to about that, and never to 0. A version that got no number stands there as
 * 0, everybody. */
struct snap_split {
	uint32_t n;
	struct {
		uint32_t version, weight;
	} to[MESH_SPLITS];
};

/* What happens when nobody serves the version that a split chose. */
enum snap_fallback {
	SNAP_FALLBACK_SPLIT, /* its share goes to the other versions of the split, and if there are
				none, to everybody */
	SNAP_FALLBACK_NONE,  /* no-healthy-endpoint */
};

/* Template: segments between slashes; `{name}` is any one that is not empty, a last `**` is
 * whatever follows the slash before it, nothing too. */
enum snap_path { SNAP_PATH_ANY, SNAP_PATH_EXACT, SNAP_PATH_PREFIX, SNAP_PATH_TEMPLATE };

struct snap_pair { /* offsets of strings; header names are in small letters */
	uint32_t name, value;
};

struct snap_match {
	uint32_t path_kind;	    /* enum snap_path */
	uint32_t path;		    /* offset of a string */
	uint32_t method;	    /* offset of a string, 0: any */
	uint32_t nheaders, headers; /* offset of struct snap_pair[nheaders] */
	uint32_t nqueries, queries;
};

struct snap_fault { /* shares of SNAP_ALL; 0: none */
	uint32_t delay_share, delay_ms;
	uint32_t abort_share, abort_status;
	uint64_t until_ms; /* CLOCK_MONOTONIC: nothing from then on; 0: as long as configured */
};

struct snap_route {
	uint32_t name; /* offset; 0: none */
	struct snap_match match;
	struct snap_split split;	       /* n of 0: the service's */
	uint32_t fallback;		       /* enum snap_fallback */
	uint32_t mirror_version, mirror_share; /* share of 0: none */
	struct snap_timeouts timeouts;	       /* whole: the service's are in it already */
	struct snap_retry retry;
	struct snap_fault fault;
};

struct snap_sticky {	 /* offsets of names; both 0: off */
	uint32_t header; /* in small letters */
	uint32_t cookie;
};

struct snap_service {
	uint32_t name;	   /* offset of a NUL-terminated string; 0: this id is not in use */
	uint32_t upstream; /* of the primary port; MESH_NONE while nobody listens */
	uint8_t protocol;  /* enum mesh_protocol, as declared */
	uint8_t policy;	   /* enum mesh_policy */
	uint8_t fail_closed;
	uint8_t fallback;  /* enum snap_fallback, of the service's own split */
	uint32_t sampling; /* share of the traces that begin with it, of SNAP_ALL */
	struct snap_timeouts timeouts;
	struct snap_retry retry;
	struct mesh_budget_policy budget;
	struct mesh_breaker_policy breaker;
	struct mesh_bulkhead_policy bulkhead;
	struct snap_sticky sticky;
	struct snap_fault fault;  /* of the chaos commands; tried after a route's */
	uint32_t nroutes, routes; /* offset of struct snap_route[nroutes] */
};

struct snapshot {
	uint32_t magic, format;
	uint64_t generation;	  /* counts up; the supervisor's */
	uint64_t revision;	  /* meshd's, of the configuration inside */
	uint32_t size;		  /* of the whole block */
	uint32_t nservices;	  /* services[] is indexed by service id */
	uint32_t services;	  /* offset of struct snap_service[nservices] */
	uint32_t nnames;	  /* by_name[] holds the ids in use, sorted by name */
	uint32_t by_name;	  /* offset of uint32_t[nnames] */
	uint32_t gateway_default; /* service id or MESH_NONE */
};

/* Budget, breaker and bulkhead of a service about which nothing is said; the rest is zero. */
extern const struct snap_service snapshot_service_default;

static inline const struct snap_service *snapshot_service(const struct snapshot *s, uint32_t id)
{
	const struct snap_service *v = (const void *)((const char *)s + s->services);

	return id < s->nservices && v[id].name ? &v[id] : NULL;
}

static inline const char *snapshot_string(const struct snapshot *s, uint32_t offset)
{
	return (const char *)s + offset;
}

/* Its routes, in the order in which they are tried. */
static inline const struct snap_route *snapshot_routes(const struct snapshot *s,
						       const struct snap_service *v)
{
	return (const void *)((const char *)s + v->routes);
}

static inline const struct snap_pair *snapshot_pairs(const struct snapshot *s, uint32_t offset)
{
	return (const void *)((const char *)s + offset);
}

/* The id of the service with that name (not NUL-terminated), or MESH_NONE. O(log n). */
uint32_t snapshot_find(const struct snapshot *s, const char *name, size_t len);

/* Checks that a block of `size` bytes is whole and consistent (offsets inside, strings terminated,
 * names sorted): the one place where a reader looks. 0 or -EINVAL. */
int snapshot_check(const void *block, size_t size);

#endif
