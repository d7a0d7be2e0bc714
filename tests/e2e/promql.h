/* SPDX-License-Identifier: Apache-2.0 */
/* What the test of dashboards has to know of PromQL: where selectors begin and end, how to leave
 * out comparisons. */
#ifndef TESTS_E2E_PROMQL_H
#define TESTS_E2E_PROMQL_H

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define EXPR_MAX   2048
#define NAME_BYTES "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_:"

/* The string's end, behind its quote. */
static inline const char *skip_string(const char *p)
{
	for (p++; *p && *p != '"'; p++)
		p += *p == '\\' && p[1];
	return p + (*p == '"');
}

/* The end of a selector whose name is there: behind its braces, if it has some. */
static inline const char *selector_end(const char *p)
{
	p += strspn(p, NAME_BYTES);
	if (*p != '{')
		return p;
	while (*p && *p != '}')
		p = *p == '"' ? skip_string(p) : p + 1;
	return p + (*p == '}');
}

static inline bool names_metric(const char *p, size_t len)
{
	return !strncmp(p, "mesh_", 5) || !strncmp(p, "process_", 8) || !strncmp(p, "http_", 5) ||
	       p[len] == '{' || memchr(p, ':', len);
}

/* An alert's threshold: what is left must have a value whether it fires or not. */
static inline void without_comparisons(char *text)
{
	static const char *const ops[] = {" == ", " != ", " >= ", " <= ", " > ", " < "};

	for (size_t i = 0; i < sizeof(ops) / sizeof(*ops); i++)
		for (char *at = text; (at = strstr(at, ops[i]));) {
			char *end = at + strlen(ops[i]);

			if (!isdigit(*end)) {
				at = end;
				continue;
			}
			end += strspn(end, "0123456789.e");
			memmove(at, end, strlen(end) + 1);
		}
}

static inline void replace(char *text, const char *from, const char *to)
{
	char rest[EXPR_MAX];

	for (char *at; (at = strstr(text, from));) {
		snprintf(rest, sizeof(rest), "%s", at + strlen(from));
		snprintf(at, EXPR_MAX - (size_t)(at - text), "%s%s", to, rest);
	}
}

#endif
