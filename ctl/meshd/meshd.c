/* SPDX-License-Identifier: Apache-2.0 */
/* See meshd.h. Called by main.c; knows no flags and no signals. */
#include "ctl/meshd/meshd.h"
#include "ctl/meshd/config.h"
#include "ctl/meshd/versions.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TICK_MS	      1000
#define LIST_AGAIN_MS 20 /* between two turns of it, requests have theirs */
#define END_MS	      2000
#define START_STEP    1000000000ull /* serials of one start */

static uint64_t now_ms(const struct meshd *m)
{
	return m->loop->now_ns / 1000000;
}

static void on_faults_end(struct timer *t);

/* A timer can wait for no longer than the longest fault lasts. */
static void await_faults(struct meshd *m)
{
	uint64_t next = faults_next(&m->faults);

	if (next == UINT64_MAX)
		timer_cancel(m->loop, &m->faults_end);
	else
		timer_arm(m->loop, &m->faults_end, next > now_ms(m) ? next - now_ms(m) : 0,
			  on_faults_end);
}

static void say_ended(const char *service, const char *kind)
{
	log_info("fault of %s has ended: %s", service, kind);
}

static void on_faults_end(struct timer *t)
{
	struct meshd *m = (struct meshd *)((char *)t - offsetof(struct meshd, faults_end));

	if (faults_sweep(&m->faults, now_ms(m), say_ended))
		meshd_ordered(m);
	else
		await_faults(m);
}

uint64_t meshd_ordered(struct meshd *m)
{
	m->serial++;
	await_faults(m);
	poll_wake(&m->hub);
	return m->serial;
}

void meshd_agent_restarted(struct meshd *m, const char *node)
{
	if (!faults_delete(&m->faults, NULL))
		return;
	log_info("all faults have ended with the agent of %s", node);
	meshd_ordered(m);
}

/* Orders for endpoints that are gone for good go too. An agent that is not heard of takes none of
 * its endpoints away: they may be there, and when it comes back it must not undo an order. */
static void sweep_orders(struct meshd *m)
{
	struct endpoint *all = NULL;
	int n, drains;
	unsigned hands;

	if (!m->drains.number && !m->hands.number)
		return;
	n = registry_endpoints_last(m->registry, &all);
	if (n < 0)
		return;
	drains = drains_sweep(&m->drains, all, n, now_ms(m));
	hands = hands_sweep(&m->hands, all, n, now_ms(m));
	free(all);
	if (drains < 0)
		log_error("cannot forget a drain: %s", store_error(m->store));
	if (drains > 0 || hands)
		meshd_ordered(m);
}

static void on_tick(struct timer *t)
{
	struct meshd *m = (struct meshd *)((char *)t - offsetof(struct meshd, tick));
	int gone = registry_sweep(m->registry, now_ms(m));

	if (gone < 0)
		log_error("cannot remove expired registrations: %s", store_error(m->store));
	meshd_changed(m);
	sweep_orders(m);
	whys_sweep(m->whys, now_ms(m));
	tap_sweep(m->taps, now_ms(m));
	traces_sweep(m->traces, now_ms(m));
	poll_sweep(&m->hub, now_ms(m));
	server_sweep(m->server, now_ms(m));
	timer_arm(m->loop, &m->tick, TICK_MS, on_tick);
}

static void on_list_tick(struct timer *t)
{
	struct meshd *m = (struct meshd *)((char *)t - offsetof(struct meshd, list_tick));
	bool more = traces_list_due(m->traces, now_ms(m));

	timer_arm(m->loop, &m->list_tick, more ? LIST_AGAIN_MS : TICK_MS, on_list_tick);
}

static void on_red_tick(struct timer *t)
{
	struct meshd *m = (struct meshd *)((char *)t - offsetof(struct meshd, red_tick));

	red_tick(m->red, clock_wall_ms());
	timer_arm(m->loop, &m->red_tick, RED_TICK_MS, on_red_tick);
}

void meshd_changed(struct meshd *m)
{
	if (m->last_revision == store_revision(m->store))
		return;
	m->last_revision = store_revision(m->store);
	poll_wake(&m->hub);
}

static int look_at_file(void *arg, const char *service, const char *file, const char *text)
{
	struct versions *v = arg;
	cJSON *value = json_parse(text, strlen(text), NULL), *line;

	v->warnings = cJSON_CreateArray();
	versions_check(v, service, NULL, value);
	cJSON_ArrayForEach (line, v->warnings)
		log_warn("%s: service %s: %s", file, service, line->valuestring);
	cJSON_Delete(v->warnings);
	cJSON_Delete(value);
	return 0;
}

/* A file is not refused for that, but somebody ought to know. Before agents have spoken nobody is
 * there, and there is nothing to say. */
static void look_at_files(struct meshd *m)
{
	struct endpoint *all = NULL;
	struct versions v = {.force = true, .quiet = true};

	v.n = registry_endpoints(m->registry, now_ms(m), &all);
	v.all = all;
	if (v.n > 0 && store_file_each(m->store, look_at_file, &v))
		log_error("cannot look at the applied files: %s", store_error(m->store));
	free(all);
}

