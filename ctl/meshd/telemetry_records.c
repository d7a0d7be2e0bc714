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
	else if (h.size > left)
		schema_fail(e, "", "batch %zu of them has %u bytes, of which %zu are there", number,
			    h.size, left);
	else
		schema_fail(e, "", "batch %zu of them has a record or a name that makes no sense",
			    number);
	snprintf(e->path, sizeof(e->path), "records");
	return -EINVAL;
}

static int too_many(struct schema_error *e)
{
	e->path[0] = '\0';
	schema_fail(e, "", "there are more than %d batches of them", TELEMETRY_BATCHES_MAX);
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

/* A batch of another layout, of an agent that is older or newer: there is nothing to be read but
 * the part of its head that all layouts have. Its bytes; 0: it is none. */
static uint32_t foreign_batch(const char *at, size_t left, uint32_t *records)
{
	struct record_batch_head h;

	if (left < sizeof(h))
		return 0;
	memcpy(&h, at, sizeof(h));
	if (h.magic != RECORD_BATCH_MAGIC || h.layout == RECORD_LAYOUT || h.size < sizeof(h) ||
	    h.size > left || h.size > RECORD_BATCH_SIZE || h.size % 8 ||
	    h.records > RECORD_BATCH_MAX)
		return 0;
	*records = h.records;
	return h.size;
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

static int take(const char *at, size_t left, const char *node, size_t number,
		struct telemetry_records *out, struct schema_error *e, uint32_t *size)
{
	struct record_batch_view v;

	*size = 0;
	if (record_batch_check(at, left, &v))
		return bad_batch(at, left, number, e);
	if (strcmp(record_batch_node(&v), node))
		return bad_node(&v, node, number, e);
	if (number > TELEMETRY_BATCHES_MAX)
		return too_many(e);
	*size = v.head->size;
	return add(out, &v);
}

int telemetry_records(const char *body, size_t len, const char *node, struct telemetry_records *out,
		      struct schema_error *e)
{
	size_t at = begin_of(body, len);
	int err = at % 8 && at < len ? bad_batch(body + at, len - at, 1, e) : 0;
	uint32_t size, records;

	*out = (struct telemetry_records){0};
	for (size_t number = 1; at < len && !err; at += size, number++) {
		size = foreign_batch(body + at, len - at, &records);
		if (size)
			out->skipped += records;
		else
			err = take(body + at, len - at, node, number, out, e, &size);
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
