/* SPDX-License-Identifier: Apache-2.0 */
/* The table of trials, and how one is run. See trials.h. */
#include "agent/kernel/trials_impl.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* In the order in which they are run: what decides most, and soonest, first. */
const struct trial trials[] = {
	{"redirects", "messages do not skip TCP at all", TRIAL_FOR_ALL, trial_redirects},
	{"fionread", "programs that ask how many bytes are there (nginx, Java) stall",
	 TRIAL_FOR_ALL, trial_fionread},
	{"short-read", "programs that take a short read for the last (edge-triggered) stall",
	 TRIAL_FOR_ALL, trial_short_read},
	{"epoll-edge", "edge-triggered programs miss a message", TRIAL_FOR_ALL, trial_epoll_edge},
	{"epoll-level", "level-triggered programs miss the rest of a message, or spin",
	 TRIAL_FOR_ALL, trial_epoll_level},
	{"sleeper", "a program that sleeps in recv() is not woken", TRIAL_FOR_BLOCKERS,
	 trial_sleeper},
	{"woken", "recv() that sleeps says EAGAIN when there is room to send", TRIAL_FOR_BLOCKERS,
	 trial_woken},
	{"peek", "MSG_PEEK shows something else than recv()", TRIAL_FOR_ALL, trial_peek},
	{"wait-all", "recv(MSG_WAITALL) returns before it has all", TRIAL_FOR_BLOCKERS,
	 trial_wait_all},
	{"order", "bytes arrive in another order when the path changes", TRIAL_FOR_ALL,
	 trial_order},
	{"duplex", "both directions together get stuck", TRIAL_FOR_ALL, trial_duplex},
	{"half-close", "a reply after shutdown() is lost", TRIAL_FOR_ALL, trial_half_close},
	{"fin", "the end of a stream overtakes its last bytes", TRIAL_FOR_ALL, trial_fin},
	{"unread-close", "a writer does not learn that its peer has gone", TRIAL_FOR_ALL,
	 trial_unread_close},
	{"splice-out", "splice(2) out of a socket sees nothing", TRIAL_FOR_SPLICERS,
	 trial_splice_out},
	{"splice-in", "splice(2) into a socket loses bytes", TRIAL_FOR_ALL, trial_splice_in},
	{"sendfile", "sendfile(2) into a socket loses bytes", TRIAL_FOR_ALL, trial_sendfile},
	{"early", "bytes sent before accept() are lost or swapped", TRIAL_FOR_ALL, trial_early},
	{"fast-open", "bytes in the SYN (TCP Fast Open) are lost or swapped", TRIAL_FOR_ALL,
	 trial_fast_open},
	{"twins-loopback", "two namespaces' loopback connections with the same ports are mixed up",
	 TRIAL_FOR_ALL, trial_twins_loopback},
	{"twins-network", "two networks' connections with the same addresses are mixed up",
	 TRIAL_FOR_ALL, trial_twins_network},
	{"across", "connections between network namespaces lose bytes", TRIAL_FOR_ALL,
	 trial_across},
	{"window", "a reader with a receive buffer of its own size is sent more than it holds",
	 TRIAL_FOR_ALL, trial_window},
	{"pressure", "a peer that does not read fills the kernel's memory", TRIAL_FOR_ALL,
	 trial_pressure},
};
const size_t trials_count = sizeof(trials) / sizeof(trials[0]);
_Static_assert(sizeof(trials) / sizeof(trials[0]) <= TRIAL_MAX, "TRIAL_MAX");

static bool note(struct trial_run *r, enum trial_outcome outcome, const char *fmt, va_list ap)
{
	if (r->outcome == TRIAL_PASSED) {
		r->outcome = outcome;
		vsnprintf(r->why, TRIAL_WHY_MAX, fmt, ap);
	}
	return false;
}

bool trial_fail(struct trial_run *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	note(r, TRIAL_FAILED, fmt, ap);
	va_end(ap);
	return false;
}

bool trial_skip(struct trial_run *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	note(r, TRIAL_SKIPPED, fmt, ap);
	va_end(ap);
	return false;
}

bool trial_own(struct trial_run *r, int fd, const char *what)
{
	if (fd < 0)
		return trial_fail(r, "%s: %s", what, strerror(errno));
	if (r->nfds == TRIAL_FDS) {
		close(fd);
		return trial_fail(r, "%s: more descriptors than a trial has", what);
	}
	r->fd[r->nfds++] = fd;
	return true;
}

void trial_close(struct trial_run *r, int *fd)
{
	for (unsigned i = 0; i < r->nfds; i++)
		if (r->fd[i] == *fd)
			r->fd[i] = r->fd[--r->nfds];
	close(*fd);
	*fd = -1;
}

enum trial_outcome trial_run(const struct trial *t, const struct trial_env *env,
			     char why[TRIAL_WHY_MAX])
{
	struct trial_run r = {.env = env, .outcome = TRIAL_PASSED, .why = why, .steered = -1};

	*why = 0;
	if (!t->run(&r) && r.outcome == TRIAL_PASSED)
		trial_fail(&r, "no reason was given");
	while (r.nfds)
		close(r.fd[--r.nfds]);
	return r.outcome;
}

const struct trial *trial_find(const char *name)
{
	for (size_t i = 0; i < trials_count; i++)
		if (!strcmp(trials[i].name, name))
			return &trials[i];
	return NULL;
}
