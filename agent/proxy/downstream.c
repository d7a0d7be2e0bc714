/* SPDX-License-Identifier: Apache-2.0 */
/* See downstream.h. */
#include "agent/proxy/downstream.h"
#include "agent/proxy/http1.h"
#include "agent/proxy/listener.h"
#include "agent/proxy/proxy.h"
#include "agent/proxy/tunnel.h"
#include "agent/proxy/upstream.h"
#include "lib/addr.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define HEAD_MAX      (BUF_SIZE - 1024) /* leaves room in a composed head for what we add */
#define STARVE_MS     5			/* until those that found no buffer look again */
#define LOOK_FOR_IDLE 64		/* of the oldest connections, when one has to go */
#define STEPS	      16		/* requests of one connection before others get a turn */

static uint64_t now_ms(const struct downstream *d)
{
	return d->conn.proxy->loop.now_ns / 1000000;
}

static void unqueue(struct downstream *d)
{
	struct proxy *p = d->conn.proxy;
	struct downstream **at = &p->again;

	if (!d->queued)
		return;
	while (*at != d)
		at = &(*at)->next_again;
	*at = d->next_again;
	if (!*at)
		p->again_last = at;
	d->queued = false;
	p->nagain--;
}

/* The one that was accepted after d; NULL for the newest. */
static struct downstream *newer(const struct downstream *d)
{
	if (d->prev == &d->conn.proxy->clients)
		return NULL;
	return (struct downstream *)((char *)d->prev - offsetof(struct downstream, next));
}

static void free_downstream(struct downstream *d, bool rst)
{
	struct proxy *p = d->conn.proxy;

	if (d->ex)
		exchange_abort(d->ex);
	unqueue(d);
	if (d->hungry) {
		struct downstream **at = &p->hungry_first;

		while (*at != d)
			at = &(*at)->next_hungry;
		*at = d->next_hungry;
		if (!*at)
			p->hungry_last = at;
	}
	timer_cancel(&p->loop, &d->timer);
	conn_close(&d->conn, rst);
	if (p->oldest == d)
		p->oldest = newer(d);
	*d->prev = d->next;
	if (d->next)
		d->next->prev = d->prev;
	slab_put(&p->downstreams, d);
	p->nclients--;
	listener_resume(p);
}

bool downstream_make_room(struct proxy *p)
{
	struct downstream *d = p->oldest;

	for (int i = 0; d && i < LOOK_FOR_IDLE; i++, d = newer(d))
		if (!d->ex && !d->hungry) {
			free_downstream(d, false);
			return true;
		}
	return false;
}

static void linger_over(struct timer *t)
{
	free_downstream((struct downstream *)((char *)t - offsetof(struct downstream, timer)),
			false);
}

/* In good order: FIN after the answer, and what the caller still sends is read until it closes too.
 */
static bool close_gently(struct downstream *d)
{
	bool quiet = d->conn.eof && !conn_unread(&d->conn);

	conn_shutdown(&d->conn);
	if (quiet || d->conn.error) {
		free_downstream(d, false);
		return false;
	}
	d->lingering = true;
	timer_arm(&d->conn.proxy->loop, &d->timer, DOWN_LINGER_MS, linger_over);
	return true;
}

/* The caller announced that it would send nothing more, and nothing more is here: no reset can
 * overtake the answer. */
static bool has_said_all(const struct downstream *d)
{
	return d->asked_to_close && !conn_unread(&d->conn) && !d->conn.readable;
}

bool downstream_has_more(const struct downstream *d)
{
	return d->ex && d->ex->request_sent && conn_unread(&d->conn);
}

/* May it be closed for the worker's end? Not while its caller is likely to be sending: busy ones
 * are told with their next answer. */
static bool is_quiet(const struct downstream *d)
{
	return d->conn.proxy->draining && now_ms(d) - d->since_ms >= d->conn.proxy->quiet_ms;
}

/* Returns false when d is gone. */
static bool linger(struct downstream *d)
{
	conn_release(&d->conn);
	conn_consume(&d->conn, conn_unread(&d->conn));
	for (int i = 0; i < 8 && d->conn.readable; i++) {
		ssize_t n = conn_fill(&d->conn);

		if (n == -EAGAIN || n == -ENOBUFS)
			return true;
		if (n <= 0)
			break;
		conn_consume(&d->conn, (uint32_t)n);
	}
	if (d->conn.readable)
		downstream_again(d);
	if (d->conn.readable || (!d->conn.eof && !d->conn.error))
		return true;
	free_downstream(d, false);
	return false;
}

/* The timer is set lazily: it fires when something might be due, and is set again for what is left.
 */
static void check_idle(struct timer *t)
{
	struct downstream *d =
		(struct downstream *)((char *)t - offsetof(struct downstream, timer));
	uint64_t limit = DOWN_IDLE_MS, since = d->since_ms;

	if (d->ex && d->ex->state == EX_HEAD) {
		limit = DOWN_HEAD_MS;
		since = d->ex->start_ns / 1000000;
	} else if (d->ex) {
		since = now_ms(d); /* its exchange looks after it */
	}
	if (now_ms(d) - since >= limit)
		free_downstream(d, false);
	else
		timer_arm(&d->conn.proxy->loop, t, since + limit - now_ms(d), check_idle);
}

