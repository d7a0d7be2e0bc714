/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See post.h: spans in OTLP's JSON (opentelemetry-proto, trace/v1; docs/specification of OTLP/HTTP,
 * "JSON Protobuf Encoding"). Ids are hex there, 64-bit integers strings or numbers, enums integers
 * (names are taken too), unknown fields are passed over, and names may be lowerCamelCase or as in
 * the .proto file.
 */
#include "ctl/meshd/traces/post.h"
#include "ctl/meshd/traces/span.h"
#include "lib/json.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SERVICE_UNKNOWN "unknown_service"
#define ATTRIBUTES_MAX	128
#define EVENTS_MAX	128

/* A member by its lowerCamelCase name or the one of the .proto file; null is as good as none. */
static const cJSON *member(const cJSON *v, const char *camel)
{
	const cJSON *m = cJSON_GetObjectItemCaseSensitive(v, camel);
	char snake[64];
	size_t n = 0;

	for (const char *p = camel; !m && *p && n < sizeof(snake) - 2; p++) {
		if (isupper((unsigned char)*p))
			snake[n++] = '_';
		snake[n++] = (char)tolower((unsigned char)*p);
	}
	snake[n] = '\0';
	if (!m)
		m = cJSON_GetObjectItemCaseSensitive(v, snake);
	return cJSON_IsNull(m) ? NULL : m;
}

static const char *text_of(const cJSON *v, const char *key)
{
	const cJSON *m = member(v, key);

	return cJSON_IsString(m) ? m->valuestring : "";
}

/* fixed64 or int64: a string of digits or a number. 0 when it is not there; false: neither. */
static bool int64_of(const cJSON *v, const char *key, uint64_t *out)
{
	const cJSON *m = member(v, key);
	char *end;

	*out = 0;
	if (!m)
		return true;
	if (cJSON_IsNumber(m)) {
		*out = m->valuedouble >= 0 && m->valuedouble < 1.8e19 ? (uint64_t)m->valuedouble
								      : 0;
		return m->valuedouble >= 0 && m->valuedouble < 1.8e19;
	}
	if (!cJSON_IsString(m) || !isdigit((unsigned char)m->valuestring[0]))
		return false;
	errno = 0;
	*out = strtoull(m->valuestring, &end, 10);
	return !*end && !errno;
}

/* An enum as its number or its name. */
static int enum_of(const cJSON *v, const char *key, const char *const *names)
{
	const cJSON *m = member(v, key);

	if (cJSON_IsNumber(m))
		return m->valueint;
	for (int i = 0; cJSON_IsString(m) && names[i]; i++)
		if (!strcmp(m->valuestring, names[i]))
			return i;
	return 0;
}

/* --- AnyValue -------------------------------------------------------------------------- */

static cJSON *any_value(const cJSON *v);

/* Of an ArrayValue. */
static cJSON *array_value(const cJSON *v)
{
	cJSON *out = cJSON_CreateArray(), *value;
	const cJSON *item;

	cJSON_ArrayForEach (item, member(v, "values")) {
		value = any_value(item);
		if (value && !cJSON_AddItemToArray(out, value))
			cJSON_Delete(value);
	}
	return out;
}

/* As JSON would say it, arrays too (the gate bounds their depth). Bytes stay base64, lists of pairs
 * as they came; NULL: no value. */
static cJSON *any_value(const cJSON *v)
{
	static const char *const as_is[] = {"stringValue", "boolValue", "doubleValue",
					    "kvlistValue", "bytesValue"};
	const cJSON *m = member(v, "intValue");

	if (m)
		return cJSON_CreateNumber(cJSON_IsString(m) ? strtod(m->valuestring, NULL)
							    : m->valuedouble);
	if ((m = member(v, "arrayValue")))
		return array_value(m);
	for (size_t i = 0; i < sizeof(as_is) / sizeof(*as_is); i++)
		if ((m = member(v, as_is[i])))
			return cJSON_Duplicate(m, true);
	return NULL;
}

/* KeyValue[] as an object: of one key the first counts, of a list the first ATTRIBUTES_MAX pairs --
 * a key is looked for among those before it, so what a pair costs must not grow with the list. */
