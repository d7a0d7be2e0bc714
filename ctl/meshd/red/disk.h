/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DIR/telemetry.db: the numbers of batches, the journal of batches, the coarse tiers, the services
 * that there were. SQLite in WAL mode with synchronous=NORMAL: what was committed is there after
 * kill -9; after a power failure the last seconds may be missing, and never only in part. A thread
 * brings the WAL into the file, so that the caller never waits for the disk to have it.
 *
 * Errors: -EIO, with the words of SQLite in red_disk_error(); -EBADMSG: the file is damaged, close
 * it and put it aside; -EPROTOTYPE: it is of another form or another program, likewise.
 */
#ifndef MESHD_RED_DISK_H
#define MESHD_RED_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RED_DISK_BYTES (1ull << 30) /* of the file, in use: beyond it the oldest goes */
#define RED_JOURNAL_BYTES                                                                          \
	(192ull << 20)	  /* of that: beyond it the oldest that is not needed goes                 \
			   */
#define RED_PRUNE_ROWS 32 /* in one step */

struct red_disk;

int red_disk_open(const char *dir, struct red_disk **out, char *why, size_t cap);
void red_disk_close(struct red_disk **d);
/* Moves the file out of the way, to telemetry.db.CAUSE, or .CAUSE-2 to -4 when that is there. 0,
 * with the name in to; -EEXIST: all of them are; -errno. */
int red_disk_put_aside(const char *dir, const char *cause, char *to, size_t cap);
const char *red_disk_error(const struct red_disk *d);

/* Several writes that happen whole or not at all. After a failure roll back. */
int red_disk_begin(struct red_disk *d);
int red_disk_commit(struct red_disk *d);
void red_disk_rollback(struct red_disk *d);

struct red_disk_agent {
	const char *node, *epoch;
	uint64_t seq, used_s;
};
int red_disk_agent_put(struct red_disk *d, const struct red_disk_agent *a);
int red_disk_agent_drop(struct red_disk *d, const char *node, const char *epoch);
/* By use, oldest first. */
int red_disk_agents(struct red_disk *d, int (*fn)(void *arg, const struct red_disk_agent *a),
		    void *arg);

/* *id: grows with each. */
int red_disk_journal_put(struct red_disk *d, uint64_t second_s, const void *records, size_t len,
			 uint64_t *id);
/* From that id on. */
int red_disk_journal(struct red_disk *d, uint64_t from,
		     int (*fn)(void *arg, uint64_t id, uint64_t second_s, const void *records,
			       size_t len),
		     void *arg);
/* Is it beyond its limit? */
bool red_disk_journal_full(const struct red_disk *d);

/* How far the journal has gone into a tier, by shard. */
int red_disk_mark_put(struct red_disk *d, unsigned tier, unsigned shard, uint64_t id);
int red_disk_marks(struct red_disk *d,
		   int (*fn)(void *arg, unsigned tier, unsigned shard, uint64_t id), void *arg);

int red_disk_cell_put(struct red_disk *d, unsigned tier, uint64_t start_s, const char *service,
		      const void *records, size_t len);
/* Those of one service (NULL: of all) that begin in [from_s, to_s). */
int red_disk_cells(struct red_disk *d, unsigned tier, const char *service, uint64_t from_s,
		   uint64_t to_s,
		   int (*fn)(void *arg, uint64_t start_s, const void *records, size_t len),
		   void *arg);

struct red_disk_service {
	const char *name;
	uint64_t first_s, last_s;
	bool called;
};
int red_disk_service_put(struct red_disk *d, const struct red_disk_service *s);
int red_disk_services(struct red_disk *d, int (*fn)(void *arg, const struct red_disk_service *s),
		      void *arg);

/* Cleaning up, in steps of a few rows, for a few milliseconds: journal entries up to journal_id of
 * before journal_s, those that are due in turn of the cells of tier 1 and 2 that begin before
 * cells_s[tier] and of services and agents not seen since cells_s[2]; and the oldest of what is
 * beyond the limits. */
struct red_disk_keep {
	uint64_t cells_s[3], journal_s, journal_id;
};
int red_disk_prune(struct red_disk *d, const struct red_disk_keep *k);
/* Journal entries of before that second may be gone: kept as the mark of tier 0. */
#define RED_DISK_JOURNAL_MARK 0
/* Other limits than RED_DISK_BYTES and RED_JOURNAL_BYTES. */
void red_disk_limit(struct red_disk *d, uint64_t bytes, uint64_t journal_bytes);

/* In use, without what is free in the file; and of the WAL. */
size_t red_disk_bytes(struct red_disk *d);
size_t red_disk_log_bytes(const struct red_disk *d);
/* 0 with *start_s (0: there is none), or -EIO. */
int red_disk_oldest_s(struct red_disk *d, unsigned tier, uint64_t *start_s);

#endif
