/* SPDX-License-Identifier: Apache-2.0 */
/* What a request asks of origin.c, in the query of its target (the list is there). Unknown keys are
 * passed over. */
#ifndef TESTS_BENCH_ASK_H
#define TESTS_BENCH_ASK_H

#include "tests/bench/h1.h"

#include <stddef.h>

struct ask {
	uint64_t len, seed, bseed, status, delay, stall, chunked, trailers, echo, reflect, close,
		eof;
	uint64_t abort, interim, refuse, hang, hold;
	uint64_t fail, of, health, from, to; /* of /__set and /__stats */
	bool has_len, has_seed, has_bseed;
	size_t raw_len;
	char raw[2048];
};

struct ask_key {
	const char *name;
	size_t value, given; /* offsets in struct ask; given: of the flag, 0 for none */
};

#define ASK(name)                                                                                  \
	{                                                                                          \
#name, offsetof(struct ask, name), 0                                               \
	}
#define ASK_GIVEN(name)                                                                            \
	{                                                                                          \
#name, offsetof(struct ask, name), offsetof(struct ask, has_##name)                \
	}
static const struct ask_key ask_keys[] = {
	ASK_GIVEN(len), ASK_GIVEN(seed), ASK_GIVEN(bseed), ASK(status),	 ASK(delay), ASK(stall),
	ASK(chunked),	ASK(trailers),	 ASK(echo),	   ASK(reflect), ASK(close), ASK(eof),
	ASK(abort),	ASK(interim),	 ASK(refuse),	   ASK(hang),	 ASK(fail),  ASK(of),
	ASK(health),	ASK(from),	 ASK(to),	   ASK(hold),
};

static inline uint64_t ask_number(const char *v, size_t n)
{
	uint64_t x = 0;

	for (size_t i = 0; i < n && v[i] >= '0' && v[i] <= '9'; i++)
		x = x * 10 + (uint64_t)(v[i] - '0');
	return x;
}

/* raw: percent-decoded; what does not fit is dropped. */
static inline void ask_raw(struct ask *a, const char *v, size_t n)
{
	for (size_t i = 0; i < n && a->raw_len < sizeof(a->raw); i++) {
		if (v[i] == '%' && i + 2 < n && h1_hex(v[i + 1]) >= 0 && h1_hex(v[i + 2]) >= 0) {
			a->raw[a->raw_len++] = (char)(h1_hex(v[i + 1]) * 16 + h1_hex(v[i + 2]));
			i += 2;
		} else {
			a->raw[a->raw_len++] = v[i];
		}
	}
}

static inline void ask_pair(struct ask *a, const char *k, size_t kn, const char *v, size_t vn)
{
	if (kn == 3 && !memcmp(k, "raw", 3)) {
		ask_raw(a, v, vn);
		return;
	}
	for (size_t i = 0; i < sizeof(ask_keys) / sizeof(ask_keys[0]); i++) {
		const struct ask_key *e = &ask_keys[i];

		if (strlen(e->name) != kn || memcmp(e->name, k, kn))
			continue;
		*(uint64_t *)((char *)a + e->value) = ask_number(v, vn);
		if (e->given)
			*(bool *)((char *)a + e->given) = true;
		return;
	}
}

/* Of a request line. Without a query: status 200 and the origin's delay. */
static inline void ask_parse(struct ask *a, const struct h1_slice *line, uint64_t delay)
{
	const char *end = memrchr(line->p, ' ', line->n), *p = memchr(line->p, '?', line->n);

	memset(a, 0, offsetof(struct ask, raw));
	a->status = 200;
	a->delay = delay;
	while (p && end && p < end) {
		const char *k = p + 1, *amp = memchr(k, '&', (size_t)(end - k)), *eq;

		p = amp ? amp : end;
		eq = memchr(k, '=', (size_t)(p - k));
		if (eq)
			ask_pair(a, k, (size_t)(eq - k), eq + 1, (size_t)(p - eq - 1));
	}
}

#endif
