/* SPDX-License-Identifier: Apache-2.0 */
/* A database that is of no use is kept for whoever wants to know why, and never over another one.
 * Called by red/keep.c and traces/db_open.c. */
#ifndef MESHD_ASIDE_H
#define MESHD_ASIDE_H

#include <stddef.h>

#define ASIDE_MAX 4 /* of a cause: a disk that damages them all must not be filled with them */

/* Renames the closed database `file`, with its log and index, to FILE.CAUSE, or -2 to -ASIDE_MAX
 * behind that; the name in to[cap]. 0, or -errno: -EEXIST when there are so many already, and
 * nothing was done. */
int aside_put(const char *file, const char *cause, char *to, size_t cap);

#endif
