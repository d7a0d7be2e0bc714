/* SPDX-License-Identifier: Apache-2.0 */
/* The pure part of meshctl why. */
#ifndef CTL_MESHCTL_WHY_H
#define CTL_MESHCTL_WHY_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdio.h>

/* What one cause of contract and docs means, in words for people. NULL: a cause of a newer mesh. */
const char *why_meaning(const char *cause);
/* A record of GET /api/why as text. 0 or -ENOMEM. */
int why_print(const cJSON *why, FILE *out, bool colour, bool wide);

#endif
