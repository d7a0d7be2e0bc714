/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Byte classes and field names. A name is looked up by one probe of a perfect hash over its length,
 * middle and last letter; two names in one slot would be an initializer overridden twice, which is
 * a compile error.
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
	X(KEEP_ALIVE, "keep-alive", 'a', 'e')                                                      \
	X(PROXY_CONNECTION, "proxy-connection", 'n', 'n')                                          \
	X(PROXY_AUTHENTICATE, "proxy-authenticate", 'h', 'e')                                      \
	X(PROXY_AUTHORIZATION, "proxy-authorization", 'h', 'n')                                    \
	X(TE, "te", 'e', 'e')                                                                      \
	X(TRAILER, "trailer", 'i', 'r')                                                            \
	X(TRANSFER_ENCODING, "transfer-encoding", '-', 'g')                                        \
	X(UPGRADE, "upgrade", 'r', 'e')                                                            \
	X(CONTENT_LENGTH, "content-length", '-', 'h')                                              \
	X(HOST, "host", 's', 't')                                                                  \
	X(EXPECT, "expect", 'e', 't')                                                              \
	X(X_FORWARDED_FOR, "x-forwarded-for", 'r', 'r')                                            \
	X(X_FORWARDED_PROTO, "x-forwarded-proto", 'd', 'o')                                        \
	X(X_FORWARDED_HOST, "x-forwarded-host", 'd', 't')                                          \
	X(X_REQUEST_ID, "x-request-id", 'e', 'd')                                                  \
	X(X_REQUEST_TIMEOUT_MS, "x-request-timeout-ms", 't', 's')                                  \
	X(X_INSTANCE_ID, "x-instance-id", 'a', 'd')                                                \
	X(X_MESH_CAUSE, "x-mesh-cause", '-', 'e')                                                  \
	X(X_MESH_TRIES, "x-mesh-tries", '-', 's')                                                  \
	X(TRACEPARENT, "traceparent", 'p', 't')                                                    \
	X(TRACESTATE, "tracestate", 's', 'e')                                                      \
	X(B3, "b3", '3', '3')                                                                      \
	X(X_B3_TRACEID, "x-b3-traceid", 'r', 'd')                                                  \
	X(X_B3_SPANID, "x-b3-spanid", 's', 'd')                                                    \
	X(X_B3_PARENTSPANID, "x-b3-parentspanid", 'e', 'd')                                        \
	X(X_B3_SAMPLED, "x-b3-sampled", 'a', 'd')                                                  \
	X(X_B3_FLAGS, "x-b3-flags", 'f', 's')                                                      \
	X(X_TRACE_ID, "x-trace-id", 'c', 'd')                                                      \
	X(X_SPAN_ID, "x-span-id", 'a', 'd')                                                        \
	X(X_PARENT_SPAN_ID, "x-parent-span-id", '-', 'd')                                          \
	X(GRPC_TIMEOUT, "grpc-timeout", 'i', 't')                                                  \
	X(COOKIE, "cookie", 'k', 'e')

#define HASH(len, middle, last) (((len) + (middle)*3 + (last)*12) & 127)

static const struct {
	uint8_t len;
	char name[23]; /* in lower case */
} names[HTTP1_H_MAX] = {
#define X(id, text, middle, last) [HTTP1_H_##id] = {sizeof(text) - 1, text},
	NAMES(X)
#undef X
};

static const uint8_t slots[128] = {
#define X(id, text, middle, last) [HASH(sizeof(text) - 1, middle, last)] = HTTP1_H_##id,
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
	uint8_t id = slots[HASH(n, (uint8_t)name[n / 2] | FOLD, (uint8_t)name[n - 1] | FOLD)];

	return names[id].len == n && same_name(name, names[id].name, n) ? id : HTTP1_H_OTHER;
}

const char *http1_header_name(uint8_t id)
{
	return id && id < HTTP1_H_MAX ? names[id].name : NULL;
}
