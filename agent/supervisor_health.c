/* SPDX-License-Identifier: Apache-2.0 */
/* See supervisor_health.h. */
#include "agent/supervisor.h"

#include "lib/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define EDGES_NS 1000000000ULL /* between two looks at who uses which edge */

static const char *service_of(struct supervisor *s, const struct endpoint_view *e)
{
	return registry_service_name(s->registry, e->service);
}

/* --- what agent/health/ asks for and tells --- */

static int check_socket(void *arg, uint64_t netns, int family)
{
	struct supervisor *s = arg;
	struct netns *ns = netns ? netns_by_cookie(&s->discovery.netns, netns) : NULL;
	int fd;

	if (netns)
		return ns ? netns_socket(ns, family) : -ENOENT;
	fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return fd < 0 ? -errno : fd;
}

static void check_turned(void *arg, uint32_t id, uint32_t gen, bool healthy, const char *why)
{
	struct supervisor *s = arg;
	struct endpoint_view e;

	if (!registry_endpoint(s->registry, id, &e) || e.gen != gen)
		return;
	registry_endpoint_status(s->registry, id, ENDPOINT_UNHEALTHY,
				 healthy ? 0 : ENDPOINT_UNHEALTHY, s->loop.now_ns);
	if (healthy)
		log_info("%s of %s is healthy again", e.id, service_of(s, &e));
	else
		log_warn("%s of %s is unhealthy: %s", e.id, service_of(s, &e), why);
}

static void breaker_moved(void *arg, uint32_t id, uint32_t from, uint32_t to)
{
	struct supervisor *s = arg;
	struct endpoint_view e;

	if (!registry_endpoint(s->registry, id, &e))
		return;
	if (s->arrays->ep_stats[id].breaker & MESH_BREAKER_HELD)
		log_info("%s of %s is held %s by hand", e.id, service_of(s, &e),
			 breaker_state_name(to));
	else if (to == MESH_OPEN && from == MESH_CLOSED)
		log_warn("%s of %s fails too often: it gets no calls for a while", e.id,
			 service_of(s, &e));
	else if (to == MESH_CLOSED)
		log_info("%s of %s gets calls again", e.id, service_of(s, &e));
}

static void service_breaker_moved(void *arg, uint32_t id, uint32_t from, uint32_t to)
{
	struct supervisor *s = arg;
	struct breaker_view v;
	struct service_view sv;

	if (!registry_service(s->registry, id, &sv) ||
	    !eject_service_view(&s->health.eject, id, s->loop.now_ns, &v))
		return;
	if (v.held)
		log_info("the breaker of %s is held %s by hand", sv.name, breaker_state_name(to));
	else if (to == MESH_OPEN)
		log_warn("%s fails too often: its breaker is open%s, calls are refused for %.1f s",
			 sv.name, from == MESH_HALF_OPEN ? " again" : "", (double)v.for_ms / 1000);
	else if (to == MESH_CLOSED)
		log_info("%s may be called again: its breaker is closed", sv.name);
}

/* --- orders --- */

static int by_endpoint(const void *a, const void *b)
{
	const struct drain_info *x = a, *y = b;
	int c = strcmp(x->service, y->service);

	return c ? c : strcmp(x->endpoint, y->endpoint);
}

static int take_drains(struct health *h, const struct configuration *c)
{
	struct drain_info *v = malloc((c->ndrains + 1) * sizeof(*v));

	if (!v)
		return -ENOMEM;
	if (c->ndrains) {
		memcpy(v, c->drains, c->ndrains * sizeof(*v));
		qsort(v, c->ndrains, sizeof(*v), by_endpoint);
	}
	free(h->drains);
	h->drains = v;
	h->ndrains = c->ndrains;
	return 0;
}

/* Those of a serial that was met before have been carried out, or are over. */
static int take_hands(struct health *h, const struct configuration *c)
{
	struct hand_info *v = malloc((c->nhands + 1) * sizeof(*v));
	bool *done = calloc(c->nhands + 1, sizeof(*done));
	uint64_t before = strcmp(h->epoch, c->epoch) ? 0 : h->serial;

	if (!v || !done) {
		free(v);
		free(done);
		return -ENOMEM;
	}
	if (c->nhands)
		memcpy(v, c->hands, c->nhands * sizeof(*v));
	h->serial = before;
	for (size_t i = 0; i < c->nhands; i++) {
		done[i] = v[i].serial <= before;
		h->serial = v[i].serial > h->serial ? v[i].serial : h->serial;
	}
	strcpy(h->epoch, c->epoch);
	free(h->hands);
	free(h->carried_out);
	h->hands = v;
	h->carried_out = done;
	h->nhands = c->nhands;
	return 0;
}

