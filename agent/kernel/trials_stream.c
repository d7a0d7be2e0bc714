/* SPDX-License-Identifier: Apache-2.0 */
/* Trials of a whole stream: its order, its end, and what is queued for a reader that does not read.
 * See trials_impl.h. */
#include "agent/kernel/trials_impl.h"

#include <errno.h>
#include <linux/sock_diag.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ORDER_STEPS   240
#define ORDER_AHEAD   100000 /* bytes that the reader lags at most */
#define DUPLEX_BYTES  (1u << 20)
#define SEGMENT	      131072 /* the largest one, with its overhead */
#define CHUNK	      16384
#define QUEUE_CEILING (64u << 20)

/* --- order --- */

/* The same numbers in every run. */
static uint32_t next_random(uint32_t *x)
{
	*x = *x * 1664525u + 1013904223u;
	return *x >> 8;
}

static bool order_step(struct trial_run *r, struct trial_pair *p, int i, uint32_t *x)
{
	uint64_t lag;

	if (i % 8 == 0 && !trial_steer(r, i % 16 ? TRIAL_TCP : TRIAL_REDIRECT))
		return false;
	/* many small ones without an answer would be left to TCP */
	if (i % 4 == 0 && (!trial_give(r, &p->b, 1, TRIAL_ANY) || !trial_take(r, &p->a, 1)))
		return false;
	if (!trial_give(r, &p->a, 1 + next_random(x) % 3000, TRIAL_ANY))
		return false;
	lag = p->a.sent - p->b.got;
	if (lag > ORDER_AHEAD || i % 48 == 47)
		return trial_take(r, &p->b, (size_t)lag); /* caught up */
	return next_random(x) % 3 || trial_take(r, &p->b, next_random(x) % lag);
}

/* A slow reader, while the path changes under its unread bytes. */
bool trial_order(struct trial_run *r)
{
	struct trial_pair p;
	uint64_t by_tcp;
	uint32_t x = 1;

	if (!trial_pair(r, &p) || !trial_steer(r, TRIAL_REDIRECT))
		return false;
	for (int i = 0; i < ORDER_STEPS; i++)
		if (!order_step(r, &p, i, &x))
			return false;
	by_tcp = trial_tcp_bytes(p.a.fd);
	if (r->env->steer && (!by_tcp || by_tcp == p.a.sent))
		return trial_fail(r, "the path never changed");
	return trial_take(r, &p.b, (size_t)(p.a.sent - p.b.got));
}

/* Sends what is taken of `left` bytes; -1: noted. */
static long push(struct trial_run *r, struct trial_end *e, size_t left)
{
	static uint8_t buf[CHUNK];
	size_t n = left < sizeof(buf) ? left : sizeof(buf);
	ssize_t sent;

	trial_pattern(e->sent, buf, n);
	sent = send(e->fd, buf, n, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (sent < 0 && errno == EAGAIN)
		return 0;
	if (sent < 0) {
		trial_fail(r, "send(): %s", strerror(errno));
		return -1;
	}
	e->sent += (uint64_t)sent;
	return sent;
}

/* Both send first and read when they must. */
bool trial_duplex(struct trial_run *r)
{
	struct trial_pair p;
	struct trial_end *e[2] = {&p.a, &p.b};
	bool eof;

	if (!trial_pair(r, &p) || !trial_steer(r, TRIAL_REDIRECT))
		return false;
	for (;;) {
		long moved = 0, n;

		for (int i = 0; i < 2; i++) {
			while (e[i]->sent < DUPLEX_BYTES &&
			       (n = push(r, e[i], DUPLEX_BYTES - e[i]->sent)) > 0)
				moved += n;
			if (r->outcome != TRIAL_PASSED)
				return false;
		}
		for (int i = 0; i < 2; i++) {
			n = trial_read(r, e[i], CHUNK, &eof);
			if (n < 0)
				return false;
			moved += n;
		}
		if (p.a.got == DUPLEX_BYTES && p.b.got == DUPLEX_BYTES)
			return true;
		if (!moved &&
		    !trial_wait(r, p.a.fd, p.a.sent < DUPLEX_BYTES ? POLLIN | POLLOUT : POLLIN) &&
		    !trial_wait(r, p.b.fd, POLLIN))
			return trial_fail(r, "stuck after %llu and %llu bytes",
					  (unsigned long long)p.a.got, (unsigned long long)p.b.got);
	}
}

/* --- back-pressure --- */

/* Sends until nothing is taken any more, or more than `most`. */
static bool fill(struct trial_run *r, struct trial_end *e, uint64_t most)
{
	struct pollfd p = {.fd = e->fd, .events = POLLOUT};
	long n;

	while (e->sent <= most) {
		n = push(r, e, CHUNK);
		if (n < 0)
			return false;
		if (!n && poll(&p, 1, trial_left(r, 5)) != 1)
			return true;
	}
	return trial_fail(r, "a peer that does not read was sent more than %llu KiB",
			  (unsigned long long)(most >> 10));
}

bool trial_fill(struct trial_run *r, struct trial_end *e)
{
	return fill(r, e, e->sent + QUEUE_CEILING);
}

static bool fill_new_pair(struct trial_run *r, uint64_t most, struct trial_pair *p)
{
	return trial_pair(r, p) && fill(r, &p->a, most);
}

size_t trial_plain_queue(void)
{
	char why[TRIAL_WHY_MAX] = "";
	struct trial_env env = {.netns = {-1, -1}};
	struct trial_run r = {.env = &env, .outcome = TRIAL_PASSED, .why = why, .steered = -1};
	struct trial_pair p = {0};
	bool ok = fill_new_pair(&r, QUEUE_CEILING, &p);

	while (r.nfds)
		close(r.fd[--r.nfds]);
	return ok ? (size_t)p.a.sent : 0;
}

/* And when it reads again, all is there, and the sender is told that there is room. */
bool trial_pressure(struct trial_run *r)
{
	size_t plain = r->env->plain_queue ? r->env->plain_queue : trial_plain_queue();
	struct trial_pair p;

	if (!plain)
		return trial_skip(r, "plain TCP could not be measured");
	if (!trial_steer(r, TRIAL_REDIRECT) || !fill_new_pair(r, plain + TRIAL_EXTRA, &p))
		return false;
	return trial_take(r, &p.b, (size_t)(p.a.sent - p.b.got)) &&
	       (trial_wait(r, p.a.fd, POLLOUT) ||
		trial_fail(r, "a sender that was stopped is not woken")) &&
	       trial_give(r, &p.a, 100, TRIAL_ANY) && trial_take(r, &p.b, 100);
}

/* What is queued for a reader whose receive buffer has a size of the program's own stays within
 * that, and one segment. TCP has promised to take what fits: what then does not, it drops, and
 * sends again 200 ms later. */
bool trial_window(struct trial_run *r)
{
	uint32_t mem[SK_MEMINFO_VARS] = {0};
	socklen_t len = sizeof(mem);
	int size = 65536;
	struct trial_pair p;

	if (!trial_pair(r, &p))
		return false;
	if (setsockopt(p.b.fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)) < 0)
		return trial_fail(r, "SO_RCVBUF: %s", strerror(errno));
	if (!trial_fill(r, &p.a))
		return false;
	if (getsockopt(p.b.fd, SOL_SOCKET, SO_MEMINFO, mem, &len) < 0)
		return trial_skip(r, "no SO_MEMINFO");
	if (mem[SK_MEMINFO_RMEM_ALLOC] > mem[SK_MEMINFO_RCVBUF] + SEGMENT)
		return trial_fail(r, "%u KiB wait in a receive buffer of %u KiB",
				  mem[SK_MEMINFO_RMEM_ALLOC] >> 10, mem[SK_MEMINFO_RCVBUF] >> 10);
	return trial_take(r, &p.b, (size_t)(p.a.sent - p.b.got));
}

