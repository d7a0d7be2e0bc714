/* SPDX-License-Identifier: Apache-2.0 */
/* See eject.h. */
#include "agent/health/eject.h"

#include "agent/health/outlier.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint64_t load(const __u64 *word)
{
	return __atomic_load_n(word, __ATOMIC_RELAXED);
}

/* True when nobody was quicker. */
static bool swap(__u64 *word, __u64 old, __u64 next)
{
	return __atomic_compare_exchange_n(word, &old, next, false, __ATOMIC_ACQ_REL,
					   __ATOMIC_RELAXED);
}

/* Writing only what is not zero: pages nobody has used stay unused. */
static void clear(__u64 *word)
{
	if (load(word))
		__atomic_store_n(word, 0, __ATOMIC_RELAXED);
}

static void clear_window(__u64 window[MESH_WINDOW])
{
	for (int i = 0; i < MESH_WINDOW; i++)
		clear(&window[i]);
}

static void copy_window(const __u64 from[MESH_WINDOW], __u64 to[MESH_WINDOW])
{
	for (int i = 0; i < MESH_WINDOW; i++)
		to[i] = load(&from[i]);
}

void eject_init(struct eject *e, struct registry *r, struct mesh_ep_stat *endpoints,
		struct mesh_svc_stat *services)
{
	memset(e, 0, sizeof(*e));
	e->registry = r;
	e->endpoints = endpoints;
	e->services = services;
}

/* --- whose words are these? --- */

static void endpoint_forget(struct eject *e, uint32_t id)
{
	clear_window(e->endpoints[id].window);
	clear(&e->endpoints[id].consecutive);
}

/* An id may come to mean another service, whose calls begin with a clean sheet. Turns of a window
 * depend on its length, so that another policy does too. */
static bool service_meet(struct eject *e, uint32_t id, const struct service_view *v)
{
	struct eject_service *k = &e->known[id];
	struct mesh_svc_stat *st = &e->services[id];
	bool same = !strcmp(k->name, v->name), first = !*k->name;

	if (same && !memcmp(&k->policy, &v->config->breaker, sizeof(k->policy)))
		return false;
	strcpy(k->name, v->name);
	k->policy = v->config->breaker;
	if (first)
		return false;
	clear_window(st->window);
	if (!same) {
		clear(&st->breaker);
		clear(&st->budget);
		for (size_t i = 0; i < sizeof(st->went) / sizeof(*st->went); i++)
			clear(&st->went[i]);
	}
	return true;
}

/* Workers move a service's own breaker: has one gone to another state? */
static bool service_moved(struct eject *e, uint32_t id)
{
	uint32_t was = e->known[id].state, is = mesh_breaker_state(load(&e->services[id].breaker));

	e->known[id].state = is;
	if (is != was && e->service_moved)
		e->service_moved(e->arg, id, was, is);
	return is != was;
}

static bool services_look(struct eject *e)
{
	bool fresh[MESH_MAX_SERVICES] = {false}, any = false, moved = false;
	struct endpoint_view ep;
	struct service_view v;

	for (uint32_t i = 0; i < MESH_MAX_SERVICES; i++)
		if (registry_service(e->registry, i, &v)) {
			any |= fresh[i] = service_meet(e, i, &v);
			moved |= service_moved(e, i);
		}
	for (uint32_t i = 0; any && i < MESH_MAX_ENDPOINTS; i++)
		if (registry_endpoint(e->registry, i, &ep) && fresh[ep.service])
			endpoint_forget(e, i);
	return any || moved;
}

/* --- a beat --- */

struct place {			/* of an endpoint in the order of groups */
	uint32_t service, port; /* port 0: the primary one */
	uint32_t id;
};