static void carry_out(struct supervisor *s)
{
	struct health *h = &s->health;

	for (size_t i = 0; i < h->nhands; i++) {
		const struct hand_info *o = &h->hands[i];

		if (h->carried_out[i])
			continue;
		/* an endpoint that is not there yet is given its orders when it is met */
		h->carried_out[i] =
			!eject_hand(&h->eject, o->service, *o->endpoint ? o->endpoint : NULL,
				    o->action, s->loop.now_ns) ||
			*o->endpoint;
	}
}

void health_orders(struct supervisor *s, const struct configuration *c)
{
	if (take_drains(&s->health, c) || take_hands(&s->health, c))
		log_error("not all that was ordered by hand is followed: out of memory");
	carry_out(s);
	health_sync(s);
}

/* --- endpoints --- */

static bool is_drained(const struct supervisor *s, const char *service, const char *endpoint)
{
	struct drain_info key;

	if (!s->health.ndrains)
		return false;
	strcpy(key.service, service);
	strcpy(key.endpoint, endpoint);
	return bsearch(&key, s->health.drains, s->health.ndrains, sizeof(key), by_endpoint) != NULL;
}

/* A new endpoint of a name for which something holds: its process was started again. */
static void meet(struct supervisor *s, uint32_t id, const struct endpoint_view *e,
		 const char *service)
{
	struct health *h = &s->health;

	if (h->met[id] == e->gen)
		return;
	h->met[id] = e->gen;
	for (size_t i = 0; i < h->nhands; i++)
		if (h->hands[i].action != MESH_HAND_RESET && !strcmp(h->hands[i].endpoint, e->id) &&
		    !strcmp(h->hands[i].service, service))
			eject_hand_endpoint(&h->eject, id, h->hands[i].action, s->loop.now_ns);
}

void health_fresh(struct supervisor *s, uint32_t id)
{
	memset(&s->arrays->ep_stats[id], 0, sizeof(s->arrays->ep_stats[id]));
	s->health.met[id] = 0;
}

/* How it is to be checked; HEALTH_NONE: not at all. */
static uint8_t check_type(const struct endpoint_view *e, const struct health_config *c)
{
	if (!e->primary)
		return HEALTH_NONE;
	if (c->type == HEALTH_AUTO)
		return e->external ? HEALTH_TCP : HEALTH_NONE;
	return c->type;
}

static void check(struct supervisor *s, uint32_t id, const struct endpoint_view *e,
		  const struct health_config *c)
{
	struct check_target t = {.endpoint = id,
				 .gen = e->gen,
				 .port = e->port,
				 .netns = e->loopback && e->netns != s->own_netns ? e->netns : 0,
				 .type = check_type(e, c),
				 .sick = e->status & ENDPOINT_UNHEALTHY,
				 .config = c};

	memcpy(t.ip, e->ip, sizeof(t.ip));
	if (t.type == HEALTH_NONE)
		registry_endpoint_status(s->registry, id, ENDPOINT_UNHEALTHY, 0, s->loop.now_ns);
	else if (checks_target(s->health.checks, &t))
		log_error("%s is not checked: out of memory", e->id);
}

void health_sync(struct supervisor *s)
{
	struct endpoint_view e;
	struct service_view v;

	carry_out(s);
	checks_begin(s->health.checks);
	for (uint32_t i = 0; i < MESH_MAX_ENDPOINTS; i++) {
		if (!registry_endpoint(s->registry, i, &e) ||
		    !registry_service(s->registry, e.service, &v))
			continue;
		meet(s, i, &e, v.name);
		registry_endpoint_status(s->registry, i, ENDPOINT_DRAINING,
					 is_drained(s, v.name, e.id) ? ENDPOINT_DRAINING : 0,
					 s->loop.now_ns);
		check(s, i, &e, &v.config->health);
	}
	checks_end(s->health.checks);
}

/* --- life --- */

void health_beat(struct supervisor *s)
{
	struct health *h = &s->health;

	if (eject_beat(&h->eject, s->loop.now_ns) && s->session)
		session_changed(s->session);
	if (s->loop.now_ns - h->edges_ns < EDGES_NS)
		return;
	h->edges_ns = s->loop.now_ns;
	h->nedges = edges_sweep(&h->edges, s->loop.now_ns);
}

int health_start(struct supervisor *s)
{
	const struct checks_ops ops = {.arg = s, .socket = check_socket, .turned = check_turned};
	struct health *h = &s->health;

	eject_init(&h->eject, s->registry, s->arrays->ep_stats, s->arrays->svc_stats);
	h->eject.moved = breaker_moved;
	h->eject.service_moved = service_breaker_moved;
	h->eject.arg = s;
	h->edges.shared = s->arrays->edges;
	return checks_new(&s->loop, &ops, &h->checks);
}

void health_stop(struct supervisor *s)
{
	struct health *h = &s->health;

	checks_free(&h->checks);
	free(h->drains);
	free(h->hands);
	free(h->carried_out);
	h->drains = NULL;
	h->hands = NULL;
	h->carried_out = NULL;
}
