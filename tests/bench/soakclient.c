/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checked traffic: N requests over C connections; GET, HEAD, POST, PUT; bodies of 0 B to 1 MiB
 * (log-uniform) both ways, by Content-Length and chunked, written in pieces, sometimes pipelined.
 * The origin (origin.c) checks every byte it receives, this checks every byte it gets back. Ends
 * with a summary; exit 1 on one wrong byte, status or lost answer.
 */
#include "lib/clock.h"
#include "lib/loop.h"
#include "lib/options.h"
#include "tests/bench/h1.h"
#include "tests/bench/net.h"
#include "tests/bench/pattern.h"

#include <signal.h>

#define IN_MAX	   (64u << 10)
#define OUT_MAX	   (32u << 10)
#define BATCH	   4	 /* requests pipelined at most */
#define STALL_MS   30000 /* an answer that takes longer is lost */
#define LOST_SHOWN 20	 /* failures described, the rest is counted */

struct request {
	const char *method;
	uint64_t id, seed, len, bseed, blen, chunk, answer_chunk;
	bool close, has_body, trailers;
};

struct conn {
	struct watch w;
	struct timer stall;
	struct request q[BATCH];
	unsigned n;	  /* requests of this batch */
	unsigned sent;	  /* of them wholly generated */
	unsigned got;	  /* answered */
	uint64_t body_at; /* generated of q[sent]'s body */
	bool head_done, want_out;
	char out[OUT_MAX], in[IN_MAX];
	size_t out_at, out_len, in_at, in_len;
	bool in_body;
	struct h1_body body;
	uint64_t got_len;
	bool wrong;
};

static const char *opt_to, *opt_requests, *opt_connections, *opt_seed, *opt_max, *opt_prefix;
static const struct option_spec options[] = {
	{"to", 't', "ADDR:PORT", NULL, "where the service is", &opt_to},
	{"requests", 'n', "N", "20000", "how many", &opt_requests},
	{"connections", 'c', "N", "16", "at once", &opt_connections},
	{"seed", 0, "N", "1", "the same seed makes the same requests", &opt_seed},
	{"max", 0, "BYTES", "1048576", "largest body", &opt_max},
	{"prefix", 0, "PATH", "", "in front of every path (a gateway's service)", &opt_prefix},
	{0},
};
static const struct program program = {"soakclient", "--to ADDR:PORT [flags]",
				       "checked HTTP traffic", options};

static struct loop loop;
static struct addr target;
static struct rng rng;
static uint64_t wanted, started, answered, body_max;
static unsigned open_conns;
static struct {
	uint64_t up, down, wrong, failed, connects, pipelined, chunked;
	uint64_t method[4];
} total;
static const char *const methods[] = {"GET", "POST", "PUT", "HEAD"};

static void conn_open(struct conn *c);

/* --- what to ask -------------------------------------------------------------------------------
 */

/* 0 to body_max: every power of two as likely as the next, evenly within it. */
static uint64_t log_uniform(void)
{
	unsigned octaves = 64 - (unsigned)__builtin_clzll(body_max);
	uint64_t base = 1ull << rng_below(&rng, octaves);
	uint64_t n = base - 1 + rng_below(&rng, base);

	return n < body_max ? n : body_max;
}

static bool one_in(unsigned n)
{
	return rng_below(&rng, n) == 0;
}

static void request_make(struct request *r)
{
	unsigned m = (unsigned)rng_below(&rng, 8);

	m = m < 3 ? 0 : m < 5 ? 1 : m < 7 ? 2 : 3;
	*r = (struct request){.method = methods[m], .id = started++, .seed = rng_next(&rng)};
	r->len = log_uniform();
	r->answer_chunk = one_in(2) ? 1 + rng_below(&rng, 16000) : 0;
	if (r->answer_chunk && r->answer_chunk < r->len / 4096)
		r->answer_chunk = r->len / 4096;
	r->trailers = r->answer_chunk && one_in(4);
	r->has_body = m == 1 || m == 2;
	if (r->has_body) {
		r->bseed = rng_next(&rng);
		r->blen = log_uniform();
		r->chunk = one_in(2) ? 1 + r->blen / 4096 + rng_below(&rng, 16000) : 0;
	}
	total.method[m]++;
	total.chunked += r->answer_chunk || r->chunk;
}

