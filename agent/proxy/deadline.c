/* SPDX-License-Identifier: Apache-2.0 */
/* See deadline.h. */
#include "agent/proxy/deadline.h"
#include "agent/proxy/proxy.h"

#include <stdio.h>

#define GRPC_DIGITS 8

static bool digits(const char *s, size_t len, uint64_t *out)
{
	uint64_t n = 0;

	for (size_t i = 0; i < len; i++) {
		if (s[i] < '0' || s[i] > '9')
			return false;
		if (n <= UINT32_MAX)
			n = n * 10 + (uint64_t)(s[i] - '0');
	}
	*out = n;
	return len;
}

static uint32_t bounded(uint64_t ms)
{
	return ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX;
}

bool deadline_parse(const char *s, size_t len, uint32_t *ms)
{
	uint64_t n;

	if (!digits(s, len, &n))
		return false;
	*ms = bounded(n);
	return true;
}

bool deadline_parse_grpc(const char *s, size_t len, uint32_t *ms)
{
	uint64_t n;

	if (len < 2 || len > GRPC_DIGITS + 1 || !digits(s, len - 1, &n))
		return false;
	switch (s[len - 1]) {
	case 'H':
		n *= 3600000;
		break;
	case 'M':
		n *= 60000;
		break;
	case 'S':
		n *= 1000;
		break;
	case 'm':
		break;
	case 'u':
		n = (n + 999) / 1000;
		break;
	case 'n':
		n = (n + 999999) / 1000000;
		break;
	default:
		return false;
	}
	*ms = bounded(n);
	return true;
}

size_t deadline_format_grpc(uint32_t ms, char out[DEADLINE_GRPC_MAX])
{
	bool fits = ms < 100000000;
	int n = snprintf(out, DEADLINE_GRPC_MAX, "%u%c", fits ? ms : ms / 1000, fits ? 'm' : 'S');

	return n < 0 ? 0 : (size_t)n;
}

static void shorten(struct exchange *ex, const char *head, enum http1_header_id id,
		    bool (*parse)(const char *, size_t, uint32_t *), bool *none)
{
	const struct http1_head *h = &ex->request;
	uint32_t ms;

	/* sent more than once: each of them is a limit */
	for (unsigned i = h->index[id]; i && i <= h->nheaders; i++) {
		const struct http1_header *f = &h->headers[i - 1];

		if (f->id != id || !parse(head + f->value.at, f->value.len, &ms))
			continue;
		if (!ms)
			*none = true;
		else if (!ex->timeouts.request || ms < ex->timeouts.request)
			ex->timeouts.request = ms;
	}
}

bool deadline_read(struct exchange *ex, const char *head)
{
	bool none = false;

	shorten(ex, head, HTTP1_H_X_REQUEST_TIMEOUT_MS, deadline_parse, &none);
	shorten(ex, head, HTTP1_H_GRPC_TIMEOUT, deadline_parse_grpc, &none);
	return !none;
}

uint32_t deadline_left_ms(const struct exchange *ex)
{
	uint64_t now = ex->proxy->loop.now_ns, since = ex->waiting_ns ? ex->waiting_ns : now,
		 passed = now > since ? (now - since) / 1000000 : 0;
	uint32_t limit = ex->timeouts.request;

	if (!limit)
		return 0;
	return passed < limit ? limit - (uint32_t)passed : 1;
}
