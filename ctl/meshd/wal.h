/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The write-ahead log of a database is written back into its file by a thread with a connection of
 * its own: that waits for the disk (fsync), which the loop must not. Used by red/disk_open.c and
 * traces/db_open.c; not by the configuration, which is written seldom and has to be on the disk
 * before its writer is answered anyway.
 *
 * Whoever writes and reads is not held up (SQLITE_CHECKPOINT_PASSIVE). The log begins anew with the
 * commit that finds all of it in the file and no reader at work on it, so another program that
 * reads and does not end lets it grow: beyond `max` bytes it is full, and its owner writes nothing
 * more until the thread has emptied it.
 */
#ifndef MESHD_WAL_H
#define MESHD_WAL_H

#include <pthread.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WAL_MAX (64ull << 20)

struct wal {
	sqlite3 *thread_db;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool running;
	bool due, end; /* under the lock */
	bool full;     /* atomic; set by the owner, cleared by the thread */
	int frames;    /* in the log as of the last commit; atomic */
	uint64_t max;  /* bytes */
	int page_size;
};

/* Of `db`, which is open in WAL mode and calls this from now on after each commit: w stays where it
 * is until wal_stop(). 0 with max = WAL_MAX, or -errno (then there is nothing to stop). */
int wal_start(struct wal *w, sqlite3 *db, const char *file);
/* Before db is closed. Does nothing to one that is zero or was stopped. */
void wal_stop(struct wal *w);

/* Write nothing? Until the thread, which tries it every second, has found no reader. */
bool wal_full(const struct wal *w);
/* Of the log, as of the last commit. */
size_t wal_bytes(const struct wal *w);

#endif
