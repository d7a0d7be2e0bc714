/* SPDX-License-Identifier: Apache-2.0 */
/* Small helpers over cJSON, which does the parsing. */
#ifndef LIB_JSON_H
#define LIB_JSON_H

#include <cjson/cJSON.h>
#include <stddef.h>
#include <stdint.h>

/* Whole numbers are exact up to there, as a double holds them: no program of the mesh sends or
 * takes a larger one. */
#define JSON_WHOLE_MAX (1ULL << 53)

/* Parses exactly one JSON value of len bytes (nothing but white space behind it). NULL on error;
 * then *where (optional) is the byte offset. Caller: cJSON_Delete. */
cJSON *json_parse(const char *text, size_t len, size_t *where);
/* Value of a member, or the fallback when it is missing or of another type. Strings belong to the
 * object. */
const char *json_str(const cJSON *obj, const char *key, const char *fallback);
double json_num(const cJSON *obj, const char *key, double fallback);
int json_bool(const cJSON *obj, const char *key, int fallback);
/* JSON merge patch, RFC 7386: a new value; neither argument is changed. NULL without memory. */
cJSON *json_merge_patch(const cJSON *target, const cJSON *patch);
/* Canonical text: keys sorted, no white space, so that equal values give equal text. Caller frees.
 */
char *json_canonical(const cJSON *v);

#endif
