/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What must survive: configuration with its history, registrations, drains, the global revision and
 * the identity of the store, in one SQLite file. A function that returns 0 after a write has it on
 * disk (WAL, synchronous=FULL). Knows nothing of what a configuration means. Blocking; one process
 * per file.
 *
 * The global revision counts every change that agents have to hear of: configuration and
 * registrations. A service's own revision is the global one of its last change, so the revisions of
 * one service have gaps.
 *
 * Errors: -EIO (disk, SQLite; text in store_error()), -ENOENT, -ENOSPC (a limit below is reached),
 * -ENOMEM.
 */
#ifndef MESHD_STORE_H
#define MESHD_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STORE_SERVICES_MAX 1024 /* with configuration */
#define STORE_TEXT_MAX                                                                             \
	(8u << 20) /* bytes of configuration, all services; it must fit into an answer to agents   \
		    */
#define STORE_REGISTRATIONS_MAX	  4096
#define STORE_HISTORY_PER_SERVICE 100 /* older entries go */
#define STORE_HISTORY_MAX	  20000

struct store;

/* Opens or makes DIR/meshd.db. On failure *why is a line for people (never NULL) and -errno comes
 * back. */
int store_open(const char *dir, struct store **out, char *why, size_t cap);
void store_close(struct store **s);
const char *store_error(const struct store *s); /* text of the last failure */
bool store_healthy(const struct store *s);	/* the last write went well */

uint64_t store_revision(const struct store *s);
const char *store_epoch(const struct store *s); /* 16 hex digits, made with the file */
/* How often it was opened, this time included: what counts from there never repeats. */
uint64_t store_starts(const struct store *s);

/* Several writes that happen whole or not at all. Do not nest. After a failed commit nothing of it
 * happened. */
int store_begin(struct store *s);
int store_commit(struct store *s);
void store_rollback(struct store *s);

struct store_change {
	const char *service;
	const char *text;   /* the new configuration; NULL: deleted */
	const char *author; /* who */
	const char *action; /* put, patch, delete, rollback, file */
	uint64_t time_ms;   /* wall clock */
};

/* Changes a configuration and adds to its history; a transaction of its own unless one is open. */
int store_config_change(struct store *s, const struct store_change *c, uint64_t *revision);
/* *text is the caller's to free. -ENOENT when the service has no configuration. */
int store_config_get(struct store *s, const char *service, char **text, uint64_t *revision);
/* Calls fn for each in the order of names, until it returns non-zero, which is then returned. */
int store_config_each(struct store *s,
		      int (*fn)(void *arg, const char *service, const char *text,
				uint64_t revision),
		      void *arg);

/* The history of one service, newest first. */
int store_history_each(struct store *s, const char *service,
		       int (*fn)(void *arg, const struct store_change *c, uint64_t revision),
		       void *arg);
/* The text as of exactly that revision. -ENOENT: no such entry, or it is a deletion. Caller frees.
 */
int store_history_get(struct store *s, const char *service, uint64_t revision, char **text);

/* What the files of --config said when they were last applied (canonical text). text NULL removes.
 */
int store_file_put(struct store *s, const char *service, const char *file, const char *text);
int store_file_each(struct store *s,
		    int (*fn)(void *arg, const char *service, const char *file, const char *text),
		    void *arg);

/* Registrations, as the text the registry gives; each change raises the revision. */
int store_registration_put(struct store *s, const char *service, const char *instance,
			   const char *text);
int store_registration_delete(struct store *s, const char *service, const char *instance);
int store_registration_each(struct store *s,
			    int (*fn)(void *arg, const char *service, const char *instance,
				      const char *text),
			    void *arg);

/* Endpoints that are drained by hand. They are no configuration: the revision stays. */
int store_drain_put(struct store *s, const char *service, const char *endpoint, const char *author);
int store_drain_delete(struct store *s, const char *service, const char *endpoint);
int store_drain_each(struct store *s,
		     int (*fn)(void *arg, const char *service, const char *endpoint,
			       const char *author),
		     void *arg);

#endif
