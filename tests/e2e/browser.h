/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A real browser without a window (Debian's chromium), by its DevTools protocol over a pipe: no
 * port, no driver, nothing to install beside it. It holds one page at a time. Stories say what must
 * be true in the page as JavaScript, and wait for it.
 */
#ifndef TESTS_E2E_BROWSER_H
#define TESTS_E2E_BROWSER_H

#include "tests/e2e/harness.h"

/* Skips the story where there is no chromium. */
void browser_need(void);
/* A fresh page (the browser is started when it is not there) of that size, which then goes to the
 * address. What it asks for beyond the address's host becomes a complaint. */
void page_open(const char *url, int width, int height);
void page_resize(int width, int height);
/* Ends the browser; harmless when there is none. Call it after the last story. */
void browser_end(void);

/* What the expression gives, as text ("" for undefined; the exception's when it throws); lives
 * until the next call but seven. */
PRINTF(1, 2) const char *page_text(const char *expression_fmt, ...);
/* Is it true? */
PRINTF(1, 2) bool page_is(const char *expression_fmt, ...);
/* Polls until it is true; fails after ms, with what the page shows and complains of. */
PRINTF(2, 3) void page_awaits(unsigned ms, const char *expression_fmt, ...);
/* Key presses as the keyboard sends them: "Tab", "Enter", "ArrowRight", "Shift+Tab", ... */
void page_key(const char *key);
/* As the mouse does it, in the middle of the first element that fits the selector. */
void page_click(const char *selector);
/* "dark" or "light". */
void page_prefers(const char *scheme);

/* All that the page complained of since it was opened, a line each: errors on the console,
 * exceptions, violations of the policy, failed and foreign requests. "" when there is none. */
const char *page_complaints(void);

#endif
