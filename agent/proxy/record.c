/* SPDX-License-Identifier: Apache-2.0 */
/* See record.h. */
#include "agent/proxy/record.h"
#include "agent/proxy/downstream.h"
#include "agent/proxy/proxy.h"

#include <string.h>

static void hex64(char *out, uint64_t v)
{
	static const char digits[] = "0123456789abcdef";

	for (int i = 15; i >= 0; i--, v >>= 4)
		out[i] = digits[v & 15];
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
	memcpy(ex->text + *at, head + s.at, n);
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

void record_exchange(const struct exchange *ex)
{
	struct ring *ring = ex->proxy->ring;
	uint32_t kept = (uint32_t)ex->method_len + ex->path_len + ex->host_len,
		 text = kept + ex->request_id_len;
	uint32_t size = (uint32_t)(sizeof(struct record) + text + 7) & ~7u;
	uint64_t now = ex->proxy->loop.now_ns;
	bool tunnel = ex->state == EX_TUNNEL && !ex->status;
	struct record *r;

	if (!tunnel && !ex->status && !ex->method_len)
		return; /* closed before there was a request */
	r = ring_reserve(ring, size);
	if (!r)
		return;
	*r = (struct record){
		.size = size,
		.kind = tunnel ? RECORD_TUNNEL : RECORD_REQUEST,
		.flags = (uint8_t)(ex->flags | (ex->local ? RECORD_LOCAL : 0) |
				   (ex->client_gone ? RECORD_CLIENT_GONE : 0) |
				   (ex->reused ? RECORD_REUSED : 0) |
				   (ex->down->upstream == MESH_NONE ? RECORD_GATEWAY : 0)),
		.cause = ex->cause,
		.tries = ex->tries,
		.start_ns = ex->start_ns,
		.duration_ns = now - ex->start_ns,
		.head_ns = ex->head_ns ? ex->head_ns - ex->start_ns : 0,
		.upstream_ns = ex->upstream_ns,
		.bytes_in = ex->request_body.bytes,
		.bytes_out = ex->response_body.bytes,
		.caller = ex->down->caller,
		.service = ex->service,
		.upstream = ex->upstream,
		.endpoint = ex->endpoint,
		.endpoint_gen = ex->gen,
		.status = ex->status,
		.bulkhead = ex->bulkhead,
		.method_len = ex->method_len,
		.path_len = ex->path_len,
		.host_len = ex->host_len,
		.request_id_len = ex->request_id_len,
	};
	memcpy(r + 1, ex->text, kept);
	memcpy((char *)(r + 1) + kept, ex->request_id, ex->request_id_len);
	ring_commit(ring, size);
}