static void batch_make(struct conn *c)
{
	unsigned n = one_in(4) ? 2 + (unsigned)rng_below(&rng, BATCH - 1) : 1;

	c->n = c->sent = c->got = 0;
	c->head_done = false;
	c->body_at = 0;
	while (c->n < n && started < wanted)
		request_make(&c->q[c->n++]);
	if (c->n && one_in(32))
		c->q[c->n - 1].close = true;
	total.pipelined += c->n > 1 ? c->n : 0;
}

/* --- writing -----------------------------------------------------------------------------------
 */

static void head_write(struct conn *c, const struct request *r)
{
	char check[64] = "", length[64] = "";

	if (r->has_body)
		snprintf(check, sizeof(check), "&bseed=%lu", r->bseed);
	if (r->chunk)
		snprintf(length, sizeof(length), "transfer-encoding: chunked\r\n");
	else if (r->has_body)
		snprintf(length, sizeof(length), "content-length: %lu\r\n", r->blen);
	c->out_len += (size_t)snprintf(
		c->out + c->out_len, OUT_MAX - c->out_len,
		"%s %s/soak/%lu?seed=%lu&len=%lu&chunked=%lu&trailers=%d%s HTTP/1.1\r\n"
		"host: soak\r\n%s%s\r\n",
		r->method, opt_prefix, r->id, r->seed, r->len, r->answer_chunk, r->trailers, check,
		length, r->close ? "connection: close\r\n" : "");
}

/* Generates as much of the batch as fits. */
static void generate(struct conn *c)
{
	while (c->sent < c->n && OUT_MAX - c->out_len > 1024) {
		const struct request *r = &c->q[c->sent];
		uint64_t left = r->blen - c->body_at;
		size_t room = OUT_MAX - c->out_len - 64;
		size_t k = left < room ? (size_t)left : room;

		if (!c->head_done) {
			head_write(c, r);
			c->head_done = true;
			continue;
		}
		if (r->chunk && k > r->chunk)
			k = r->chunk;
		if (k && r->chunk)
			c->out_len += (size_t)sprintf(c->out + c->out_len, "%zX\r\n", k);
		pattern_fill(r->bseed, c->body_at, c->out + c->out_len, k);
		c->out_len += k;
		c->body_at += k;
		if (k && r->chunk)
			c->out_len += (size_t)sprintf(c->out + c->out_len, "\r\n");
		if (c->body_at < r->blen)
			continue;
		if (r->chunk)
			c->out_len += (size_t)sprintf(c->out + c->out_len, "0\r\n\r\n");
		total.up += r->blen;
		c->sent++;
		c->head_done = false;
		c->body_at = 0;
	}
}

/* --- failing -----------------------------------------------------------------------------------
 */

static void failed(struct conn *c, const char *what)
{
	const struct request *r = &c->q[c->got < c->n ? c->got : 0];

	if (total.failed++ < LOST_SHOWN)
		fprintf(stderr, "soakclient: request %lu (%s, %lu bytes up%s, %lu down%s): %s\n",
			r->id, r->method, r->blen, r->chunk ? " chunked" : "", r->len,
			r->answer_chunk ? " chunked" : "", what);
}

static void conn_close(struct conn *c)
{
	int fd = c->w.fd;

	timer_cancel(&loop, &c->stall);
	loop_del(&loop, &c->w);
	if (fd >= 0)
		close(fd);
}

/* Gives up what is left of the batch (it counts as answered, badly) and starts anew. */
static void conn_lost(struct conn *c, const char *what)
{
	failed(c, what);
	answered += c->n - c->got;
	total.failed += c->n - c->got > 1 ? c->n - c->got - 1 : 0;
	c->n = c->got = 0;
	conn_close(c);
	conn_open(c);
}

static void on_stall(struct timer *t)
{
	conn_lost((struct conn *)((char *)t - offsetof(struct conn, stall)),
		  "no progress for 30 s");
}

