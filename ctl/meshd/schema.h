/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Validation of JSON against tables. A form is described once, as data; the same table checks a
 * value (the error carries the path of the first bad key) and fills in defaults for reading. Used
 * for service configuration, registrations and agent states. Knows nothing of what the values mean.
 */
#ifndef MESHD_SCHEMA_H
#define MESHD_SCHEMA_H

#include "lib/name.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

#define SCHEMA_FIELDS_MAX 32

struct schema_error {
	char path[192]; /* "routes[0].retry.attempts"; "" for the value itself */
	char text[160]; /* what is wrong, without the path */
};

enum schema_kind {
	SCHEMA_OBJECT, /* fields; other keys are refused unless `open` */
	SCHEMA_LIST,   /* min..max items of form `item` */
	SCHEMA_MAP,    /* min..max members: keys by `valid`, values of form `item` */
	SCHEMA_BOOL,
	SCHEMA_INTEGER,	 /* min..max */
	SCHEMA_NUMBER,	 /* min..max */
	SCHEMA_DURATION, /* a string for duration_parse, min..max milliseconds */
	SCHEMA_WORD,	 /* one of words[] */
	SCHEMA_TEXT,	 /* min..max bytes without control characters; and `valid`, if given */
};

struct schema {
	enum schema_kind kind;
	bool open; /* object: unknown keys pass; null counts as a missing key */
	double min, max;
	const struct schema_field *fields; /* ends with name == NULL; at most SCHEMA_FIELDS_MAX */
	const struct schema *item;
	const char *const *words; /* ends with NULL */
	bool (*valid)(const char *s);
	const char *what; /* what `valid` accepts, in words */
	/* Optional last check, over the whole value. 0, or -EINVAL after schema_fail(). */
	int (*check)(const cJSON *v, struct schema_error *e);
};

struct schema_field {
	const char *name;
	const struct schema *form;
	bool required;
	bool inside;	      /* defaults are also filled inside the value, when there is one */
	const char *fallback; /* default as JSON text; NULL: none */
};

/* 0, or -EINVAL with *e. */
int schema_check(const struct schema *s, const cJSON *v, struct schema_error *e);
/* Adds the defaults that are missing in a valid object. 0 or -ENOMEM. */
int schema_fill(const struct schema *s, cJSON *v);
/* For `check` functions: reports an error at `sub` below the value ("" for itself, ".key", "[3]").
 * Returns -EINVAL. */
__attribute__((format(printf, 3, 4))) int schema_fail(struct schema_error *e, const char *sub,
						      const char *fmt, ...);

/*
 * Parses a JSON text that came from outside more strictly than cJSON: UTF-8 only, no U+0000, at
 * most JSON_DEPTH_MAX levels and values_max values (0: JSON_VALUES_MAX; each costs cJSON some 80
 * bytes, and two of the text). NULL with *e; path is empty then and the text names the byte.
 */
#define JSON_DEPTH_MAX	32
#define JSON_VALUES_MAX 500000
cJSON *strict_parse(const char *text, size_t len, size_t values_max, struct schema_error *e);

#endif
