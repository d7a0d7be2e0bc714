/* SPDX-License-Identifier: Apache-2.0 */
/* The difference of two texts, line by line, as `diff -u` prints it. Pure. */
#ifndef CTL_MESHCTL_LINEDIFF_H
#define CTL_MESHCTL_LINEDIFF_H

#include "lib/buf.h"

/* Appends to `out` a unified difference (three lines of context) that turns `a` into `b`; nothing
 * when they are equal. Both end with a newline or are empty. 1: different, 0: equal, -ENOMEM. Above
 * LINEDIFF_CELLS the middle is shown as replaced. */
#define LINEDIFF_CELLS (8u << 20)
int linediff(struct buf *out, const char *name_a, const char *a, const char *name_b, const char *b);

#endif
