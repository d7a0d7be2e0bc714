/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Faults injected by hand (meshctl chaos): a delay and an abort per service, each with an end. In
 * memory only, so that they are gone after a restart. Called by api_faults.c, poll.c and the timer
 * of meshd.c; time is the caller's, monotonic.
 */
#ifndef MESHD_FAULTS_H
#define MESHD_FAULTS_H

#include "ctl/meshd/schema.h"
#include "lib/buf.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

#define FAULTS_MAX 1024 /* services */

struct fault;

struct faults {
	struct fault *first; /* by service */
	unsigned number;     /* of services */
};

void faults_done(struct faults *f);

/* Sets the kinds that the body has, each with the body's end; the other kind stays as it was. 0;
 * -EINVAL with *e; -ENOSPC; -ENOMEM. */
int faults_put(struct faults *f, const char *service, const cJSON *body, uint64_t now_ms,
	       struct schema_error *e);
/* service NULL: all. The number of services that had one. */
unsigned faults_delete(struct faults *f, const char *service);
/* Removes what has ended; `ended` hears of each kind. The number of kinds. */
unsigned faults_sweep(struct faults *f, uint64_t now_ms,
		      void (*ended)(const char *service, const char *kind));
/* When the next one ends, UINT64_MAX: never. */
uint64_t faults_next(const struct faults *f);

/* As people see it: {"service","delay":{...,"leftMs"},"abort":{...,"leftMs"},"leftMs"}; -ENOENT
 * when there is none, -ENOMEM. */
int faults_get(const struct faults *f, const char *service, uint64_t now_ms, cJSON **out);
/* A list of those. NULL without memory. */
cJSON *faults_list(const struct faults *f, uint64_t now_ms);
/* Appends the list as agents get it. Of a service with two ends leftMs is the nearer one: then the
 * list changes, and they are told what is left. */
void faults_tell(const struct faults *f, uint64_t now_ms, struct buf *b);

#endif
