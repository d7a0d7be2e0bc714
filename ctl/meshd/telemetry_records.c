/* SPDX-License-Identifier: Apache-2.0 */
/* See telemetry_records.h. */
#include "ctl/meshd/telemetry_records.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

size_t telemetry_json_len(const char *body, size_t len)
{
	const char *nul = len ? memchr(body, 0, len) : NULL;

	return nul ? (size_t)(nul - body) : len;
}

/* What is wrong with what begins here, as far as its head says. */
static int bad_batch(const char *at, size_t left, size_t number, struct schema_error *e)
{
	struct record_batch_head h = {0};

	e->path[0] = '\0';
	memcpy(&h, at, left < sizeof(h) ? left : sizeof(h));
	if (left < sizeof(h) || h.magic != RECORD_BATCH_MAGIC)
		schema_fail(e, "", "batch %zu of them does not begin as one: %zu bytes are left",
			    number, left);
	else if (h.layout != RECORD_LAYOUT)
		schema_fail(e, "", "batch %zu of them has layout %u, this meshd takes %u", number,
			    h.layout, RECORD_LAYOUT);
	else if (h.size > left)
		schema_fail(e, "", "batch %zu of them has %u bytes, of which %zu are there", number,
			    h.size, left);
	else
		schema_fail(e, "", "batch %zu of them has a record or a name that makes no sense",
			    number);
	snprintf(e->path, sizeof(e->path), "records");
	return -EINVAL;
}

static int bad_node(const struct record_batch_view *v, const char *node, size_t number,
		    struct schema_error *e)
{
	e->path[0] = '\0';
	schema_fail(e, "", "batch %zu of them is of node %s, not of %s", number,
		    record_batch_node(v), node);
	snprintf(e->path, sizeof(e->path), "records");
	return -EINVAL;
}

/* Where they begin: behind 1 to 8 NUL bytes; `len`: there are none. */
static size_t begin_of(const char *body, size_t len)
{
	size_t at = telemetry_json_len(body, len), end = at / 8 * 8 + 8;

	if (at == len)
		return len;
	while (at < end && at < len && !body[at])
		at++;
	return at;
}

static int add(struct telemetry_records *r, const struct record_batch_view *v)
{
	struct record_batch_view *more;

	if (!(r->n & (r->n - 1))) { /* full: there is room for powers of two */
		more = realloc(r->batches, (r->n ? 2 * r->n : 1) * sizeof(*more));
		if (!more)
			return -ENOMEM;
		r->batches = more;
	}
	r->batches[r->n++] = *v;
	return 0;
}

int telemetry_records(const char *body, size_t len, const char *node, struct telemetry_records *out,
		      struct schema_error *e)
{
	size_t at = begin_of(body, len);
	struct record_batch_view v;
	int err = 0;

	*out = (struct telemetry_records){0};
	for (; at < len && !err; at += err ? 0 : v.head->size) {
		size_t number = out->n + 1;

		if (at % 8 || record_batch_check(body + at, len - at, &v))
			err = bad_batch(body + at, len - at, number, e);
		else if (strcmp(record_batch_node(&v), node))
			err = bad_node(&v, node, number, e);
		else
			err = add(out, &v);
	}
	if (err)
		telemetry_records_done(out);
	return err;
}

void telemetry_records_done(struct telemetry_records *r)
{
	free(r->batches);
	*r = (struct telemetry_records){0};
}
