/* SPDX-License-Identifier: Apache-2.0 */
/* Trials of what moves bytes without a buffer of the program's: splice(2), sendfile(2). See
 * trials_impl.h. */
#include "agent/kernel/trials_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

#define PIECE	   4000 /* fits into a pipe, and is no whole page */
#define FILE_BYTES 20000

static bool make_pipe(struct trial_run *r, int p[2])
{
	if (pipe2(p, O_CLOEXEC | O_NONBLOCK) < 0)
		return trial_fail(r, "pipe(): %s", strerror(errno));
	if (trial_own(r, p[0], "pipe()"))
		return trial_own(r, p[1], "pipe()");
	close(p[1]);
	return false;
}

/* Readable, so splice(2) must find something. */
static bool splice_by(struct trial_run *r, struct trial_pair *p, int pipe[2], enum trial_way way)
{
	uint8_t buf[64];
	ssize_t n;

	if (!trial_give(r, &p->a, 7, way))
		return false;
	if (!trial_wait(r, p->b.fd, POLLIN))
		return trial_fail(r, "7 bytes were not reported");
	n = splice(p->b.fd, NULL, pipe[1], NULL, sizeof(buf), SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
	if (n < 0)
		return trial_fail(r, "7 bytes are there, splice(2) says: %s", strerror(errno));
	if (n != 7 || read(pipe[0], buf, sizeof(buf)) != 7)
		return trial_fail(r, "splice(2) moved %zd of 7 bytes", n);
	p->b.got += 7;
	return trial_right(r, p->b.got - 7, buf, 7);
}

bool trial_splice_out(struct trial_run *r)
{
	struct trial_pair p;
	int pipe[2];

	return trial_pair(r, &p) && make_pipe(r, pipe) && splice_by(r, &p, pipe, TRIAL_TCP) &&
	       splice_by(r, &p, pipe, TRIAL_REDIRECT);
}

static bool splice_piece(struct trial_run *r, struct trial_end *e, int pipe[2])
{
	uint8_t buf[PIECE];
	ssize_t n = 0, left = PIECE;

	trial_pattern(e->sent, buf, sizeof(buf));
	if (write(pipe[1], buf, sizeof(buf)) != PIECE)
		return trial_fail(r, "write() to a pipe: %s", strerror(errno));
	while (left) {
		n = splice(pipe[0], NULL, e->fd, NULL, (size_t)left, 0);
		if (n <= 0)
			return trial_fail(r, "splice(2) into a socket: %s", strerror(errno));
		left -= n;
		e->sent += (uint64_t)n;
	}
	return true;
}

bool trial_splice_in(struct trial_run *r)
{
	static const enum trial_way ways[] = {TRIAL_REDIRECT, TRIAL_TCP, TRIAL_REDIRECT};
	struct trial_pair p;
	int pipe[2];

	if (!trial_pair(r, &p) || !make_pipe(r, pipe))
		return false;
	for (int i = 0; i < 3; i++)
		if (!trial_give(r, &p.a, 100, ways[i]) || !splice_piece(r, &p.a, pipe) ||
		    !trial_give(r, &p.a, 100, TRIAL_ANY) || !trial_take(r, &p.b, PIECE + 200))
			return false;
	return true;
}

/* A file that continues the stream at `at`. */
static bool make_file(struct trial_run *r, uint64_t at, int *fd)
{
	uint8_t buf[FILE_BYTES];

	trial_pattern(at, buf, sizeof(buf));
	*fd = memfd_create("trial", MFD_CLOEXEC);
	if (!trial_own(r, *fd, "memfd_create()"))
		return false;
	return pwrite(*fd, buf, sizeof(buf), 0) == FILE_BYTES ||
	       trial_fail(r, "write() to a file: %s", strerror(errno));
}

bool trial_sendfile(struct trial_run *r)
{
	static const enum trial_way ways[] = {TRIAL_REDIRECT, TRIAL_TCP, TRIAL_REDIRECT};
	struct trial_pair p;

	if (!trial_pair(r, &p))
		return false;
	for (int i = 0; i < 3; i++) {
		off_t at = 0;
		int file;

		if (!trial_give(r, &p.a, 100, ways[i]) || !make_file(r, p.a.sent, &file))
			return false;
		if (sendfile(p.a.fd, file, &at, FILE_BYTES) != FILE_BYTES)
			return trial_fail(r, "sendfile() sent %lld of %d bytes", (long long)at,
					  FILE_BYTES);
		p.a.sent += FILE_BYTES;
		trial_close(r, &file);
		if (!trial_give(r, &p.a, 100, TRIAL_ANY) || !trial_take(r, &p.b, FILE_BYTES + 200))
			return false;
	}
	return true;
}
