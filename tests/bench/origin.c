/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An HTTP/1.1 origin for benchmarks, soak and end-to-end tests: one thread, epoll, keep-alive,
 * pipelining. What it answers is chosen by flags and, per request, by the query of the target:
 *
 *   len=N seed=S   N bytes of the pattern of S (else --size bytes of x), header x-seed: S
 *   bseed=S        check the request's body against that pattern: x-body-ok: 1, or status 500 and 0
 *   status=N       delay=MS       hang=1  never answer       stall=MS  read the body only after MS
 *   chunked=K      chunks of K bytes       trailers=1  a trailer `x-trail: S` behind them
 *   echo=1         answer with the request's body    reflect=1  answer with the request's head
 *   close=1        say Connection: close, and do     eof=1  no length: the body ends with the
 *                  connection
 *   abort=1        close without an answer           abort=2  close in the middle of the body
 *   interim=1      a 103 before the answer           raw=PCT  these bytes instead of an answer,
 *                  then close
 *   refuse=1       417 to Expect: 100-continue        hold=1  answer at the next /__set
 *
 * `Upgrade` answers 101 and then echoes every byte. These are not counted as requests:
 *
 *   GET /__stats              what arrived; with from=US&to=US also how many requests then (seen)
 *   GET /__set?status=500&fail=4&of=5
 *             from now on the first 4 of every 5 answers are 500 (without fail and of: all), each
 *             after delay=MS, with hang=1 never, with hold=1 at the next /__set; /health says
 *             health=N. What is not said is as it was in the beginning
 *   GET /health
 */
#include "lib/clock.h"
#include "lib/loop.h"
#include "lib/options.h"
#include "tests/bench/ask.h"
#include "tests/bench/net.h"
#include "tests/bench/pattern.h"

#include <signal.h>
#include <stdarg.h>
#include <sys/queue.h>

#define IN_MAX	 (64u << 10)
#define OUT_MAX	 (32u << 10)
#define ECHO_MAX (16u << 20)
#define PORTS	 8
#define ARRIVALS (1u << 17) /* times that are kept */

enum phase { HEAD, STALL, BODY, DELAY, ANSWER, TUNNEL, CLOSE };

struct conn {
	struct watch w;
	struct timer timer;
	enum phase phase;
	LIST_ENTRY(conn) link; /* while it is held */
	bool held, stats, close, head_only, chunked, want_out;
	uint64_t answered;
	char in[IN_MAX], out[OUT_MAX];
	size_t in_at, in_len, out_at, out_len;
	struct ask ask;
	struct h1_body body; /* of the request */
	uint64_t body_len;
	bool body_ok;
	char *kept; /* echo, reflect: the answer's body, as it is collected */
	size_t kept_len, kept_cap;
	uint64_t left, at; /* of the answer's body */
};

static const char *opt_port, *opt_name, *opt_size, *opt_delay, *opt_fail, *opt_close_after,
	*opt_idle, *opt_listen;
static bool opt_reuse_reset, opt_titled;
static const struct option_spec options[] = {
	{"port", 'p', "N[,N]", "9000", "ports to listen on", &opt_port},
	{"listen", 0, "IP", "0.0.0.0", "address to listen on", &opt_listen},
	{"name", 'n', "NAME", NULL, "what x-origin says ($MESH_INSTANCE)", &opt_name},
	{"size", 's', "N", "128", "bytes of an ordinary answer", &opt_size},
	{"delay", 'd', "MS", "0", "wait before every answer", &opt_delay},
	{"fail-percent", 0, "N", "0", "so many answers are 500", &opt_fail},
	{"close-after", 0, "N", "0", "close silently after N answers on a connection",
	 &opt_close_after},
	{"idle-close", 0, "MS", "0", "close connections that are idle so long", &opt_idle},
	{"reuse-reset", 0, NULL, NULL, "reset a connection when a second request arrives on it",
	 NULL, &opt_reuse_reset},
	{"titled", 0, NULL, NULL, "overwrite the environment, as for a title", NULL, &opt_titled},
	{0},
};
static const struct program program = {"origin", "[flags]", "HTTP origin for tests", options};

