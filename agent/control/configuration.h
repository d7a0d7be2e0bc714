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

struct configuration {
	uint64_t revision;
	char epoch[64];
	struct named_config *services;
	struct external_info *externals;
	size_t nservices, nexternals;
};

/* 0; else -EINVAL or -ENOMEM with one line in why[CONFIGURATION_ERROR_MAX] that names the place. */
int configuration_parse(const char *text, size_t len, struct configuration *out, char *why);
void configuration_done(struct configuration *c);
/* Is the answer about that revision of that store? (Then it brings nothing new.) */
bool configuration_is(const char *text, size_t len, uint64_t revision, const char *epoch);

#endif