/* A head has begun and is not whole: it has DOWN_HEAD_MS. */
static void bound_head(struct downstream *d)
{
	if (d->timer.when_ms > now_ms(d) + DOWN_HEAD_MS + 1)
		timer_arm(&d->conn.proxy->loop, &d->timer, DOWN_HEAD_MS, check_idle);
}

/* Buffers are back: those that waited for one go on. */
static void feed(struct proxy *p)
{
	while (p->hungry_first && p->bufs.used < BUFPOOL_NEW) {
		struct downstream *d = p->hungry_first;

		p->hungry_first = d->next_hungry;
		if (!p->hungry_first)
			p->hungry_last = &p->hungry_first;
		d->hungry = false;
		downstream_run(d);
	}
}

static void starve(struct proxy *p);

static void starve_over(struct timer *t)
{
	struct proxy *p = (struct proxy *)((char *)t - offsetof(struct proxy, starve));

	feed(p);
	if (p->hungry_first)
		starve(p);
}

/* Somebody found no buffer: looks again soon. */
static void starve(struct proxy *p)
{
	if (!p->starve.prev) /* whoever comes later does not put it off for those before */
		timer_arm(&p->loop, &p->starve, STARVE_MS, starve_over);
}

static void become_hungry(struct downstream *d)
{
	struct proxy *p = d->conn.proxy;

	if (d->hungry)
		return;
	d->hungry = true;
	d->next_hungry = NULL;
	*p->hungry_last = d;
	p->hungry_last = &d->next_hungry;
	starve(p);
}

/* Reads more of a head. 1: there are new bytes; 0: not now; -1: nothing more will come. */
static int read_more(struct downstream *d)
{
	ssize_t n;

	if (!d->conn.readable)
		return d->conn.eof || d->conn.error ? -1 : 0;
	if (!d->conn.in.mem && d->conn.proxy->bufs.used >= BUFPOOL_NEW) {
		become_hungry(d);
		return 0;
	}
	n = conn_fill(&d->conn);
	if (n > 0)
		return 1;
	return n == -EAGAIN || n == -ENOBUFS ? 0 : -1;
}

/* TLS, or HTTP/2 with prior knowledge, on a port that has spoken HTTP/1 before: some servers take
 * them all on one port. */
static bool is_other_protocol(const struct downstream *d)
{
	static const char preface[] = "PRI * HTTP/2";
	const char *at = d->conn.in.mem + d->conn.in.start;
	uint32_t n = conn_unread(&d->conn);

	if (n >= 2 && at[0] == 0x16 && at[1] == 0x03)
		return true;
	return n >= sizeof(preface) - 1 && !memcmp(at, preface, sizeof(preface) - 1);
}

static int begin_tunnel(struct downstream *d)
{
	d->ex = exchange_new(d);
	if (!d->ex)
		return -1;
	tunnel_detect(d->ex);
	tunnel_begin(d->ex);
	return 1;
}

/* Is there a whole head? 1: the exchange has it (or its refusal); 0: not now; -1: the connection is
 * over. */
static int read_head(struct downstream *d)
{
	int more = 1;

	while (more > 0) {
		struct bytes *in = &d->conn.in;

		if (conn_unread(&d->conn)) {
			if (!d->ex && d->learned && !d->requests && is_other_protocol(d))
				return begin_tunnel(d);
			if (!d->ex && !(d->ex = exchange_new(d)))
				return -1;
			switch (http1_request_parse(&d->ex->request, in->mem + in->start,
						    in->end - in->start, HEAD_MAX)) {
			case HTTP1_DONE:
				d->requests++;
				exchange_request(d->ex);
				return 1;
			case HTTP1_BAD:
				exchange_bad_request(d->ex);
				return 1;
			case HTTP1_MORE:
				break;
			}
		}
		more = read_more(d);
	}
	if (!more && d->ex)
		bound_head(d);
	return more;
}

static enum http1_result sniff(const struct downstream *d)
{
	const struct bytes *in = &d->conn.in;

	return conn_unread(&d->conn) ? http1_sniff(in->mem + in->start, in->end - in->start)
				     : HTTP1_MORE;
}

/* What does it speak? The first bytes of either side tell. Returns false while they do not. */
static bool detect(struct downstream *d)
{
	struct exchange *ex = d->ex;
	struct proxy *p = d->conn.proxy;
	enum http1_result r = sniff(d);
	int more = 1;

	while (r == HTTP1_MORE && more > 0) {
		more = read_more(d);
		r = sniff(d);
	}
	if (r == HTTP1_MORE && more == 0 && !tunnel_spoken_to(ex))
		return false;
	d->http = r == HTTP1_DONE;
	if (d->http) { /* that the endpoint speaks it too is known when it answers */
		timer_cancel(&p->loop, &ex->timer);
		ex->state = EX_HEAD;
		ex->start_ns = p->loop.now_ns;
	} else {
		shared_learn(&p->shared, d->upstream, MESH_LEARNED_TCP);
		tunnel_begin(ex);
	}
	return true;
}

