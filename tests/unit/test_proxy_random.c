/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many callers at once through one worker's proxy, to an origin that misbehaves in every way it
 * knows: what a caller takes for a whole answer must be exactly the answer to its request, no POST
 * may arrive twice, and when all is over nothing may be left behind. Everything is drawn from a
 * fixed seed; what a request is and what becomes of it follows from its number.
 */
#include "lib/clock.h"
#include "random_traffic.h"

#define CLIENTS	 48
#define ORIGINS	 512  /* connections of the proxy to us */
#define REQUESTS 4000 /* in all */
#define SCARCE	 3500 /* where there is little room */
#define ROUND_MS 30000

struct client {
	struct side s;
	uint32_t id[BATCH];
	unsigned n, next;
	bool leaves; /* before the answers are there */
	bool half;   /* closes its side when all is sent */
};

struct origin {
	struct side s;
	enum { READS, ANSWERS, CLOSES, RESETS, HUNG } state;
	bool whole; /* answer in one write */
};

static struct client clients[CLIENTS];
static struct origin origins[ORIGINS];
static unsigned char posted[REQUESTS + 1];
static unsigned begun, complete, refused, broken, most;

/* --- callers -------------------------------------------------------------------------------------
 */

static void client_begin(struct client *c, const struct rig *rig)
{
	bool gateway = draw(3);

	side_open(&c->s, rig_connect(gateway ? rig->gateway_port : rig->capture_port));
	c->n = 1 + draw(BATCH);
	c->next = 0;
	c->leaves = !draw(12);
	c->half = !draw(6);
	for (unsigned i = 0; i < c->n; i++) {
		uint32_t id = ++begun;
		struct plan p = plan_of(id);
		char *out = c->s.out + c->s.nout;
		int n = sprintf(out, "%s %s/%u HTTP/1.1\r\nHost: h\r\n", p.method,
				gateway ? "/svc" : "", id);

		c->id[i] = id;
		if (p.method[0] == 'P') {
			n += p.request == BY_CHUNKS
				     ? sprintf(out + n, "Transfer-Encoding: chunked\r\n\r\n")
				     : sprintf(out + n, "Content-Length: %zu\r\n\r\n", p.sent);
			n += (int)put_body(out + n, id, p.sent, p.request);
		} else {
			n += sprintf(out + n, "\r\n");
		}
		c->s.nout += (size_t)n;
	}
}

static bool has(const char *head, size_t len, const char *what)
{
	return memmem(head, len, what, strlen(what));
}

/* Takes one answer from what was read. false: it is not whole. */
static bool client_take(struct client *c, bool ended)
{
	const char *in = c->s.in, *blank = c->s.nin ? strstr(in, "\r\n\r\n") : NULL;
	uint32_t id = c->id[c->next];
	struct plan p = plan_of(id);
	size_t head, used = 0, n;
	const char *length;
	char mark[32];

	if (!blank)
		return false;
	head = (size_t)(blank + 4 - in);
	assert_memory_equal(in, "HTTP/1.1 ", 9);
	if (in[9] == '1') {
		side_drop(&c->s, head);
		return client_take(c, ended);
	}
	n = c->s.nin - head;
	if (has(in, head, "x-mesh-cause: ")) {
		length = strstr(in, "content-length: ");
		assert_non_null(length);
		used = p.method[0] == 'H' ? 0 : strtoul(length + 16, NULL, 10);
		if (n < used)
			return false;
		refused++;
		side_drop(&c->s, head + used);
		return true;
	}
	snprintf(mark, sizeof(mark), "x-id: %u\r\n", id);
	if (!has(in, head, mark))
		fail_msg("answer to %u is another's: %s", id, in);
	if (p.answer != NO_CONTENT && p.method[0] != 'H') {
		if (p.answer == BY_CLOSE && !ended)
			return false;
		if (!take_body(in + head, n, id, p.got, p.answer, &used))
			return false;
	}
	if (p.answer == BY_CLOSE && p.method[0] != 'H')
		assert_int_equal(n, used);
	complete++;
	side_drop(&c->s, head + used);
	return true;
}

