/* SPDX-License-Identifier: Apache-2.0 */
/* Suggestions, numbers and ages; called by every command of meshctl. No I/O here. */
#include "ctl/meshctl/text.h"
#include "lib/utf8.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
	unsigned ab = a < b ? a : b;

	return ab < c ? ab : c;
}

/* Optimal string alignment; only short words matter, longer ones are never near. */
static unsigned distance(const char *a, const char *b)
{
	enum { MAX = 32 };
	unsigned d[MAX + 1][MAX + 1];
	size_t la = strlen(a), lb = strlen(b);

	if (la > MAX || lb > MAX)
		return MAX;
	for (size_t i = 0; i <= la; i++) {
		for (size_t j = 0; j <= lb; j++) {
			if (!i || !j) {
				d[i][j] = i + j;
				continue;
			}
			d[i][j] = min3(d[i - 1][j] + 1, d[i][j - 1] + 1,
				       d[i - 1][j - 1] + (a[i - 1] != b[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
			    d[i - 2][j - 2] + 1 < d[i][j])
				d[i][j] = d[i - 2][j - 2] + 1;
		}
	}
	return d[la][lb];
}

const char *text_nearest(const char *word, const char *const *words, size_t n)
{
	unsigned limit = strlen(word) / 3, best = (limit ? limit : 1) + 1;
	const char *found = NULL;

	for (size_t i = 0; i < n; i++) {
		unsigned d = distance(word, words[i]);

		if (d < best) {
			best = d;
			found = words[i];
		}
	}
	return found;
}

char *text_age(uint64_t ms, char *out)
{
	static const struct {
		uint64_t ms;
		const char *unit;
	} units[] = {{86400000, "d"}, {3600000, "h"}, {60000, "m"}, {1000, "s"}};

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (ms >= units[i].ms) {
			snprintf(out, AGE_MAX, "%" PRIu64 "%s", ms / units[i].ms, units[i].unit);
			return out;
		}
	}
	snprintf(out, AGE_MAX, "%" PRIu64 "ms", ms);
	return out;
}

int text_iso_ms(const char *s, uint64_t *ms)
{
	struct tm tm = {0};
	const char *rest = strptime(s, "%Y-%m-%dT%H:%M:%S", &tm);
	unsigned fraction = 0, scale = 100;
	time_t t;

	if (!rest)
		return -EINVAL;
	if (*rest == '.') {
		for (rest++; *rest >= '0' && *rest <= '9'; rest++, scale /= 10)
			fraction += (unsigned)(*rest - '0') * scale;
	}
	if (strcmp(rest, "Z"))
		return -EINVAL;
	t = timegm(&tm);
	if (t < 0)
		return -EINVAL;
	*ms = (uint64_t)t * 1000 + fraction;
	return 0;
}

int text_number(const char *s, uint64_t min, uint64_t max, uint64_t *out)
{
	char *end;
	unsigned long long v;

	if (*s < '0' || *s > '9')
		return -EINVAL;
	errno = 0;
	v = strtoull(s, &end, 10);
	if (errno || *end || v < min || v > max)
		return -EINVAL;
	*out = v;
	return 0;
}

/* U+200E, U+200F, U+2028 to U+202E, U+2066 to U+2069: a name with one of these could show as
 * another. */
static bool turns(const unsigned char *p, size_t len)
{
	if (len != 3 || p[0] != 0xe2)
		return false;
	return (p[1] == 0x80 && (p[2] == 0x8e || p[2] == 0x8f || (p[2] >= 0xa8 && p[2] <= 0xae))) ||
	       (p[1] == 0x81 && p[2] >= 0xa6 && p[2] <= 0xa9);
}

char *text_mask(char *s)
{
	unsigned char *p = (unsigned char *)s;
	size_t left = strlen(s), n;

	for (; left; p += n, left -= n) {
		size_t len = utf8_len(p, left);

		n = len ? len : 1;
		if (!len || utf8_is_c1(p, len) || turns(p, len) || *p < 0x20 || *p == 0x7f)
			memset(p, '?', n);
	}
	return s;
}

static bool begins(char c)
{
	return ((unsigned char)c & 0xc0) != 0x80; /* not a UTF-8 continuation */
}

unsigned text_columns(const char *s)
{
	unsigned n = 0;

	for (; *s; s++)
		n += begins(*s);
	return n;
}

size_t text_bytes(const char *s, unsigned columns)
{
	size_t at = 0;

	for (; s[at] && (columns || !begins(s[at])); at++)
		columns -= begins(s[at]);
	return at;
}
