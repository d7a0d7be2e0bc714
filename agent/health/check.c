/* SPDX-License-Identifier: Apache-2.0 */
/* See check.h. A target is idle (its timer waits for the next check), waiting (due, in the queue)
 * or running (its timer is the check's time limit). */
#include "agent/health/check.h"

#include "lib/addr.h"

#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEAD_MAX		  256 /* of an answer that is looked at; a status line is shorter */
#define INTERVAL_MIN		  50  /* ms, whatever is configured */

#define container(p, type, field) ((type *)((char *)(p)-offsetof(type, field)))

enum check_state { IDLE, WAITING, RUNNING };

struct check {
	struct check *next_due; /* in the queue */
	struct checks *all;
	struct check_target target;
	struct health_config config; /* the target's points here */
	enum check_state state;
	struct timer timer;
	struct watch watch;
	bool wanted, sick, sent;
	uint32_t good, bad; /* in a row */
	size_t have;
	char head[HEAD_MAX + 1];
};

struct checks {
	struct loop *loop;
	struct checks_ops ops;
	struct check *of[MESH_MAX_ENDPOINTS]; /* by endpoint */
	struct check *due, **due_end;
	struct checks_counts counts;
	uint64_t random;
};

static void due(struct timer *t);
static void start_waiting(struct checks *all);

int checks_new(struct loop *l, const struct checks_ops *ops, struct checks **out)
{
	struct checks *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->loop = l;
	c->ops = *ops;
	c->due_end = &c->due;
	if (getrandom(&c->random, sizeof(c->random), GRND_NONBLOCK) != sizeof(c->random))
		c->random = l->now_ns;
	c->random |= 1;
	*out = c;
	return 0;
}

/* 0 to n, both included. */
static uint32_t draw(struct checks *all, uint32_t n)
{
	all->random ^= all->random << 13;
	all->random ^= all->random >> 7;
	all->random ^= all->random << 17;
	return (uint32_t)((all->random >> 32) % ((uint64_t)n + 1));
}

/* --- the queue of those that are due --- */

static void queue(struct check *c)
{
	struct checks *all = c->all;

	c->state = WAITING;
	c->next_due = NULL;
	*all->due_end = c;
	all->due_end = &c->next_due;
	all->counts.waiting++;
}

static void unqueue(struct check *c)
{
	struct check **p = &c->all->due;

	while (*p != c)
		p = &(*p)->next_due;
	*p = c->next_due;
	if (!*p)
		c->all->due_end = p;
	c->all->counts.waiting--;
}

/* --- one check --- */

static void hang_up(struct check *c)
{
	int fd = c->watch.fd;

	if (c->state != RUNNING)
		return;
	c->all->counts.running--;
	c->state = IDLE;
	if (fd < 0)
		return;
	loop_del(c->all->loop, &c->watch);
	close(fd);
}

static void turn(struct check *c, bool sick, const char *why)
{
	c->sick = sick;
	c->all->ops.turned(c->all->ops.arg, c->target.endpoint, c->target.gen, !sick, why);
}

/* why: NULL when it went well. */
static void result(struct check *c, const char *why)
{
	if (why) {
		c->all->counts.bad++;
		c->good = 0;
		c->bad++;
		if (!c->sick && c->bad >= c->config.unhealthy_after)
			turn(c, true, why);
	} else {
		c->all->counts.good++;
		c->bad = 0;
		c->good++;
		if (c->sick && c->good >= c->config.healthy_after)
			turn(c, false, "");
	}
}

static uint32_t interval(const struct check *c)
{
	return c->config.interval_ms > INTERVAL_MIN ? c->config.interval_ms : INTERVAL_MIN;
}

/* Four fifths to six fifths of the interval, so that checks of many agents do not march in step. */
static void rest(struct check *c)
{
	uint32_t part = interval(c) / 5;

	timer_arm(c->all->loop, &c->timer, interval(c) - part + draw(c->all, 2 * part), due);
}

static void conclude(struct check *c, const char *why)
{
	hang_up(c);
	rest(c);
	result(c, why);
}

static void finish(struct check *c, const char *why)
{
	struct checks *all = c->all;

	conclude(c, why);
	start_waiting(all);
}

static const char *reason(int error)
{
	const char *text = strerrordesc_np(error);

	return text ? text : "unknown error";
}

static void time_is_up(struct timer *t)
{
	finish(container(t, struct check, timer), "no answer in time");
}

static void send_request(struct check *c)
{
	char text[HEALTH_PATH_MAX + 256], where[ADDR_TEXT_MAX];
	struct addr a = {.port = c->target.port};
	int n;

	memcpy(a.ip, c->target.ip, sizeof(a.ip));
	n = snprintf(text, sizeof(text),
		     "GET %s HTTP/1.0\r\nHost: %s\r\nUser-Agent: mesh-health-check\r\n"
		     "Accept: */*\r\nConnection: close\r\n\r\n",
		     c->config.path, addr_format(&a, where));
	c->sent = true;
	/* a new connection has room for it */
	if (send(c->watch.fd, text, (size_t)n, MSG_NOSIGNAL) != n)
		finish(c, "the request could not be sent");
	else if (loop_mod(c->all->loop, &c->watch, EPOLLIN))
		finish(c, "out of memory");
}

