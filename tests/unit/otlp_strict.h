/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is a text an ExportTraceServiceRequest of opentelemetry-proto 1.x in OTLP's JSON? Stricter than
 * any receiver: each key must be one of the message's, written as the mapping says (lowerCamelCase,
 * once), each value of the one form that the mapping writes (ids in small hex, enums as integers,
 * 64-bit integers as decimal strings). Header only.
 */
#ifndef TESTS_OTLP_STRICT_H
#define TESTS_OTLP_STRICT_H

#include "lib/json.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after the types that it needs */
#include <cmocka.h>

enum form { MESSAGE, TEXT, HEX, ENUM, INT64, FIXED64, UINT32, DOUBLE, BOOL };

struct message;
struct field {
	const char *name;
	enum form form;
	unsigned most; /* of an enum, the greatest value; of hex, the bytes */
	const struct message *of;
	bool repeated, required;
};
struct message {
	const char *name;
	bool oneof; /* exactly one of the fields */
	struct field fields[18];
};

static const struct message any_value, array_value, key_values;
static const struct message key_value = {
	"KeyValue",
	false,
	{{"key", TEXT, .required = true}, {"value", MESSAGE, .of = &any_value, .required = true}}};
static const struct message array_value = {
	"ArrayValue", false, {{"values", MESSAGE, .of = &any_value, .repeated = true}}};
static const struct message key_values = {
	"KeyValueList", false, {{"values", MESSAGE, .of = &key_value, .repeated = true}}};
static const struct message any_value = {"AnyValue",
					 true,
					 {{"stringValue", TEXT},
					  {"boolValue", BOOL},
					  {"intValue", INT64},
					  {"doubleValue", DOUBLE},
					  {"arrayValue", MESSAGE, .of = &array_value},
					  {"kvlistValue", MESSAGE, .of = &key_values},
					  {"bytesValue", TEXT}}};
#define ATTRIBUTES                                                                                 \
	{"attributes", MESSAGE, .of = &key_value, .repeated = true},                               \
	{                                                                                          \
		"droppedAttributesCount", UINT32                                                   \
	}
static const struct message event = {"Event",
				     false,
				     {{"timeUnixNano", FIXED64, .required = true},
				      {"name", TEXT, .required = true},
				      ATTRIBUTES}};
static const struct message span_link = {"Link",
					 false,
					 {{"traceId", HEX, 16, .required = true},
					  {"spanId", HEX, 8, .required = true},
					  {"traceState", TEXT},
					  {"flags", UINT32},
					  ATTRIBUTES}};
static const struct message status_message = {
	"Status", false, {{"message", TEXT}, {"code", ENUM, 2}}};
static const struct message span_message = {"Span",
					    false,
					    {{"traceId", HEX, 16, .required = true},
					     {"spanId", HEX, 8, .required = true},
					     {"traceState", TEXT},
					     {"parentSpanId", HEX, 8},
					     {"flags", UINT32},
					     {"name", TEXT, .required = true},
					     {"kind", ENUM, 5, .required = true},
					     {"startTimeUnixNano", FIXED64, .required = true},
					     {"endTimeUnixNano", FIXED64, .required = true},
					     ATTRIBUTES,
					     {"events", MESSAGE, .of = &event, .repeated = true},
					     {"droppedEventsCount", UINT32},
					     {"links", MESSAGE, .of = &span_link, .repeated = true},
					     {"droppedLinksCount", UINT32},
					     {"status", MESSAGE, .of = &status_message}}};
static const struct message scope_message = {
	"InstrumentationScope", false, {{"name", TEXT}, {"version", TEXT}, ATTRIBUTES}};
static const struct message scope_spans = {
	"ScopeSpans",
	false,
	{{"scope", MESSAGE, .of = &scope_message},
	 {"spans", MESSAGE, .of = &span_message, .repeated = true, .required = true},
	 {"schemaUrl", TEXT}}};
static const struct message resource_message = {"Resource", false, {ATTRIBUTES}};
static const struct message resource_spans = {
	"ResourceSpans",
	false,
	{{"resource", MESSAGE, .of = &resource_message, .required = true},
	 {"scopeSpans", MESSAGE, .of = &scope_spans, .repeated = true, .required = true},
	 {"schemaUrl", TEXT}}};
static const struct message export_request = {
	"ExportTraceServiceRequest",
	false,
	{{"resourceSpans", MESSAGE, .of = &resource_spans, .repeated = true, .required = true}}};

static char strict_why[512]; /* of the first thing that is wrong; "" */

__attribute__((format(printf, 1, 2))) static inline bool wrong(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(strict_why, sizeof(strict_why), fmt, ap);
	va_end(ap);
	return false;
}