/* --- reading -----------------------------------------------------------------------------------
 */

static void check(void *arg, const char *p, size_t n)
{
	struct conn *c = arg;
	const struct request *r = &c->q[c->got];

	if (c->got_len + n > r->len || !pattern_check(r->seed, c->got_len, p, n))
		c->wrong = true;
	c->got_len += n;
	total.down += n;
}

/* Judges an answer's head. NULL or what is wrong with it. */
static const char *head_judge(struct conn *c, const struct h1_head *h)
{
	const struct request *r = &c->q[c->got];
	const struct h1_slice *seed = h1_find(h, "x-seed");
	static char text[64];

	if (h1_status(h) != 200) {
		const struct h1_slice *cause = h1_find(h, "x-mesh-cause");

		snprintf(text, sizeof(text), "status %d %.*s", h1_status(h),
			 cause ? (int)cause->n : 0, cause ? cause->p : "");
		return text;
	}
	if (!seed || strtoull(seed->p, NULL, 10) != r->seed)
		return "another request's answer";
	if (r->has_body && !h1_has(h, "x-body-ok", "1"))
		return "the origin got other bytes than were sent";
	return NULL;
}

/* Takes one answer's head. 1, 0 for more input, -1 when the connection is of no use any more. */
static int answer_head(struct conn *c)
{
	struct h1_head h;
	ssize_t n = h1_head_parse(c->in + c->in_at, c->in_len - c->in_at, &h);
	const char *bad;

	if (n <= 0)
		return (int)n;
	if (c->got >= c->n)
		return -1;
	bad = head_judge(c, &h);
	if (bad && h1_status(&h) != 200) {
		conn_lost(c, bad);
		return -2;
	}
	c->got_len = 0;
	c->wrong = false;
	if (bad) {
		failed(c, bad);
		total.wrong++;
	}
	if (!strcmp(c->q[c->got].method, "HEAD"))
		h1_body_start(&c->body, H1_NONE, 0);
	else
		h1_body_of(&c->body, &h, true);
	c->in_at += (size_t)n;
	c->in_body = true;
	return 1;
}

static void answer_done(struct conn *c)
{
	const struct request *r = &c->q[c->got];
	bool head = !strcmp(r->method, "HEAD");
	char trail[64];

	snprintf(trail, sizeof(trail), "x-trail: %lu\r\n", r->seed);
	if (c->wrong || c->got_len != (head ? 0 : r->len)) {
		total.wrong++;
		failed(c, "wrong bytes in the answer");
	} else if (r->trailers && !head && !strcasestr(c->body.trailer, trail)) {
		total.wrong++;
		failed(c, "trailer lost");
	}
	c->got++;
	answered++;
	c->in_body = false;
	timer_arm(&loop, &c->stall, STALL_MS, on_stall);
}

/* Consumes what was read. 0 or -1 when the connection is of no use any more, -2 when it was
 * replaced. */
static int consume(struct conn *c)
{
	while (c->in_at < c->in_len || (c->in_body && c->body.done)) {
		int did = c->in_body ? 1 : answer_head(c);
		ssize_t n;

		if (did <= 0)
			return did;
		n = h1_body_feed(&c->body, c->in + c->in_at, c->in_len - c->in_at, check, c);
		if (n < 0)
			return -1;
		c->in_at += (size_t)n;
		if (c->body.done)
			answer_done(c);
	}
	return 0;
}

/* --- a connection ------------------------------------------------------------------------------
 */

/* Writes in pieces of random size. false when the socket broke. */
static bool write_some(struct conn *c)
{
	for (;;) {
		size_t n;
		ssize_t did;

		generate(c);
		if (c->out_at == c->out_len)
			break;
		n = c->out_len - c->out_at;
		if (one_in(4))
			n = 1 + rng_below(&rng, n);
		did = send(c->w.fd, c->out + c->out_at, n, MSG_NOSIGNAL);
		if (did < 0)
			return errno == EAGAIN;
		c->out_at += (size_t)did;
		if (c->out_at == c->out_len)
			c->out_at = c->out_len = 0;
		timer_arm(&loop, &c->stall, STALL_MS, on_stall);
		if (one_in(8))
			return true; /* the rest at the next turn of the loop */
	}
	return true;
}

