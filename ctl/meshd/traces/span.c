/* SPDX-License-Identifier: Apache-2.0 */
/* See span.h. */
#include "ctl/meshd/traces/span.h"
#include "ctl/meshd/traces/traces.h"
#include "lib/json.h"
#include "lib/name.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

const char *span_hex(const uint8_t key[16], char *out)
{
	trace_hex(out, key, 16);
	out[32] = '\0';
	return out;
}

bool span_is_hex(const char *trace, const uint8_t key[16])
{
	char hex[33];

	return !strcasecmp(trace, span_hex(key, hex));
}

/* Thousandths as decimals, without zeros at the end: printf() is slow at that. */
static const char *put_thousandths(int64_t v, char *out)
{
	uint64_t u = v < 0 ? -(uint64_t)v : (uint64_t)v;
	char digits[32];
	int at = sizeof(digits), skip = 0;

	while (skip < 3 && u % 10 == 0) {
		u /= 10;
		skip++;
	}
	for (int n = skip; u || n < 4; n++) {
		if (n == 3 && skip < 3)
			digits[--at] = '.';
		digits[--at] = (char)('0' + u % 10);
		u /= 10;
	}
	if (v < 0)
		digits[--at] = '-';
	memcpy(out, digits + at, sizeof(digits) - (size_t)at);
	out[sizeof(digits) - (size_t)at] = '\0';
	return out;
}

const char *span_number(double v, char *out)
{
	int64_t thousandths = fabs(v) < 1e14 ? llround(v * 1000) : 0;

	if (thousandths && (double)thousandths / 1000 == v)
		return put_thousandths(thousandths, out);
	for (int digits = 15; digits <= 17; digits++) {
		snprintf(out, 32, "%.*g", digits, v);
		if (strtod(out, NULL) == v)
			break;
	}
	return out;
}

static bool usable(const char *s)
{
	size_t len = strlen(s);

	return len <= SPAN_ID_MAX && trace_id_usable(s, len);
}

/* Of a member in [0, max] ms: in us, or -1. */
static int64_t micros(const cJSON *json, const char *key, double max)
{
	double v = json_num(json, key, -1);

	return v >= 0 && v <= max ? (int64_t)llround(v * 1000) : -1;
}

static void read_aliases(const cJSON *json, struct span *s)
{
	const cJSON *a;

	cJSON_ArrayForEach (a, cJSON_GetObjectItemCaseSensitive(json, "aliases")) {
		if (!cJSON_IsString(a) || !usable(a->valuestring) ||
		    !strcmp(a->valuestring, s->trace))
			continue;
		if (s->naliases < SPAN_ALIASES_MAX)
			s->aliases[s->naliases++] = a->valuestring;
	}
}

/* As sent again, a parent that was no recorded span stands in remoteParentId. */
static const char *parent_of(const cJSON *json)
{
	const char *p = json_str(json, "parentId", "");

	if (!*p)
		p = json_str(json, "remoteParentId", "");
	return usable(p) ? p : "";
}

/* As span_took_ns(). */
static int64_t took_us(const cJSON *json, const struct span *s)
{
	return s->status == 101 ? micros(json, "head", SPAN_DURATION_MAX) : s->duration_us;
}

int span_read(const cJSON *json, const char *node, struct span *s)
{
	*s = (struct span){.json = json, .node = node};
	s->trace = json_str(json, "traceId", "");
	s->id = json_str(json, "id", "");
	s->service = json_str(json, "service", "");
	s->start_us = micros(json, "startTime", SPAN_TIME_MAX);
	s->duration_us = micros(json, "duration", SPAN_DURATION_MAX);
	if (!usable(s->trace) || !usable(s->id) || !name_valid(s->service) || s->start_us < 0 ||
	    s->duration_us < 0)
		return -EINVAL;
	trace_id_bytes(s->trace, strlen(s->trace), s->key);
	read_aliases(json, s);
	s->parent = parent_of(json);
	s->source = json_str(json, "source", "");
	s->operation = json_str(json, "operation", "");
	s->status = (int)fmin(fmax(json_num(json, "statusCode", 0), 0), 999);
	s->error = json_bool(json, "error", s->status >= 400);
	/* what is slow is the agent's to say: its flag may be lower */
	s->slow = took_us(json, s) >= TRACES_SLOW_MS * 1000 || json_bool(json, "slow", 0);
	s->cut_off = s->status && s->status < 400 && *json_str(json, "cause", "") &&
		     !json_bool(json, "clientGone", 0);
	s->sampled = !node || json_bool(json, "sampled", 0);
	return 0;
}

/* --- of a record ----------------------------------------------------------------------- */

static const char *copy_text(struct span_text t, char *to)
{
	memcpy(to, t.at, t.len);
	to[t.len] = '\0';
	return to;
}

static bool is_zero(const uint8_t *id, size_t n)
{
	while (n && !id[n - 1])
		n--;
	return !n;
}

static const char *parent_of_record(const struct record *rec, const struct span_texts *t,
				    char *room)
{
	if (rec->flags & RECORD_ROOT ||
	    (!t->parent.len && is_zero(rec->parent_id, sizeof(rec->parent_id))))
		return "";
	if (t->parent.len)
		return usable(copy_text(t->parent, room)) ? room : "";
	trace_hex(room, rec->parent_id, sizeof(rec->parent_id));
	room[2 * sizeof(rec->parent_id)] = '\0';
	return room;
}