static void client_run(struct client *c)
{
	ssize_t r = 1;

	if (c->leaves && !draw(20)) {
		side_close(&c->s, draw(2));
		return;
	}
	if (!side_send(&c->s, false))
		c->s.at = c->s.nout; /* it may have been answered before */
	if (c->half && c->s.at == c->s.nout) {
		shutdown(c->s.fd, SHUT_WR);
		c->half = false;
	}
	if (!draw(50))
		c->s.stubborn = !c->s.stubborn;
	if (c->s.stubborn)
		return;
	r = side_recv(&c->s);
	while (c->next < c->n && client_take(c, !r))
		c->next++;
	if (c->next < c->n && r < 0 && r != -EAGAIN && r != -ECONNRESET)
		fail_msg("%s", strerror((int)-r));
	if (c->next < c->n && (r > 0 || r == -EAGAIN))
		return;
	broken += c->next < c->n;
	if (c->next == c->n)
		assert_int_equal(c->s.nin, 0);
	side_close(&c->s, false);
}

/* --- the origin ----------------------------------------------------------------------------------
 */

static void compose(struct origin *o, uint32_t id, const struct plan *p)
{
	static const char *const framing[] = {"200 OK", "200 OK\r\nTransfer-Encoding: chunked",
					      "200 OK\r\nConnection: close", "204 No Content"};
	char *out = o->s.out;
	bool head = p->method[0] == 'H';
	int n = 0;

	if (p->mood == INTERIM)
		n = sprintf(out, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n");
	n += sprintf(out + n, "HTTP/1.1 %s\r\nx-id: %u\r\n", framing[p->answer], id);
	if (p->answer == BY_LENGTH)
		n += sprintf(out + n, "Content-Length: %zu\r\n", p->got);
	n += sprintf(out + n, "%s\r\n", p->mood == EARLY ? "Connection: close\r\n" : "");
	if (!head && p->answer != NO_CONTENT)
		n += (int)put_body(out + n, id, p->got, p->answer);
	o->s.at = 0;
	o->s.nout = (size_t)n;
	o->state = ANSWERS;
	o->whole = p->mood == MORE;
	if (p->mood == MORE)
		o->s.nout += (size_t)sprintf(
			out + n, "HTTP/1.1 200 OK\r\nx-id: 0\r\nContent-Length: 4\r\n\r\nEVIL");
	if (p->mood == NONSENSE)
		o->s.nout = (size_t)sprintf(out, "220 hello\r\n\r\n");
	if (p->mood == CUT || p->mood == CUT_RST)
		o->s.nout = draw((uint32_t)o->s.nout);
	/* what ends with the connection cannot be cut by FIN without looking whole */
	if (p->mood == CUT && p->answer == BY_CLOSE)
		o->state = RESETS;
	else if (p->mood == CUT_RST)
		o->state = RESETS;
	else if (p->mood == CUT || p->mood == EARLY || p->mood == NONSENSE || p->mood == FAREWELL ||
		 p->answer == BY_CLOSE)
		o->state = CLOSES;
}

/* A request, once it is whole (or once its head is there, if that is enough to misbehave). */
static void origin_take(struct origin *o)
{
	char *in = o->s.in, *blank = o->s.nin ? strstr(in, "\r\n\r\n") : NULL, *path;
	size_t head, used = 0;
	struct plan p;
	uint32_t id;

	if (!blank)
		return;
	head = (size_t)(blank + 4 - in);
	path = memchr(in, '/', head);
	assert_non_null(path);
	id = (uint32_t)strtoul(path + 1, NULL, 10);
	assert_in_range(id, 1, REQUESTS + BATCH);
	p = plan_of(id);
	assert_memory_equal(in, p.method, strlen(p.method));
	if (p.mood == RUDE || p.mood == EARLY) {
		posted[id] += p.method[1] == 'O';
		assert_true(posted[id] < 2);
		if (p.mood == EARLY)
			compose(o, id, &p);
		else
			side_close(&o->s, draw(2));
		return;
	}
	if (p.method[0] == 'P' &&
	    !take_body(in + head, o->s.nin - head, id, p.sent, p.request, &used))
		return;
	posted[id] += p.method[1] == 'O';
	assert_true(posted[id] < 2);
	side_drop(&o->s, head + used);
	assert_int_equal(o->s.nin, 0); /* one at a time */
	if (p.mood == SILENT)
		side_close(&o->s, draw(2));
	else if (p.mood == HANGS)
		o->state = HUNG;
	else
		compose(o, id, &p);
}

static void origin_run(struct origin *o)
{
	ssize_t r;

	if (o->state == READS || o->state == HUNG) {
		r = side_recv(&o->s);
		if (!r || (r < 0 && r != -EAGAIN))
			side_close(&o->s, false);
		else if (r > 0 && o->state == READS)
			origin_take(o);
		return;
	}
	if (!draw(4) && !o->whole)
		return;
	if (!side_send(&o->s, o->whole)) {
		side_close(&o->s, false);
		return;
	}
	if (o->s.at < o->s.nout)
		return;
	if (o->state == ANSWERS)
		o->state = READS;
	else
		side_close(&o->s, o->state == RESETS);
}

static void accept_all(const struct rig *rig)
{
	for (unsigned k = 0; k < RIG_ORIGINS; k++)
		for (int fd; (fd = accept4(rig->origin[k], NULL, NULL, SOCK_CLOEXEC)) >= 0;) {
			unsigned i = 0;

			while (i < ORIGINS && origins[i].s.fd >= 0)
				i++;
			assert_true(i < ORIGINS);
			side_open(&origins[i].s, fd);
			origins[i].state = READS;
		}
}

/* One turn of everybody. Returns how many callers are under way. */
static unsigned turn(const struct rig *rig, bool more)
{
	unsigned busy = 0;

	accept_all(rig);
	for (unsigned i = 0; i < ORIGINS; i++)
		if (origins[i].s.fd >= 0)
			origin_run(&origins[i]);
	for (unsigned i = 0; i < CLIENTS; i++) {
		if (clients[i].s.fd < 0 && more && begun < most - BATCH && !draw(4))
			client_begin(&clients[i], rig);
		if (clients[i].s.fd >= 0)
			client_run(&clients[i]);
		busy += clients[i].s.fd >= 0;
	}
	return busy;
}

static bool nothing_left(const struct rig *rig)
{
	const volatile struct proxy *p = rig->inside;

	const volatile struct mesh_svc_gauges *g = &rig->shared.svc_inflight[0].worker[0];

	for (unsigned i = 0; i < RIG_ORIGINS; i++)
		if (rig->shared.ep_inflight[i].worker[0])
			return false;
	for (unsigned i = 0; i < MESH_MAX_EDGES; i++)
		if (rig->shared.edges[i].worker[0])
			return false;
	if (g->requests || g->connections || g->pending || g->seats || p->nqueued)
		return false;
	return !p->downstreams.used && !p->exchanges.used && !p->upconns.used && !p->bufs.used &&
	       !p->nclients && !p->nagain && !p->hungry_first && !p->awaiting && p->loop.armed <= 1;
}

static void stuck(const struct rig *rig)
{
	for (unsigned i = 0; i < CLIENTS; i++) {
		const struct client *c = &clients[i];
		struct plan p;

		if (c->s.fd < 0)
			continue;
		p = plan_of(c->id[c->next]);
		print_error("caller %u: request %u (%u of %u) %s, mood %u, framing %u %u, bodies "
			    "%zu %zu; sent "
			    "%zu of %zu, read %zu\n",
			    i, c->id[c->next], c->next, c->n, p.method, p.mood, p.request, p.answer,
			    p.sent, p.got, c->s.at, c->s.nout, c->s.nin);
	}
	for (unsigned i = 0; i < ORIGINS; i++)
		if (origins[i].s.fd >= 0)
			print_error("endpoint %u: state %u, read %zu, sent %zu of %zu\n", i,
				    origins[i].state, origins[i].s.nin, origins[i].s.at,
				    origins[i].s.nout);
	fail_msg("stuck after %u requests; inside %u callers, %u exchanges", begun,
		 rig->inside->downstreams.used, rig->inside->exchanges.used);
}

static void run_all(struct rig *rig, unsigned requests, unsigned least)
{
	const char *seed = getenv("SEED"); /* for looking further by hand */
	uint64_t end = clock_mono_ns() / 1000000 + ROUND_MS;

	state = seed ? strtoull(seed, NULL, 10) : 20240607;
	begun = complete = refused = broken = 0;
	most = requests;
	memset(posted, 0, sizeof(posted));
	rig_use(rig, RIG_ORIGINS);
	for (unsigned i = 0; i < CLIENTS; i++)
		clients[i].s.fd = -1;
	for (unsigned i = 0; i < ORIGINS; i++)
		origins[i].s.fd = -1;
	while (turn(rig, true) || begun < most - BATCH)
		if (clock_mono_ns() / 1000000 > end)
			stuck(rig);
	for (unsigned i = 0; i < ORIGINS; i++)
		if (origins[i].s.fd >= 0)
			side_close(&origins[i].s, false);
	end = clock_mono_ns() / 1000000 + 2 * RIG_WAIT_MS;
	while (!nothing_left(rig)) {
		const struct proxy *p = rig->inside;

		if (clock_mono_ns() / 1000000 > end)
			fail_msg("left: %u callers, %u exchanges, %u connections, %u buffers, %u "
				 "timers",
				 p->downstreams.used, p->exchanges.used, p->upconns.used,
				 p->bufs.used, p->loop.armed);
		poll(NULL, 0, 5);
	}
	print_message("%u requests: %u answered, %u refused, %u connections broken\n", begun,
		      complete, refused, broken);
	assert_true(complete >= least);
}

static void everybody_gets_the_right_answer_or_none(void **state_)
{
	struct rig *rig = *state_;

	rig->snapshot->service.timeouts.try = 300;
	run_all(rig, REQUESTS, REQUESTS / 3);
}

/* Few connections, short queues, retries of all that may be retried, a breaker that opens now and
 * then, endpoints that are ejected and come back. */
static void so_they_do_where_there_is_little_room(void **state_)
{
	struct rig *rig = *state_;
	struct snap_service *s = &rig->snapshot->service;

	s->bulkhead = (struct mesh_bulkhead_policy){
		.connections = 12, .requests = 44, .pending = 30, .per_source = 32};
	s->retry.causes = ((1u << CAUSE_MAX) - 1) & ~(1u << CAUSE_TRY_TIMEOUT);
	s->retry.methods =
		1u << HTTP1_GET | 1u << HTTP1_HEAD | 1u << HTTP1_PUT | 1u << HTTP1_DELETE;
	s->retry.backoff_ms = 2;
	s->retry.max_backoff_ms = 10;
	s->timeouts.try = 30;
	s->timeouts.request = 2000;
	s->breaker = (struct mesh_breaker_policy){.error_pm = 2000,
						  .min_requests = 3,
						  .window_ms = 200,
						  .open_ms = 2,
						  .half_open = 2,
						  .probe_ms = 20};
	for (unsigned i = 0; i < RIG_ORIGINS; i++)
		rig->shared.ep_stats[i].breaker =
			mesh_breaker_word(MESH_OPEN, 0, 0, 0, clock_mono_ns() / 1000000 + 200 * i);
	run_all(rig, SCARCE, SCARCE / 100);	  /* who is refused is soon back */
	assert_true(rig->inside->queues[0].last); /* somebody did wait */
	print_message("the breaker opened %llu times\n",
		      (unsigned long long)rig->shared.svc_stats[0].went[MESH_OPEN]);
}

static int free_all(void **unused)
{
	(void)unused;
	for (unsigned i = 0; i < CLIENTS; i++) {
		free(clients[i].s.in);
		free(clients[i].s.out);
	}
	for (unsigned i = 0; i < ORIGINS; i++) {
		free(origins[i].s.in);
		free(origins[i].s.out);
	}
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(everybody_gets_the_right_answer_or_none, start,
						stop),
		cmocka_unit_test_setup_teardown(so_they_do_where_there_is_little_room, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, free_all);
}
