/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading JSON members with a place for the message when they are wrong. Shared by
 * configuration*.c only. A member that is missing or null leaves its target as it is; everything
 * returns 0 or -EINVAL with the message, unless it says more.
 */
#ifndef AGENT_CONTROL_CONFIGURATION_IMPL_H
#define AGENT_CONTROL_CONFIGURATION_IMPL_H

#include "agent/control/configuration.h"

#include <cjson/cJSON.h>

struct place { /* where we are, for messages */
	char *why;
	const char *service; /* NULL: not in one */
	char at[96];	     /* "routes[2].retry." */
};

__attribute__((format(printf, 2, 3))) int conf_bad(const struct place *p, const char *fmt, ...);
/* The place one level further in; fmt says how that is written. */
__attribute__((format(printf, 2, 3))) struct place conf_inside(const struct place *p,
							       const char *fmt, ...);

/* NULL when it is missing or null. */
const cJSON *conf_item(const cJSON *o, const char *key);
/* *out: an object, or NULL. */
int conf_object(const struct place *p, const cJSON *o, const char *key, const cJSON **out);
/* *out: a list of at most `most`, or NULL. */
int conf_list(const struct place *p, const cJSON *o, const char *key, int most, const cJSON **out);
/* A string of printable ASCII without spaces that fits; `fallback` when it is not there (NULL: it
 * must be, and not be empty). */
int conf_text(const struct place *p, const cJSON *o, const char *key, const char *fallback,
	      char *out, size_t cap);
/* *out: its position in names[], which ends with NULL. */
int conf_choice(const struct place *p, const cJSON *o, const char *key, const char *const *names,
		uint8_t *out);
int conf_whole(const struct place *p, const cJSON *o, const char *key, uint32_t least,
	       uint32_t most, uint32_t *out);
/* From 0 to 100; *out in units of 1/scale. What is above 0 stays so. */
int conf_percent(const struct place *p, const cJSON *o, const char *key, uint32_t scale,
		 uint32_t *out);
#define CONF_SHARE 10000 /* scale of shares: 100 % is SNAP_ALL */
/* Milliseconds, a day at most. */
int conf_duration(const struct place *p, const cJSON *o, const char *key, uint32_t *out);

/* configuration_service.c: one of "services". *out is to be done with in any case. Also -ENOMEM. */
int conf_service(const cJSON *o, void *out, char *why);

/* What a route says as a service does. Strings and versions go behind the configuration c, whose
 * offset or number is in *out; also -ENOMEM. */
extern const char *const conf_fallbacks[];
int conf_put(const struct place *p, struct service_config *c, const char *s, uint32_t *out);
/* A string member without control characters. */
int conf_string(const struct place *p, const cJSON *o, const char *key, size_t most,
		struct service_config *c, uint32_t *out);
/* `key` is where the name stands, or the object of which it is a key. */
int conf_version(const struct place *p, const char *key, const char *name, struct service_config *c,
		 uint32_t *out);
/* A name of HTTP in small letters: headers are compared so. */
int conf_small(const struct place *p, const char *key, const char *name, struct service_config *c,
	       uint32_t *out);
/* err, with the message when it is -E2BIG. */
int conf_too_big(const struct place *p, int err);
int conf_split(const struct place *at, const cJSON *o, struct service_config *c,
	       struct snap_split *out);
int conf_timeouts(const struct place *at, const cJSON *o, struct snap_timeouts *out);
/* budget: NULL: what is said of it is passed over. */
int conf_retry(const struct place *at, const cJSON *o, struct snap_retry *out,
	       struct mesh_budget_policy *budget);

/* configuration_route.c: all of them, after all that they may override. Also -ENOMEM. */
int conf_routes(const struct place *at, const cJSON *o, struct service_config *c);

#endif