static void aliases_of_record(struct span_texts *t, struct span_room *room, struct span *s)
{
	struct span_text one;
	char *p = room->aliases;

	if (t->trace.len && strcmp(s->trace, room->hex))
		s->aliases[s->naliases++] = room->hex;
	while (s->naliases < SPAN_ALIASES_MAX && span_next_alias(&t->alias, &one)) {
		copy_text(one, p);
		if (!usable(p) || !strcmp(p, s->trace))
			continue;
		s->aliases[s->naliases++] = p;
		p += one.len + 1;
	}
}

/* Its id as text, which has to stand for its bytes. */
static bool trace_of_record(const struct record *rec, const struct span_texts *t,
			    struct span_room *room, struct span *s)
{
	span_hex(rec->trace_id, room->hex);
	s->trace = t->trace.len ? copy_text(t->trace, room->trace) : room->hex;
	if (!usable(s->trace))
		return false;
	trace_id_bytes(s->trace, strlen(s->trace), s->key);
	return !memcmp(s->key, rec->trace_id, sizeof(s->key));
}

int span_of_record(const struct record_batch_view *v, const struct record *rec,
		   struct span_room *room, struct span *s)
{
	uint64_t start_us = record_batch_wall(v, rec->start_ns) / 1000;
	struct span_texts t = span_texts(rec);

	*s = (struct span){.record = rec, .batch = v, .node = record_batch_node(v)};
	s->service = record_batch_name(v, rec->service);
	if (!(rec->flags & RECORD_TRACED) || !trace_of_record(rec, &t, room, s) ||
	    !name_valid(s->service) || start_us > SPAN_TIME_MAX * 1000 ||
	    rec->duration_ns / 1e6 > SPAN_DURATION_MAX)
		return -EINVAL;
	s->start_us = (int64_t)start_us;
	s->duration_us = (int64_t)(rec->duration_ns / 1000);
	trace_hex(room->id, rec->span_id, sizeof(rec->span_id));
	room->id[2 * sizeof(rec->span_id)] = '\0';
	s->id = room->id;
	s->parent = parent_of_record(rec, &t, room->parent);
	aliases_of_record(&t, room, s);
	s->source = record_batch_name(v, rec->caller);
	span_operation(rec, &t, room->operation);
	s->operation = room->operation;
	s->status = rec->status;
	s->error = span_error(rec);
	s->slow = span_took_ns(rec) >= TRACES_SLOW_MS * 1000000ULL || rec->flags & RECORD_SLOW;
	s->cut_off = s->status && s->status < 400 && *cause_name(rec->cause) &&
		     !(rec->flags & RECORD_CLIENT_GONE);
	s->sampled = rec->flags & RECORD_SAMPLED;
	return 0;
}

cJSON *span_of_record_json(const struct record_batch_view *v, const struct record *rec)
{
	struct span_names names;
	struct buf b;
	cJSON *json;

	record_batch_span(v, rec, &names);
	buf_init(&b, SPAN_MAX);
	span_json(rec, &names, record_batch_wall(v, rec->start_ns), &b);
	json = b.failed ? NULL : json_parse(b.data, b.len, NULL);
	buf_done(&b);
	return json;
}

static int body_of_record(const struct span *s, struct buf *out)
{
	struct span_names names;

	record_batch_span(s->batch, s->record, &names);
	span_members(s->record, &names, record_batch_wall(s->batch, s->record->start_ns), out);
	return out->failed || out->len > SPAN_BODY_MAX ? -EMSGSIZE : 0;
}

/* --- what is stored -------------------------------------------------------------------- */

bool span_keeps_trace(const struct span *s)
{
	return s->sampled || s->error || s->slow || s->cut_off;
}

/* Columns, and what the trace says of itself. */
static bool has_place(const char *key)
{
	static const char *const places[] = {"id",	"parentId", "remoteParentId",
					     "traceId", "aliases",  "service"};

	for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++)
		if (!strcmp(key, places[i]))
			return true;
	return false;
}

static void put_value(struct buf *b, const cJSON *v)
{
	char number[32], *text;

	if (cJSON_IsString(v)) {
		buf_json(b, v->valuestring, strlen(v->valuestring));
	} else if (cJSON_IsNumber(v)) {
		buf_str(b, isfinite(v->valuedouble) ? span_number(v->valuedouble, number) : "null");
	} else if (cJSON_IsBool(v) || cJSON_IsNull(v)) {
		buf_str(b, cJSON_IsTrue(v) ? "true" : cJSON_IsNull(v) ? "null" : "false");
	} else {
		text = cJSON_PrintUnformatted(v);
		buf_str(b, text ? text : "null");
		cJSON_free(text);
	}
}

int span_body(const struct span *s, struct buf *out)
{
	const cJSON *v;

	buf_reset(out);
	if (s->record)
		return body_of_record(s, out);
	cJSON_ArrayForEach (v, s->json) {
		if (!v->string || has_place(v->string) || (s->node && !strcmp(v->string, "node")))
			continue;
		buf_char(out, ',');
		buf_json(out, v->string, strlen(v->string));
		buf_char(out, ':');
		put_value(out, v);
	}
	if (!cJSON_GetObjectItemCaseSensitive(s->json, "error"))
		buf_printf(out, ",\"error\":%s", s->error ? "true" : "false");
	if (s->node) {
		buf_char(out, ',');
		buf_member(out, "node", s->node);
	}
	return out->failed || out->len > SPAN_BODY_MAX ? -EMSGSIZE : 0;
}
