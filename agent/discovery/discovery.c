/* SPDX-License-Identifier: Apache-2.0 */
/* See discovery.h. */
#include "agent/discovery/discovery.h"
#include "agent/discovery/impl.h"

#include "agent/discovery/identity.h"
#include "lib/cgroup.h"
#include "lib/log.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MS		1000000ULL
#define RETRY_MS	8	     /* how often a silent process is asked again */
#define SILENT_NS	(60 * MS)    /* how long it may be silent if its path says who it is */
#define YOUNG_NS	(10000 * MS) /* how long a change of mind is looked for */
#define SCANS_PER_ROUND 32	     /* namespaces that one reconciliation looks at */

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

static bool is_member(struct discovery *d, struct cgroup *c, int pid)
{
	int pids[CGROUPS_PIDS], n = cgroups_pids(&d->tree, c, pids, CGROUPS_PIDS);

	for (int i = 0; i < n; i++)
		if (pids[i] == pid)
			return true;
	return false;
}

/* The first process that says who it is, else the first one. One that has moved on meanwhile may
 * have become somebody there, as all do that `meshctl run` starts: that is not who is here. */
static bool first_process(struct discovery *d, struct cgroup *c, int *pid, struct identity *env)
{
	int pids[CGROUPS_PIDS], n = cgroups_pids(&d->tree, c, pids, CGROUPS_PIDS);

	for (int i = 0; i < n; i++) {
		memset(env, 0, sizeof(*env));
		*pid = pids[i];
		if (identity_read_environ(pids[i], env) && is_member(d, c, pids[i]))
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
	identity_path_text(c->path, out->path, sizeof(out->path));
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

/* What is known of an instance besides its path when its process says nothing of it (any more:
 * redis, nginx and PostgreSQL write their titles over their environment). */
static void recall(struct discovery *d, const struct cgroup *c, const struct identity *path,
		   struct identity *env)
{
	const struct workload_info *info;
	struct identity said = {0};
	char text[CGROUP_SAID_MAX];
	ssize_t n = cgroups_marked(&d->tree, c, CGROUP_SAID, text, sizeof(text));

	if (n > 0 && identity_from_environ(text, (size_t)n, &said) &&
	    !strcmp(said.service, path->service)) {
		*env = said;
		return;
	}
	info = registry_workload(d->registry, member_of(c)->workload, NULL);
	if (*env->service || !info || strcmp(info->service, path->service))
		return;
	strcpy(env->service, info->service);
	strcpy(env->version, info->version);
	env->protocol = info->protocol;
	env->port = info->port;
	env->weight = info->weight;
}

static void retry(struct timer *t);

void discovery_evaluate(struct discovery *d, struct cgroup *c, bool now)
{
	struct identity path = {0}, env, id;
	struct member *m = member_of(c);
	bool silent;
	int pid;

	if (!c->parent || !m)
		return;
	m->waiting = false;
	if (!first_process(d, c, &pid, &env))
		return;
	silent = !*env.service;
	if (!identity_from_path(c->path, &path))
		memset(&path, 0, sizeof(path));
	else if (strcmp(env.service, path.service))
		recall(d, c, &path, &env);
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
	if (silent && !now && d->loop->now_ns - m->since_ns < SILENT_NS) {
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
		discovery_evaluate(d, c, false);
}

static void retry(struct timer *t)
{
	each_cgroup((struct discovery *)((char *)t - offsetof(struct discovery, retry)), retry_one);
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
	discovery_evaluate(d, c, false);
}

static void cgroup_gone(void *arg, struct cgroup *c)
{
	workload_end(arg, c);
	free(c->user);
	c->user = NULL;
}

uint32_t discovery_workload(struct discovery *d, uint64_t cgroup)
{
	const struct cgroup *c = nearest_workload(cgroups_find(&d->tree, cgroup));

	return c ? member_of(c)->workload : MESH_NONE;
}

const char *discovery_path(struct discovery *d, uint64_t cgroup)
{
	const struct cgroup *c = cgroups_find(&d->tree, cgroup);

	return c ? c->path : NULL;
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
		discovery_evaluate(d, c, true);
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
