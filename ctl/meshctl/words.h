/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parts of meshd's answers as short text for tables and sentences: addresses, matches, splits,
 * faults, breakers. Used by all commands that show something. Pure. Each one writes at most cap
 * bytes with the NUL (what does not fit is cut off) and returns out.
 */
#ifndef CTL_MESHCTL_WORDS_H
#define CTL_MESHCTL_WORDS_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

#define WORDS_MAX 512 /* enough for any but the longest matches */

/* A member of an object, NULL when there is none (or no object). */
const cJSON *words_get(const cJSON *object, const char *key);

/* The members of an object by name (digits compare as numbers), at most max of them. How many. */
unsigned words_sorted(const cJSON *object, const cJSON **out, unsigned max);

/* A whole number. */
char *words_number(double v, char out[24]);
/* "12", "3.4": milliseconds with what matters of the fraction. */
char *words_ms(double ms, char out[24]);
/* The age of member `key`, a number of milliseconds; "-" when there is none or it is 0. */
char *words_age(const cJSON *object, const char *key, char out[24]);
/* Adds word to a list separated by commas, once. */
char *words_add_once(const char *word, char *list, size_t cap);
/* The versions of these endpoints, each once, v2 before v10: "v1,v2". */
char *words_versions(const cJSON *endpoints, char *out, size_t cap);
/* "10.0.0.1:80", "[fd00::1]:80" of an endpoint; its ports by commas. */
char *words_address(const cJSON *endpoint, char *out, size_t cap);
char *words_ports(const cJSON *endpoint, char *out, size_t cap);
/* How many endpoints have a status: version NULL: of all versions, status NULL: whatever it is. */
unsigned words_count(const cJSON *endpoints, const char *version, const char *status);
/* The endpoints that are not healthy: "1 unhealthy, 2 draining"; "" when all are. */
char *words_out(const cJSON *endpoints, char *out, size_t cap);

/* "v1 90%, v2 10%"; "" when there is none. */
char *words_split(const cJSON *split, char *out, size_t cap);
/* "GET, path begins with /api, header x-user is beta"; "everything". */
char *words_match(const cJSON *match, char *out, size_t cap);
/* "delay 500ms 10%, abort 503 5%"; "" when there is none. */
char *words_fault(const cJSON *fault, char *out, size_t cap);
/* "v2 10%"; "" when there is none. */
char *words_mirror(const cJSON *mirror, char *out, size_t cap);
/* "connect 1s, try 3s": an object of plain values in its order, but for its own objects and lists.
 */
char *words_values(const cJSON *object, char *out, size_t cap);
/* "open since 12s, 18s left, held by hand". */
char *words_breaker(const cJSON *breaker, char *out, size_t cap);

#endif
