/* SPDX-License-Identifier: Apache-2.0 */
/* Handlers of /api/spans, /v1/traces, /api/traces and /api/logs; see docs/api.md. */
#include "ctl/meshd/api.h"
#include "ctl/meshd/strip.h"
#include "ctl/meshd/traces/post.h"
#include "ctl/meshd/traces/span.h"
#include "lib/clock.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static uint64_t now_ms(const struct request *r)
{
	return r->meshd->loop->now_ns / 1000000;
}

static void fail(struct request *r, int err)
{
	const char *why = traces_error(r->meshd->traces);

	if (err == -EIO)
		reply_error(r, 503, NULL, "traces cannot be kept or read: %s", why ? why : "");
	else if (err == -EAGAIN)
		reply_again(r, "there are too many spans to list this now: ask again");
	else
		api_fail(r, err, NULL);
}

/* --- spans of applications ------------------------------------------------------------- */

/* Replaces the body by what is packed in it. 0, or -1 after answering. */
static int unpack(struct request *r)
{
	const char *coding = request_header(r, "Content-Encoding");
	char *text;
	size_t len;
	int err;

	if (!coding || !strcasecmp(coding, "identity"))
		return 0;
	if (strcasecmp(coding, "gzip") && strcasecmp(coding, "deflate")) {
		reply_error(r, 415, "Content-Encoding", "only gzip and deflate are understood");
		return -1;
	}
	err = unzip(r->body.data, r->body.len, &text, &len);
	if (err) {
		reply_error(r,
			    err == -EMSGSIZE ? 413
			    : err == -EINVAL ? 400
					     : 500,
			    NULL,
			    err == -EMSGSIZE ? "the body is longer than %u bytes, unpacked"
					     : "the body cannot be unpacked",
			    POST_UNZIPPED_MAX);
		return -1;
	}
	buf_done(&r->body);
	r->body = (struct buf){.data = text, .len = len, .cap = len, .max = POST_UNZIPPED_MAX};
	return 0;
}

/* Is it JSON, as far as the head says? */
static bool is_json(struct request *r)
{
	const char *type = request_header(r, "Content-Type");

	if (!type || !strncasecmp(type, "application/json", 16))
		return true;
	reply_error(r, 415, "Content-Type",
		    "send application/json: OTLP's protobuf encoding is not understood here (set "
		    "OTEL_EXPORTER_OTLP_PROTOCOL=http/json)");
	return false;
}

void api_spans_post(struct request *r)
{
	struct schema_error e;
	cJSON *list, *v;
	int n, refused;

	if (unpack(r) || !(v = request_json(r)))
		return;
	list = post_read(v, &e);
	if (!list) {
		reply_invalid(r, &e);
		return;
	}
	if (r->meshd->options.strip_queries)
		strip_queries(list);
	n = cJSON_GetArraySize(list);
	refused = traces_take(r->meshd->traces, list, NULL, now_ms(r));
	cJSON_Delete(list);
	if (refused < 0) {
		fail(r, refused);
		return;
	}
	v = cJSON_CreateObject();
	cJSON_AddBoolToObject(v, "success", true);
	cJSON_AddNumberToObject(v, "accepted", n - refused);
	if (refused)
		cJSON_AddNumberToObject(v, "rejected", refused);
	reply_json(r, 200, v);
}

/* ExportTraceServiceResponse: int64 is a string in proto3's JSON. */
static void reply_otlp(struct request *r, unsigned rejected, const char *why)
{
	cJSON *v = cJSON_CreateObject(), *partial;
	char number[16];

	if (rejected) {
		snprintf(number, sizeof(number), "%u", rejected);
		partial = cJSON_AddObjectToObject(v, "partialSuccess");
		cJSON_AddStringToObject(partial, "rejectedSpans", number);
		cJSON_AddStringToObject(partial, "errorMessage", why);
	}
	reply_json(r, 200, v);
}

void api_otlp_post(struct request *r)
{
	struct schema_error e;
	unsigned rejected;
	char why[128] = "";
	cJSON *list, *v;
	int refused;

	if (!is_json(r) || unpack(r) || !(v = request_json(r)))
		return;
	list = otlp_read(v, &rejected, why, sizeof(why), &e);
	cJSON_Delete(v);
	if (!list && e.text[0])
		reply_invalid(r, &e);
	else if (!list)
		api_fail(r, -ENOMEM, NULL);
	if (!list)
		return;
	if (r->meshd->options.strip_queries)
		strip_queries(list);
	refused = traces_take(r->meshd->traces, list, NULL, now_ms(r));
	cJSON_Delete(list);
	if (refused < 0) {
		fail(r, refused); /* 503: an exporter sends it again */
		return;
	}
	traces_refuse(r->meshd->traces, rejected);
	if (refused && !rejected)
		snprintf(why, sizeof(why), "larger than %d bytes, or beyond %d of a trace",
			 SPAN_BODY_MAX, TRACES_SPANS_MAX);
	reply_otlp(r, rejected + (unsigned)refused, why);
}

