/* SPDX-License-Identifier: Apache-2.0 */
/* See record.h. */
#include "agent/proxy/record.h"
#include "agent/proxy/downstream.h"
#include "agent/proxy/proxy.h"

#include <endian.h>
#include <string.h>

static void hex64(char *out, uint64_t v)
{
	v = htobe64(v);
	trace_hex(out, (const uint8_t *)&v, sizeof(v));
}

/* A bijection of 64-bit words (the finalizer of MurmurHash3), so that ids of one worker never
 * repeat and do not look alike. */
static uint64_t mix(uint64_t x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdULL;
	x ^= x >> 33;
	x *= 0xc4ceb9fe1a85ec53ULL;
	return x ^ x >> 33;
}

static bool id_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c && strchr("._-:/+=@", c));
}

static bool usable_id(const char *s, uint32_t len)
{
	if (!len || len > REQUEST_ID_MAX)
		return false;
	for (uint32_t i = 0; i < len; i++)
		if (!id_char(s[i]))
			return false;
	return true;
}

static void settle_id(struct exchange *ex, const char *head)
{
	const struct http1_head *h = &ex->request;
	struct proxy *p = ex->proxy;

	if (h->index[HTTP1_H_X_REQUEST_ID]) {
		struct http1_slice v = h->headers[h->index[HTTP1_H_X_REQUEST_ID] - 1].value;

		if (usable_id(head + v.at, v.len)) {
			memcpy(ex->request_id, head + v.at, v.len);
			ex->request_id_len = (uint16_t)v.len;
			return;
		}
	}
	hex64(ex->request_id, p->instance);
	hex64(ex->request_id + 16, mix(++p->requests ^ (uint64_t)p->id << 56));
	ex->request_id_len = 32;
}

static uint16_t keep(struct exchange *ex, uint32_t *at, const char *head, struct http1_slice s,
		     uint32_t max)
{
	uint32_t room = sizeof(ex->text) - REQUEST_ID_MAX - *at, n = s.len < max ? s.len : max;

	if (n > room)
		n = room;
	memmove(ex->text + *at, head + s.at,
		n); /* memcpy() of a few bytes becomes a slow rep movs */
	*at += n;
	return (uint16_t)n;
}

void record_request(struct exchange *ex, const char *head)
{
	const struct http1_head *h = &ex->request;
	uint32_t at = 0;

	ex->method_len = keep(ex, &at, head, h->method_name, 32);
	ex->path_len = keep(ex, &at, head, h->path, 256);
	ex->host_len = keep(ex, &at, head, h->host, 96);
	settle_id(ex, head);
}

/* --- tries ---------------------------------------------------------------------------------------
 */

static uint32_t micros(uint64_t ns)
{
	return ns / 1000 < UINT32_MAX ? (uint32_t)(ns / 1000) : UINT32_MAX;
}

void record_try(struct exchange *ex)
{
	if (ex->nlog == RECORD_TRIES)
		return;
	ex->log[ex->nlog++] = (struct record_try){.endpoint = ex->endpoint,
						  .gen = ex->gen,
						  .start_us = micros(ex->try_ns - ex->start_ns),
						  .reused = ex->reused};
	ex->trying = true;
}

void record_try_over(struct exchange *ex, enum mesh_cause cause)
{
	struct record_try *t;

	if (!ex->trying)
		return;
	t = &ex->log[ex->nlog - 1];
	t->duration_us = micros(ex->proxy->loop.now_ns - ex->try_ns);
	t->cause = (uint8_t)cause;
	t->status = cause == CAUSE_NONE ? ex->status : 0;
	ex->trying = false;
}

void record_no_try(struct exchange *ex)
{
	if (ex->trying)
		ex->nlog--;
	ex->trying = false;
}

/* --- the record ----------------------------------------------------------------------------------
 */

/* Field by field: this is done for each request, and compilers clear a whole struct slowly. */
static void fill(struct record *r, const struct exchange *ex, uint32_t size, bool tunnel)
{
	r->size = size;
	r->kind = tunnel ? RECORD_TUNNEL : RECORD_REQUEST;
	r->cause = ex->cause;
	r->tries = ex->tries;
	r->ntries = ex->nlog;
	r->flags = (uint16_t)(ex->flags | (ex->local ? RECORD_LOCAL : 0) |
			      (ex->client_gone ? RECORD_CLIENT_GONE : 0) |
			      (ex->reused ? RECORD_REUSED : 0) |
			      (ex->down->upstream == MESH_NONE ? RECORD_GATEWAY : 0));
	r->start_ns = ex->start_ns;
	r->duration_ns = ex->proxy->loop.now_ns - ex->start_ns;
	r->head_ns = ex->head_ns ? ex->head_ns - ex->start_ns : 0;
	r->upstream_ns = ex->upstream_ns;
	r->bytes_in = ex->request_body.bytes;
	r->bytes_out = ex->response_body.bytes;
	r->caller = ex->down->caller;
	r->service = ex->service;
	r->upstream = ex->upstream;
	r->endpoint = ex->endpoint;
	r->endpoint_gen = ex->gen;
	r->status = ex->status;
	r->bulkhead = ex->bulkhead;
	r->pad = 0;
}

