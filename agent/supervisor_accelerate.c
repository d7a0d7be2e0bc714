/* SPDX-License-Identifier: Apache-2.0 */
/* See supervisor_accelerate.h. */
#include "agent/supervisor.h"

#include "agent/kernel/qualify_sandbox.h"
#include "agent/kernel/splice.h"
#include "agent/supervisor_splice.h"
#include "lib/log.h"

#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define container(p, type, field) ((type *)((char *)(p)-offsetof(type, field)))

/* Of trials that ended badly: a host that is busy while the agent starts is no proof. */
static const struct {
	unsigned budget_ms, pause_ms;
} attempts[] = {{300, 1000}, {1000, 5000}, {3000, 0}};
#define ATTEMPTS (sizeof(attempts) / sizeof(attempts[0]))

/* Who is known when he is seen at work, and left to plain TCP. */
#define NOTICED (TRIAL_FOR_BLOCKERS | TRIAL_FOR_SPLICERS)

static const char *const words[] = {
	[ACCELERATE_AUTO] = "auto",
	[ACCELERATE_ON] = "on",
	[ACCELERATE_OFF] = "off",
};

int acceleration_parse(const char *name)
{
	for (int i = 0; i < 3; i++)
		if (!strcmp(words[i], name))
			return i;
	return -1;
}

static void settle(struct supervisor *s, enum mesh_splice_mode mode)
{
	struct acceleration *a = &s->acceleration;

	a->mode = splice_start(s, mode);
	a->settled = true;
	if (a->mode != mode)
		snprintf(a->why, sizeof(a->why), "the kernel refused to switch it on, see the log");
	if (mode == MESH_SPLICE_OFF && s->cfg->accelerate != ACCELERATE_OFF)
		log_warn("connections use plain TCP: %s", a->why);
	session_changed(s->session);
}

static void try(struct supervisor *s);

static void try_again(struct timer *t)
{
	try(container(t, struct supervisor, acceleration.again));
}

static void decide(struct supervisor *s)
{
	struct acceleration *a = &s->acceleration;
	enum mesh_splice_mode mode = qualify_choose(&a->result, NOTICED, a->why);

	if (mode != MESH_SPLICE_OFF || a->attempts == ATTEMPTS) {
		settle(s, mode);
		return;
	}
	log_debug("trials: %s", a->why);
	timer_arm(&s->loop, &a->again, attempts[a->attempts - 1].pause_ms, try_again);
}

static void on_result(struct watch *w, uint32_t events)
{
	struct supervisor *s = container(w, struct supervisor, acceleration.watch);
	struct acceleration *a = &s->acceleration;

	if (!sandbox_take(a->sandbox, &a->result))
		return;
	loop_del(&s->loop, &a->watch);
	sandbox_free(&a->sandbox);
	decide(s);
}

static void try(struct supervisor *s)
{
	struct acceleration *a = &s->acceleration;
	int err;

	if (s->stopping_ns)
		return;
	err = sandbox_start(kernel_cgroup(s->kernel), attempts[a->attempts++].budget_ms,
			    &a->sandbox);
	if (!err)
		err = loop_add(&s->loop, &a->watch, sandbox_fd(a->sandbox), EPOLLIN, on_result);
	if (!err)
		return;
	sandbox_free(&a->sandbox);
	memset(&a->result, 0, sizeof(a->result));
	snprintf(a->result.error, sizeof(a->result.error), "the trials cannot be started: %s",
		 strerror(-err));
	decide(s);
}

void acceleration_start(struct supervisor *s)
{
	struct acceleration *a = &s->acceleration;

	a->watch.fd = -1;
	if (s->cfg->accelerate == ACCELERATE_OFF) {
		snprintf(a->why, sizeof(a->why), "--accelerate off");
		settle(s, MESH_SPLICE_OFF);
	} else if (s->cfg->accelerate_mode >= 0) {
		snprintf(a->why, sizeof(a->why), "--accelerate-mode, without a trial");
		settle(s, (enum mesh_splice_mode)s->cfg->accelerate_mode);
	} else {
		try(s);
	}
}