static struct loop loop;
static struct rng rng = {1};
static uint64_t size, delay_ms, fail_percent, close_after, idle_ms;
static struct {
	uint64_t connections, requests, posts, bytes, bad, open, cancelled, checks;
} stats;
static uint64_t arrivals[ARRIVALS]; /* us, of the last requests */
static struct ask mode;		    /* what /__set said last */
static uint64_t turn;		    /* answers since then */
static LIST_HEAD(, conn) all_held;
static char *filler; /* --size bytes of x */

static void conn_run(struct conn *c);

/* --- the answer --------------------------------------------------------------------------------
 */

static void put(struct conn *c, const char *p, size_t n)
{
	memcpy(c->out + c->out_len, p, n);
	c->out_len += n;
}

__attribute__((format(printf, 2, 3))) static void say(struct conn *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	c->out_len += (size_t)vsnprintf(c->out + c->out_len, OUT_MAX - c->out_len, fmt, ap);
	va_end(ap);
}

static void keep(void *arg, const char *p, size_t n)
{
	struct conn *c = arg;

	if (c->ask.has_bseed && !pattern_check(c->ask.bseed, c->body_len, p, n))
		c->body_ok = false;
	c->body_len += n;
	stats.bytes += n;
	if (!c->ask.echo || c->kept_len + n > ECHO_MAX)
		return;
	if (c->kept_len + n > c->kept_cap) {
		c->kept_cap = (c->kept_len + n) * 2;
		c->kept = realloc(c->kept, c->kept_cap);
		if (!c->kept)
			abort();
	}
	memcpy(c->kept + c->kept_len, p, n);
	c->kept_len += n;
}

static uint64_t seen(uint64_t from, uint64_t to)
{
	uint64_t n = stats.requests < ARRIVALS ? stats.requests : ARRIVALS, count = 0;

	for (uint64_t i = stats.requests - n; i < stats.requests; i++)
		count += arrivals[i % ARRIVALS] >= from && arrivals[i % ARRIVALS] < to;
	return count;
}

static void stats_make(struct conn *c)
{
	free(c->kept);
	c->kept_len = (size_t)asprintf(
		&c->kept,
		"{\"connections\":%lu,\"open\":%lu,\"requests\":%lu,\"posts\":%lu,\"bytes\":%lu,"
		"\"bad\":%lu,\"cancelled\":%lu,\"checks\":%lu,\"seen\":%lu}\n",
		stats.connections, stats.open, stats.requests, stats.posts, stats.bytes, stats.bad,
		stats.cancelled, stats.checks, seen(c->ask.from, c->ask.to));
	c->kept_cap = c->kept_len;
}

/* The head of the answer; the body comes from answer_body as room permits. */
static void answer_head(struct conn *c)
{
	struct ask *a = &c->ask;
	bool bodyless = a->status == 204 || a->status == 304 || a->status < 200;

	if (c->stats)
		stats_make(c);
	if (a->has_bseed && !c->body_ok)
		a->status = 500;
	c->left = a->echo || a->reflect || c->stats ? c->kept_len : a->has_len ? a->len : size;
	c->at = 0;
	c->chunked = a->chunked && !bodyless && !a->eof;
	c->close |= a->close || a->eof;
	if (a->interim)
		say(c, "HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\n");
	say(c, "HTTP/1.1 %u Answer\r\nx-origin: %s\r\ncontent-type: text/plain\r\n",
	    (unsigned)a->status, opt_name);
	if (a->has_seed)
		say(c, "x-seed: %lu\r\n", a->seed);
	if (a->has_bseed)
		say(c, "x-body-ok: %d\r\nx-body-bytes: %lu\r\n", c->body_ok, c->body_len);
	if (c->close)
		say(c, "connection: close\r\n");
	if (c->chunked)
		say(c, "%stransfer-encoding: chunked\r\n",
		    a->trailers ? "trailer: x-trail\r\n" : "");
	else if (!bodyless && !a->eof)
		say(c, "content-length: %lu\r\n", c->left);
	put(c, "\r\n", 2);
	if (bodyless || c->head_only) {
		c->left = 0;
		c->chunked = false;
	}
	if (a->abort)
		c->left /= 2;
}

