/* SPDX-License-Identifier: Apache-2.0 */
/* See telemetry_forms.h. */
#include "ctl/meshd/telemetry_forms.h"
#include "ctl/meshd/whys.h"
#include "lib/json.h"
#include "lib/series_limits.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool name_or_empty(const char *s)
{
	return !*s || name_valid(s);
}

/* clang-format off: the tables are read as tables */
static const struct schema label = {SCHEMA_TEXT, .min = 1, .max = 63};
static const struct schema name = {SCHEMA_TEXT, .min = 1, .max = 63, .valid = name_valid,
				   .what = NAME_WHAT};
static const struct schema version = {SCHEMA_TEXT, .min = 0, .max = 63, .valid = name_or_empty,
				      .what = NAME_WHAT ", or empty"};
static const struct schema number = {SCHEMA_INTEGER, .min = 0, .max = JSON_WHOLE_MAX};
static const struct schema amount = {SCHEMA_INTEGER, .min = 0, .max = SERIES_AMOUNT_MAX};
static const struct schema seq = {SCHEMA_INTEGER, .min = 1, .max = JSON_WHOLE_MAX};
static const struct schema count = {SCHEMA_INTEGER, .min = 0, .max = SERIES_COUNT_MAX};
static const struct schema protocol = {SCHEMA_WORD, .words = red_protocol_words};
static const struct schema outcome = {SCHEMA_WORD, .words = red_outcome_words};
static const struct schema histogram = {SCHEMA_LIST, .min = 0, .max = 2 * HISTOGRAM_BUCKETS,
					.item = &count};

static int series_check(const cJSON *v, struct schema_error *e)
{
	if (json_num(v, "errors", 0) > json_num(v, "requests", 0))
		return schema_fail(e, ".errors", "must not be more than requests");
	return 0;
}

static const struct schema one_series = {
	SCHEMA_OBJECT, .open = true, .check = series_check,
	.fields = (const struct schema_field[]){{"source", &name, .required = true},
						{"destination", &name, .required = true},
						{"protocol", &protocol, .required = true},
						{"version", &version},
						{"outcome", &outcome, .required = true},
						{"requests", &count, .required = true},
						{"errors", &count},
						{"sumUs", &amount},
						{"bytesIn", &amount},
						{"bytesOut", &amount},
						{"histogram", &histogram},
						{NULL}}};
static const struct schema series = {SCHEMA_LIST, .min = 0, .max = RED_BATCH_MAX,
				     .item = &one_series};
static const struct schema object = {SCHEMA_OBJECT, .open = true,
				     .fields = (const struct schema_field[]){{NULL}}};
static const struct schema objects = {SCHEMA_LIST, .min = 0, .max = TELEMETRY_SPANS_MAX,
				      .item = &object};
static const struct schema why_id = {SCHEMA_TEXT, .min = 1, .max = WHY_ID_MAX};
static const struct schema why = {
	SCHEMA_OBJECT, .open = true,
	.fields = (const struct schema_field[]){
		{"id", &why_id, .required = true}, {"traceId", &why_id}, {NULL}}};
static const struct schema whys = {SCHEMA_LIST, .min = 0, .max = WHYS_MAX, .item = &why};
static const struct schema lost = {SCHEMA_OBJECT, .open = true,
				   .fields = (const struct schema_field[]){{"ring", &number},
									   {"series", &number},
									   {"spans", &number},
									   {"tapped", &number},
									   {NULL}}};

static int batch_check(const cJSON *v, struct schema_error *e)
{
	static const char *const needed[] = {"epoch", "seq", "time"};
	const cJSON *all = cJSON_GetObjectItemCaseSensitive(v, "series"),
		    *n = cJSON_GetObjectItemCaseSensitive(v, "seq");
	char at[16];

	for (size_t i = 0; i < 3; i++) {
		const cJSON *f = cJSON_GetObjectItemCaseSensitive(v, needed[i]);

		if ((f && !cJSON_IsNull(f)) || (!n && !(all && all->child)))
			continue;
		snprintf(at, sizeof(at), ".%s", needed[i]);
		return schema_fail(e, at, "is required, or it would be counted twice");
	}
	return 0;
}

/* Open: an agent that is newer than this meshd may say more. */
const struct schema telemetry_form = {
	SCHEMA_OBJECT, .open = true, .check = batch_check,
	.fields = (const struct schema_field[]){{"node", &name, .required = true},
						{"epoch", &label},
						{"seq", &seq},
						{"time", &number},
						{"series", &series},
						{"spans", &objects},
						{"tapped", &objects},
						{"whys", &whys},
						{"lost", &lost},
						{NULL}}};
/* clang-format on */

static int word_of(const char *const *words, const char *s)
{
	int i = 0;

	while (words[i + 1] && strcmp(words[i], s))
		i++;
	return i;
}

static uint64_t whole(const cJSON *v, const char *key)
{
	return (uint64_t)json_num(v, key, 0);
}

static int delta_read(const cJSON *v, struct red_delta *d)
{
	const cJSON *h = cJSON_GetObjectItemCaseSensitive(v, "histogram");

	d->key = (struct red_key){
		.source = json_str(v, "source", ""),
		.destination = json_str(v, "destination", ""),
		.version = json_str(v, "version", ""),
		.protocol = word_of(red_protocol_words, json_str(v, "protocol", "")),
		.outcome = word_of(red_outcome_words, json_str(v, "outcome", "")),
	};
	d->sum.requests = whole(v, "requests");
	d->sum.errors = whole(v, "errors");
	d->sum.sum_us = whole(v, "sumUs");
	d->sum.bytes_in = whole(v, "bytesIn");
	d->sum.bytes_out = whole(v, "bytesOut");
	return h && !cJSON_IsNull(h) ? histogram_sparse_parse(&d->sum.histogram, h) : 0;
}

int telemetry_batch(const cJSON *body, struct red_batch *out, struct schema_error *e)
{
	const cJSON *all = cJSON_GetObjectItemCaseSensitive(body, "series"), *v,
		    *l = cJSON_GetObjectItemCaseSensitive(body, "lost");
	int n = cJSON_GetArraySize(all), err = 0;
	struct red_delta *deltas = calloc((size_t)n + 1, sizeof(*deltas));

	if (!deltas)
		return -ENOMEM;
	*out = (struct red_batch){.node = json_str(body, "node", ""),
				  .epoch = json_str(body, "epoch", ""),
				  .seq = whole(body, "seq"),
				  .time_ms = whole(body, "time"),
				  .deltas = deltas};
	for (int i = 0; i < RED_LOSSES; i++)
		out->lost[i] = whole(l, red_lost_words[i]);
	cJSON_ArrayForEach (v, all) {
		err = delta_read(v, &deltas[out->n++]);
		if (err)
			break;
	}
	if (err == -EINVAL) {
		e->path[0] = '\0';
		(void)schema_fail(e, "",
				  "must be pairs of a bucket below %d and a count, in the "
				  "order of buckets",
				  HISTOGRAM_BUCKETS);
		snprintf(e->path, sizeof(e->path), "series[%zu].histogram", out->n - 1);
	}
	if (err)
		telemetry_batch_done(out);
	return err;
}

void telemetry_batch_done(struct red_batch *b)
{
	struct red_delta *deltas = (struct red_delta *)b->deltas;

	for (size_t i = 0; i < b->n; i++)
		red_sum_done(&deltas[i].sum);
	free(deltas);
	*b = (struct red_batch){0};
}