void acceleration_stop(struct supervisor *s)
{
	struct acceleration *a = &s->acceleration;

	timer_cancel(&s->loop, &a->again);
	if (a->sandbox)
		loop_del(&s->loop, &a->watch);
	sandbox_free(&a->sandbox);
}

uint32_t acceleration_flags(const struct supervisor *s, uint8_t configured)
{
	uint8_t a = configured == ACCELERATE_AUTO ? (uint8_t)s->cfg->accelerate : configured;

	return a == ACCELERATE_OFF  ? MESH_SVC_ACCEL_OFF
	       : a == ACCELERATE_ON ? MESH_SVC_ACCEL_ON
				    : 0;
}

/* --- programs that use splice(2) --- */

static void set_plain(struct acceleration *a, uint32_t workload, bool plain)
{
	uint64_t bit = 1ull << workload % 64;

	a->plain[workload / 64] = (a->plain[workload / 64] & ~bit) | (plain ? bit : 0);
}

static bool is_plain(const struct acceleration *a, uint32_t workload)
{
	return a->plain[workload / 64] >> workload % 64 & 1;
}

void acceleration_workload(struct supervisor *s, uint64_t cgroup, uint32_t workload)
{
	struct acceleration *a = &s->acceleration;
	bool plain;
	int err;

	if (workload >= MESH_MAX_WORKLOADS || a->owner[workload] == cgroup)
		return;
	err = kernel_splice_workload(s->kernel, cgroup, workload, &plain);
	if (err) {
		log_error("cannot tell the kernel how workload %u is to be accelerated: %s",
			  workload, strerror(-err));
		return; /* asked for again with the next change of it */
	}
	a->owner[workload] = cgroup;
	set_plain(a, workload, plain);
}

/* The bytes that it cannot see are not lost in silence: its program and the peer get an error. */
static void end_connection(struct supervisor *s, const struct mesh_event *e, const char *name)
{
	struct netns *ns = netns_by_cookie(&s->discovery.netns, e->netns);
	struct sockdiag_socket sock = {
		.cookie = e->cookie, .local_port = e->local_port, .remote_port = e->port};
	struct addr peer = {.port = ntohs(e->port)};
	char text[ADDR_TEXT_MAX];
	int err = -ENXIO; /* a namespace that discovery has not come to yet */

	memcpy(sock.local, e->local_ip, sizeof(sock.local));
	memcpy(sock.remote, e->ip, sizeof(sock.remote));
	memcpy(peer.ip, e->ip, sizeof(peer.ip));
	if (ns || e->netns == s->own_netns)
		err = sockdiag_destroy(ns ? ns->fd : -1, &sock);
	if (err == -ENOENT)
		return; /* it has gone by itself */
	if (err) {
		s->acceleration.not_ended++;
		log_error("a connection of %s with %s may hang: it uses splice(2), which does not "
			  "see "
			  "bytes that skipped TCP, and it cannot be ended: %s",
			  name, addr_format(&peer, text), strerror(-err));
		return;
	}
	s->acceleration.ended++;
	log_warn(
		"a connection of %s with %s was reset: it uses splice(2), which does not see bytes "
		"that skipped TCP",
		name, addr_format(&peer, text));
}

void acceleration_spliced(struct supervisor *s, const struct mesh_event *e)
{
	const struct workload_info *w = registry_workload(s->registry, e->workload, NULL);
	struct acceleration *a = &s->acceleration;
	const char *name = w ? w->path : "a workload that has gone";

	if (e->workload < MESH_MAX_WORKLOADS && a->owner[e->workload] == e->cgroup &&
	    !is_plain(a, e->workload)) {
		set_plain(a, e->workload, true);
		a->noticed++;
		log_warn("%s uses splice(2) on its sockets: its connections stay with plain TCP",
			 name);
		session_changed(s->session);
	}
	if (e->error)
		end_connection(s, e, name);
}

/* --- what is told --- */

