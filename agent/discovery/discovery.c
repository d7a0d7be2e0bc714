/* SPDX-License-Identifier: Apache-2.0 */
/* See discovery.h. */
#include "agent/discovery/discovery.h"

#include "agent/discovery/identity.h"
#include "lib/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MS		1000000ULL
#define RETRY_MS	8	  /* how often a silent process is asked again */
#define SILENT_NS	(60 * MS) /* how long it may stay silent where the path names it anyway */
#define YOUNG_NS	(10000 * MS) /* how long a change of mind is looked for */
#define ASKED_NS	(100 * MS)   /* how long it counts that a cgroup is nobody's */
#define SCANS_PER_ROUND 32	     /* namespaces that one reconciliation looks at */

struct member {		   /* what we know of a populated cgroup; cgroup->user */
	uint32_t workload; /* MESH_NONE: none */
	struct netns *ns;
	uint64_t since_ns; /* populated */
	uint64_t asked_ns; /* for an event: it was nobody then */
	int pid;
	bool waiting, marked;
	bool refused; /* it could not be taken in: asked again until it can */
};

#define container(p, type, field) ((type *)((char *)(p)-offsetof(type, field)))

static struct member *member_of(const struct cgroup *c)
{
	return c->user;
}

static bool is_workload(const struct cgroup *c)
{
	return c->user && member_of(c)->workload != MESH_NONE;
}

static const struct cgroup *nearest_workload(const struct cgroup *c)
{
	while (c && !is_workload(c))
		c = c->parent;
	return c;
}

/* --- namespaces --- */

static int read_addresses(struct discovery *d, struct netns *ns)
{
	uint64_t cookie = ns ? ns->cookie : d->netns.own_cookie;
	bool own = cookie == d->netns.own_cookie;
	uint8_t ip[NETNS_OWN_ADDRESSES][16];
	int n = netns_addresses(&d->netns, ns, ip, own ? NETNS_OWN_ADDRESSES : NETNS_ADDRESSES);

	return n < 0 ? n : registry_addresses(d->registry, cookie, ip, (uint32_t)n);
}

static void addresses_changed(void *arg, struct netns *ns)
{
	int err = read_addresses(arg, ns);

	if (err)
		log_warn("cannot read the addresses of the network namespace %s: %s",
			 ns ? ns->owner : "of this agent", strerror(-err));
}

static void listening(void *arg, struct netns *ns, bool up)
{
	struct discovery *d = arg;

	d->ops.listening(d->ops.arg, ns, up);
}

static int inherited_listener(void *arg, uint64_t netns, int family)
{
	struct discovery *d = arg;

	return d->ops.inherited ? d->ops.inherited(d->ops.arg, netns, family) : -1;
}

static int ns_take(struct discovery *d, const char *service, int pid, struct netns **out)
{
	int err = netns_get(&d->netns, pid, out);

	if (err)
		return err;
	if ((*out)->refs == 1) {
		snprintf((*out)->owner, sizeof((*out)->owner), "of %.28s", service);
		addresses_changed(d, *out);
		netns_listen(*out);
	}
	(*out)->scan = d->any_scan = true;
	return 0;
}

static void ns_give(struct discovery *d, struct netns *ns)
{
	if (ns->refs == 1) {
		if (ns->cookie != d->netns.own_cookie)
			registry_addresses(d->registry, ns->cookie, NULL, 0);
		if (d->next_scan == ns)
			d->next_scan = ns->next;
	}
	netns_put(ns);
}

/* --- workloads --- */

static void workload_end(struct discovery *d, struct cgroup *c)
{
	struct member *m = member_of(c);

	if (!is_workload(c))
		return;
	if (!d->ending)
		log_info("workload %s is gone", c->path);
	registry_workload_remove(d->registry, m->workload, d->loop->now_ns);
	m->workload = MESH_NONE;
	ns_give(d, m->ns);
	m->ns = NULL;
	if (m->marked)
		cgroups_mark(&d->tree, c, DISCOVERY_MARK, NULL);
	else
		d->unmarked--;
	m->marked = false;
}

/* The first process that says who it is, else the first one. */
static bool first_process(struct discovery *d, struct cgroup *c, int *pid, struct identity *env)
{
	int pids[CGROUPS_PIDS], n = cgroups_pids(&d->tree, c, pids, CGROUPS_PIDS);

	for (int i = 0; i < n; i++) {
		memset(env, 0, sizeof(*env));
		*pid = pids[i];
		if (identity_read_environ(pids[i], env))
			return true;
	}
	memset(env, 0, sizeof(*env));
	if (n)
		*pid = pids[0];
	return n > 0;
}

/* A process deeper down that merely inherited its ancestor's environment is part of it. */
static bool inherited(struct discovery *d, const struct cgroup *c, const struct identity *path,
		      const struct identity *env)
{
	const struct cgroup *up = nearest_workload(c->parent);
	const struct workload_info *info;

	if (!up || *path->service)
		return false;
	info = registry_workload(d->registry, member_of(up)->workload, NULL);
	return info && !strcmp(info->service, env->service) &&
	       (!*env->instance || !strcmp(info->instance, env->instance));
}

