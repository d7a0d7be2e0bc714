/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See encode.h. Written straight into a buffer: this runs on the loop for every kept span.
 *
 * A hop of the mesh is measured once, between caller and callee, and is one span. It is exported as
 * the callee's: its resource is the service that answered, its kind SERVER. The mesh measures in
 * front of the callee what the callee itself would report, spans of callees are the parents of the
 * calls that these make, and so the services and the arrows between them that a back end derives
 * are those of the map. As CLIENT spans the hops would belong to the callers: a service that only
 * answers would not be there at all, and the gateway, which is none, would be.
 */
#include "ctl/meshd/otlp/encode.h"
#include "lib/json.h"
#include "lib/trace_id.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_MAX_OUT 2048
#define NS_MAX	     9.2e18 /* of a 64-bit time */
#define KEY_MAX	     256    /* bytes of the name of an attribute */
#define FOREIGN_MAX  128    /* attributes of an application, as many as the SDKs send unless told */

/* --- attributes ---------------------------------------------------------------------- */

struct attributes {
	struct buf *b;
	size_t from;
	bool foreign; /* some were named by an application, and must not come twice */
};

static struct attributes begin(struct buf *b)
{
	buf_str(b, "\"attributes\":[");
	return (struct attributes){.b = b, .from = b->len};
}

static void end(struct attributes *a)
{
	buf_char(a->b, ']');
}

/* Nothing within a JSON string looks like this: quotes are escaped there. */
static bool is_there(const struct attributes *a, const char *name)
{
	struct buf k;
	bool found;

	buf_init(&k, KEY_MAX * 6 + 16);
	buf_str(&k, "{\"key\":");
	buf_json(&k, name, strlen(name));
	buf_char(&k, ',');
	found = k.failed || (a->b->len > a->from && strstr(a->b->data + a->from, k.data));
	buf_done(&k);
	return found;
}

/* false: it is there already. */
static bool key(struct attributes *a, const char *name, const char *type)
{
	struct buf *b = a->b;

	if (a->foreign && is_there(a, name))
		return false;
	if (b->len > a->from)
		buf_char(b, ',');
	buf_str(b, "{\"key\":");
	buf_json(b, name, strlen(name));
	buf_str(b, ",\"value\":{\"");
	buf_str(b, type);
	buf_str(b, "\":");
	return true;
}

static void add_text_len(struct attributes *a, const char *name, const char *v, size_t len)
{
	if (!len || !key(a, name, "stringValue"))
		return;
	buf_json(a->b, v, len);
	buf_str(a->b, "}}");
}

static void add_text(struct attributes *a, const char *name, const char *v)
{
	add_text_len(a, name, v, strlen(v));
}

static void add_int(struct attributes *a, const char *name, long long v)
{
	if (!key(a, name, "intValue"))
		return;
	buf_str(a->b, v < 0 ? "\"-" : "\"");
	buf_u64(a->b, v < 0 ? -(uint64_t)v : (uint64_t)v);
	buf_str(a->b, "\"}}");
}

/* Left out when there is none: proto3-JSON would have to say NaN as a string. */
static void add_double(struct attributes *a, const char *name, const cJSON *v)
{
	if (cJSON_IsNumber(v) && isfinite(v->valuedouble) && key(a, name, "doubleValue"))
		buf_printf(a->b, "%.17g}}", v->valuedouble);
}

static void add_bool(struct attributes *a, const char *name, const cJSON *v)
{
	if (cJSON_IsBool(v) && key(a, name, "boolValue"))
		buf_str(a->b, cJSON_IsTrue(v) ? "true}}" : "false}}");
}

static bool is_whole(const cJSON *v)
{
	return fabs(v->valuedouble) <= JSON_WHOLE_MAX && v->valuedouble == floor(v->valuedouble);
}

static void put_value(struct buf *b, const cJSON *v);

/* The members of a list that OTLP has a form for. */
static void put_values(struct buf *b, const cJSON *list)
{
	size_t from;
	const cJSON *v;

	buf_str(b, "{\"values\":[");
	from = b->len;
	cJSON_ArrayForEach (v, list) {
		if (cJSON_IsNull(v) || cJSON_IsObject(v) ||
		    (cJSON_IsNumber(v) && !isfinite(v->valuedouble)))
			continue;
		if (b->len > from)
			buf_char(b, ',');
		put_value(b, v);
	}
	buf_str(b, "]}");
}

