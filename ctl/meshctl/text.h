/* SPDX-License-Identifier: Apache-2.0 */
/* Pure text helpers of meshctl: suggestions, numbers, ages. No I/O. */
#ifndef CTL_MESHCTL_TEXT_H
#define CTL_MESHCTL_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Which of `n` words is most like `word`: the smallest edit distance (a swap of neighbours counts
 * one), and at most a third of the word's length, at least 1. NULL when none is near. */
const char *text_nearest(const char *word, const char *const *words, size_t n);

/* "850ms", "12s", "5m", "3h", "8d" into out[AGE_MAX]; returns out. */
#define AGE_MAX 24
char *text_age(uint64_t ms, char *out);

/* Milliseconds since the epoch of "2026-11-22T15:20:32.123Z" (the fraction is optional). 0 or
 * -EINVAL. */
int text_iso_ms(const char *s, uint64_t *ms);

/* The whole of s as a number from min to max. 0 or -EINVAL. */
int text_number(const char *s, uint64_t min, uint64_t max, uint64_t *out);

/* Replaces control characters by '?', in place, and those that turn the direction of writing: what
 * a daemon or a user sent cannot steer the terminal. Returns s. */
char *text_mask(char *s);

/* Columns of the terminal that UTF-8 text takes (one a character), and how many of its bytes fit
 * into so many. */
unsigned text_columns(const char *s);
size_t text_bytes(const char *s, unsigned columns);

#endif