void meshd_reload(struct meshd *m)
{
	const struct meshd_options *o = &m->options;
	char why[sizeof(m->reload_error)];
	int n;

	if (!o->config_dir)
		return;
	n = config_files_apply(m->store, o->config_dir, o->config_required, clock_wall_ms(), why,
			       sizeof(why));
	m->last_reload_ok = n >= 0;
	snprintf(m->reload_error, sizeof(m->reload_error), "%s", n >= 0 ? "" : why);
	if (n < 0)
		log_error("configuration files refused, the last good configuration stays: %s",
			  why);
	else if (n > 0)
		log_info("configuration files of %s applied, services changed: %d, revision %llu",
			 o->config_dir, n, (unsigned long long)store_revision(m->store));
	if (n > 0)
		look_at_files(m);
	meshd_changed(m);
}

static void on_taps(void *arg)
{
	poll_wake(&((struct meshd *)arg)->hub);
}

static int meshd_open(struct meshd *m, char *why, size_t cap)
{
	struct meshd_options *o = &m->options;
	struct server_config sc = {.loop = m->loop,
				   .meshd = m,
				   .auth = &o->auth,
				   .routes = api_routes,
				   .tcp_fd = o->tcp_fd,
				   .unix_fd = o->unix_fd};
	struct traces_options traces = {.dir = o->state_dir,
					.size = o->trace_size,
					.age_ms = o->trace_age_ms,
					.strip_queries = o->strip_queries};
	int r;

	m->store = o->store;
	m->last_revision = store_revision(m->store);
	snprintf(why, cap, "cannot read registrations and drains in the state directory");
	m->serial = store_starts(m->store) * START_STEP;
	r = registry_new(m->store, now_ms(m), &m->registry);
	if (!r)
		r = drains_init(&m->drains, m->store);
	if (!r)
		r = whys_new(&m->whys);
	if (!r)
		r = tap_hub_new(m->loop, m->serial, on_taps, m, &m->taps);
	if (!r)
		r = red_new(o->state_dir, clock_wall_ms(), &m->red);
	if (r)
		return r;
	if (o->otlp.endpoint) {
		r = otlp_new(&o->otlp, &m->otlp, why, cap);
		if (r)
			return r;
	}
	traces.otlp = m->otlp;
	r = traces_new(&traces, &m->traces);
	if (r)
		return r;
	meshd_reload(m);
	snprintf(why, cap, "cannot start the HTTP server");
	o->tcp_fd = o->unix_fd = -1;
	return server_new(&sc, &m->server);
}

int meshd_new(struct loop *l, const struct meshd_options *o, struct meshd **out, char *why,
	      size_t cap)
{
	struct meshd *m = calloc(1, sizeof(*m));
	int r = m ? 0 : -ENOMEM;

	snprintf(why, cap, "out of memory");
	if (!r) {
		m->loop = l;
		m->options = *o;
		m->started_ns = clock_mono_ns();
		m->started_wall_s = (double)clock_wall_ms() / 1000;
		m->last_reload_ok = true;
		poll_init(&m->hub);
		works_init(&m->works, l);
		r = meshd_open(m, why, cap);
	}
	if (r) {
		meshd_free(&m);
		return r;
	}
	timer_arm(l, &m->tick, TICK_MS, on_tick);
	timer_arm(l, &m->list_tick, TICK_MS, on_list_tick);
	timer_arm(l, &m->red_tick, RED_TICK_MS, on_red_tick);
	*out = m;
	return 0;
}

/* Requests that are under way get their answers, within END_MS. */
static void finish(struct meshd *m)
{
	uint64_t end = clock_mono_ns() + END_MS * 1000000ULL;

	server_quiesce(m->server);
	m->hub.ending = true;
	works_end(&m->works);
	tap_end(m->taps);
	do {
		poll_wake(&m->hub);
		if (loop_once(m->loop, 20))
			break;
	} while (!server_idle(m->server) && clock_mono_ns() < end);
}

void meshd_free(struct meshd **m)
{
	if (!*m)
		return;
	if ((*m)->server)
		finish(*m);
	timer_cancel((*m)->loop, &(*m)->tick);
	timer_cancel((*m)->loop, &(*m)->list_tick);
	timer_cancel((*m)->loop, &(*m)->red_tick);
	timer_cancel((*m)->loop, &(*m)->faults_end);
	poll_done(&(*m)->hub);
	server_free(&(*m)->server);
	if ((*m)->options.tcp_fd >= 0)
		close((*m)->options.tcp_fd);
	if ((*m)->options.unix_fd >= 0)
		close((*m)->options.unix_fd);
	faults_done(&(*m)->faults);
	drains_done(&(*m)->drains);
	whys_free(&(*m)->whys);
	tap_hub_free(&(*m)->taps);
	otlp_free(&(*m)->otlp);
	traces_free(&(*m)->traces);
	red_free(&(*m)->red);
	splits_done(&(*m)->splits);
	registry_free(&(*m)->registry);
	store_close(&(*m)->store);
	free(*m);
	*m = NULL;
}