static uint32_t trace_text(const struct trace *t)
{
	return t->begun ? (uint32_t)t->text_len + t->alias_len +
				  (t->parent_is_hex ? 0 : t->parent_len)
			: 0;
}

/* text: behind everything else. */
static void fill_trace(struct record *r, const struct trace *t, char *text)
{
	r->trace_len = r->alias_len = r->parent_len = 0;
	if (!t->begun) {
		memset(r->trace_id, 0, sizeof(r->trace_id));
		memset(r->span_id, 0, sizeof(r->span_id));
		memset(r->parent_id, 0, sizeof(r->parent_id));
		return;
	}
	memcpy(r->trace_id, t->id, sizeof(r->trace_id));
	memcpy(r->span_id, t->span, sizeof(r->span_id));
	memcpy(r->parent_id, t->parent, sizeof(r->parent_id));
	if (!trace_text(t)) /* as most */
		return;
	r->trace_len = t->text_len;
	r->alias_len = t->alias_len;
	r->parent_len = t->parent_is_hex ? 0 : t->parent_len;
	memcpy(text, t->text, r->trace_len);
	memcpy(text + r->trace_len, t->alias, r->alias_len);
	memcpy(text + r->trace_len + r->alias_len, t->parent_text, r->parent_len);
}

/* method, path, host and request id. Returns where they end. */
static char *fill_text(struct record *r, const struct exchange *ex, char *at)
{
	uint32_t kept = (uint32_t)ex->method_len + ex->path_len + ex->host_len;

	r->method_len = ex->method_len;
	r->path_len = ex->path_len;
	r->host_len = ex->host_len;
	r->request_id_len = ex->request_id_len;
	memcpy(at, ex->text, kept);
	memcpy(at + kept, ex->request_id, ex->request_id_len);
	return at + kept + ex->request_id_len;
}

/* What is counted of it: of a stream the way to its beginning (span_took_ns()). */
static uint64_t took_ns(const struct exchange *ex, bool tunnel)
{
	if (tunnel)
		return ex->upstream_ns;
	if (ex->status == 101 && ex->head_ns)
		return ex->head_ns - ex->start_ns;
	return ex->proxy->loop.now_ns - ex->start_ns;
}

static void count(struct tally *t, const struct exchange *ex, bool tunnel)
{
	tally_add(t, &(struct tally_sum){
			     .caller = ex->down->caller,
			     .service = ex->service,
			     .status = ex->status,
			     .flags = (uint16_t)(ex->flags |
						 (ex->down->upstream == MESH_NONE ? RECORD_GATEWAY
										  : 0)),
			     .cause = ex->cause,
			     .bulkhead = ex->bulkhead,
			     .tunnel = tunnel,
			     .duration_ns = took_ns(ex, tunnel),
			     .bytes_in = ex->request_body.bytes,
			     .bytes_out = ex->response_body.bytes,
			     .retries = ex->tries > 1 ? ex->tries - 1u : 0});
}

void record_exchange(struct exchange *ex)
{
	struct ring *ring = ex->proxy->ring;
	uint32_t text = (uint32_t)ex->method_len + ex->path_len + ex->host_len +
			ex->request_id_len + trace_text(&ex->trace);
	uint32_t tries = ex->nlog * (uint32_t)sizeof(*ex->log);
	uint32_t size = ((uint32_t)sizeof(struct record) + tries + text + 7) & ~7u;
	bool tunnel = ex->state == EX_TUNNEL && !ex->status;
	struct record *r;

	if (ex->proxy->unobserved || (!tunnel && !ex->status && !ex->method_len))
		return; /* or closed before there was a request */
	r = ring_reserve(ring, size);
	if (!r) {
		count(ring_tally(ring), ex, tunnel);
		return;
	}
	record_try_over(ex, CAUSE_NONE); /* nobody has waited for its end */
	fill(r, ex, size, tunnel);
	for (uint8_t i = 0; i < ex->nlog; i++)
		((struct record_try *)(r + 1))[i] = ex->log[i];
	fill_trace(r, &ex->trace, fill_text(r, ex, (char *)(r + 1) + tries));
	ring_commit(ring, size);
}
