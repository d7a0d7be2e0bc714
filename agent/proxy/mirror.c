/* SPDX-License-Identifier: Apache-2.0 */
/* See mirror.h. */
#include "agent/proxy/mirror.h"
#include "agent/proxy/balance.h"
#include "agent/proxy/bulkhead.h"
#include "agent/proxy/codec_http1.h"
#include "agent/proxy/downstream.h"
#include "agent/proxy/proxy.h"
#include "agent/proxy/queue.h"
#include "agent/proxy/upstream.h"

#include <errno.h>
#include <string.h>

#define HEAD_MAX (BUF_SIZE - 1024)
#define ROUNDS	 16    /* reads before others get a turn */
#define MOST_MS	 15000 /* where the service has no timeouts */

static const char mark[] = "x-mesh-mirror: 1\r\n\r\n";

struct mirror {
	struct proxy *proxy;
	struct upconn *up;
	struct bulkhead_seat seat;
	struct timer timer;
	uint32_t endpoint, gen;
	uint64_t begun_ns, until_ns;
	uint8_t method;
	bool answered; /* the answer's head is whole */
	struct pump body;
	struct http1_head response;
};

enum end { END_GOOD, END_SPENT, END_FAILED };

/* --- under way -----------------------------------------------------------------------------------
 */

static void book(struct mirror *m, bool failed)
{
	struct proxy *p = m->proxy;
	uint64_t since = m->up->begun_ns > m->begun_ns ? m->up->begun_ns : m->begun_ns;

	if (balance_same(p, m->endpoint, m->gen))
		shared_latency(&p->shared, m->endpoint, p->loop.now_ns - since, p->loop.now_ns,
			       failed);
}

static void end(struct mirror *m, enum end how)
{
	struct proxy *p = m->proxy;
	struct upconn *u = m->up;
	bool stale = u->used && (u->conn.eof || u->conn.error);

	if (how == END_FAILED && !m->answered && !stale && upconn_tried(u))
		book(m, true);
	balance_end(p, m->endpoint, m->gen);
	bulkhead_rise(p, &m->seat);
	if (how == END_GOOD && u->conn.readable && conn_fill(&u->conn) != -EAGAIN)
		how = END_SPENT;
	if (how == END_GOOD)
		upconn_put(u, UPCONN_IDLE_MS);
	else
		upconn_close(u, how == END_FAILED);
	timer_cancel(&p->loop, &m->timer);
	slab_put(&p->mirrors, m);
}

static void run(struct mirror *m);

static void on_timer(struct timer *t)
{
	struct mirror *m = (struct mirror *)((char *)t - offsetof(struct mirror, timer));
	uint64_t now = m->proxy->loop.now_ns;

	if (now >= m->until_ns) {
		end(m, END_FAILED);
		return;
	}
	timer_arm(&m->proxy->loop, t, (m->until_ns - now) / 1000000 + 1, on_timer);
	run(m);
}

static void look_later(struct mirror *m)
{
	timer_arm(&m->proxy->loop, &m->timer, 1, on_timer);
}

static void head_is_there(struct mirror *m)
{
	const struct http1_head *h = &m->response;

	m->answered = true;
	book(m, h->status >= 500);
	conn_consume(&m->up->conn, h->size);
	if (h->framing == HTTP1_CHUNKED)
		pump_init(&m->body, PUMP_CHUNKED, 0);
	else if (h->framing == HTTP1_UNTIL_CLOSE)
		pump_init(&m->body, PUMP_RAW, 0);
	else
		pump_init(&m->body, PUMP_LENGTH,
			  h->framing == HTTP1_LENGTH ? h->content_length : 0);
}

/* 1: the head is there; 0: not now; -1: it will not be. */
static int read_head(struct mirror *m)
{
	struct conn *c = &m->up->conn;

	for (int round = 0; round < ROUNDS; round++) {
		enum http1_result r = HTTP1_MORE;
		ssize_t n;

		if (conn_unread(c))
			r = http1_response_parse(&m->response, c->in.mem + c->in.start,
						 conn_unread(c), HEAD_MAX, m->method);
		if (r == HTTP1_BAD || (r == HTTP1_DONE && m->response.status == 101))
			return -1;
		if (r == HTTP1_DONE && m->response.status >= 200) {
			head_is_there(m);
			return 1;
		}
		if (r == HTTP1_DONE) {
			conn_consume(c, m->response.size);
			http1_head_init(&m->response);
			continue;
		}
		if (!c->readable)
			return c->eof || c->error ? -1 : 0;
		n = conn_fill(c);
		if (n == -EAGAIN)
			return 0;
		if (n == -ENOBUFS)
			break;
		if (n <= 0)
			return -1;
	}
	look_later(m);
	return 0;
}

static void drop_body(struct mirror *m)
{
	const struct http1_head *h = &m->response;

	switch (pump_run(&m->body, &m->up->conn, NULL)) {
	case PUMP_DONE:
		end(m, h->keep_alive && h->framing != HTTP1_UNTIL_CLOSE ? END_GOOD : END_SPENT);
		break;
	case PUMP_WAIT:
		break;
	case PUMP_AGAIN:
		look_later(m);
		break;
	default:
		end(m, END_FAILED);
	}
}

