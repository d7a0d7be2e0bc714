/* SPDX-License-Identifier: Apache-2.0 */
/* See clock.h. */
#include "lib/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define DURATION_MAX_MS (1000ull * 24 * 3600 * 1000)

static const struct unit {
	const char *name;
	uint64_t us;
} units[] = {{"h", 3600000000u}, {"m", 60000000}, {"s", 1000000}, {"ms", 1000}, {"us", 1}};

#define UNITS (sizeof(units) / sizeof(units[0]))

static void digits(char *out, int n, int v)
{
	for (; n--; v /= 10)
		out[n] = (char)('0' + v % 10);
}

/* Of every line of the access log: without printf, which takes a microsecond. */
char *clock_iso(uint64_t wall_ms, char *out)
{
	static const char form[] = "0000-00-00T00:00:00.000Z";
	time_t s = (time_t)(wall_ms / 1000);
	struct tm tm;

	if (!gmtime_r(&s, &tm) || tm.tm_year > 9999 - 1900)
		memset(&tm, 0, sizeof(tm));
	memcpy(out, form, sizeof(form));
	digits(out, 4, tm.tm_year + 1900);
	digits(out + 5, 2, tm.tm_mon + 1);
	digits(out + 8, 2, tm.tm_mday);
	digits(out + 11, 2, tm.tm_hour);
	digits(out + 14, 2, tm.tm_min);
	digits(out + 17, 2, tm.tm_sec);
	digits(out + 20, 3, (int)(wall_ms % 1000));
	return out;
}

/* The unit whose name is s[0..len), searched from `first` on: units may only get smaller. */
static size_t find_unit(const char *s, size_t len, size_t first)
{
	size_t i = first;

	while (i < UNITS && !(strlen(units[i].name) == len && !memcmp(units[i].name, s, len)))
		i++;
	return i;
}

int duration_parse(const char *s, uint64_t *ms)
{
	uint64_t total = 0, n;
	size_t unit = 0, numerals, letters;

	if (!*s)
		return -EINVAL;
	while (*s) {
		numerals = strspn(s, "0123456789");
		letters = strspn(s + numerals, "hmsu");
		if (!numerals || numerals > 14)
			return -EINVAL;
		for (n = 0; numerals; numerals--)
			n = n * 10 + (uint64_t)(*s++ - '0');
		unit = find_unit(s, letters, unit);
		if (unit == UNITS || n > DURATION_MAX_MS * 1000 / units[unit].us)
			return -EINVAL;
		total += n * units[unit++].us;
		s += letters;
	}
	if (total > DURATION_MAX_MS * 1000)
		return -EINVAL;
	*ms = (total + 999) / 1000;
	return 0;
}

char *duration_format(uint64_t ms, char *out)
{
	size_t at = 0;

	memcpy(out, "0s", 3);
	for (size_t i = 0; units[i].us >= 1000; i++) {
		uint64_t unit_ms = units[i].us / 1000, n = ms / unit_ms;

		ms %= unit_ms;
		if (n && at < 32)
			at += (size_t)snprintf(out + at, 32 - at, "%llu%s", (unsigned long long)n,
					       units[i].name);
	}
	return out;
}