static int by_group(const void *a, const void *b)
{
	const struct place *x = a, *y = b;

	if (x->service != y->service)
		return x->service < y->service ? -1 : 1;
	if (x->port != y->port)
		return x->port < y->port ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

/* All endpoints by group. Registered ones that were discovered anyway are in none. */
static uint32_t places(const struct eject *e, struct place *out)
{
	struct endpoint_view v;
	uint32_t n = 0;

	for (uint32_t i = 0; i < MESH_MAX_ENDPOINTS; i++)
		if (registry_endpoint(e->registry, i, &v) && (v.primary || !v.external))
			out[n++] = (struct place){v.service, v.primary ? 0 : v.port, i};
	if (n)
		qsort(out, n, sizeof(*out), by_group);
	return n;
}

/* What there is to know about an endpoint, copied. */
static void take(struct eject *e, uint32_t id, const struct mesh_breaker_policy *p, uint64_t now_ms,
		 struct outlier *o)
{
	struct mesh_ep_stat *st = &e->endpoints[id];
	struct eject_endpoint *seen = &e->seen[id];
	__u64 window[MESH_WINDOW];
	struct endpoint_view v;

	if (registry_endpoint(e->registry, id, &v) && v.gen != seen->gen)
		*seen = (struct eject_endpoint){.gen = v.gen};
	*o = (struct outlier){.id = id, .word = load(&st->breaker)};
	o->spared = mesh_breaker_state(o->word) == MESH_CLOSED &&
		    mesh_breaker_state(seen->word) != MESH_CLOSED;
	if (o->spared)
		endpoint_forget(e, id);
	copy_window(st->window, window);
	o->tally = mesh_breaker_tally(o->word, p, window, now_ms);
	o->consecutive = (uint32_t)load(&st->consecutive);
}

/* True when it is different from the last look. */
static bool settle(struct eject *e, const struct outlier *o, const struct mesh_breaker_policy *p,
		   uint64_t now_ns)
{
	struct eject_endpoint *seen = &e->seen[o->id];
	uint64_t word = o->word, was = seen->word;
	uint32_t status;

	if (o->next != o->word && swap(&e->endpoints[o->id].breaker, o->word, o->next))
		word = o->next;
	seen->opened += mesh_breaker_state(word) == MESH_OPEN && word != was;
	seen->word = word;
	status = outlier_status(word, p, now_ns / 1000000);
	/* what it cost before would keep the probe from whoever looks for the cheapest */
	if (status & ~seen->status & ENDPOINT_PROBING)
		clear(&e->endpoints[o->id].ewma);
	seen->status = status;
	registry_endpoint_status(e->registry, o->id, OUTLIER_STATUS, status, now_ns);
	if (mesh_breaker_state(word) == mesh_breaker_state(was))
		return false;
	if (e->moved)
		e->moved(e->arg, o->id, mesh_breaker_state(was), mesh_breaker_state(word));
	return true;
}

static bool group_look(struct eject *e, const struct place *at, uint32_t n, struct outlier *v,
		       uint64_t now_ns)
{
	const struct mesh_breaker_policy *p = &e->known[at->service].policy;
	bool changed = false;

	for (uint32_t i = 0; i < n; i++)
		take(e, at[i].id, p, now_ns / 1000000, &v[i]);
	outlier_judge(v, n, p, now_ns / 1000000);
	for (uint32_t i = 0; i < n; i++)
		changed |= settle(e, &v[i], p, now_ns);
	return changed;
}

bool eject_beat(struct eject *e, uint64_t now_ns)
{
	static struct place at[MESH_MAX_ENDPOINTS];
	static struct outlier v[MESH_MAX_ENDPOINTS];
	bool changed = services_look(e);
	uint32_t n = places(e, at), first = 0;

	for (uint32_t i = 1; i <= n; i++)
		if (i == n || at[i].service != at[first].service || at[i].port != at[first].port) {
			changed |= group_look(e, &at[first], i - first, v, now_ns);
			first = i;
		}
	return changed;
}

/* --- by hand --- */

static void hand(__u64 *word, uint32_t what, uint64_t now_ms)
{
	__atomic_store_n(word, mesh_breaker_hand(what, now_ms), __ATOMIC_RELEASE);
}

void eject_hand_endpoint(struct eject *e, uint32_t id, uint32_t what, uint64_t now_ns)
{
	endpoint_forget(e, id);
	hand(&e->endpoints[id].breaker, what, now_ns / 1000000);
}

static int endpoints_hand(struct eject *e, uint32_t service, const char *name, uint32_t what,
			  uint64_t now_ns)
{
	struct endpoint_view v;
	int err = -ENOENT;

	for (uint32_t i = 0; i < MESH_MAX_ENDPOINTS; i++) {
		if (!registry_endpoint(e->registry, i, &v) || v.service != service ||
		    strcmp(v.id, name))
			continue;
		eject_hand_endpoint(e, i, what, now_ns);
		err = 0;
	}
	return err;
}

static void service_hand(struct eject *e, uint32_t service, uint32_t what, uint64_t now_ns)
{
	struct mesh_svc_stat *st = &e->services[service];
	uint32_t before = mesh_breaker_state(load(&st->breaker)),
		 after = what == MESH_HAND_OPEN ? MESH_OPEN : MESH_CLOSED;

	clear_window(st->window);
	hand(&st->breaker, what, now_ns / 1000000);
	if (before != after)
		__atomic_fetch_add(&st->went[after], 1, __ATOMIC_RELAXED);
}

int eject_hand(struct eject *e, const char *service, const char *endpoint, uint32_t what,
	       uint64_t now_ns)
{
	struct service_view v;
	int err;

	services_look(e); /* an id that is new to us is cleared now, not after the command */
	for (uint32_t i = 0; i < MESH_MAX_SERVICES; i++) {
		if (!registry_service(e->registry, i, &v) || strcmp(v.name, service))
			continue;
		err = 0;
		if (endpoint)
			err = endpoints_hand(e, i, endpoint, what, now_ns);
		else
			service_hand(e, i, what, now_ns);
		if (!err)
			eject_beat(e, now_ns);
		return err;
	}
	return -ENOENT;
}

/* --- showing --- */

void breaker_view_word(struct breaker_view *v, uint64_t word, const struct mesh_breaker_policy *p,
		       uint64_t now_ms)
{
	v->word = word;
	v->state = mesh_breaker_state(word);
	v->level = mesh_breaker_level(word);
	v->held = word & MESH_BREAKER_HELD;
	v->since_ms = word ? mesh_breaker_age(word, now_ms) : 0;
	v->for_ms = outlier_wait_ms(word, p, now_ms);
}

static void view(const __u64 *word, const __u64 window[MESH_WINDOW],
		 const struct mesh_breaker_policy *p, uint64_t now_ms, struct breaker_view *v)
{
	__u64 copy[MESH_WINDOW];

	memset(v, 0, sizeof(*v));
	copy_window(window, copy);
	breaker_view_word(v, load(word), p, now_ms);
	v->tally = mesh_breaker_tally(v->word, p, copy, now_ms);
}

bool eject_service_view(const struct eject *e, uint32_t id, uint64_t now_ns, struct breaker_view *v)
{
	const struct mesh_svc_stat *st = &e->services[id];
	struct service_view s;

	if (!registry_service(e->registry, id, &s))
		return false;
	view(&st->breaker, st->window, &s.config->breaker, now_ns / 1000000, v);
	v->opened = load(&st->went[MESH_OPEN]);
	return true;
}

bool eject_endpoint_view(const struct eject *e, uint32_t id, uint64_t now_ns,
			 struct breaker_view *v)
{
	const struct mesh_ep_stat *st = &e->endpoints[id];
	struct endpoint_view ep;
	struct service_view s;

	if (!registry_endpoint(e->registry, id, &ep) ||
	    !registry_service(e->registry, ep.service, &s))
		return false;
	view(&st->breaker, st->window, &s.config->breaker, now_ns / 1000000, v);
	v->consecutive = load(&st->consecutive);
	v->opened = e->seen[id].gen == ep.gen ? e->seen[id].opened : 0;
	return true;
}

const char *breaker_state_name(uint32_t state)
{
	return state == MESH_OPEN ? "open" : state == MESH_HALF_OPEN ? "half-open" : "closed";
}
