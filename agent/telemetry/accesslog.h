/* SPDX-License-Identifier: Apache-2.0 */
/* One JSON line a request, to a file or stdout, when it is on. Every field that a peer sent is
 * escaped. */
#ifndef AGENT_TELEMETRY_ACCESSLOG_H
#define AGENT_TELEMETRY_ACCESSLOG_H

#include "lib/record.h"

#include <stdint.h>

struct accesslog;

struct accesslog_names { /* what the ids of a record stand for; "" when unknown */
	const char *caller, *callee, *endpoint, *version;
};

/* where: "off" (*out is NULL), "-" (stdout) or a file, opened for appending. 0 or -errno. */
int accesslog_new(const char *where, struct accesslog **out);
void accesslog_free(struct accesslog **a);
/* Opens the file anew (after rotation); keeps the old one if that fails. 0 or -errno. */
int accesslog_reopen(struct accesslog *a);
/* Collected; written by accesslog_flush or when the buffer is full. start_ns: when it began, since
 * 1970, as its span says it. */
void accesslog_write(struct accesslog *a, const struct record *r, const struct accesslog_names *n,
		     uint64_t start_ns);
void accesslog_flush(struct accesslog *a);
uint64_t accesslog_lost(const struct accesslog *a);

#endif