static void body_bytes(struct conn *c, size_t n)
{
	if (c->kept)
		put(c, c->kept + c->at, n);
	else if (c->ask.has_seed) {
		pattern_fill(c->ask.seed, c->at, c->out + c->out_len, n);
		c->out_len += n;
	} else if (filler && c->at + n <= size) {
		put(c, filler + c->at, n);
	} else {
		memset(c->out + c->out_len, 'x', n);
		c->out_len += n;
	}
	c->at += n;
	c->left -= n;
}

/* Fills the output buffer; true when the whole answer is in it. */
static bool answer_body(struct conn *c)
{
	while (c->left && OUT_MAX - c->out_len > 64) {
		size_t room = OUT_MAX - c->out_len - 48, n = c->left < room ? c->left : room;

		if (!c->chunked) {
			body_bytes(c, n);
			continue;
		}
		n = n < c->ask.chunked ? n : c->ask.chunked;
		say(c, "%zx\r\n", n);
		body_bytes(c, n);
		put(c, "\r\n", 2);
	}
	if (c->left || (c->chunked && OUT_MAX - c->out_len < 128))
		return false;
	if (c->ask.abort)
		return true;
	if (c->chunked && c->ask.trailers)
		say(c, "0\r\nx-trail: %lu\r\n\r\n", c->ask.seed);
	else if (c->chunked)
		say(c, "0\r\n\r\n");
	return true;
}

/* --- a connection ------------------------------------------------------------------------------
 */

static void conn_free(struct conn *c)
{
	int fd = c->w.fd;

	if (c->held)
		LIST_REMOVE(c, link);
	timer_cancel(&loop, &c->timer);
	loop_del(&loop, &c->w);
	close(fd);
	free(c->kept);
	free(c);
	stats.open--;
}

/* true when everything is out; false when the socket is full or broken (then *broken). */
static bool flush_out(struct conn *c, bool *broken)
{
	while (c->out_at < c->out_len) {
		ssize_t n = send(c->w.fd, c->out + c->out_at, c->out_len - c->out_at, MSG_NOSIGNAL);

		if (n < 0) {
			*broken = errno != EAGAIN;
			return false;
		}
		c->out_at += (size_t)n;
	}
	c->out_at = c->out_len = 0;
	return true;
}

static void on_timer(struct timer *t)
{
	struct conn *c = (struct conn *)((char *)t - offsetof(struct conn, timer));

	if (c->phase == HEAD) { /* idle too long */
		conn_free(c);
		return;
	}
	c->phase = c->phase == STALL ? BODY : ANSWER;
	if (c->phase == ANSWER)
		answer_head(c);
	conn_run(c);
}

static void answer_held(void)
{
	for (struct conn *c; (c = LIST_FIRST(&all_held));) {
		LIST_REMOVE(c, link);
		c->held = false;
		c->phase = ANSWER;
		answer_head(c);
		conn_run(c);
	}
}

/* What the request wants, and what /__set and the flags make of it. */
static void take_ask(struct conn *c, const struct h1_slice *line)
{
	bool set = !strncmp(line->p, "GET /__set?", 11),
	     check = !strncmp(line->p, "GET /health ", 12);

	ask_parse(&c->ask, line, set ? delay_ms : mode.delay);
	c->stats = set || check || !strncmp(line->p, "GET /__stats", 12);
	if (set) {
		mode = c->ask;
		turn = 0;
		answer_held();
	}
	if (c->stats) {
		stats.checks += check;
		c->ask.status = check && mode.health ? mode.health : 200;
		c->ask.delay = c->ask.hang = c->ask.hold = 0;
		return;
	}
	arrivals[stats.requests++ % ARRIVALS] = clock_mono_ns() / 1000;
	c->ask.hang |= mode.hang;
	c->ask.hold |= mode.hold;
	if (mode.status != 200 && (!mode.of || turn % mode.of < mode.fail))
		c->ask.status = mode.status;
	turn++;
	if (fail_percent && rng_below(&rng, 100) < fail_percent)
		c->ask.status = 500;
}

