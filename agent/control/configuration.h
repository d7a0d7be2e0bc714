/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What GET /api/watch answers, read and checked. meshd has validated it when it was written; here
 * it is checked again as far as it is used, and taken as a whole or not at all. Pure.
 */
#ifndef AGENT_CONTROL_CONFIGURATION_H
#define AGENT_CONTROL_CONFIGURATION_H

#include "agent/registry/registry.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIGURATION_ERROR_MAX 256
#define CONFIGURATION_HANDS_MAX 1024

/* An endpoint that is to get no new requests. */
struct drain_info {
	char service[MESH_NAME_MAX], endpoint[MESH_ID_MAX];
};

/* A breaker that somebody opened, closed or reset; in the order of the serials. */
struct hand_info {
	uint64_t serial;
	char service[MESH_NAME_MAX];
	char endpoint[MESH_ID_MAX]; /* "": the service's own breaker */
	uint8_t action;		    /* enum mesh_breaker_hand */
};

struct configuration {
	uint64_t revision;
	char epoch[64];
	struct named_config *services;
	struct external_info *externals;
	struct fault_info *faults;
	struct drain_info *drains;
	struct hand_info *hands;
	size_t nservices, nexternals, nfaults, ndrains, nhands;
};

/* 0; else -EINVAL or -ENOMEM with one line in why[CONFIGURATION_ERROR_MAX] that names the place. */
int configuration_parse(const char *text, size_t len, struct configuration *out, char *why);
void configuration_done(struct configuration *c);
/* Is the answer about that revision of that store? (Then it brings nothing new.) */
bool configuration_is(const char *text, size_t len, uint64_t revision, const char *epoch);

#endif
