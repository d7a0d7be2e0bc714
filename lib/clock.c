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

char *clock_iso(uint64_t wall_ms, char *out)
{
	time_t s = (time_t)(wall_ms / 1000);
	struct tm tm;

	if (!gmtime_r(&s, &tm) || tm.tm_year > 9999 - 1900)
		memset(&tm, 0, sizeof(tm));
	snprintf(out, CLOCK_ISO_MAX, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ",
		 (unsigned)(tm.tm_year + 1900) % 10000, (unsigned)(tm.tm_mon + 1) % 100,
		 (unsigned)tm.tm_mday % 100, (unsigned)tm.tm_hour % 100, (unsigned)tm.tm_min % 100,
		 (unsigned)tm.tm_sec % 100, (unsigned)(wall_ms % 1000));
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
	size_t unit = 0, digits, letters;

	if (!*s)
		return -EINVAL;
	while (*s) {
		digits = strspn(s, "0123456789");
		letters = strspn(s + digits, "hmsu");
		if (!digits || digits > 14)
			return -EINVAL;
		for (n = 0; digits; digits--)
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