/* Takes a whole head from the input. 1 when there is one, 0 when more is needed, -1 to close. */
static int take_head(struct conn *c)
{
	struct h1_head h;
	ssize_t n = h1_head_parse(c->in + c->in_at, c->in_len - c->in_at, &h);

	if (n <= 0) {
		stats.bad += n < 0;
		return (int)n;
	}
	timer_cancel(&loop, &c->timer);
	take_ask(c, &h.first);
	stats.posts += !strncmp(h.first.p, "POST ", 5);
	if (opt_reuse_reset && c->answered && !c->stats)
		return -1;
	c->head_only = !strncmp(h.first.p, "HEAD ", 5);
	c->close |= h1_has(&h, "connection", "close");
	c->body_len = c->kept_len = 0;
	c->body_ok = true;
	h1_body_of(&c->body, &h, false);
	if (c->ask.reflect) {
		c->ask.echo = true;
		keep(c, c->in + c->in_at, (size_t)n);
		c->ask.echo = false;
		c->body_len = 0;
	}
	if (h1_find(&h, "upgrade")) {
		const struct h1_slice *u = h1_find(&h, "upgrade");

		say(c,
		    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: %.*s\r\n"
		    "x-origin: %s\r\n\r\n",
		    (int)u->n, u->p, opt_name);
		c->phase = TUNNEL;
	} else {
		c->phase = BODY;
		if (h1_has(&h, "expect", "100-continue") && c->ask.refuse) {
			c->ask.status = 417;
			c->close = true;
			h1_body_start(&c->body, H1_NONE, 0);
		} else if (h1_has(&h, "expect", "100-continue")) {
			say(c, "HTTP/1.1 100 Continue\r\n\r\n");
		}
		if (c->ask.stall) {
			c->phase = STALL;
			timer_arm(&loop, &c->timer, c->ask.stall, on_timer);
		}
	}
	c->in_at += (size_t)n;
	return 1;
}

/* The request is here: answer, or do what it wants instead. -1 to close. */
static int request_done(struct conn *c)
{
	if (c->ask.abort == 1)
		return -1;
	if (c->ask.raw_len) {
		put(c, c->ask.raw, c->ask.raw_len);
		c->left = 0;
		c->chunked = false;
		c->close = true;
		c->phase = ANSWER;
		return 0;
	}
	if (c->ask.delay || c->ask.hang || c->ask.hold) {
		c->phase = DELAY;
		c->held = c->ask.hold;
		if (c->held)
			LIST_INSERT_HEAD(&all_held, c, link);
		else if (!c->ask.hang)
			timer_arm(&loop, &c->timer, c->ask.delay, on_timer);
		return 0;
	}
	c->phase = ANSWER;
	answer_head(c);
	return 0;
}

/* One step with the bytes at hand. 1: go on, 0: needs input or a timer, -1: close. */
static int step(struct conn *c)
{
	ssize_t n;

	switch (c->phase) {
	case HEAD:
		return c->in_at < c->in_len ? take_head(c) : 0;
	case BODY:
		n = h1_body_feed(&c->body, c->in + c->in_at, c->in_len - c->in_at, keep, c);
		if (n < 0) {
			stats.bad++;
			return -1;
		}
		c->in_at += (size_t)n;
		if (!c->body.done)
			return 0;
		return request_done(c) ? -1 : 1;
	case ANSWER:
		if (!answer_body(c))
			return c->out_len < OUT_MAX / 2;
		c->answered++;
		free(c->kept);
		c->kept = NULL;
		c->kept_cap = c->kept_len = 0;
		c->phase = HEAD;
		return c->close || c->ask.abort || c->answered == close_after ? -1 : 1;
	case TUNNEL:
		n = (ssize_t)(c->in_len - c->in_at);
		if (n > (ssize_t)(OUT_MAX - c->out_len))
			n = (ssize_t)(OUT_MAX - c->out_len);
		put(c, c->in + c->in_at, (size_t)n);
		c->in_at += (size_t)n;
		return n > 0;
	case STALL:
	case DELAY:
	case CLOSE:
		break;
	}
	return 0;
}