static void text(struct buf *b, const char *key, const char *value)
{
	buf_char(b, ',');
	buf_member(b, key, value);
}

static void trial_json(const struct acceleration *a, size_t i, struct buf *b)
{
	uint8_t redirect = a->result.outcome[MESH_SPLICE_REDIRECT][i],
		verdict = a->result.outcome[MESH_SPLICE_VERDICT][i];
	const char *why = a->result.why[MESH_SPLICE_VERDICT][i];

	buf_printf(b, "%s{\"name\":\"%s\",\"redirect\":\"%s\",\"verdict\":\"%s\"", i ? "," : "",
		   trials[i].name, qualify_outcome_name(redirect), qualify_outcome_name(verdict));
	if (!*why)
		why = a->result.why[MESH_SPLICE_REDIRECT][i];
	if (*why)
		text(b, "why", why);
	buf_char(b, '}');
}

void acceleration_json(const struct supervisor *s, struct buf *b)
{
	const struct acceleration *a = &s->acceleration;

	buf_printf(b, "\"accelerate\":\"%s\",", words[s->cfg->accelerate]);
	buf_printf(b, "\"acceleration\":{\"mode\":\"%s\",\"settled\":%s,\"ms\":%u",
		   qualify_mode_name(a->mode), a->settled ? "true" : "false", a->result.ms);
	text(b, "why", a->why);
	buf_str(b, ",\"trials\":[");
	for (size_t i = 0; a->attempts && i < trials_count; i++)
		trial_json(a, i, b);
	buf_str(b, "],\"plain\":[");
	for (uint32_t i = 0, n = 0; i < MESH_MAX_WORKLOADS; i++) {
		const struct workload_info *w =
			is_plain(a, i) ? registry_workload(s->registry, i, NULL) : NULL;

		if (!w)
			continue;
		buf_str(b, n++ ? ",{" : "{");
		buf_member(b, "service", w->service);
		text(b, "instance", w->instance);
		text(b, "why", "splice");
		buf_char(b, '}');
	}
	buf_str(b, "]}");
}

static void trial_metrics(const struct acceleration *a, enum mesh_splice_mode mode, struct buf *out)
{
	for (size_t i = 0; i < trials_count; i++) {
		uint8_t o = a->result.outcome[mode][i];

		if (o != TRIAL_NOT_RUN)
			buf_printf(out,
				   "mesh_acceleration_trial{trial=\"%s\",mode=\"%s\",outcome=\"%"
				   "s\"} 1\n",
				   trials[i].name, qualify_mode_name(mode),
				   qualify_outcome_name(o));
	}
}

void acceleration_metrics(struct supervisor *s, struct buf *out)
{
	const struct acceleration *a = &s->acceleration;

	exposition_head(out, "mesh_acceleration_mode", "gauge",
			"1 for the way in which connections of this host skip TCP.");
	for (unsigned m = 0; m < QUALIFY_MODES; m++)
		buf_printf(out, "mesh_acceleration_mode{mode=\"%s\"} %d\n", qualify_mode_name(m),
			   m == a->mode);
	exposition_head(out, "mesh_acceleration_splicers_total", "counter",
			"Workloads that were seen to use splice(2) and stay with plain TCP.");
	buf_printf(out, "mesh_acceleration_splicers_total %llu\n", (unsigned long long)a->noticed);
	exposition_head(out, "mesh_acceleration_ended_total", "counter",
			"Connections that would have hung with splice(2), by what became of them.");
	buf_printf(out,
		   "mesh_acceleration_ended_total{result=\"reset\"} %llu\n"
		   "mesh_acceleration_ended_total{result=\"failed\"} %llu\n",
		   (unsigned long long)a->ended, (unsigned long long)a->not_ended);
	exposition_head(out, "mesh_acceleration_trial", "gauge",
			"What the trials of this kernel said.");
	if (!a->attempts)
		return;
	trial_metrics(a, MESH_SPLICE_REDIRECT, out);
	trial_metrics(a, MESH_SPLICE_VERDICT, out);
}
