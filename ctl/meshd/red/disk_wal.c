/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See disk_impl.h. A checkpoint waits for the disk (fsync), which may take as long as it likes; so
 * it has a thread of its own. It holds nothing that a writer or a reader of the other connection
 * waits for (SQLITE_CHECKPOINT_PASSIVE). The WAL begins anew once all of it is in the file; with a
 * steady writer that takes a few tries, of which all but the first have little to do.
 */
#include "ctl/meshd/red/disk_impl.h"

#include <errno.h>
#include <signal.h>
#include <time.h>

#define FRAMES	  2000 /* pages in the WAL that are worth a checkpoint */
#define TRIES	  8
#define PERIOD_MS 1000

static void wait_a_while(struct disk_wal *w)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += PERIOD_MS / 1000;
	if (!w->end)
		pthread_cond_timedwait(&w->wake, &w->lock, &t);
}

static void checkpoint(struct disk_wal *w)
{
	int all = 0, done = -1;

	for (int i = 0; i < TRIES && done != all; i++)
		if (sqlite3_wal_checkpoint_v2(w->db, NULL, SQLITE_CHECKPOINT_PASSIVE, &all,
					      &done) != SQLITE_OK)
			break; /* the disk is full or gone: whoever writes notices, and says so */
}

/* Nobody writes meanwhile, so this is the moment to have it begin anew. That waits for no reader:
 * it is tried again. */
static void empty(struct disk_wal *w)
{
	if (sqlite3_wal_checkpoint_v2(w->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL) !=
	    SQLITE_OK)
		return;
	__atomic_store_n(&w->frames, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&w->full, false, __ATOMIC_RELEASE);
}

static void *wal_run(void *arg)
{
	struct disk_wal *w = arg;

	pthread_mutex_lock(&w->lock);
	while (!w->end) {
		bool full;

		wait_a_while(w);
		full = __atomic_load_n(&w->full, __ATOMIC_ACQUIRE);
		if (w->end || (!full && __atomic_load_n(&w->frames, __ATOMIC_RELAXED) < FRAMES))
			continue;
		pthread_mutex_unlock(&w->lock);
		checkpoint(w);
		if (full)
			empty(w);
		pthread_mutex_lock(&w->lock);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

/* Signals are for the loop. */
static int start(struct disk_wal *w)
{
	sigset_t all, was;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &was);
	r = pthread_create(&w->thread, NULL, wal_run, w);
	pthread_sigmask(SIG_SETMASK, &was, NULL);
	return -r;
}

int disk_wal_start(struct disk_wal *w, const char *file)
{
	pthread_condattr_t monotonic;
	int r;

	/* it has to have read something before it knows that there is a WAL */
	if (sqlite3_open_v2(file, &w->db, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK ||
	    sqlite3_exec(w->db, "PRAGMA synchronous = NORMAL; SELECT 1 FROM sqlite_master", NULL,
			 NULL, NULL) != SQLITE_OK) {
		sqlite3_close(w->db);
		w->db = NULL;
		return -EIO;
	}
	pthread_mutex_init(&w->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&w->wake, &monotonic);
	pthread_condattr_destroy(&monotonic);
	r = start(w);
	w->running = !r;
	return r;
}

void disk_wal_stop(struct disk_wal *w)
{
	if (w->running) {
		pthread_mutex_lock(&w->lock);
		w->end = true;
		pthread_cond_signal(&w->wake);
		pthread_mutex_unlock(&w->lock);
		pthread_join(w->thread, NULL);
	}
	sqlite3_close(w->db);
	w->db = NULL;
	w->running = false;
}

void disk_wal_told(struct disk_wal *w, int frames)
{
	__atomic_store_n(&w->frames, frames, __ATOMIC_RELAXED);
}