/* An AnyValue. */
static void put_value(struct buf *b, const cJSON *v)
{
	if (cJSON_IsString(v)) {
		buf_str(b, "{\"stringValue\":");
		buf_json(b, v->valuestring, strlen(v->valuestring));
	} else if (cJSON_IsNumber(v) && is_whole(v)) {
		buf_printf(b, "{\"intValue\":\"%lld\"", (long long)v->valuedouble);
	} else if (cJSON_IsNumber(v)) {
		buf_printf(b, "{\"doubleValue\":%.17g", v->valuedouble);
	} else if (cJSON_IsBool(v)) {
		buf_printf(b, "{\"boolValue\":%s", cJSON_IsTrue(v) ? "true" : "false");
	} else {
		buf_str(b, "{\"arrayValue\":");
		put_values(b, v);
	}
	buf_char(b, '}');
}

static void add_list(struct attributes *a, const char *name, const cJSON *list)
{
	if (!cJSON_GetArraySize(list) || !key(a, name, "arrayValue"))
		return;
	put_values(a->b, list);
	buf_str(a->b, "}}");
}

static void add_number(struct attributes *a, const char *name, const cJSON *v)
{
	if (is_whole(v))
		add_int(a, name, (long long)v->valuedouble);
	else
		add_double(a, name, v);
}

/* Of an application's span: {"NAME":VALUE}. A name is looked for among those before it, so what one
 * costs must not grow with their number. */
static void add_foreign(struct attributes *a, const cJSON *own)
{
	const cJSON *v;
	int n = 0;

	if (!cJSON_IsObject(own))
		return;
	a->foreign = true;
	cJSON_ArrayForEach (v, own) {
		if (n++ == FOREIGN_MAX)
			break;
		if (!*v->string || strlen(v->string) > KEY_MAX)
			continue;
		if (cJSON_IsString(v))
			add_text(a, v->string, v->valuestring);
		else if (cJSON_IsNumber(v))
			add_number(a, v->string, v);
		else if (cJSON_IsBool(v))
			add_bool(a, v->string, v);
		else if (cJSON_IsArray(v))
			add_list(a, v->string, v);
	}
}

static long long whole(const cJSON *span, const char *name)
{
	double v = json_num(span, name, 0);

	return v >= 1 && v <= JSON_WHOLE_MAX ? (long long)v : 0;
}

static void add_count(struct attributes *a, const char *name, const cJSON *span, const char *of)
{
	long long v = whole(span, of);

	if (v)
		add_int(a, name, v);
}

static const cJSON *member(const cJSON *span, const char *name)
{
	return cJSON_GetObjectItemCaseSensitive(span, name);
}

/* --- ids and times ------------------------------------------------------------------- */

static void add_id(struct buf *b, const char *name, const uint8_t *bytes, size_t n)
{
	char hex[32];

	trace_hex(hex, bytes, n);
	buf_char(b, '"');
	buf_str(b, name);
	buf_str(b, "\":\"");
	buf_add(b, hex, 2 * n);
	buf_char(b, '"');
}

/* What the caller chose stands for the bytes that the worker sends on as traceparent. */
static int add_trace_id(struct buf *b, const char *text)
{
	uint8_t bytes[16];

	if (!trace_id_usable(text, strlen(text)))
		return -EINVAL;
	trace_id_bytes(text, strlen(text), bytes);
	add_id(b, "traceId", bytes, 16);
	return 0;
}

static int add_span_id(struct buf *b, const char *name, const char *text)
{
	static const uint8_t zero[8];
	uint8_t bytes[16];

	if (!trace_id_usable(text, strlen(text)))
		return -EINVAL;
	trace_id_bytes(text, strlen(text), bytes);
	if (!memcmp(bytes + 8, zero, 8))
		bytes[15] = 1; /* zero is no id */
	add_id(b, name, bytes + 8, 8);
	return 0;
}

/* Milliseconds with a fraction; a double has a quarter of a microsecond left of the time of day. */
static uint64_t to_ns(double ms)
{
	uint64_t whole_ms = (uint64_t)ms;

	return whole_ms * 1000000u + (uint64_t)((ms - (double)whole_ms) * 1000 + 0.5) * 1000u;
}

static void add_time(struct buf *b, const char *name, double ms)
{
	buf_char(b, '"');
	buf_str(b, name);
	buf_str(b, "\":\"");
	buf_u64(b, to_ns(ms));
	buf_char(b, '"');
}

static bool time_valid(double ms)
{
	return ms >= 0 && ms * 1e6 < NS_MAX; /* false for NaN */
}

/* --- HTTP ---------------------------------------------------------------------------- */

static bool known_method(const char *m)
{
	static const char *const known[] = {"GET",     "HEAD",	  "POST",  "PUT",   "DELETE",
					    "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"};

	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (!strcmp(m, known[i]))
			return true;
	return false;
}

