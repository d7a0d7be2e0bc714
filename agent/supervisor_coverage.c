/* SPDX-License-Identifier: Apache-2.0 */
/* See supervisor_coverage.h. What is asked of the kernel here; what is said of it is in
 * supervisor_coverage_state.c. */
#include "agent/supervisor.h"

#include "lib/cgroup.h"
#include "lib/clock.h"
#include "lib/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_NS	  2000000000ULL /* between two looks at the counters */
#define ROUND_NS  4000000000ULL /* between the beginnings of two rounds */
#define BUDGET_NS 2000000ULL	/* of a round in one beat; the last portion may take it beyond */

/* --- counters --- */

static void on_stranger(uint64_t cgroup, const struct mesh_stranger *st, void *arg)
{
	struct supervisor *s = arg;

	coverage_stranger(&s->coverage.books, cgroup, st, s->loop.now_ns);
}

static void look(struct supervisor *s)
{
	struct coverage *c = &s->coverage.books;
	uint32_t escaping = 0;
	int err;

	coverage_look(c);
	for (uint32_t i = 0; i < MESH_MAX_WORKLOADS; i++) {
		const struct workload_info *w = registry_workload(s->registry, i, NULL);
		struct coverage_row *row;
		struct mesh_coverage now;

		if (!w) {
			coverage_forget(c, i);
			continue;
		}
		row = coverage_row(c, i, w->cgroup);
		if (!row || kernel_coverage(s->kernel, w->cgroup, &now))
			continue; /* it is not in the maps yet */
		coverage_counted(c, row, w->service, &now, s->loop.now_ns);
		escaping += coverage_escapes_any(row, s->loop.now_ns);
	}
	err = kernel_strangers(s->kernel, on_stranger, s);
	if (err)
		log_debug("who is no workload and calls one cannot be read: %s", strerror(-err));
	if (escaping != s->coverage.escaping && s->session)
		session_changed(s->session);
	s->coverage.escaping = escaping;
}

/* --- connections that exist --- */

static bool dest_of(struct supervisor *s, const uint8_t ip[16], __be16 port, struct mesh_dest *d)
{
	struct mesh_dest_key key = {.port = port};

	memcpy(key.ip, ip, sizeof(key.ip));
	if (addr_is_loopback(ip))
		key.netns = kernel_dump_netns(s->coverage.dump);
	return !kernel_dest_get(s->kernel, &key, d);
}

/* Most are captured: the socket sees the worker's address, which is nobody's destination. */
static void on_connection(const struct kernel_connection *c, void *arg)
{
	struct supervisor *s = arg;
	struct coverage_row *row;
	struct mesh_dest to, from;
	uint32_t caller;

	if (c->ours || !c->cgroup || c->cgroup == s->coverage.own_cgroup ||
	    !dest_of(s, c->remote, c->remote_port, &to))
		return;
	caller = discovery_workload(&s->discovery, c->cgroup);
	if (caller != MESH_NONE && to.workload == caller)
		return;
	/* the callee's end, of a client whose port happens to be a destination too */
	if (dest_of(s, c->local, c->local_port, &from) && from.workload == caller)
		return;
	if (caller == MESH_NONE) {
		coverage_found_stranger(&s->coverage.books, c->cgroup, to.upstream);
		return;
	}
	row = s->coverage.books.row[caller];
	if (row)
		coverage_found(row,
			       c->escape >= MESH_COV_ESCAPES && c->escape < MESH_COV_WAYS
				       ? c->escape - MESH_COV_ESCAPES
				       : COVERAGE_UNSEEN,
			       to.upstream);
}

/* By cookie, for they come and go while the round runs. */
static struct netns *next_netns(const struct supervisor *s)
{
	struct netns *best = NULL;

	for (struct netns *ns = s->discovery.netns.list; ns; ns = ns->next)
		if (ns->cookie > s->coverage.after && (!best || ns->cookie < best->cookie))
			best = ns;
	return best;
}

static void say_error(struct coverage_watch *w, const char *owner, int err)
{
	w->error = err;
	w->failed++;
	if (!w->said_error)
		log_warn("cannot look at the connections of the network namespace %s: %s; "
			 "connections that are older than the agent are not found",
			 owner, strerror(-err));
	w->said_error = true;
}

/* False: the round is over. */
static bool next_dump(struct supervisor *s)
{
	struct coverage_watch *w = &s->coverage;
	struct netns *ns = next_netns(s);
	int err;

	if (!ns)
		return false;
	w->after = ns->cookie;
	err = kernel_dump_begin(s->kernel, ns->fd, &w->dump);
	if (err == -ENOTRECOVERABLE) {
		log_error("cannot return to the own network namespace");
		abort();
	}
	if (err)
		say_error(w, ns->owner, err);
	return true;
}

static void end_round(struct supervisor *s)
{
	struct coverage_watch *w = &s->coverage;

	coverage_round_end(&w->books, s->loop.now_ns);
	w->running = false;
	if (!w->failed)
		w->error = w->said_error = 0;
}

static void go_on(struct supervisor *s)
{
	struct coverage_watch *w = &s->coverage;
	uint64_t until = clock_mono_ns() + BUDGET_NS;

	do {
		int r;

		if (!w->dump && !next_dump(s)) {
			end_round(s);
			return;
		}
		if (!w->dump)
			continue;
		r = kernel_dump_next(w->dump, on_connection, s);
		if (r < 0)
			say_error(w, "of a workload", r);
		if (r <= 0)
			kernel_dump_end(&w->dump);
	} while (clock_mono_ns() < until);
}

/* --- life --- */

void coverage_start(struct supervisor *s)
{
	int err = cgroup_own(&s->coverage.own_cgroup);

	if (err)
		log_warn("cannot tell the own cgroup: %s; the agent's own connections count as "
			 "somebody's",
			 strerror(-err));
	err = kernel_coverage_reset(s->kernel);
	if (err)
		log_warn("what went past the mesh before is counted once more: %s", strerror(-err));
	s->arrays->ctl->agent_cgroup = s->coverage.own_cgroup;
}

void coverage_stop(struct supervisor *s)
{
	kernel_dump_end(&s->coverage.dump);
	coverage_done(&s->coverage.books);
}

void coverage_beat(struct supervisor *s)
{
	struct coverage_watch *w = &s->coverage;

	if (s->stopping_ns)
		return;
	if (s->loop.now_ns - w->looked_ns >= LOOK_NS) {
		w->looked_ns = s->loop.now_ns;
		look(s);
	}
	if (!w->running && s->loop.now_ns - w->began_ns >= ROUND_NS) {
		w->running = true;
		w->began_ns = s->loop.now_ns;
		w->after = 0;
		w->failed = 0;
		coverage_round_begin(&w->books);
	}
	if (w->running)
		go_on(s);
}