static inline bool message_ok(const struct message *m, const cJSON *v);

static inline bool hex_ok(const char *s, unsigned bytes)
{
	return strlen(s) == 2 * bytes && strspn(s, "0123456789abcdef") == 2 * bytes &&
	       strspn(s, "0") != 2 * bytes;
}

/* As the mapping writes it: no sign but -, no zeros before, in range. */
static inline bool decimal_ok(const char *s, bool is_signed)
{
	bool minus = is_signed && *s == '-';
	const char *digits = s + minus;
	size_t len = strlen(digits);

	if (!len || len > 20 || strspn(digits, "0123456789") != len || (*digits == '0' && len > 1))
		return false;
	return is_signed ? strtoll(s, NULL, 10) != (minus ? INT64_MIN : INT64_MAX)
			 : strtoull(s, NULL, 10) != UINT64_MAX;
}

static inline bool whole_ok(const cJSON *v, double most)
{
	return cJSON_IsNumber(v) && v->valuedouble >= 0 && v->valuedouble <= most &&
	       v->valuedouble == floor(v->valuedouble);
}

static inline bool value_ok(const struct field *f, const cJSON *v)
{
	switch (f->form) {
	case MESSAGE:
		return message_ok(f->of, v);
	case TEXT:
		return cJSON_IsString(v);
	case HEX:
		return cJSON_IsString(v) && hex_ok(v->valuestring, f->most);
	case ENUM:
		return whole_ok(v, f->most);
	case UINT32:
		return whole_ok(v, UINT32_MAX);
	case INT64:
	case FIXED64:
		return cJSON_IsString(v) && decimal_ok(v->valuestring, f->form == INT64);
	case DOUBLE:
		return cJSON_IsNumber(v);
	case BOOL:
		return cJSON_IsBool(v);
	}
	return false;
}

static inline bool field_ok(const struct message *m, const struct field *f, const cJSON *v)
{
	const cJSON *item;

	if (f->repeated && !cJSON_IsArray(v))
		return wrong("%s.%s is no list", m->name, f->name);
	if (!f->repeated)
		return value_ok(f, v) || *strict_why ||
		       wrong("%s.%s is of a wrong form", m->name, f->name);
	cJSON_ArrayForEach (item, v)
		if (!value_ok(f, item))
			return *strict_why ? false : wrong("an item of %s.%s", m->name, f->name);
	return true;
}

static inline bool keys_unique(const struct message *m, const cJSON *v)
{
	const cJSON *a, *b;

	cJSON_ArrayForEach (a, v)
		for (b = a->next; b; b = b->next)
			if (!strcmp(a->string, b->string))
				return wrong("%s has %s twice", m->name, a->string);
	return true;
}

static inline bool attributes_unique(const struct message *m, const cJSON *list)
{
	const cJSON *a, *b;

	cJSON_ArrayForEach (a, list)
		for (b = a->next; b; b = b->next)
			if (!strcmp(json_str(a, "key", ""), json_str(b, "key", "")))
				return wrong("%s has the attribute %s twice", m->name,
					     json_str(a, "key", ""));
	return true;
}

static inline bool times_ok(const struct message *m, const cJSON *v)
{
	uint64_t start = strtoull(json_str(v, "startTimeUnixNano", "0"), NULL, 10);
	uint64_t end = strtoull(json_str(v, "endTimeUnixNano", "0"), NULL, 10);

	return end >= start || wrong("%s ends before it starts", m->name);
}

static inline bool message_ok(const struct message *m, const cJSON *v)
{
	const cJSON *k;

	if (!cJSON_IsObject(v))
		return wrong("%s is no object", m->name);
	if (!keys_unique(m, v) || (m->oneof && cJSON_GetArraySize(v) != 1))
		return *strict_why ? false : wrong("%s has not one value", m->name);
	cJSON_ArrayForEach (k, v) {
		const struct field *f = m->fields;

		while (f->name && strcmp(f->name, k->string))
			f++;
		if (!f->name)
			return wrong("%s has no field %s", m->name, k->string);
		if (!field_ok(m, f, k) || *strict_why)
			return false;
	}
	for (const struct field *f = m->fields; f->name; f++)
		if (f->required && !cJSON_GetObjectItemCaseSensitive(v, f->name))
			return wrong("%s lacks %s", m->name, f->name);
	return attributes_unique(m, cJSON_GetObjectItemCaseSensitive(v, "attributes")) &&
	       times_ok(m, v);
}

/* NULL: it is; else what is wrong. */
static inline const char *otlp_wrong(const cJSON *request)
{
	*strict_why = '\0';
	return message_ok(&export_request, request) ? NULL : strict_why;
}

#endif