static cJSON *attributes(const cJSON *list)
{
	cJSON *out = cJSON_CreateObject(), *value;
	const cJSON *pair;
	int n = 0;

	cJSON_ArrayForEach (pair, list) {
		const char *key;

		if (n++ == ATTRIBUTES_MAX)
			break;
		key = text_of(pair, "key");
		if (!*key || cJSON_GetObjectItemCaseSensitive(out, key))
			continue;
		value = any_value(member(pair, "value"));
		if (value && !cJSON_AddItemToObject(out, key, value))
			cJSON_Delete(value);
	}
	return out;
}

/* The first of the two names, the newer convention's, that is a string. */
static const char *either(const cJSON *attrs, const char *now, const char *before)
{
	const char *s = json_str(attrs, now, "");

	return *s ? s : json_str(attrs, before, "");
}

/* --- one span -------------------------------------------------------------------------- */

static const char *bad_span(const cJSON *v)
{
	uint64_t start, end;
	uint8_t id[16];

	if (strlen(text_of(v, "traceId")) != 32 ||
	    !trace_unhex(id, text_of(v, "traceId"), 16, false))
		return "traceId is not 32 hex digits";
	if (strlen(text_of(v, "spanId")) != 16 || !trace_unhex(id, text_of(v, "spanId"), 8, false))
		return "spanId is not 16 hex digits";
	if (*text_of(v, "parentSpanId") && (strlen(text_of(v, "parentSpanId")) != 16 ||
					    !trace_unhex(id, text_of(v, "parentSpanId"), 8, false)))
		return "parentSpanId is not 16 hex digits";
	if (!int64_of(v, "startTimeUnixNano", &start) || !int64_of(v, "endTimeUnixNano", &end))
		return "a time is no 64-bit integer";
	if (!start)
		return "startTimeUnixNano is missing";
	return NULL;
}

/* Ids are found whatever the case of their digits. */
static void add_id(cJSON *to, const char *key, const char *hex)
{
	char small[33];
	size_t n = 0;

	for (; hex[n] && n < sizeof(small) - 1; n++)
		small[n] = (char)tolower((unsigned char)hex[n]);
	small[n] = '\0';
	cJSON_AddStringToObject(to, key, small);
}

/* A name that a service may have in the mesh. */
static void add_service(cJSON *to, const char *service)
{
	char name[NAME_LEN_MAX + 1];

	snprintf(name, sizeof(name), "%s", *service ? service : SERVICE_UNKNOWN);
	for (char *p = name; *p; p++)
		if (!isascii((unsigned char)*p) ||
		    (!isalnum((unsigned char)*p) && (p == name || !strchr("._-", *p))))
			*p = p == name ? 'x' : '-';
	cJSON_AddStringToObject(to, "service", name);
}

static void add_text(cJSON *to, const char *key, const char *value)
{
	if (*value)
		cJSON_AddStringToObject(to, key, value);
}

static void add_status(cJSON *to, const cJSON *v, const cJSON *attrs)
{
	static const char *const codes[] = {"STATUS_CODE_UNSET", "STATUS_CODE_OK",
					    "STATUS_CODE_ERROR", NULL};
	const cJSON *status = member(v, "status");
	double http = json_num(attrs, "http.response.status_code",
			       json_num(attrs, "http.status_code", 0));
	int code = enum_of(status, "code", codes);

	if (http >= 100 && http <= 999)
		cJSON_AddNumberToObject(to, "statusCode", (int)http);
	cJSON_AddBoolToObject(to, "error", code == 2 || (code == 0 && http >= 400));
	add_text(to, "cause", text_of(status, "message"));
}

static void add_kind(cJSON *to, const cJSON *v)
{
	static const char *const names[] = {"SPAN_KIND_UNSPECIFIED",
					    "SPAN_KIND_INTERNAL",
					    "SPAN_KIND_SERVER",
					    "SPAN_KIND_CLIENT",
					    "SPAN_KIND_PRODUCER",
					    "SPAN_KIND_CONSUMER",
					    NULL};
	static const char *const kinds[] = {"internal", "internal", "server",
					    "client",	"producer", "consumer"};
	int kind = enum_of(v, "kind", names);

	cJSON_AddStringToObject(to, "kind", kinds[kind >= 0 && kind <= 5 ? kind : 0]);
}

