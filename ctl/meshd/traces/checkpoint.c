/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread that writes the log of the file back into it (see db.h): that waits for the disk,
 * which the loop must not. It has a connection of its own and never holds up readers or writers
 * (SQLITE_CHECKPOINT_PASSIVE); what was written meanwhile is the next turn's.
 */
#include "ctl/meshd/traces/db.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

struct checkpointer {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool due, end; /* under the lock */
	sqlite3 *sqlite;
};

static void *work(void *arg)
{
	struct checkpointer *c = arg;

	pthread_mutex_lock(&c->lock);
	for (;;) {
		while (!c->due && !c->end)
			pthread_cond_wait(&c->wake, &c->lock);
		if (c->end)
			break;
		c->due = false;
		pthread_mutex_unlock(&c->lock);
		/* what fails now is tried again at the next commit, by the loop if need be */
		sqlite3_wal_checkpoint_v2(c->sqlite, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
		pthread_mutex_lock(&c->lock);
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

/* Signals are the loop's. */
static int start(struct checkpointer *c)
{
	sigset_t all, before;
	int r;

	sigfillset(&all);
	r = pthread_sigmask(SIG_SETMASK, &all, &before);
	if (r)
		return -r;
	r = pthread_create(&c->thread, NULL, work, c);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -r;
}

int checkpointer_new(const char *file, struct checkpointer **out)
{
	struct checkpointer *c = calloc(1, sizeof(*c));
	int r = -ENOMEM;

	if (!c)
		return r;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->wake, NULL);
	if (sqlite3_open_v2(file, &c->sqlite, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) ==
		    SQLITE_OK &&
	    sqlite3_exec(c->sqlite, "PRAGMA synchronous = NORMAL; PRAGMA cache_size = -256", NULL,
			 NULL, NULL) == SQLITE_OK)
		r = start(c);
	if (r) {
		sqlite3_close(c->sqlite);
		free(c);
		return r;
	}
	*out = c;
	return 0;
}

void checkpointer_wake(struct checkpointer *c)
{
	pthread_mutex_lock(&c->lock);
	c->due = true;
	pthread_cond_signal(&c->wake);
	pthread_mutex_unlock(&c->lock);
}

void checkpointer_free(struct checkpointer **c)
{
	if (!*c)
		return;
	pthread_mutex_lock(&(*c)->lock);
	(*c)->end = true;
	pthread_cond_signal(&(*c)->wake);
	pthread_mutex_unlock(&(*c)->lock);
	pthread_join((*c)->thread, NULL);
	sqlite3_close((*c)->sqlite);
	pthread_cond_destroy(&(*c)->wake);
	pthread_mutex_destroy(&(*c)->lock);
	free(*c);
	*c = NULL;
}