static void info_from(const struct identity *id, const struct cgroup *c, const struct netns *ns,
		      int pid, struct workload_info *out)
{
	memset(out, 0, sizeof(*out));
	out->cgroup = c->id;
	out->netns = ns->cookie;
	out->protocol = id->protocol;
	out->port = id->port;
	out->weight = id->weight;
	out->pid = pid;
	strcpy(out->service, id->service);
	strcpy(out->instance, id->instance);
	strcpy(out->version, id->version);
	snprintf(out->path, sizeof(out->path), "%s", c->path);
}

static void refuse(struct member *m, const struct cgroup *c, int err)
{
	if (!m->refused && err == -EPERM)
		log_warn("workload %s is left alone: its network namespace belongs to another user "
			 "namespace",
			 c->path);
	else if (!m->refused)
		log_error("workload %s cannot be taken in: %s; tried again every second", c->path,
			  strerror(-err));
	m->refused = true;
}

static void workload_begin(struct discovery *d, struct cgroup *c, const struct identity *id,
			   int pid)
{
	struct member *m = member_of(c);
	struct workload_info info;
	struct netns *ns;
	int err = ns_take(d, id->service, pid, &ns);

	if (err == -ENOENT || err == -ESRCH)
		return; /* the process is gone; the cgroup will tell */
	if (!err) {
		info_from(id, c, ns, pid, &info);
		err = registry_workload_add(d->registry, &info, d->loop->now_ns, &m->workload);
		if (err)
			ns_give(d, ns);
	}
	if (err) {
		m->workload = MESH_NONE;
		refuse(m, c, err);
		return;
	}
	m->refused = false;
	m->ns = ns;
	m->pid = pid;
	m->marked = false;
	d->unmarked++;
	log_info("workload %s: service %s, instance %s, version %s", c->path, id->service,
		 id->instance, id->version);
}

/* Is any of its processes in the namespace that it was found in? */
static bool lives_in(struct discovery *d, const struct cgroup *c, const struct netns *ns)
{
	int pids[CGROUPS_PIDS], n = cgroups_pids(&d->tree, c, pids, CGROUPS_PIDS);

	while (n && !netns_is(ns, pids[n - 1]))
		n--;
	return n > 0;
}

/* Another first process, another environment (after exec), or another namespace (after unshare). */
static void workload_change(struct discovery *d, struct cgroup *c, const struct identity *id,
			    int pid)
{
	struct member *m = member_of(c);
	struct workload_info info;
	struct netns *ns = m->ns;
	int err = netns_is(ns, pid) ? 0 : ns_take(d, id->service, pid, &ns);

	if (err == -EPERM && !lives_in(d, c, m->ns)) {
		workload_end(d, c);
		refuse(m, c, err);
	}
	if (err)
		return;
	info_from(id, c, ns, pid, &info);
	if (registry_workload_update(d->registry, m->workload, &info, d->loop->now_ns)) {
		if (ns != m->ns)
			ns_give(d, ns);
		return;
	}
	if (ns != m->ns) {
		ns_give(d, m->ns);
		m->ns = ns;
	}
	m->pid = pid;
}

/* It may have been found before its ancestor was: its sockets are found again as the ancestor's. */
static void join_ancestor(struct discovery *d, struct cgroup *c)
{
	const struct cgroup *up = nearest_workload(c->parent);

	if (!is_workload(c) || !up)
		return;
	workload_end(d, c);
	member_of(up)->ns->scan = d->any_scan = true;
}

/* An instance that nobody named is called after the process that was first when it was found. */
static void keep_instance(struct discovery *d, const struct member *m, struct identity *id)
{
	const struct workload_info *info = registry_workload(d->registry, m->workload, NULL);

	if (info && !strcmp(info->service, id->service))
		strcpy(id->instance, info->instance);
}

static void retry(struct timer *t);

/* Decides what a cgroup is now. `now`: without waiting for a process to say more than the path
 * does. */
static void evaluate(struct discovery *d, struct cgroup *c, bool now)
{
	struct identity path = {0}, env, id;
	struct member *m = member_of(c);
	int pid;

	if (!c->parent || !m)
		return;
	m->waiting = false;
	if (!first_process(d, c, &pid, &env))
		return;
	if (!identity_from_path(c->path, &path))
		memset(&path, 0, sizeof(path));
	if (!identity_merge(&path, &env, pid, &id)) {
		/* a program may overwrite its environment, so a name once given stays; but not for
		 * others who live on in the cgroup, and elsewhere */
		if (is_workload(c) && !lives_in(d, c, m->ns))
			workload_end(d, c);
		return;
	}
	if (inherited(d, c, &path, &env)) {
		join_ancestor(d, c);
		return;
	}
	if (is_workload(c)) {
		if (!*path.instance && !*env.instance)
			keep_instance(d, m, &id);
		workload_change(d, c, &id, pid);
		return;
	}
	if (!*env.service && !now && d->loop->now_ns - m->since_ns < SILENT_NS) {
		m->waiting = true;
		timer_arm(d->loop, &d->retry, RETRY_MS, retry);
		return;
	}
	workload_begin(d, c, &id, pid);
}