static void add_events(cJSON *to, const cJSON *list, uint64_t start_ns)
{
	cJSON *events, *e;
	const cJSON *v;
	uint64_t at;
	int n = 0;

	if (!cJSON_GetArraySize(list))
		return;
	events = cJSON_AddArrayToObject(to, "events");
	cJSON_ArrayForEach (v, list) {
		if (n++ == EVENTS_MAX || !(e = cJSON_CreateObject()))
			break;
		if (!int64_of(v, "timeUnixNano", &at))
			at = start_ns;
		cJSON_AddStringToObject(e, "name", text_of(v, "name"));
		cJSON_AddNumberToObject(e, "time", ((double)at - (double)start_ns) / 1e6);
		cJSON_AddItemToObject(e, "attributes", attributes(member(v, "attributes")));
		if (!cJSON_AddItemToArray(events, e))
			cJSON_Delete(e);
	}
}

static cJSON *make_span(const cJSON *v, const cJSON *resource)
{
	cJSON *out = cJSON_CreateObject(), *attrs = attributes(member(v, "attributes"));
	uint64_t start, end;

	int64_of(v, "startTimeUnixNano", &start);
	int64_of(v, "endTimeUnixNano", &end);
	add_id(out, "traceId", text_of(v, "traceId"));
	add_id(out, "id", text_of(v, "spanId"));
	if (*text_of(v, "parentSpanId"))
		add_id(out, "parentId", text_of(v, "parentSpanId"));
	add_service(out, json_str(resource, "service.name", ""));
	cJSON_AddStringToObject(out, "operation", text_of(v, "name"));
	add_text(out, "method", either(attrs, "http.request.method", "http.method"));
	add_text(out, "path", either(attrs, "url.path", "http.target"));
	add_text(out, "host", either(attrs, "server.address", "http.host"));
	add_text(out, "instance", json_str(resource, "service.instance.id", ""));
	add_text(out, "version", json_str(resource, "service.version", ""));
	/* whole us and the rest: a double has no room for ns since 1970 */
	cJSON_AddNumberToObject(out, "startTime", (double)(start / 1000) / 1e3);
	cJSON_AddNumberToObject(out, "duration", end > start ? (double)(end - start) / 1e6 : 0);
	add_status(out, v, attrs);
	add_kind(out, v);
	add_events(out, member(v, "events"), start);
	if (attrs && (!attrs->child || !cJSON_AddItemToObject(out, "attributes", attrs)))
		cJSON_Delete(attrs);
	return out;
}

/* --- the request ----------------------------------------------------------------------- */

struct reading {
	cJSON *list;
	unsigned n, *rejected;
	char *why;
	size_t cap;
};

static void reject(struct reading *x, const char *why)
{
	if (!(*x->rejected)++)
		snprintf(x->why, x->cap, "%s", why);
}

static void read_spans(struct reading *x, const cJSON *spans, const cJSON *resource)
{
	const cJSON *v;

	cJSON_ArrayForEach (v, spans) {
		const char *bad = cJSON_IsObject(v) ? bad_span(v) : "a span is no object";
		struct span s;
		cJSON *made;

		if (!bad && x->n++ >= POST_SPANS_MAX)
			bad = "too many spans in one request";
		if (bad) {
			reject(x, bad);
			continue;
		}
		made = make_span(v, resource);
		if (span_read(made, NULL, &s) || !cJSON_AddItemToArray(x->list, made)) {
			reject(x, "a time or a name is out of range");
			cJSON_Delete(made);
		}
	}
}

static void read_resource(struct reading *x, const cJSON *v)
{
	cJSON *resource = attributes(member(member(v, "resource"), "attributes"));
	const cJSON *scope;

	cJSON_ArrayForEach (scope, member(v, "scopeSpans"))
		read_spans(x, member(scope, "spans"), resource);
	cJSON_Delete(resource);
}

cJSON *otlp_read(const cJSON *body, unsigned *rejected, char *why, size_t cap,
		 struct schema_error *e)
{
	const cJSON *list = member(body, "resourceSpans"), *v;
	struct reading x = {.rejected = rejected, .why = why, .cap = cap};

	*rejected = 0;
	e->path[0] = e->text[0] = '\0';
	if (!cJSON_IsObject(body) || (list && !cJSON_IsArray(list))) {
		schema_fail(e, list ? "resourceSpans" : "",
			    "must be %s: this address takes an ExportTraceServiceRequest",
			    list ? "a list" : "an object");
		return NULL;
	}
	x.list = cJSON_CreateArray();
	if (!x.list)
		return NULL;
	cJSON_ArrayForEach (v, list)
		read_resource(&x, v);
	return x.list;
}
