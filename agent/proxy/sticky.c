/* SPDX-License-Identifier: Apache-2.0 */
/* See sticky.h. */
#include "agent/proxy/sticky.h"
#include "agent/proxy/proxy.h"
#include "lib/hash.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define ISSUED_LEN 16 /* hex digits */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

bool sticky_cookie(const char *field, size_t len, const char *name, const char **value,
		   size_t *value_len)
{
	const char *end = field + len, *next;
	size_t n = strlen(name);

	for (; field < end; field = next) {
		const char *stop = memchr(field, ';', (size_t)(end - field));

		next = stop ? stop + 1 : end;
		stop = stop ? stop : end;
		while (field < stop && is_blank(*field))
			field++;
		while (stop > field && is_blank(stop[-1]))
			stop--;
		if ((size_t)(stop - field) <= n + 1 || memcmp(field, name, n) || field[n] != '=')
			continue;
		*value = field + n + 1;
		*value_len = (size_t)(stop - *value);
		return true;
	}
	return false;
}

static bool by_cookie(const struct http1_head *h, const char *head, const char *name, uint64_t *key)
{
	const char *value;
	size_t len;

	for (unsigned i = h->index[HTTP1_H_COOKIE]; i && i <= h->nheaders; i++) {
		const struct http1_header *f = &h->headers[i - 1];

		if (f->id == HTTP1_H_COOKIE &&
		    sticky_cookie(head + f->value.at, f->value.len, name, &value, &len)) {
			*key = hash64(value, len);
			return true;
		}
	}
	return false;
}

static bool by_header(const struct http1_head *h, const char *head, const char *name, uint64_t *key)
{
	size_t n = strlen(name);

	for (unsigned i = 0; i < h->nheaders; i++) {
		const struct http1_header *f = &h->headers[i];

		if (f->name.len == n && f->value.len && !strncasecmp(head + f->name.at, name, n)) {
			*key = hash64(head + f->value.at, f->value.len);
			return true;
		}
	}
	return false;
}

/* The session begins now, by the key that its cookie will have. */
static void issue(struct exchange *ex, const char *name)
{
	struct proxy *p = ex->proxy;
	struct sticky *s = &ex->sticky;
	int n;

	if (strlen(name) >= sizeof(s->cookie))
		return;
	strcpy(s->cookie, name);
	n = snprintf(s->issued, sizeof(s->issued), "%08x%08x", proxy_random(p), proxy_random(p));
	s->is_set = n == ISSUED_LEN;
	s->key = hash64(s->issued, ISSUED_LEN);
}

void sticky_read(struct exchange *ex, const struct snapshot *snap, const struct snap_sticky *s,
		 const char *head)
{
	struct sticky *st = &ex->sticky;

	if (s->header)
		st->is_set =
			by_header(&ex->request, head, snapshot_string(snap, s->header), &st->key);
	else
		st->is_set =
			by_cookie(&ex->request, head, snapshot_string(snap, s->cookie), &st->key);
	if (!st->is_set && s->cookie)
		issue(ex, snapshot_string(snap, s->cookie));
}

size_t sticky_set_cookie(const struct exchange *ex, char *out, size_t cap)
{
	const struct sticky *s = &ex->sticky;
	int n;

	if (!s->issued[0])
		return 0;
	n = snprintf(out, cap, "set-cookie: %s=%s; Path=/; HttpOnly\r\n", s->cookie, s->issued);
	return n < 0 || (size_t)n >= cap ? 0 : (size_t)n;
}

/* --- choosing ------------------------------------------------------------------------------------
 */

struct candidates {
	uint32_t n;
	uint64_t total; /* requests in flight */
	uint32_t hash[MESH_SLOTS], inflight[MESH_SLOTS];
	uint16_t ep[MESH_SLOTS];
	uint64_t seen[MESH_MAX_ENDPOINTS / 64];
};

static bool first_time(struct candidates *c, uint32_t ep)
{
	uint64_t *word = &c->seen[ep / 64], bit = 1ULL << ep % 64;
	bool first = !(*word & bit);

	*word |= bit;
	return first;
}

static bool is_well(struct proxy *p, const struct balance_want *want, uint32_t ep,
		    const struct mesh_endpoint *e)
{
	return !(e->flags & MESH_EP_UNHEALTHY) &&
	       breaker_may_try(p, e->service, ep, want->pass); /* true for its probes */
}

static void consider(struct proxy *p, const struct balance_want *want, struct candidates *c,
		     uint32_t ep, bool panic)
{
	struct mesh_endpoint e;

	if (balance_avoids(want, ep) || !shared_endpoint(&p->shared, ep, &e) ||
	    !balance_reaches(&e, want) || breaker_is_barred(p, ep) ||
	    (!panic && !is_well(p, want, ep, &e)))
		return;
	c->ep[c->n] = (uint16_t)ep;
	c->hash[c->n] = e.hash;
	c->inflight[c->n] = shared_inflight(&p->shared, ep);
	c->total += c->inflight[c->n++];
}

uint32_t sticky_pick(struct proxy *p, const struct balance_want *want, const struct mesh_slots *t,
		     uint64_t key)
{
	struct mesh_sticky best = {.ep = MESH_NONE};
	uint32_t left = __atomic_load_n(&t->nendpoints, __ATOMIC_RELAXED), last = MESH_NONE, ep;
	bool panic = balance_panics(t);
	struct candidates c;

	c.n = 0;
	c.total = 0;
	memset(c.seen, 0, sizeof(c.seen));
	for (uint32_t i = 0; i < MESH_SLOTS && left; i++, last = ep) {
		ep = __atomic_load_n(&t->ep[i], __ATOMIC_RELAXED) & (MESH_MAX_ENDPOINTS - 1);
		if (ep == last || !first_time(&c, ep)) /* most policies group them */
			continue;
		left--;
		consider(p, want, &c, ep, panic);
	}
	for (uint32_t i = 0; i < c.n; i++)
		best = mesh_sticky_consider(best, c.ep[i], mesh_sticky_score(key, c.hash[i]),
					    mesh_sticky_full(c.inflight[i], c.total, c.n));
	return best.ep;
}
