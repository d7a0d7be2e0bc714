/* SPDX-License-Identifier: Apache-2.0 */
/* What disk.c, disk_open.c and disk_wal.c share; nobody else includes it. */
#ifndef MESHD_RED_DISK_IMPL_H
#define MESHD_RED_DISK_IMPL_H

#include "ctl/meshd/red/disk.h"

#include <pthread.h>
#include <sqlite3.h>

#define DISK_PART_NS   2000000
#define DISK_LOG_BYTES (64ull << 20) /* of the WAL; beyond it nothing is written */

enum disk_statement {
	D_BEGIN,
	D_COMMIT,
	D_ROLLBACK,
	D_AGENT_PUT,
	D_AGENT_DROP,
	D_AGENT_ALL,
	D_JOURNAL_PUT,
	D_JOURNAL_ALL,
	D_JOURNAL_SIZE,
	D_JOURNAL_OLDEST,
	D_MARK_PUT,
	D_MARK_ALL,
	D_CELL_PUT,
	D_CELL_OF,
	D_CELL_ALL,
	D_CELL_OLDEST,
	D_SERVICE_PUT,
	D_SERVICE_ALL,
	D_PRUNE_CELL,
	D_PRUNE_CELL_OLDEST,
	D_PRUNE_JOURNAL,
	D_PRUNE_SERVICE,
	D_PRUNE_AGENT,
	D_PAGES,
	DISK_STATEMENTS,
};

extern const char *const disk_statements[DISK_STATEMENTS]; /* prepared once */

/* Brings the WAL into the file, on a connection and a thread of its own. */
struct disk_wal {
	sqlite3 *db; /* the thread's */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool running, end; /* end: under the lock */
	bool full;	   /* the log is too long; until it has begun anew. atomic */
	int frames;	   /* in the WAL and perhaps not in the file; atomic */
};

struct red_disk {
	sqlite3 *db;
	sqlite3_stmt *stmt[DISK_STATEMENTS];
	uint64_t journal_bytes, bytes_max, journal_max, log_max;
	uint64_t journal_from_s; /* what is of before it may be gone */
	uint64_t part_ns;	 /* for each part of a pruning; a step that has begun goes on */
	unsigned turn;		 /* of pruning */
	bool began;		 /* there was a transaction to roll back */
	int page_size;
	struct disk_wal wal;
	char error[160];
};

/* Sets the error. -EBADMSG when the file is damaged, else -EIO. */
int disk_fail(struct red_disk *d);
int disk_prepare(struct red_disk *d);

int disk_wal_start(struct disk_wal *w, const char *file);
void disk_wal_stop(struct disk_wal *w);
/* After a commit that left so many frames in the WAL. */
void disk_wal_told(struct disk_wal *w, int frames);

#endif
