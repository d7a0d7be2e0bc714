/* SPDX-License-Identifier: Apache-2.0 */
/* See try.h. */
#include "agent/proxy/try.h"
#include "agent/proxy/balance.h"
#include "agent/proxy/downstream.h"
#include "agent/proxy/bulkhead.h"
#include "agent/proxy/proxy.h"
#include "agent/proxy/queue.h"
#include "agent/proxy/split.h"
#include "agent/proxy/upstream.h"
#include "lib/addr.h"

#include <errno.h>
#include <mesh/ewma.h>
#include <string.h>

/* Programs trust who comes by way of loopback. A caller that connected to loopback reaches an
 * endpoint of its own namespace that way, if it listens there; nobody else does. */
static void keep_to_loopback(const struct exchange *ex, struct mesh_endpoint *ep)
{
	static const uint8_t loopback4[16] = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1};
	static const uint8_t loopback6[16] = {[15] = 1};

	if (!ex->down->via_loopback || !(ep->flags & MESH_EP_WILDCARD) ||
	    ep->netns != ex->down->netns)
		return;
	memcpy(ep->ip, addr_is_v4(ep->ip) ? loopback4 : loopback6, sizeof(ep->ip));
	ep->flags |= MESH_EP_LOOPBACK;
}

static void run(struct upconn *u)
{
	downstream_run(((struct exchange *)u->of)->down);
}

static void later(struct upconn *u)
{
	downstream_again(((struct exchange *)u->of)->down);
}

static const struct upconn_user exchange_user = {.run = run, .later = later};

/* It has tried before, or waited: endpoints come and go, what was copied when it began may be old.
 */
static bool is_old(const struct exchange *ex)
{
	return ex->endpoint != MESH_NONE || ex->waiting_ns;
}

static uint32_t subset_of(struct exchange *ex)
{
	struct proxy *p = ex->proxy;

	if (ex->subset == MESH_NONE || (is_old(ex) && !split_holds(&ex->target, ex->subset)))
		ex->subset = split_choose(&p->shared, &ex->target, &ex->routed.split,
					  ex->routed.fallback, proxy_random(p));
	return ex->subset;
}

static void drop_pass(struct exchange *ex, uint32_t endpoint, struct breaker_pass *pass)
{
	breaker_try_result(ex->proxy, ex->target.service, endpoint, pass, BREAKER_NOTHING);
}

static struct balance_want want_of(struct exchange *ex, struct breaker_pass *pass)
{
	return (struct balance_want){.up = &ex->target,
				     .id = ex->upstream,
				     .subset = subset_of(ex),
				     .avoid = ex->avoid,
				     .navoid = ex->navoid,
				     .session = ex->sticky.is_set ? &ex->sticky.key : NULL,
				     .netns = ex->down->netns,
				     .pass = pass,
				     .looks = !pass};
}

/* Somebody of the chosen version, or, when there is nobody but those to avoid, of any. pass NULL:
 * only to see who it would be. */
static uint32_t pick(struct exchange *ex, struct mesh_endpoint *ep, struct breaker_pass *pass)
{
	struct breaker_pass second = {0};
	struct balance_want want = want_of(ex, pass);
	uint32_t index = balance_pick(ex->proxy, &want, ep), other;
	struct mesh_endpoint that;

	if (index != MESH_NONE && !balance_avoids(&want, index))
		return index;
	want.subset = split_fall_back(&ex->target, want.subset, ex->routed.fallback);
	want.pass = pass ? &second : NULL;
	other = balance_pick(ex->proxy, &want, &that);
	if (other == MESH_NONE)
		return index;
	if (index != MESH_NONE && balance_avoids(&want, other)) {
		drop_pass(ex, other, &second);
		return index;
	}
	if (pass && index != MESH_NONE)
		drop_pass(ex, index, pass);
	if (pass)
		*pass = second;
	*ep = that;
	return other;
}

uint32_t try_likely(struct exchange *ex)
{
	struct mesh_endpoint ep;

	return pick(ex, &ep, NULL);
}

/* As many connections as there may be: one that is idle is used, whoever it leads to, or else
 * closed to make room, unless it is another session's. */
static bool use_idle(struct exchange *ex, uint32_t *index, struct mesh_endpoint *ep)
{
	struct breaker_pass pass = {0};
	struct balance_want want = want_of(ex, &pass);
	struct mesh_endpoint that;
	uint32_t other = MESH_NONE;

	want.idle = true;
	if (!want.session && !ex->fresh && ex->proxy->nidle_of[ex->target.service])
		other = balance_pick(ex->proxy, &want, &that);
	if (other != MESH_NONE)
		keep_to_loopback(ex, &that);
	if (other == MESH_NONE || !upconn_is_idle(ex->proxy, other, &that)) {
		drop_pass(ex, other, &pass);
		return upconn_spare(ex->proxy, ex->target.service);
	}
	drop_pass(ex, *index, &ex->try_pass);
	ex->try_pass = pass;
	*index = other;
	*ep = that;
	return true;
}

/* Is there a connection, or may there be? May change to whom. */
static bool has_room(struct exchange *ex, uint32_t *index, struct mesh_endpoint *ep)
{
	struct proxy *p = ex->proxy;

	if (!bulkhead_sit(p, ex->target.service, &ex->seat))
		return false;
	if (queue_waits(p, ex->target.service) && !ex->woken && !ex->fresh)
		return false;
	if (!ex->fresh && upconn_is_idle(p, *index, ep))
		return true;
	return bulkhead_has_room(p, ex->target.service) || use_idle(ex, index, ep);
}

