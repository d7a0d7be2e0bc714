/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Byte classes and field names. A name is looked up by one probe of a perfect hash over its length,
 * first and last letter; two names in one slot would be an initializer overridden twice, which is a
 * compile error.
 */
#include "agent/proxy/http1_internal.h"

#include <string.h>

#define TT (HTTP1_C_TOKEN | HTTP1_C_TARGET)
#define NN (TT | HTTP1_C_REGNAME)
#define GR (HTTP1_C_TARGET | HTTP1_C_REGNAME)

const uint8_t http1_class[256] = {
	[0x00 ... 0x08] = HTTP1_C_CONTROL,
	[0x0a ... 0x1f] = HTTP1_C_CONTROL,
	[0x7f] = HTTP1_C_CONTROL,
	['0' ... '9'] = NN | HTTP1_C_HEX,
	['A' ... 'F'] = NN | HTTP1_C_HEX | HTTP1_C_UPPER,
	['G' ... 'Z'] = NN | HTTP1_C_UPPER,
	['a' ... 'f'] = NN | HTTP1_C_HEX,
	['g' ... 'z'] = NN,
	['!'] = NN,
	['$'] = NN,
	['&'] = NN,
	['\''] = NN,
	['*'] = NN,
	['+'] = NN,
	['-'] = NN,
	['.'] = NN,
	['_'] = NN,
	['~'] = NN,
	['#'] = HTTP1_C_TOKEN,
	['%'] = TT,
	['^'] = TT,
	['`'] = TT,
	['|'] = TT,
	['('] = GR,
	[')'] = GR,
	[','] = GR,
	[';'] = GR,
	['='] = GR,
	['"'] = HTTP1_C_TARGET,
	['/'] = HTTP1_C_TARGET,
	[':'] = HTTP1_C_TARGET,
	['<'] = HTTP1_C_TARGET,
	['>'] = HTTP1_C_TARGET,
	['?'] = HTTP1_C_TARGET,
	['@'] = HTTP1_C_TARGET,
	['['] = HTTP1_C_TARGET,
	['\\'] = HTTP1_C_TARGET,
	[']'] = HTTP1_C_TARGET,
	['{'] = HTTP1_C_TARGET,
	['}'] = HTTP1_C_TARGET,
};

#define NAMES(X)                                                                                   \
	X(CONNECTION, "connection", 'c', 'n')                                                      \
	X(KEEP_ALIVE, "keep-alive", 'k', 'e')                                                      \
	X(PROXY_CONNECTION, "proxy-connection", 'p', 'n')                                          \
	X(PROXY_AUTHENTICATE, "proxy-authenticate", 'p', 'e')                                      \
	X(PROXY_AUTHORIZATION, "proxy-authorization", 'p', 'n')                                    \
	X(TE, "te", 't', 'e')                                                                      \
	X(TRAILER, "trailer", 't', 'r')                                                            \
	X(TRANSFER_ENCODING, "transfer-encoding", 't', 'g')                                        \
	X(UPGRADE, "upgrade", 'u', 'e')                                                            \
	X(CONTENT_LENGTH, "content-length", 'c', 'h')                                              \
	X(HOST, "host", 'h', 't')                                                                  \
	X(EXPECT, "expect", 'e', 't')                                                              \
	X(X_FORWARDED_FOR, "x-forwarded-for", 'x', 'r')                                            \
	X(X_FORWARDED_PROTO, "x-forwarded-proto", 'x', 'o')                                        \
	X(X_FORWARDED_HOST, "x-forwarded-host", 'x', 't')                                          \
	X(X_REQUEST_ID, "x-request-id", 'x', 'd')                                                  \
	X(X_REQUEST_TIMEOUT_MS, "x-request-timeout-ms", 'x', 's')                                  \
	X(X_INSTANCE_ID, "x-instance-id", 'x', 'd')                                                \
	X(X_MESH_CAUSE, "x-mesh-cause", 'x', 'e')                                                  \
	X(X_MESH_TRIES, "x-mesh-tries", 'x', 's')                                                  \
	X(TRACEPARENT, "traceparent", 't', 't')                                                    \
	X(TRACESTATE, "tracestate", 't', 'e')                                                      \
	X(B3, "b3", 'b', '3')                                                                      \
	X(X_TRACE_ID, "x-trace-id", 'x', 'd')                                                      \
	X(X_SPAN_ID, "x-span-id", 'x', 'd')                                                        \
	X(GRPC_TIMEOUT, "grpc-timeout", 'g', 't')                                                  \
	X(COOKIE, "cookie", 'c', 'e')

#define HASH(len, first, last) (((len)*5 + (first)*2 + (last)*9) & 63)

static const struct {
	uint8_t len;
	char name[23]; /* in lower case */
} names[HTTP1_H_MAX] = {
#define X(id, text, first, last) [HTTP1_H_##id] = {sizeof(text) - 1, text},
	NAMES(X)
#undef X
};

static const uint8_t slots[64] = {
#define X(id, text, first, last) [HASH(sizeof(text) - 1, first, last)] = HTTP1_H_##id,
	NAMES(X)
#undef X
};

/* `| 0x20` folds case, and among token bytes maps nothing but letters onto letters, digits or '-'.
 */
#define FOLD  0x20u
#define FOLD8 0x2020202020202020u

static uint64_t load8(const char *s)
{
	uint64_t v;

	memcpy(&v, s, sizeof(v));
	return v;
}

/* Eight bytes at a time; the last eight overlap those before. */
static bool same_name(const char *name, const char *lower, size_t n)
{
	if (n >= 8) {
		for (size_t i = 0; i + 8 < n; i += 8)
			if ((load8(name + i) | FOLD8) != load8(lower + i))
				return false;
		return (load8(name + n - 8) | FOLD8) == load8(lower + n - 8);
	}
	for (size_t i = 0; i < n; i++)
		if ((name[i] | FOLD) != (unsigned int)lower[i])
			return false;
	return true;
}

uint8_t http1_header_id(const char *name, size_t n)
{
	uint8_t id = slots[HASH(n, (uint8_t)name[0] | FOLD, (uint8_t)name[n - 1] | FOLD)];

	return names[id].len == n && same_name(name, names[id].name, n) ? id : HTTP1_H_OTHER;
}

const char *http1_header_name(uint8_t id)
{
	return id && id < HTTP1_H_MAX ? names[id].name : NULL;
}
