/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration of one service as the agent keeps it: fixed policy as plain values (the structs
 * of the snapshot, which takes them as they are), and what has no fixed size (routes, names of
 * versions, strings) in one block behind it. The block is shared by reference and never changes
 * once somebody else has it, so that copying a configuration costs nothing. Made by
 * agent/control/configuration.c, kept by the registry, read by the compiler and the supervisor.
 */
#ifndef AGENT_REGISTRY_CONFIG_H
#define AGENT_REGISTRY_CONFIG_H

#include "agent/control/snapshot.h"

#include <mesh/abi.h>
#include <mesh/breaker.h>
#include <mesh/budget.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_VERSIONS	  (MESH_VERSIONS - 1) /* that one configuration may name */
#define CONFIG_ROUTES_MAX 64
#define CONFIG_PAIRS_MAX  16	     /* headers, and again queries, of one match */
#define CONFIG_TEXT_MAX	  (4u << 20) /* bytes behind one configuration */

/* Active checks of a service's endpoints. */
enum health_type {
	HEALTH_AUTO, /* registered endpoints by TCP, discovered ones not at all */
	HEALTH_NONE,
	HEALTH_HTTP,
	HEALTH_TCP,
};
#define HEALTH_PATH_MAX 256
struct health_config {
	uint8_t type; /* enum health_type */
	char path[HEALTH_PATH_MAX];
	uint32_t interval_ms, timeout_ms;
	uint32_t unhealthy_after, healthy_after; /* results in a row */
};

enum service_accelerate {
	ACCELERATE_AUTO, /* when it gains from it */
	ACCELERATE_ON,	 /* without measuring */
	ACCELERATE_OFF,
};

/* Addresses that lead to the service though nobody has them. */
#define CONFIG_ADDRESSES_MAX 16
struct config_address {
	uint8_t ip[16];
	uint16_t port; /* host order */
	uint16_t pad;
};

struct config_text; /* the block; offsets into it are never 0 */

/* Offsets: service_config_at(). Versions in split and routes are positions in versions[]; weights
 * are in millionths. */
struct service_config {
	uint8_t protocol; /* enum mesh_protocol */
	uint8_t policy;	  /* enum mesh_policy */
	uint8_t fail_closed;
	uint8_t fallback;	/* enum snap_fallback */
	uint8_t accelerate;	/* enum service_accelerate */
	uint32_t sampling;	/* share of the traces that begin with it, of SNAP_ALL */
	uint32_t slow_start_ms; /* over which a new endpoint's weight grows; 0: off */
	struct snap_timeouts timeouts;
	struct snap_retry retry;
	struct mesh_budget_policy budget;
	struct mesh_breaker_policy breaker;
	struct mesh_bulkhead_policy bulkhead;
	struct health_config health;
	struct snap_sticky sticky; /* offsets */
	struct snap_split split;
	uint32_t nversions, versions[CONFIG_VERSIONS]; /* offsets of names, none twice */
	uint32_t nroutes, routes; /* offset of struct snap_route[nroutes], of which all offsets are
				     like this one */
	uint32_t naddresses, addresses; /* offset of struct config_address[naddresses] */
	struct config_text *text;	/* NULL: nothing of that kind */
};

/* The defaults of the contract; nothing behind it. */
void service_config_init(struct service_config *c);
/* Gives its share of the block back. */
void service_config_done(struct service_config *c);
/* *dst (uninitialised) becomes the same; both have to be done with. */
void service_config_copy(struct service_config *dst, const struct service_config *src);
bool service_config_equal(const struct service_config *a, const struct service_config *b);

/* What lies at an offset: valid until service_config_put() or _done(). */
const void *service_config_at(const struct service_config *c, uint32_t offset);
/* The whole block, for who copies it elsewhere: offsets count from here; the first `*skip` bytes
 * mean nothing. NULL with *size of 0 when there is none. */
const void *service_config_block(const struct service_config *c, uint32_t *size, uint32_t *skip);

/*
 * Making one, which nobody else has yet: puts n bytes (p of NULL: zeros) behind it, aligned to 8. 0
 * with *offset, -ENOMEM, or -E2BIG above CONFIG_TEXT_MAX.
 */
int service_config_put(struct service_config *c, const void *p, size_t n, uint32_t *offset);
/* With its NUL, and not aligned. */
int service_config_put_string(struct service_config *c, const char *s, uint32_t *offset);
/* The position of the version of that name (shorter than MESH_NAME_MAX), which is added if need be.
 * 0; -ENOSPC: CONFIG_VERSIONS are named already; or as above. */
int service_config_version(struct service_config *c, const char *name, uint32_t *position);

#endif
