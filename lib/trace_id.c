/* SPDX-License-Identifier: Apache-2.0 */
/* See trace_id.h. Called for every request. */
#include "lib/trace_id.h"

#include <string.h>

/* What a character is: a hex digit and its value, one in a capital letter, part of an id. */
enum { VALUE = 0x0f, CAPITAL = 0x20, HEX = 0x40, ID = 0x80 };

#define SMALL(c, v) [c] = ID | HEX | (v)
#define LARGE(c, v) [c] = ID | HEX | CAPITAL | (v)

static const uint8_t kinds[256] = {
	['g' ... 'z'] = ID, ['G' ... 'Z'] = ID, ['.'] = ID,	['_'] = ID,	['-'] = ID,
	SMALL('0', 0),	    SMALL('1', 1),	SMALL('2', 2),	SMALL('3', 3),	SMALL('4', 4),
	SMALL('5', 5),	    SMALL('6', 6),	SMALL('7', 7),	SMALL('8', 8),	SMALL('9', 9),
	SMALL('a', 10),	    SMALL('b', 11),	SMALL('c', 12), SMALL('d', 13), SMALL('e', 14),
	SMALL('f', 15),	    LARGE('A', 10),	LARGE('B', 11), LARGE('C', 12), LARGE('D', 13),
	LARGE('E', 14),	    LARGE('F', 15),
};

bool trace_id_usable(const char *s, size_t len)
{
	uint8_t all = ID;

	if (!len || len > TRACE_ID_TEXT_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
		all &= kinds[(uint8_t)s[i]];
	return all;
}

typedef uint8_t bytes16 __attribute__((vector_size(16)));
typedef uint64_t words2 __attribute__((vector_size(16)));

/* Eight bytes at once: each twice, of which the first keeps its high half and the second its low
 * one. */
static void hex8(char *out, const uint8_t *in)
{
	static const bytes16 high = {15, 0, 15, 0, 15, 0, 15, 0, 15, 0, 15, 0, 15, 0, 15, 0},
			     low = {0, 15, 0, 15, 0, 15, 0, 15, 0, 15, 0, 15, 0, 15, 0, 15};
	uint64_t word;
	bytes16 v;

	memcpy(&word, in, sizeof(word));
	v = (bytes16)(words2){word, 0};
	v = __builtin_shufflevector(v, v, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
	v = (v >> 4 & high) | (v & low);
	v += '0' + ((bytes16)(v > 9) & ('a' - '0' - 10));
	memcpy(out, &v, sizeof(v));
}

void trace_hex(char *out, const uint8_t *in, size_t n)
{
	static const char digits[] = "0123456789abcdef";

	for (; n >= 8; n -= 8, in += 8, out += 16)
		hex8(out, in);
	for (; n; n--, in++) {
		*out++ = digits[*in >> 4];
		*out++ = digits[*in & 15];
	}
}

bool trace_unhex(uint8_t *out, const char *digits, size_t n, bool small)
{
	uint8_t all = HEX, any = 0;

	for (size_t i = 0; i < n; i++) {
		uint8_t high = kinds[(uint8_t)digits[2 * i]],
			low = kinds[(uint8_t)digits[2 * i + 1]];

		all &= high & low;
		any |= high | low;
		out[i] = (uint8_t)(high << 4 | (low & VALUE));
	}
	return all && !(small && any & CAPITAL);
}

static uint64_t finish(uint64_t h)
{
	h ^= h >> 33;
	h *= 0xff51afd7ed558ccdULL;
	h ^= h >> 33;
	h *= 0xc4ceb9fe1a85ec53ULL;
	return h ^ h >> 33;
}

static void put64(uint8_t *out, uint64_t v)
{
	for (int i = 7; i >= 0; i--, v >>= 8)
		out[i] = (uint8_t)v;
}

static void hash(const char *s, size_t len, uint8_t out[16])
{
	const uint64_t prime = 0x100000001b3ULL;
	uint64_t a = 0xcbf29ce484222325ULL, b = 0x9ae16a3b2f90404fULL;

	for (size_t i = 0; i < len; i++) {
		a = (a ^ (uint8_t)s[i]) * prime;
		b = (b ^ (uint8_t)s[i]) * prime;
	}
	a = finish(a);
	b = finish(b);
	put64(out, a);
	put64(out + 8, a || b ? b : 1);
}

static bool is_zero(const uint8_t id[16])
{
	static const uint8_t zero[16];

	return !memcmp(id, zero, sizeof(zero));
}

void trace_id_bytes(const char *s, size_t len, uint8_t out[16])
{
	memset(out, 0, 16);
	if ((len == 32 && trace_unhex(out, s, 16, false) && !is_zero(out)) ||
	    (len == 16 && trace_unhex(out + 8, s, 8, false) && !is_zero(out)))
		return;
	hash(s, len, out);
}