/* Reads once. 1: bytes came, 0: none now, -1: the connection is at its end. */
static int fill_in(struct conn *c)
{
	ssize_t n;

	if (c->in_at) {
		memmove(c->in, c->in + c->in_at, c->in_len - c->in_at);
		c->in_len -= c->in_at;
		c->in_at = 0;
	}
	if (c->in_len == IN_MAX)
		return c->phase == HEAD ? -1 : 0;
	n = recv(c->w.fd, c->in + c->in_len, IN_MAX - c->in_len, 0);
	if (n > 0) {
		c->in_len += (size_t)n;
		return 1;
	}
	return n < 0 && errno == EAGAIN ? 0 : -1;
}

static void on_events(struct watch *w, uint32_t events)
{
	conn_run((struct conn *)w);
}

static void wait_for(struct conn *c, bool out)
{
	if (out != c->want_out && !loop_mod(&loop, &c->w, out ? EPOLLOUT : EPOLLIN))
		c->want_out = out;
	if (c->phase == HEAD && idle_ms)
		timer_arm(&loop, &c->timer, idle_ms, on_timer);
}

/* Everything that can be done now. Answers to pipelined requests leave in one write. */
static void conn_run(struct conn *c)
{
	bool broken = false;

	for (;;) {
		bool full = c->out_len >= OUT_MAX / 2;
		int did = full ? 0 : step(c);

		if (did < 0)
			c->phase = CLOSE;
		if (did > 0)
			continue;
		if (!flush_out(c, &broken)) {
			if (!broken) {
				wait_for(c, true);
				return;
			}
			c->phase = CLOSE;
		}
		if (full || c->phase == ANSWER)
			continue;
		did = c->phase == STALL ? 0 : fill_in(c);
		if (did < 0 || c->phase == CLOSE) {
			stats.cancelled += c->phase == DELAY;
			conn_free(c);
			return;
		}
		if (!did) {
			wait_for(c, false);
			return;
		}
	}
}

static void on_accept(struct watch *w, uint32_t events)
{
	for (int fd; (fd = accept4(w->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
		struct conn *c = malloc(sizeof(*c));

		if (!c) {
			close(fd);
			return;
		}
		memset(c, 0, offsetof(struct conn, in));
		memset(&c->in_at, 0, sizeof(*c) - offsetof(struct conn, in_at));
		net_nodelay(fd);
		stats.connections++;
		stats.open++;
		if (loop_add(&loop, &c->w, fd, EPOLLIN, on_events)) {
			close(fd);
			free(c);
			return;
		}
		conn_run(c);
	}
}

static int listen_all(void)
{
	static struct watch listeners[PORTS];
	struct addr a = {0};
	const char *p = opt_port;

	for (int i = 0; i < PORTS && *p; i++) {
		int fd;

		if (addr_parse_ip(opt_listen, a.ip))
			return -EINVAL;
		a.port = (uint16_t)atoi(p);
		fd = net_listen(&a);
		if (fd < 0)
			return fd;
		if (loop_add(&loop, &listeners[i], fd, EPOLLIN, on_accept))
			return -EIO;
		p += strcspn(p, ",");
		p += *p == ',';
	}
	return 0;
}

/* As programs do that write a title where `ps` finds it; what is needed of it must be copied. */
static void overwrite_environment(void)
{
	opt_name = strdup(opt_name);
	for (char **e = environ; *e; e++)
		memset(*e, 0, strlen(*e));
}

int main(int argc, char **argv)
{
	int err;

	(void)options_parse(&program, argc, argv);
	if (!opt_name)
		opt_name = getenv("MESH_INSTANCE") ?: "origin";
	if (opt_titled)
		overwrite_environment();
	size = strtoull(opt_size, NULL, 10);
	delay_ms = strtoull(opt_delay, NULL, 10);
	fail_percent = strtoull(opt_fail, NULL, 10);
	close_after = strtoull(opt_close_after, NULL, 10);
	idle_ms = strtoull(opt_idle, NULL, 10);
	mode.status = 200;
	mode.delay = delay_ms;
	filler = malloc(size + 1);
	if (filler)
		memset(filler, 'x', size);
	net_raise_nofile();
	signal(SIGPIPE, SIG_IGN);
	err = loop_init(&loop);
	if (!err)
		err = listen_all();
	if (!err)
		err = loop_run(&loop);
	if (err)
		fprintf(stderr, "origin: %s\n", strerror(-err));
	return err ? 1 : 0;
}