/* 1: bytes were read, 0: none now, -1: end, -2: the connection was replaced. */
static int read_some(struct conn *c)
{
	ssize_t n;
	int did;

	memmove(c->in, c->in + c->in_at, c->in_len - c->in_at);
	c->in_len -= c->in_at;
	c->in_at = 0;
	n = recv(c->w.fd, c->in + c->in_len, IN_MAX - c->in_len, 0);
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n <= 0)
		return -1;
	c->in_len += (size_t)n;
	did = consume(c);
	return did < 0 ? did : 1;
}

static void on_events(struct watch *w, uint32_t events)
{
	struct conn *c = (struct conn *)w;
	int did;
	bool out;

	while ((did = read_some(c)) > 0)
		;
	if (did == -2)
		return;
	if (c->got < c->n && (did < 0 || !write_some(c))) {
		conn_lost(c, c->got ? "connection closed between pipelined answers"
				    : "connection closed");
		return;
	}
	if (c->got == c->n) {
		bool fresh = did < 0 || c->q[c->n - 1].close || one_in(16);

		batch_make(c);
		if (fresh || !c->n) {
			conn_close(c);
			conn_open(c);
			return;
		}
	}
	out = c->sent < c->n || c->out_at < c->out_len;
	if (out != c->want_out && !loop_mod(&loop, w, out ? EPOLLIN | EPOLLOUT : EPOLLIN))
		c->want_out = out;
}

static void conn_open(struct conn *c)
{
	int fd;

	if (!c->n)
		batch_make(c);
	if (!c->n) {
		if (!--open_conns)
			loop.stop = true;
		return;
	}
	fd = net_connect(&target, SOCK_NONBLOCK);
	total.connects++;
	c->out_at = c->out_len = c->in_at = c->in_len = 0;
	c->in_body = false;
	c->want_out = true;
	if (fd < 0 || loop_add(&loop, &c->w, fd, EPOLLIN | EPOLLOUT, on_events)) {
		fprintf(stderr, "soakclient: cannot connect: %s\n", strerror(fd < 0 ? -fd : EIO));
		exit(1);
	}
	timer_arm(&loop, &c->stall, STALL_MS, on_stall);
}

static int summary(uint64_t ns)
{
	double s = (double)ns / 1e9;

	printf("soak: %lu of %lu requests answered in %.1f s (%.0f/s), %lu connections\n", answered,
	       wanted, s, (double)answered / s, total.connects);
	printf("soak: GET %lu, POST %lu, PUT %lu, HEAD %lu; %lu pipelined, %lu chunked\n",
	       total.method[0], total.method[1], total.method[2], total.method[3], total.pipelined,
	       total.chunked);
	printf("soak: %.1f MiB up, %.1f MiB down, %lu wrong, %lu failed\n",
	       (double)total.up / (1 << 20), (double)total.down / (1 << 20), total.wrong,
	       total.failed);
	return total.wrong || total.failed || answered != wanted;
}

int main(int argc, char **argv)
{
	uint64_t began = clock_mono_ns();
	int err;

	(void)options_parse(&program, argc, argv);
	if (!opt_to)
		options_usage(&program, "--to is missing");
	target = net_addr(opt_to);
	wanted = strtoull(opt_requests, NULL, 10);
	body_max = strtoull(opt_max, NULL, 10) | 1;
	open_conns = (unsigned)strtoul(opt_connections, NULL, 10);
	rng.state = strtoull(opt_seed, NULL, 10) << 40;
	signal(SIGPIPE, SIG_IGN);
	err = loop_init(&loop);
	for (unsigned i = 0, n = open_conns; !err && i < n; i++) {
		struct conn *c = calloc(1, sizeof(*c));

		if (!c)
			err = -ENOMEM;
		else
			conn_open(c);
	}
	if (!err && !loop.stop)
		err = loop_run(&loop);
	if (err) {
		fprintf(stderr, "soakclient: %s\n", strerror(-err));
		return 1;
	}
	return summary(clock_mono_ns() - began);
}