/* --- reading --------------------------------------------------------------------------- */

/* A time: ms since 1970, "10m" ago, or as 2026-11-22T15:20:32Z. */
static int query_time(struct request *r, const char *key, int64_t fallback, int64_t *out)
{
	const char *s = request_query(r, key);
	double ms = -1;
	uint64_t ago;

	*out = fallback;
	if (!s)
		return 0;
	if (*s && strlen(s) <= 15 && strspn(s, "0123456789") == strlen(s))
		ms = strtod(s, NULL);
	else if (!duration_parse(s, &ago))
		ms = fmax(0, (double)clock_wall_ms() - (double)ago);
	else
		ms = iso_ms(s);
	if (ms < 0) {
		reply_error(r, 400, key,
			    "must be ms since 1970, a duration before now as 10m, or a time as "
			    "2026-11-22T15:20:32Z");
		return -EINVAL;
	}
	*out = (int64_t)ms;
	return 0;
}

/* 100ms, or a number of ms. */
static int query_min(struct request *r, int64_t *out)
{
	const char *s = request_query(r, "min");
	uint64_t ms;
	char *end;
	double v;

	*out = 0;
	if (!s)
		return 0;
	v = strtod(s, &end);
	if (!duration_parse(s, &ms))
		v = (double)ms;
	else if (!*s || *end || strspn(s, "0123456789.") != strlen(s) || v > 1e12)
		v = -1;
	if (v < 0) {
		reply_error(r, 400, "min", "must be a duration as 100ms, or a number of ms");
		return -EINVAL;
	}
	*out = (int64_t)llround(v * 1000);
	return 0;
}

static int query_name(struct request *r, const char *key, const char **out)
{
	*out = request_query(r, key);
	if (*out && !**out)
		*out = NULL;
	if (!*out || name_valid(*out))
		return 0;
	reply_error(r, 400, key, "must be " NAME_WHAT);
	return -EINVAL;
}

static int query_filter(struct request *r, struct traces_filter *f)
{
	bool error = false;
	uint64_t limit = TRACES_LIST;

	*f = (struct traces_filter){.error = -1};
	if (query_name(r, "service", &f->service) || query_name(r, "source", &f->source) ||
	    query_min(r, &f->min_us) || request_flag(r, "error", &error) ||
	    query_time(r, "since", 0, &f->since_ms) ||
	    query_time(r, "until", INT64_MAX, &f->until_ms) ||
	    request_number(r, "limit", TRACES_LIST, &limit))
		return -EINVAL;
	if (!limit || limit > TRACES_LIST_MAX) {
		reply_error(r, 400, "limit", "must be between 1 and %d", TRACES_LIST_MAX);
		return -EINVAL;
	}
	if (request_query(r, "error"))
		f->error = error;
	f->limit = (unsigned)limit;
	return 0;
}

static void reply_text(struct request *r, int err, struct buf *b)
{
	if (err)
		fail(r, err);
	else
		reply_buf(r, 200, "application/json", b);
}

void api_traces(struct request *r)
{
	struct traces_filter f;
	struct buf b;

	if (query_filter(r, &f))
		return;
	reply_text(r, traces_list(r->meshd->traces, &f, &b), &b);
}

static void not_there(struct request *r, const char *id)
{
	struct traces_counts n;

	traces_count(r->meshd->traces, &n);
	reply_error(r, 404, NULL,
		    "no trace %.64s is kept: kept are sampled traces and those with an error or a "
		    "span of %d ms and more, for some days and up to some size (--trace-age, "
		    "--trace-size); %llu are there now",
		    id, TRACES_SLOW_MS, (unsigned long long)n.traces);
}

void api_trace(struct request *r)
{
	struct buf b;
	int err = traces_show(r->meshd->traces, r->arg[0], &b);

	if (err == -ENOENT)
		not_there(r, r->arg[0]);
	else
		reply_text(r, err, &b);
}

void api_logs(struct request *r)
{
	struct traces_filter f;
	struct buf b;
	int err;

	if (query_filter(r, &f))
		return;
	f.trace = request_query(r, "trace");
	if (f.trace && (!*f.trace || strlen(f.trace) > 64))
		f.trace = *f.trace ? "" : NULL; /* there is none of such a name */
	err = traces_logs(r->meshd->traces, &f, &b);
	if (err == -ENOENT)
		not_there(r, request_query(r, "trace"));
	else
		reply_text(r, err, &b);
}
