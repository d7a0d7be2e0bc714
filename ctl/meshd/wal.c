/* SPDX-License-Identifier: Apache-2.0 */
/* See wal.h. */
#include "ctl/meshd/wal.h"
#include "ctl/meshd/dbfile.h"

#include <errno.h>
#include <signal.h>
#include <time.h>

#define FRAMES	1000 /* pages in the log that are worth writing back */
#define RETRY_S 1    /* while it is full */

/* --- the owner -------------------------------------------------------------------------- */

static void prod(struct wal *w)
{
	pthread_mutex_lock(&w->lock);
	w->due = true;
	pthread_cond_signal(&w->wake);
	pthread_mutex_unlock(&w->lock);
}

static int on_commit(void *arg, sqlite3 *db, const char *name, int frames)
{
	struct wal *w = arg;

	__atomic_store_n(&w->frames, frames, __ATOMIC_RELAXED);
	if (wal_bytes(w) > w->max)
		__atomic_store_n(&w->full, true, __ATOMIC_RELEASE);
	/* The thread does not keep up: done here, before nothing may be written any more. It is
	 * left alone for that, because only one can do it, and only what is done between two
	 * commits is sure to be all. */
	if (wal_bytes(w) > w->max / 2 && !wal_full(w))
		sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
	else if (frames > FRAMES || wal_full(w))
		prod(w);
	return SQLITE_OK;
}

bool wal_full(const struct wal *w)
{
	return __atomic_load_n(&w->full, __ATOMIC_ACQUIRE);
}

size_t wal_bytes(const struct wal *w)
{
	return (size_t)__atomic_load_n(&w->frames, __ATOMIC_RELAXED) * (size_t)w->page_size;
}

/* --- the thread ------------------------------------------------------------------------- */

/* Nobody writes meanwhile, so this is the moment to have it begin anew. That waits for no reader:
 * it is tried again. */
static void empty(struct wal *w)
{
	if (sqlite3_wal_checkpoint_v2(w->thread_db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL) !=
	    SQLITE_OK)
		return;
	__atomic_store_n(&w->frames, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&w->full, false, __ATOMIC_RELEASE);
}

/* What fails is tried again at the next commit; when the disk is full or gone, whoever writes
 * notices, and says so. */
static void write_back(struct wal *w)
{
	sqlite3_wal_checkpoint_v2(w->thread_db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
	if (wal_full(w))
		empty(w);
}

static void wait_for_work(struct wal *w)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += RETRY_S;
	while (!w->due && !w->end) {
		if (!wal_full(w))
			pthread_cond_wait(&w->wake, &w->lock);
		else if (pthread_cond_timedwait(&w->wake, &w->lock, &t) == ETIMEDOUT)
			break;
	}
}

static void *work(void *arg)
{
	struct wal *w = arg;

	pthread_mutex_lock(&w->lock);
	for (;;) {
		wait_for_work(w);
		if (w->end)
			break;
		w->due = false; /* what is committed from now on is the next turn's */
		pthread_mutex_unlock(&w->lock);
		write_back(w);
		pthread_mutex_lock(&w->lock);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

/* --- begin and end ---------------------------------------------------------------------- */

/* Signals are the loop's. */
static int start(struct wal *w)
{
	sigset_t all, before;
	int r;

	sigfillset(&all);
	r = pthread_sigmask(SIG_SETMASK, &all, &before);
	if (r)
		return -r;
	r = pthread_create(&w->thread, NULL, work, w);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -r;
}

static void lock_init(struct wal *w)
{
	pthread_condattr_t monotonic;

	pthread_mutex_init(&w->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&w->wake, &monotonic);
	pthread_condattr_destroy(&monotonic);
}

int wal_start(struct wal *w, sqlite3 *db, const char *file)
{
	int64_t page_size = 0;
	int r = dbfile_number(db, "PRAGMA page_size", &page_size);

	*w = (struct wal){.max = WAL_MAX, .page_size = (int)page_size};
	if (r)
		return r;
	lock_init(w);
	/* it has to have read something before it knows that there is a log */
	r = dbfile_open(file, DBFILE_LOGGED "PRAGMA cache_size = -256; SELECT 1 FROM sqlite_master",
			&w->thread_db);
	if (!r)
		r = start(w);
	w->running = !r;
	if (r)
		dbfile_close(&w->thread_db, NULL, 0);
	else
		sqlite3_wal_hook(db, on_commit, w);
	return r;
}

void wal_stop(struct wal *w)
{
	if (!w->running)
		return;
	pthread_mutex_lock(&w->lock);
	w->end = true;
	pthread_cond_signal(&w->wake);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	pthread_cond_destroy(&w->wake);
	pthread_mutex_destroy(&w->lock);
	dbfile_close(&w->thread_db, NULL, 0);
	w->running = false;
}
