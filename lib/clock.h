/* SPDX-License-Identifier: Apache-2.0 */
/* Time. Durations come from the monotonic clock only; the wall clock is for people and for records
 * that leave us. */
#ifndef LIB_CLOCK_H
#define LIB_CLOCK_H

#include <stdint.h>
#include <stddef.h>
#include <time.h>

#define CLOCK_ISO_MAX 32

static inline uint64_t clock_mono_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline uint64_t clock_wall_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

/* 2026-11-22T15:20:32.123Z into out[CLOCK_ISO_MAX]; returns out. */
char *clock_iso(uint64_t wall_ms, char *out);

/* "1h30m", "500ms", "2s", "250us" (rounded up to a ms) into milliseconds. 0 or -EINVAL (also for a
 * bare number, an empty string, anything over 1000 days). */
int duration_parse(const char *s, uint64_t *ms);
/* As duration_parse reads it back, largest unit first, zero parts left out: 5400000 is "1h30m",
 * 1500 "1s500ms", 0 "0s". Into out[32]; returns out. */
char *duration_format(uint64_t ms, char *out);

#endif
