/* SPDX-License-Identifier: Apache-2.0 */
/* The one rule for names of services, instances, versions and nodes. They become labels, paths and
 * directories: whoever takes one from outside asks here. Pure. */
#ifndef LIB_NAME_H
#define LIB_NAME_H

#include <stdbool.h>
#include <stddef.h>

#define NAME_LEN_MAX 63
#define NAME_WHAT    "1 to 63 of A-Z a-z 0-9 . _ - that begin with a letter or digit"

/* NAME_WHAT, whatever the locale says. The second takes len bytes, which need not end with NUL. */
bool name_valid(const char *s);
bool name_valid_bytes(const char *s, size_t len);

/* Services of `meshctl check`, which sends a request through the mesh: nobody's traffic, so it is
 * in no series, trace or map. */
#define NAME_OWN "mesh-check-"
bool name_is_own(const char *s);

#endif
