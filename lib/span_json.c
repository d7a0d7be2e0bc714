/* SPDX-License-Identifier: Apache-2.0 */
/* See span_json.h. Without printf(): at thousands of spans a second that is what costs. */
#include "lib/span_json.h"

#include "lib/trace_id.h"

#include <mesh/abi.h>
#include <string.h>

#define PUT(b, text) buf_add(b, text, sizeof(text) - 1)

static void put_hex(struct buf *b, const uint8_t *bytes, size_t n)
{
	char digits[32];

	trace_hex(digits, bytes, n);
	buf_char(b, '"');
	buf_add(b, digits, 2 * n);
	buf_char(b, '"');
}

static void put_str(struct buf *b, const char *s)
{
	buf_json(b, s, strlen(s));
}

static void put_text(struct buf *b, struct span_text t)
{
	buf_json(b, t.at, t.len);
}

static void put_bool(struct buf *b, bool v)
{
	buf_str(b, v ? "true" : "false");
}

struct span_texts span_texts(const struct record *rec)
{
	const char *p = record_text(rec);
	struct span_texts t;
	struct {
		struct span_text *text;
		uint16_t len;
	} all[] = {{&t.method, rec->method_len}, {&t.path, rec->path_len},
		   {&t.host, rec->host_len},	 {&t.request_id, rec->request_id_len},
		   {&t.trace, rec->trace_len},	 {&t.alias, rec->alias_len},
		   {&t.parent, rec->parent_len}};

	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
		*all[i].text = (struct span_text){p, all[i].len};
		p += all[i].len;
	}
	return t;
}

bool span_error(const struct record *rec)
{
	if (rec->kind == RECORD_TUNNEL)
		return rec->cause != CAUSE_NONE;
	return !rec->status || rec->status >= 400;
}

bool span_next_alias(struct span_text *list, struct span_text *one)
{
	const char *comma = list->len ? memchr(list->at, ',', list->len) : NULL;
	uint16_t n = comma ? (uint16_t)(comma - list->at) : list->len;

	if (!list->len)
		return false;
	*one = (struct span_text){list->at, n};
	list->at += n + (comma ? 1 : 0);
	list->len = (uint16_t)(list->len - n - (comma ? 1 : 0));
	return true;
}

static bool equal(struct span_text t, const char *s, size_t len)
{
	return t.len == len && !memcmp(t.at, s, len);
}

bool span_has_trace(const struct record *rec, const char *id, const uint8_t bytes[16])
{
	struct span_texts t = span_texts(rec);
	size_t len = strlen(id);
	struct span_text one;

	if (!len || !(rec->flags & RECORD_TRACED))
		return false;
	if (!memcmp(bytes, rec->trace_id, sizeof(rec->trace_id)) || equal(t.trace, id, len))
		return true;
	while (span_next_alias(&t.alias, &one))
		if (equal(one, id, len))
			return true;
	return false;
}

/* --- ids --- */

static bool is_zero(const uint8_t *id, size_t n)
{
	while (n && !id[n - 1])
		n--;
	return !n;
}

static void put_parent(struct buf *b, const struct record *rec, const struct span_texts *t)
{
	PUT(b, ",\"parentId\":");
	if (rec->flags & RECORD_ROOT)
		PUT(b, "null");
	else if (t->parent.len)
		put_text(b, t->parent);
	else if (!is_zero(rec->parent_id, sizeof(rec->parent_id)))
		put_hex(b, rec->parent_id, sizeof(rec->parent_id));
	else
		PUT(b, "null");
}

static void put_aliases(struct buf *b, const struct record *rec, struct span_texts *t)
{
	struct span_text one;
	bool any = false;

	PUT(b, ",\"aliases\":[");
	if (t->trace.len) {
		put_hex(b, rec->trace_id, sizeof(rec->trace_id));
		any = true;
	}
	while (span_next_alias(&t->alias, &one)) {
		if (any)
			buf_char(b, ',');
		put_text(b, one);
		any = true;
	}
	buf_char(b, ']');
}

static void put_ids(struct buf *b, const struct record *rec, struct span_texts *t)
{
	if (!(rec->flags & RECORD_TRACED)) { /* only for a tap */
		PUT(b, "\"id\":null,\"parentId\":null,\"traceId\":null,\"aliases\":[]");
		return;
	}
	PUT(b, "\"id\":");
	put_hex(b, rec->span_id, sizeof(rec->span_id));
	put_parent(b, rec, t);
	PUT(b, ",\"traceId\":");
	if (t->trace.len)
		put_text(b, t->trace);
	else
		put_hex(b, rec->trace_id, sizeof(rec->trace_id));
	put_aliases(b, rec, t);
}