static enum try_start begin(struct exchange *ex)
{
	struct proxy *p = ex->proxy;
	struct mesh_endpoint ep;
	uint32_t index;

	if (is_old(ex) && !shared_upstream(&p->shared, ex->upstream, &ex->target))
		return TRY_NOBODY;
	ex->try_pass = (struct breaker_pass){0};
	index = pick(ex, &ep, &ex->try_pass);
	if (index == MESH_NONE)
		return TRY_NOBODY;
	keep_to_loopback(ex, &ep);
	if (!has_room(ex, &index, &ep)) {
		drop_pass(ex, index, &ex->try_pass);
		return TRY_NO_ROOM;
	}
	ex->up = upconn_get(p, index, &ep, ex->fresh, &exchange_user, ex);
	if (!ex->up) {
		drop_pass(ex, index, &ex->try_pass);
		return TRY_NOBODY;
	}
	ex->endpoint = index;
	ex->gen = ep.gen;
	ex->reused = ex->up->used > 0;
	ex->tries++;
	ex->try_ns = ex->sent_ns = p->loop.now_ns;
	balance_begin(p, index);
	return TRY_STARTED;
}

enum try_start try_connect(struct exchange *ex)
{
	bool waited = ex->seat.held;
	enum try_start r = begin(ex);

	if (r == TRY_NOBODY || (r == TRY_NO_ROOM && !waited))
		bulkhead_rise(ex->proxy, &ex->seat);
	return r;
}

/* The time of a caller that takes its time is not the endpoint's. */
static bool is_timed(const struct exchange *ex)
{
	return ex->request_sent || !ex->request_waited;
}

static void book_latency(const struct exchange *ex, uint64_t ns, bool failed)
{
	struct proxy *p = ex->proxy;

	if (balance_same(p, ex->endpoint, ex->gen))
		shared_latency(&p->shared, ex->endpoint, ns, p->loop.now_ns, failed);
}

/* Since when the endpoint is waited for; before that there may have been no socket to call it with.
 */
static uint64_t called_ns(const struct exchange *ex)
{
	return ex->up->begun_ns > ex->sent_ns ? ex->up->begun_ns : ex->sent_ns;
}

void try_answered(struct exchange *ex)
{
	bool failed = ex->status >= 500;

	if (is_timed(ex))
		ex->upstream_ns = ex->head_ns - called_ns(ex);
	if (is_timed(ex) || failed)
		book_latency(ex, ex->upstream_ns, failed);
}

/* Once the head was there, a body that breaks off late is no slower than one that breaks off soon.
 */
static void book_failure(const struct exchange *ex)
{
	uint64_t ns = ex->upstream_ns;

	if (!ex->head_ns && is_timed(ex))
		ns = ex->proxy->loop.now_ns - called_ns(ex);
	book_latency(ex, ns, true);
}

static uint32_t idle_limit(const struct exchange *ex)
{
	return ex->keep_alive_ms && ex->keep_alive_ms < UPCONN_IDLE_MS ? ex->keep_alive_ms
								       : UPCONN_IDLE_MS;
}

bool try_was_short(const struct exchange *ex)
{
	struct proxy *p = ex->proxy;
	uint64_t word = __atomic_load_n(&p->shared.ep_stats[ex->endpoint].ewma, __ATOMIC_RELAXED);

	return ex->up && p->loop.now_ns - called_ns(ex) < mesh_ewma_read(word, p->loop.now_ns);
}

/* An answer says enough, whatever becomes of its body, unless that breaks off. */
static enum breaker_result result_of(const struct exchange *ex, enum try_end how)
{
	if (how == TRY_FAILED)
		return upconn_tried(ex->up) ? BREAKER_FAILED : BREAKER_NOTHING;
	if (ex->head_ns)
		return ex->status >= 500 || ex->cause ? BREAKER_FAILED : BREAKER_GOOD;
	return BREAKER_NOTHING;
}

static void book_result(struct exchange *ex, enum breaker_result r)
{
	if (balance_same(ex->proxy, ex->endpoint, ex->gen))
		breaker_try_result(ex->proxy, ex->target.service, ex->endpoint, &ex->try_pass, r);
	ex->try_pass.counts = false;
}

void try_settled(struct exchange *ex)
{
	book_result(ex, BREAKER_GOOD);
}

void try_give_back(struct exchange *ex)
{
	try_end(ex, ex->up->conn.connecting || ex->up->conn.error ? TRY_DROPPED : TRY_GOOD);
	ex->endpoint = ex->subset = MESH_NONE;
	ex->tries = 0;
}

void try_end(struct exchange *ex, enum try_end how)
{
	struct proxy *p = ex->proxy;
	struct upconn *u = ex->up;

	if (!u)
		return;
	balance_end(p, ex->endpoint, ex->gen);
	if (how == TRY_FAILED && upconn_tried(u))
		book_failure(ex);
	book_result(ex, result_of(ex, how));
	ex->up = NULL;
	bulkhead_rise(p, &ex->seat);
	/* bytes beyond the answer would be taken for the next one */
	if (how == TRY_GOOD && u->conn.readable && conn_fill(&u->conn) != -EAGAIN)
		how = TRY_SPENT;
	if (how == TRY_GOOD)
		upconn_put(u, idle_limit(ex));
	else
		upconn_close(u, how != TRY_SPENT);
}