static void add_method(struct attributes *a, const char *method)
{
	if (known_method(method)) {
		add_text(a, "http.request.method", method);
		return;
	}
	add_text(a, "http.request.method", "_OTHER");
	add_text(a, "http.request.method_original", method);
}

static void add_url(struct attributes *a, const char *path)
{
	size_t len = strcspn(path, "?#"), rest = strlen(path + len);

	add_text_len(a, "url.path", path, len < PATH_MAX_OUT ? len : PATH_MAX_OUT);
	if (path[len] == '?' && rest > 1)
		add_text_len(a, "url.query", path + len + 1,
			     rest - 1 < PATH_MAX_OUT ? rest - 1 : PATH_MAX_OUT);
	add_text(a, "url.scheme", "http");
}

/* "backend:80", "[::1]:80", "backend", "::1". */
static void add_server(struct attributes *a, const char *host)
{
	const char *end = strrchr(host, ':'), *from = host;
	size_t len = strlen(host);
	long port = 0;

	if (end && end != host && (end[-1] == ']' || strchr(host, ':') == end)) {
		port = strtol(end + 1, NULL, 10);
		len = (size_t)(end - host);
	}
	if (len > 2 && *from == '[' && from[len - 1] == ']') {
		from++;
		len -= 2;
	}
	add_text_len(a, "server.address", from, len);
	if (len && port > 0 && port <= 65535)
		add_int(a, "server.port", port);
}

static bool is_caller(const char *source)
{
	return *source && strcmp(source, "unknown") && strcmp(source, "none");
}

static void add_http(struct attributes *a, const cJSON *span)
{
	const char *host = json_str(span, "host", ""), *source = json_str(span, "source", "");

	add_method(a, json_str(span, "method", ""));
	add_url(a, json_str(span, "path", "/"));
	add_server(a, *host ? host : json_str(span, "service", ""));
	add_count(a, "http.response.status_code", span, "statusCode");
	if (is_caller(source))
		add_text(a, "client.address", source);
	add_text(a, "network.protocol.name", "http");
}

/* --- what only the mesh knows -------------------------------------------------------- */

static void add_mesh(struct attributes *a, const cJSON *span)
{
	add_text(a, "mesh.source", json_str(span, "source", ""));
	add_text(a, "mesh.cause", json_str(span, "cause", ""));
	add_text(a, "mesh.route", json_str(span, "route", ""));
	add_text(a, "mesh.request_id", json_str(span, "requestId", ""));
	add_count(a, "mesh.tries", span, "tries");
	add_count(a, "mesh.bytes_in", span, "bytesIn");
	add_count(a, "mesh.bytes_out", span, "bytesOut");
	add_double(a, "mesh.head_ms", member(span, "head"));
	add_double(a, "mesh.upstream_ms", member(span, "upstream"));
	add_list(a, "mesh.trace_aliases", member(span, "aliases"));
}

static void add_event(struct buf *b, const cJSON *e, double start)
{
	double at = start + json_num(e, "time", 0);
	const char *name = json_str(e, "name", "event");
	struct attributes a;

	buf_char(b, '{');
	add_time(b, "timeUnixNano", time_valid(at) ? at : start);
	buf_str(b, ",\"name\":");
	buf_json(b, name, strlen(name));
	buf_char(b, ',');
	a = begin(b);
	add_foreign(&a, member(e, "attributes"));
	add_text(&a, "mesh.endpoint", json_str(e, "endpoint", ""));
	add_count(&a, "http.response.status_code", e, "statusCode");
	add_text(&a, "mesh.cause", json_str(e, "cause", ""));
	add_double(&a, "mesh.duration_ms", member(e, "duration"));
	add_bool(&a, "mesh.connection_reused", member(e, "reused"));
	end(&a);
	buf_char(b, '}');
}

static void add_events(struct buf *b, const cJSON *span, double start)
{
	const cJSON *e;
	const char *comma = "";

	buf_str(b, ",\"events\":[");
	cJSON_ArrayForEach (e, member(span, "events")) {
		buf_str(b, comma);
		add_event(b, e, start);
		comma = ",";
	}
	buf_char(b, ']');
}

/* --- the span ------------------------------------------------------------------------ */

/* A hop of the mesh is of kind "request"; spans of applications say what they are. */
static enum otlp_kind kind_of(const cJSON *span)
{
	static const struct {
		const char *word;
		enum otlp_kind kind;
	} kinds[] = {{"request", OTLP_SERVER},
		     {"server", OTLP_SERVER},
		     {"client", OTLP_CLIENT},
		     {"producer", OTLP_PRODUCER},
		     {"consumer", OTLP_CONSUMER}};
	const char *word = json_str(span, "kind", "");

	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		if (!strcmp(kinds[i].word, word))
			return kinds[i].kind;
	return OTLP_INTERNAL;
}