/* --- what was done --- */

size_t span_operation(const struct record *rec, const struct span_texts *t,
		      char out[SPAN_OPERATION_SIZE])
{
	size_t len = t->method.len;

	if (!len || len + 1 + t->path.len >= SPAN_OPERATION_SIZE) {
		strcpy(out, rec->kind == RECORD_TUNNEL ? "tunnel" : "request");
		return strlen(out);
	}
	memcpy(out, t->method.at, len);
	out[len++] = ' ';
	memcpy(out + len, t->path.at, t->path.len);
	out[len + t->path.len] = 0;
	return len + t->path.len;
}

static void put_what(struct buf *b, const struct record *rec, const struct span_names *n,
		     const struct span_texts *t)
{
	char operation[SPAN_OPERATION_SIZE];

	PUT(b, ",\"source\":");
	put_str(b, n->source);
	PUT(b, ",\"operation\":");
	buf_json(b, operation, span_operation(rec, t, operation));
	PUT(b, ",\"method\":");
	put_text(b, t->method);
	PUT(b, ",\"path\":");
	put_text(b, t->path);
	PUT(b, ",\"host\":");
	put_text(b, t->host);
	PUT(b, ",\"instance\":");
	put_str(b, n->instance);
	PUT(b, ",\"version\":");
	put_str(b, n->version);
	PUT(b, ",\"requestId\":");
	put_text(b, t->request_id);
}

static void put_how(struct buf *b, const struct record *rec, uint64_t start_ns)
{
	PUT(b, ",\"startTime\":");
	buf_ms(b, start_ns);
	PUT(b, ",\"duration\":");
	buf_ms(b, rec->duration_ns);
	PUT(b, ",\"statusCode\":");
	buf_u64(b, rec->status);
	PUT(b, ",\"error\":");
	put_bool(b, span_error(rec));
	PUT(b, ",\"cause\":");
	put_str(b, cause_name(rec->cause));
	PUT(b, ",\"bytesIn\":");
	buf_u64(b, rec->bytes_in);
	PUT(b, ",\"bytesOut\":");
	buf_u64(b, rec->bytes_out);
	PUT(b, ",\"head\":");
	buf_ms(b, rec->head_ns);
	PUT(b, ",\"upstream\":");
	buf_ms(b, rec->upstream_ns);
	PUT(b, ",\"kind\":");
	put_str(b, rec->kind == RECORD_TUNNEL ? "tunnel" : "request");
	PUT(b, ",\"sampled\":");
	put_bool(b, rec->flags & RECORD_SAMPLED);
	PUT(b, ",\"clientGone\":");
	put_bool(b, rec->flags & RECORD_CLIENT_GONE);
}

static void put_try(struct buf *b, const struct record_try *t, const struct span_names *n)
{
	PUT(b, "{\"name\":\"try\",\"time\":");
	buf_ms(b, t->start_us * 1000ULL);
	PUT(b, ",\"duration\":");
	buf_ms(b, t->duration_us * 1000ULL);
	PUT(b, ",\"endpoint\":");
	put_str(b, t->endpoint == MESH_NONE ? "" : n->endpoint(n->arg, t->endpoint, t->gen));
	PUT(b, ",\"statusCode\":");
	buf_u64(b, t->status);
	PUT(b, ",\"cause\":");
	put_str(b, cause_name(t->cause));
	PUT(b, ",\"reused\":");
	put_bool(b, t->reused);
	buf_char(b, '}');
}

void span_members(const struct record *rec, const struct span_names *n, uint64_t start_ns,
		  struct buf *out)
{
	struct span_texts t = span_texts(rec);

	put_what(out, rec, n, &t);
	put_how(out, rec, start_ns);
	if (n->slow)
		PUT(out, ",\"slow\":true");
	PUT(out, ",\"tries\":");
	buf_u64(out, rec->tries);
	PUT(out, ",\"events\":[");
	for (uint32_t i = 0; i < rec->ntries; i++) {
		if (i)
			buf_char(out, ',');
		put_try(out, &record_tries(rec)[i], n);
	}
	PUT(out, "],\"node\":");
	put_str(out, n->node);
}

void span_json(const struct record *rec, const struct span_names *n, uint64_t start_ns,
	       struct buf *out)
{
	struct span_texts t = span_texts(rec);

	buf_char(out, '{');
	put_ids(out, rec, &t);
	PUT(out, ",\"service\":");
	put_str(out, n->service);
	span_members(rec, n, start_ns, out);
	buf_char(out, '}');
}