/* One step. 1: there may be another; 0: wait; -1: d is gone. */
static int step(struct downstream *d)
{
	int r;

	if (d->lingering)
		return linger(d) ? 0 : -1;
	if (d->ex && d->ex->state == EX_DETECT && !d->ex->fate && !detect(d)) {
		tunnel_detect_on(d->ex);
		return 0;
	}
	if (d->ex && (d->ex->state != EX_HEAD || d->ex->fate)) {
		if (!exchange_run(d->ex))
			return 0;
		d->since_ms = now_ms(d);
		if (d->fate == FATE_KEEP)
			return 1;
		if (d->fate == FATE_CLOSE && !has_said_all(d))
			return close_gently(d) ? 1 : -1;
		free_downstream(d, d->fate == FATE_RESET);
		return -1;
	}
	r = read_head(d);
	if (r < 0)
		free_downstream(d, false);
	else if (!r && !d->ex && !d->hungry && is_quiet(d))
		return close_gently(d) ? 1 : -1;
	return r;
}

void downstream_run(struct downstream *d)
{
	int r = 1;

	for (int i = 0; r > 0 && i < STEPS; i++)
		r = step(d);
	if (r > 0)
		downstream_again(d);
}

void downstream_again(struct downstream *d)
{
	struct proxy *p = d->conn.proxy;

	if (p->bufs.used < BUFPOOL_MAX)
		p->loop.busy = true;
	else /* others must give buffers back first */
		starve(p);
	if (d->queued)
		return;
	d->queued = true;
	d->next_again = NULL;
	*p->again_last = d;
	p->again_last = &d->next_again;
	p->nagain++;
}

void downstream_run_again(struct loop *l)
{
	struct proxy *p = (struct proxy *)((char *)l - offsetof(struct proxy, loop));

	/* those that queue themselves once more wait for the next round */
	for (uint32_t n = p->nagain; n && p->again; n--) {
		struct downstream *d = p->again;

		unqueue(d);
		downstream_run(d);
	}
}

static void downstream_event(struct watch *w, uint32_t events)
{
	struct downstream *d = (struct downstream *)w;

	conn_note(&d->conn, events);
	if (d->conn.error && !d->lingering) {
		free_downstream(d, true);
		return;
	}
	downstream_run(d);
}

static void choose_protocol(struct downstream *d)
{
	struct shared *s = &d->conn.proxy->shared;
	struct mesh_upstream up;

	d->http = true;
	if (d->upstream == MESH_NONE || !shared_upstream(s, d->upstream, &up))
		return;
	if (up.protocol == MESH_PROTO_HTTP)
		return;
	if (up.protocol == MESH_PROTO_AUTO &&
	    __atomic_load_n(&s->up_stats[d->upstream].learned, __ATOMIC_RELAXED) ==
		    MESH_LEARNED_HTTP) {
		d->learned = true;
		return;
	}
	d->http = false;
	d->ex = exchange_new(d);
	if (!d->ex)
		return;
	tunnel_detect(d->ex);
	if (up.protocol == MESH_PROTO_TCP)
		tunnel_begin(d->ex);
}

static bool is_zero(const uint8_t ip[16])
{
	static const uint8_t zero[16];

	return !memcmp(ip, zero, sizeof(zero));
}

void downstream_new(struct proxy *p, int fd, const uint8_t peer[16],
		    const struct mesh_origdst *meant)
{
	struct downstream *d = slab_get(&p->downstreams);

	if (!d) {
		close(fd);
		return;
	}
	memset(d, 0, sizeof(*d));
	conn_init(&d->conn, p);
	d->conn.connecting = false;
	d->upstream = meant ? meant->upstream : MESH_NONE;
	d->caller = meant ? meant->workload : MESH_NONE;
	d->caller_service = meant ? meant->service : MESH_NONE;
	d->netns = meant ? meant->netns : p->netns;
	d->via_loopback = meant && addr_is_loopback(meant->ip);
	/* what the callee would have seen without us */
	if (meant && !d->via_loopback && !is_zero(meant->caller_ip))
		peer = meant->caller_ip;
	addr_format_ip(peer, d->peer);
	if (conn_open(&d->conn, fd, downstream_event)) {
		slab_put(&p->downstreams, d);
		return;
	}
	d->next = p->clients;
	d->prev = &p->clients;
	if (d->next)
		d->next->prev = &d->next;
	else
		p->oldest = d;
	p->clients = d;
	p->nclients++;
	d->since_ms = now_ms(d);
	timer_arm(&p->loop, &d->timer, DOWN_IDLE_MS, check_idle);
	choose_protocol(d);
	if (!d->http && !d->ex)
		free_downstream(d, true);
	else
		downstream_run(d);
}

void downstream_drain(struct proxy *p)
{
	for (struct downstream *d = p->clients; d; d = d->next) {
		if (d->ex || d->lingering || !is_quiet(d))
			continue;
		d->conn.readable = true; /* a request that is here already is still answered */
		downstream_again(d);
	}
}