static bool is_http(const cJSON *span)
{
	return *json_str(span, "method", "");
}

static bool is_hop(const cJSON *span)
{
	return !strcmp(json_str(span, "kind", ""), "request");
}

/* OpenTelemetry's rule: who serves a 4xx has made no error, who gets one has. No answer is one. An
 * application knows best what its own was. */
static bool is_error(const cJSON *span, enum otlp_kind kind)
{
	double status = json_num(span, "statusCode", 0);

	if (is_hop(span))
		return status < 1 || status >= 500;
	return json_bool(span, "error", status >= 400) &&
	       !(kind == OTLP_SERVER && status >= 400 && status < 500);
}

/* Of low cardinality: the method, as long as no template of the path is known. */
static void add_name(struct buf *b, const cJSON *span)
{
	const char *method = json_str(span, "method", ""), *name = method;

	if (!*method)
		name = json_str(span, "operation", "span");
	else if (!known_method(method))
		name = "HTTP";
	buf_str(b, ",\"name\":");
	buf_json(b, name, strlen(name));
}

static void add_error(struct attributes *a, const cJSON *span)
{
	const char *cause = json_str(span, "cause", "");
	char status[8];

	snprintf(status, sizeof(status), "%d", (int)whole(span, "statusCode"));
	add_text(a, "error.type", *cause ? cause : strcmp(status, "0") ? status : "_OTHER");
}

static void add_status(struct buf *b, const cJSON *span)
{
	const char *cause = json_str(span, "cause", "");

	buf_str(b, ",\"status\":{\"code\":2");
	if (*cause) {
		buf_str(b, ",\"message\":");
		buf_json(b, cause, strlen(cause));
	}
	buf_char(b, '}');
}

static int add_ids(struct buf *b, const cJSON *span)
{
	const char *parent = json_str(span, "parentId", json_str(span, "remoteParentId", ""));
	int err = add_trace_id(b, json_str(span, "traceId", ""));

	buf_char(b, ',');
	if (!err)
		err = add_span_id(b, "spanId", json_str(span, "id", ""));
	if (err || !*parent)
		return err;
	buf_char(b, ',');
	return add_span_id(b, "parentSpanId", parent);
}

/* Bit 0: sampled; bits 8 and 9: it is known whether the parent is of another process, and it is. */
static unsigned flags_of(const cJSON *span, enum otlp_kind kind)
{
	return (json_bool(span, "sampled", 1) ? 1 : 0) | (kind == OTLP_SERVER ? 0x300 : 0);
}

static void add_attributes(struct buf *b, const cJSON *span, bool error)
{
	struct attributes a = begin(b);

	if (!is_hop(span))
		add_foreign(&a, member(span, "attributes"));
	if (is_http(span))
		add_http(&a, span);
	if (error)
		add_error(&a, span);
	add_mesh(&a, span);
	end(&a);
}

int otlp_encode_span(struct buf *b, const cJSON *span)
{
	double start = json_num(span, "startTime", NAN), to = start + json_num(span, "duration", 0);
	enum otlp_kind kind = kind_of(span);
	bool error = is_error(span, kind);
	int err;

	if (!time_valid(start) || !time_valid(to) || to < start)
		return -EINVAL;
	buf_char(b, '{');
	err = add_ids(b, span);
	if (err)
		return err;
	add_name(b, span);
	buf_str(b, ",\"kind\":");
	buf_u64(b, kind);
	buf_str(b, ",\"flags\":");
	buf_u64(b, flags_of(span, kind));
	buf_char(b, ',');
	add_time(b, "startTimeUnixNano", start);
	buf_char(b, ',');
	add_time(b, "endTimeUnixNano", to);
	buf_char(b, ',');
	add_attributes(b, span, error);
	add_events(b, span, start);
	if (error)
		add_status(b, span);
	buf_char(b, '}');
	return b->failed ? -EINVAL : 0;
}

void otlp_encode_resource(struct buf *b, const cJSON *span)
{
	struct attributes a;

	buf_char(b, '{');
	a = begin(b);
	add_text(&a, "service.name", json_str(span, "service", "unknown_service"));
	add_text(&a, "service.version", json_str(span, "version", ""));
	add_text(&a, "service.instance.id", json_str(span, "instance", ""));
	add_text(&a, "host.name", json_str(span, "node", ""));
	end(&a);
	buf_char(b, '}');
}
