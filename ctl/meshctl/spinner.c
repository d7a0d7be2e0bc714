/* SPDX-License-Identifier: Apache-2.0 */
/* The sign of life on stderr while a command waits. A thread of its own, because what it waits for
 * blocks. */
#include "ctl/meshctl/output.h"
#include "lib/clock.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define APPEARS_AFTER_NS 1000000000u
#define FRAME_NS	 100000000u

static bool active; /* one at a time: what runs inside of something slow needs no line of its own */

static void wait_for(struct spinner *s, uint64_t ns)
{
	uint64_t until = clock_mono_ns() + ns;
	struct timespec t = {.tv_sec = until / 1000000000u, .tv_nsec = until % 1000000000u};

	while (!s->stop && pthread_cond_timedwait(&s->wake, &s->lock, &t) != ETIMEDOUT)
		;
}

static void *spin(void *arg)
{
	static const char frames[] = "|/-\\";
	struct spinner *s = arg;

	pthread_mutex_lock(&s->lock);
	wait_for(s, APPEARS_AFTER_NS);
	for (unsigned i = 0; !s->stop; i++) {
		fprintf(stderr, "\r\033[K%c %s", frames[i % 4], s->text);
		s->shown = true;
		wait_for(s, FRAME_NS);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

void spinner_start(struct spinner *s, const char *text)
{
	pthread_condattr_t attr;

	*s = (struct spinner){0};
	if (active || !isatty(STDERR_FILENO))
		return;
	snprintf(s->text, sizeof(s->text), "%s", text);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->wake, &attr);
	pthread_condattr_destroy(&attr);
	active = s->running = !pthread_create(&s->thread, NULL, spin, s);
}

void spinner_text(struct spinner *s, const char *text)
{
	if (!s->running)
		return;
	pthread_mutex_lock(&s->lock);
	snprintf(s->text, sizeof(s->text), "%s", text);
	pthread_mutex_unlock(&s->lock);
}

void spinner_stop(struct spinner *s)
{
	if (!s->running)
		return;
	pthread_mutex_lock(&s->lock);
	s->stop = true;
	pthread_cond_signal(&s->wake);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->thread, NULL);
	pthread_cond_destroy(&s->wake);
	pthread_mutex_destroy(&s->lock);
	if (s->shown)
		fputs("\r\033[K", stderr);
	active = s->running = false;
}

void spinner_off(void)
{
	active = true;
}