/* True when that is enough to judge; *why then says what is wrong, NULL: nothing. */
static bool judge(const struct check *c, bool end, const char **why)
{
	const char *h = c->head;
	int status;

	if (!end && c->have < HEAD_MAX && !memchr(h, '\n', c->have))
		return false;
	*why = "no HTTP answer";
	if (c->have < 12 || strncmp(h, "HTTP/", 5))
		return true;
	h += strcspn(h, " \r\n");
	if (sscanf(h, " %3d", &status) != 1)
		return true;
	*why = status >= 200 && status < 400 ? NULL : "status is not 2xx or 3xx";
	return true;
}

static void read_answer(struct check *c)
{
	ssize_t n = recv(c->watch.fd, c->head + c->have, HEAD_MAX - c->have, 0);
	const char *why;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		finish(c, reason(errno));
		return;
	}
	c->have += (size_t)n;
	c->head[c->have] = 0;
	if (judge(c, !n, &why))
		finish(c, why);
}

static void on_socket(struct watch *w, uint32_t events)
{
	struct check *c = container(w, struct check, watch);
	int error = 0;
	socklen_t len = sizeof(error);

	if (c->sent) {
		read_answer(c);
		return;
	}
	if (getsockopt(w->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error)
		finish(c, reason(error));
	else if (c->target.type == HEALTH_TCP)
		finish(c, NULL);
	else
		send_request(c);
}

static int dial(struct check *c, int fd)
{
	struct sockaddr_storage ss;
	struct addr a = {.port = c->target.port};
	socklen_t len;

	memcpy(a.ip, c->target.ip, sizeof(a.ip));
	len = addr_to_sockaddr(&a, &ss);
	if (connect(fd, (struct sockaddr *)&ss, len) < 0 && errno != EINPROGRESS)
		return -errno;
	return 0;
}

/* What is missing on our side (descriptors, the namespace) says nothing about the endpoint. */
static void start(struct check *c)
{
	int family = addr_is_v4(c->target.ip) ? AF_INET : AF_INET6, err;
	int fd = c->all->ops.socket(c->all->ops.arg, c->target.netns, family);

	c->sent = false;
	c->have = 0;
	if (fd < 0) {
		c->state = IDLE;
		rest(c);
		return;
	}
	c->state = RUNNING;
	c->all->counts.running++;
	err = dial(c, fd);
	if (err) {
		close(fd);
		conclude(c, reason(-err));
		return;
	}
	timer_arm(c->all->loop, &c->timer, c->config.timeout_ms, time_is_up);
	err = loop_add(c->all->loop, &c->watch, fd, EPOLLOUT, on_socket);
	if (err) {
		close(fd);
		hang_up(c);
		rest(c);
	}
}

static void start_waiting(struct checks *all)
{
	while (all->due && all->counts.running < CHECKS_AT_ONCE) {
		struct check *c = all->due;

		unqueue(c);
		start(c);
	}
}

static void due(struct timer *t)
{
	struct check *c = container(t, struct check, timer);

	queue(c);
	start_waiting(c->all);
}

/* --- targets --- */

static void drop(struct check *c)
{
	timer_cancel(c->all->loop, &c->timer);
	if (c->state == WAITING)
		unqueue(c);
	hang_up(c);
	c->all->counts.targets--;
	c->all->of[c->target.endpoint] = NULL;
	free(c);
}

void checks_free(struct checks **cp)
{
	struct checks *all = *cp;

	for (uint32_t i = 0; all && i < MESH_MAX_ENDPOINTS; i++)
		if (all->of[i])
			drop(all->of[i]);
	free(all);
	*cp = NULL;
}

void checks_begin(struct checks *all)
{
	for (uint32_t i = 0; i < MESH_MAX_ENDPOINTS; i++)
		if (all->of[i])
			all->of[i]->wanted = false;
}

static bool same(const struct check *c, const struct check_target *t)
{
	return c->target.port == t->port && c->target.netns == t->netns &&
	       c->target.type == t->type && !memcmp(c->target.ip, t->ip, 16) &&
	       !memcmp(&c->config, t->config, sizeof(c->config));
}

/* Another way to check: what is under way is of no use; what was found out before stays. */
static void redirect(struct check *c, const struct check_target *t)
{
	if (c->state == WAITING)
		unqueue(c);
	hang_up(c);
	c->state = IDLE;
	memcpy(&c->config, t->config, sizeof(c->config));
	c->target = *t;
	c->target.config = &c->config;
	c->good = c->bad = 0;
	timer_arm(c->all->loop, &c->timer, draw(c->all, interval(c)), due);
}

int checks_target(struct checks *all, const struct check_target *t)
{
	struct check *c = all->of[t->endpoint];

	if (c && c->target.gen != t->gen) {
		drop(c);
		c = NULL;
	}
	if (!c) {
		c = calloc(1, sizeof(*c));
		if (!c)
			return -ENOMEM;
		c->all = all;
		c->sick = t->sick;
		c->watch.fd = -1;
		all->of[t->endpoint] = c;
		all->counts.targets++;
		redirect(c, t);
	} else if (!same(c, t)) {
		redirect(c, t);
	}
	c->wanted = true;
	return 0;
}

void checks_end(struct checks *all)
{
	for (uint32_t i = 0; i < MESH_MAX_ENDPOINTS; i++)
		if (all->of[i] && !all->of[i]->wanted)
			drop(all->of[i]);
	start_waiting(all);
}

void checks_counts(const struct checks *all, struct checks_counts *out)
{
	*out = all->counts;
}