static void each_cgroup(struct discovery *d,
			void (*fn)(struct discovery *d, struct cgroup *c, struct member *m))
{
	for (uint32_t i = 0; i < CGROUPS_BUCKETS; i++)
		for (struct cgroup *c = d->tree.by_id[i]; c; c = c->next_id)
			fn(d, c, member_of(c));
}

static void retry_one(struct discovery *d, struct cgroup *c, struct member *m)
{
	if (m && m->waiting)
		evaluate(d, c, false);
}

static void retry(struct timer *t)
{
	each_cgroup(container(t, struct discovery, retry), retry_one);
}

static void cgroup_changed(void *arg, struct cgroup *c)
{
	struct discovery *d = arg;

	if (!c->populated) {
		workload_end(d, c);
		free(c->user);
		c->user = NULL;
		return;
	}
	if (!c->user) {
		struct member *m = calloc(1, sizeof(*m));

		if (!m)
			return;
		m->workload = MESH_NONE;
		m->since_ns = d->loop->now_ns;
		c->user = m;
	}
	evaluate(d, c, false);
}

static void cgroup_gone(void *arg, struct cgroup *c)
{
	workload_end(arg, c);
	free(c->user);
	c->user = NULL;
}

/* --- sockets --- */

static const struct member *owner_of(struct discovery *d, uint64_t cgroup)
{
	const struct cgroup *c = nearest_workload(cgroups_find(&d->tree, cgroup));

	return c ? member_of(c) : NULL;
}

uint32_t discovery_workload(struct discovery *d, uint64_t cgroup)
{
	const struct member *m = owner_of(d, cgroup);

	return m ? m->workload : MESH_NONE;
}

const char *discovery_path(struct discovery *d, uint64_t cgroup)
{
	const struct cgroup *c = cgroups_find(&d->tree, cgroup);

	return c ? c->path : NULL;
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
		evaluate(d, c, true);
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

bool discovery_is_complete(const struct discovery *d)
{
	return !d->any_scan && !d->retry.prev;
}

/* --- marks, reconciliation --- */

static void mark_one(struct discovery *d, struct cgroup *c, struct member *m)
{
	char pid[16];
	int err;

	if (!m || m->workload == MESH_NONE || m->marked)
		return;
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	err = cgroups_mark(&d->tree, c, DISCOVERY_MARK, pid);
	if (err && err != -ENOENT)
		log_warn("cannot mark the cgroup %s: %s", c->path, strerror(-err));
	m->marked = true;
	d->unmarked--;
}

void discovery_mark(struct discovery *d)
{
	if (d->unmarked)
		each_cgroup(d, mark_one);
}

/* What an agent that was killed left behind would tell a program that it may start. */
static void unmark_one(struct discovery *d, struct cgroup *c, struct member *m)
{
	cgroups_mark(&d->tree, c, DISCOVERY_MARK, NULL);
}

static void reconcile_one(struct discovery *d, struct cgroup *c, struct member *m)
{
	bool young = m && d->loop->now_ns - m->since_ns < YOUNG_NS;

	if (!m)
		return;
	if (m->workload == MESH_NONE ? young || m->refused : young || !netns_is(m->ns, m->pid))
		evaluate(d, c, true);
}

void discovery_reconcile(struct discovery *d)
{
	cgroups_catch_up(&d->tree);
	cgroups_refresh(&d->tree);
	each_cgroup(d, reconcile_one);
	for (uint32_t i = 0; i < SCANS_PER_ROUND && i < d->netns.count; i++) {
		struct netns *ns = d->next_scan ? d->next_scan : d->netns.list;

		d->next_scan = ns->next;
		ns->scan = d->any_scan = true;
		netns_listen(ns);
	}
}

int discovery_init(struct discovery *d, struct loop *loop, struct registry *registry,
		   const struct discovery_ops *ops, const char *root, uint16_t listener_port)
{
	int err;

	memset(d, 0, sizeof(*d));
	d->loop = loop;
	d->registry = registry;
	d->ops = *ops;
	d->netns = (struct netns_table){.loop = loop,
					.port = listener_port,
					.arg = d,
					.addresses = addresses_changed,
					.inherited = inherited_listener,
					.listening = listening};
	d->tree.arg = d;
	d->tree.changed = cgroup_changed;
	d->tree.gone = cgroup_gone;
	d->tree.inotify = d->tree.root_fd = -1;
	err = netns_init(&d->netns);
	if (!err) /* first, as they tell what is not another's */
		err = read_addresses(d, NULL);
	if (!err)
		err = cgroups_init(&d->tree, loop, root);
	if (err)
		discovery_done(d);
	else
		each_cgroup(d, unmark_one);
	return err;
}

void discovery_done(struct discovery *d)
{
	if (!d->loop)
		return;
	d->ending = true;
	timer_cancel(d->loop, &d->retry);
	cgroups_done(&d->tree);
	netns_done(&d->netns);
	d->loop = NULL;
}