/* Does what can be done; may free it. */
static void run(struct mirror *m)
{
	struct conn *c = &m->up->conn;
	int r;

	if (conn_send(c, NULL, 0) < 0) {
		end(m, END_FAILED);
		return;
	}
	if (!conn_flushed(c))
		return;
	r = m->answered ? 1 : read_head(m);
	if (r < 0)
		end(m, END_FAILED);
	else if (r)
		drop_body(m);
}

static void run_user(struct upconn *u)
{
	run(u->of);
}

static void later_user(struct upconn *u)
{
	look_later(u->of);
}

static const struct upconn_user mirror_user = {.run = run_user, .later = later_user};

/* --- beginning -----------------------------------------------------------------------------------
 */

static bool is_wanted(struct exchange *ex)
{
	uint32_t share = ex->routed.mirror_share;

	if (ex->mirrored || !ex->down->conn.in.held || ex->request.upgrade)
		return false;
	ex->mirrored = true;
	return share >= SNAP_ALL || (uint64_t)proxy_random(ex->proxy) * SNAP_ALL >> 32 < share;
}

/* The head as the codec has it for this exchange, but for the span: what the copy calls is no part
 * of what the caller waits for. */
static size_t compose_head(struct exchange *ex, const char *head, char *out, size_t cap)
{
	struct trace real = ex->trace;
	size_t n;

	trace_shadow(&ex->trace, &ex->proxy->traces);
	n = codec_request(ex, head, out, cap);
	ex->trace = real;
	return n;
}

/* Head and body behind one another. */
static bool compose(struct exchange *ex, struct conn *to)
{
	const struct bytes *in = &ex->down->conn.in;
	const char *head = in->mem + in->hold;
	size_t body = (size_t)ex->request_body.bytes, cap, n;
	char *out = conn_compose(to, &cap);

	if (!out || in->hold + ex->request.size + body > in->start)
		return false;
	n = compose_head(ex, head, out, cap);
	if (!n || n + sizeof(mark) + body > cap)
		return false;
	memcpy(out + n - 2, mark, sizeof(mark) - 1); /* over the blank line */
	n += sizeof(mark) - 3;
	memcpy(out + n, head + ex->request.size, body);
	conn_composed(to, n + body);
	return true;
}

static uint64_t bound_ms(const struct snap_timeouts *t)
{
	uint64_t ms = t->try ? t->
	try : MOST_MS
		;

	return t->request && t->request < ms ? t->request : ms;
}

static void begin(struct exchange *ex, struct mirror *m, uint32_t index,
		  const struct mesh_endpoint *ep, struct bulkhead_seat *seat)
{
	struct proxy *p = ex->proxy;

	memset(m, 0, offsetof(struct mirror, response));
	http1_head_init(&m->response);
	m->proxy = p;
	m->seat = *seat;
	*seat = (struct bulkhead_seat){0};
	m->method = ex->request.method;
	m->endpoint = index;
	m->gen = ep->gen;
	m->begun_ns = p->loop.now_ns;
	m->until_ns = m->begun_ns + bound_ms(&ex->timeouts) * 1000000;
	m->up = upconn_get(p, index, ep, false, &mirror_user, m);
	if (!m->up) {
		bulkhead_rise(p, &m->seat);
		slab_put(&p->mirrors, m);
		return;
	}
	balance_begin(p, index);
	if (!compose(ex, &m->up->conn)) {
		p->mirrors_left_out++;
		end(m, END_SPENT);
		return;
	}
	timer_arm(&p->loop, &m->timer, bound_ms(&ex->timeouts), on_timer);
	run(m);
}

/* Requests come first. */
static bool has_room(const struct proxy *p, uint32_t index, const struct mesh_endpoint *ep)
{
	if (queue_waits(p, ep->service) || p->mirrors.used >= MIRROR_MAX ||
	    p->bufs.used >= BUFPOOL_NEW)
		return false;
	return upconn_is_idle(p, index, ep) || bulkhead_has_room(p, ep->service);
}

void mirror_offer(struct exchange *ex)
{
	struct proxy *p = ex->proxy;
	struct balance_want want = {.up = &ex->target,
				    .id = ex->upstream,
				    .subset = ex->target.version[ex->routed.mirror_version],
				    .netns = ex->down->netns,
				    .looks = true}; /* the turns are the requests' own */
	struct bulkhead_seat seat = {0};
	struct mesh_endpoint ep;
	struct mirror *m = NULL;
	uint32_t index;

	if (!is_wanted(ex))
		return;
	index = balance_pick(p, &want, &ep);
	if (index == MESH_NONE)
		return;
	if (has_room(p, index, &ep) && bulkhead_sit(p, ep.service, &seat))
		m = slab_get(&p->mirrors);
	if (m)
		begin(ex, m, index, &ep, &seat);
	else
		p->mirrors_left_out++;
	bulkhead_rise(p, &seat);
}

void mirror_init(struct proxy *p)
{
	slab_init(&p->mirrors, sizeof(struct mirror));
}
