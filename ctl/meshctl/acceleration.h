/* SPDX-License-Identifier: Apache-2.0 */
/* What an agent says about connections that skip TCP, in words; for `check` and `status`. */
#ifndef CTL_MESHCTL_ACCELERATION_H
#define CTL_MESHCTL_ACCELERATION_H

#include "ctl/meshctl/check.h"

#include <cjson/cJSON.h>

#define ACCELERATION_WORDS_MAX 512

enum acceleration_state {
	ACCELERATION_UNKNOWN, /* an older agent */
	ACCELERATION_TRIES,   /* its trials are still running */
	ACCELERATION_WORKS,
	ACCELERATION_UNWANTED,
	ACCELERATION_REFUSED, /* this kernel does not bear it */
};

/* One sentence in out[ACCELERATION_WORDS_MAX], without a full stop; "" when nothing is known. */
enum acceleration_state acceleration_words(const cJSON *agent, char *out);
/* The workloads that are left to plain TCP, likewise; "" when there is none. */
void acceleration_plain(const cJSON *agent, char *out);

/* A line of `meshctl check`. Plain TCP is always right: it fails only where --accelerate on asks
 * for more. */
bool check_acceleration(struct check *c, const cJSON *agent);

#endif
