/* SPDX-License-Identifier: Apache-2.0 */
/* What listens, and whose it is: the kernel's events as they come, and the sockets that exist where
 * those may have been missed. See discovery.h. */
#include "agent/discovery/discovery.h"
#include "agent/discovery/impl.h"

#include "lib/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ASKED_NS 100000000ULL /* how long it counts that a cgroup is nobody's */

static const struct member *owner_of(struct discovery *d, uint64_t cgroup)
{
	const struct cgroup *c = nearest_workload(cgroups_find(&d->tree, cgroup));

	return c ? member_of(c) : NULL;
}

static void take_listener(struct discovery *d, const struct member *m, uint64_t cookie,
			  const struct mesh_listener *l)
{
	struct listen_info info = {.cookie = cookie, .port = ntohs(l->port), .v6only = l->v6only};
	int err;

	memcpy(info.ip, l->ip, 16);
	err = registry_listen(d->registry, m->workload, &info);
	if (err && !d->said_full)
		log_error("not every listening socket can be taken in: %s; see "
			  "mesh_table_full_total in /metrics",
			  strerror(-err));
	d->said_full |= err != 0;
}

/* Anybody may listen in a loop, and to ask costs us more than that costs him. If he becomes a
 * workload in the meantime, then what listens is looked for. */
static bool asked_lately(struct discovery *d, const struct member *m)
{
	return m && m->asked_ns && d->loop->now_ns - m->asked_ns < ASKED_NS;
}

/* The event may be ahead of inotify, or of what the process says about itself. */
static const struct member *owner_of_event(struct discovery *d, uint64_t cgroup)
{
	const struct member *m = owner_of(d, cgroup);
	struct cgroup *c = cgroups_find(&d->tree, cgroup);

	if (m || (c && asked_lately(d, member_of(c))))
		return m;
	cgroups_catch_up(&d->tree);
	for (c = cgroups_find(&d->tree, cgroup); c && !is_workload(c); c = c->parent) {
		if (asked_lately(d, member_of(c)))
			continue;
		discovery_evaluate(d, c, true);
		if (c->user)
			member_of(c)->asked_ns = d->loop->now_ns;
	}
	return owner_of(d, cgroup);
}

void discovery_event(struct discovery *d, const struct mesh_event *e)
{
	struct mesh_listener l = {
		.cgroup = e->cgroup, .netns = e->netns, .port = e->port, .v6only = e->v6only};
	const struct member *m;

	if (e->kind == MESH_EV_UNLISTEN) {
		registry_unlisten(d->registry, e->cookie);
		return;
	}
	m = owner_of_event(d, e->cgroup);
	if (!m)
		return;
	memcpy(l.ip, e->ip, 16);
	if (m->ns->cookie == e->netns)
		take_listener(d, m, e->cookie, &l);
}

struct scan {
	struct discovery *d;
	uint64_t netns;
	uint64_t *seen;
	size_t n, cap;
	bool failed;
};

static void scan_found(uint64_t cookie, const struct mesh_listener *l, void *arg)
{
	struct scan *s = arg;
	const struct member *m = owner_of(s->d, l->cgroup);

	if (!m || m->ns->cookie != s->netns)
		return;
	if (s->n == s->cap) {
		size_t cap = s->cap ? s->cap * 2 : 64;
		uint64_t *v = realloc(s->seen, cap * sizeof(*v));

		if (!v) {
			s->failed = true;
			return;
		}
		s->seen = v;
		s->cap = cap;
	}
	s->seen[s->n++] = cookie;
	if (registry_listens(s->d->registry, cookie))
		return;
	s->d->ops.listener_found(s->d->ops.arg, cookie, l);
	take_listener(s->d, m, cookie, l);
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void scan(struct discovery *d, struct netns *ns)
{
	struct scan s = {.d = d, .netns = ns->cookie};
	int err;

	ns->scan = false;
	err = d->ops.scan(ns->fd, scan_found, &s);
	if (err == -EINTR) /* what was found is true, what was not may be there */
		ns->scan = d->any_scan = true;
	else if (err == -ENOTRECOVERABLE) {
		log_error("cannot return to the own network namespace");
		abort();
	} else if (err)
		log_warn("cannot list the listening sockets of the network namespace %s: %s",
			 ns->owner, strerror(-err));
	else if (!s.failed) {
		if (s.n)
			qsort(s.seen, s.n, sizeof(*s.seen), by_value);
		registry_sweep(d->registry, ns->cookie, s.seen, s.n);
	}
	free(s.seen);
}

void discovery_settle(struct discovery *d)
{
	if (!d->any_scan)
		return;
	d->any_scan = false;
	for (struct netns *ns = d->netns.list; ns; ns = ns->next)
		if (ns->scan)
			scan(d, ns);
}