/* --- the end --- */

bool trial_half_close(struct trial_run *r)
{
	static const enum trial_way ways[] = {TRIAL_REDIRECT, TRIAL_TCP};
	struct trial_pair p;

	for (int i = 0; i < 2; i++) {
		if (!trial_pair(r, &p) || !trial_give(r, &p.a, 100, ways[i]))
			return false;
		if (shutdown(p.a.fd, SHUT_WR) < 0)
			return trial_fail(r, "shutdown(): %s", strerror(errno));
		if (!trial_take(r, &p.b, 100) || !trial_take_end(r, &p.b) ||
		    !trial_give(r, &p.b, 30000, TRIAL_ANY) || !trial_take(r, &p.a, 30000))
			return false;
		trial_close(r, &p.b.fd);
		if (!trial_take_end(r, &p.a))
			return false;
		trial_close(r, &p.a.fd);
	}
	return true;
}

/* The last bytes took one path or the other, or both; the writer has gone before they are read. */
bool trial_fin(struct trial_run *r)
{
	static const enum trial_way ways[] = {TRIAL_REDIRECT, TRIAL_TCP};
	struct trial_pair p;

	for (int i = 0; i < 16; i++) {
		if (!trial_pair(r, &p) || !trial_give(r, &p.a, 1000, ways[i & 1]) ||
		    !trial_give(r, &p.a, 3000, i & 2 ? TRIAL_TCP : TRIAL_ANY))
			return false;
		trial_close(r, &p.a.fd);
		if (i & 4 && !trial_wait(r, p.b.fd, POLLRDHUP))
			return trial_fail(r, "the end of the stream was not reported");
		if (!trial_take(r, &p.b, 4000) || !trial_take_end(r, &p.b))
			return false;
		trial_close(r, &p.b.fd);
	}
	return true;
}

/* With TCP the first write after it fails, or the second when what was unread had skipped TCP. */
static bool writer_learns(struct trial_run *r, struct trial_end *e)
{
	for (int i = 0; i < 3; i++) {
		if (send(e->fd, "x", 1, MSG_NOSIGNAL) < 0)
			return errno == EPIPE || errno == ECONNRESET ||
			       trial_fail(r, "the writer was told: %s", strerror(errno));
		trial_wait(r, e->fd, POLLHUP | POLLERR);
	}
	return trial_fail(r, "three writes to a peer that has gone succeeded");
}

bool trial_unread_close(struct trial_run *r)
{
	static const enum trial_way ways[] = {TRIAL_REDIRECT, TRIAL_TCP};
	struct trial_pair p;

	for (int i = 0; i < 2; i++) {
		if (!trial_pair(r, &p) || !trial_give(r, &p.a, 1000, ways[i]))
			return false;
		trial_close(r, &p.b.fd);
		if (!trial_wait(r, p.a.fd, POLLIN | POLLRDHUP))
			return trial_fail(r, "the end of the peer was not reported");
		if (!writer_learns(r, &p.a))
			return false;
		trial_close(r, &p.a.fd);
	}
	return true;
}
