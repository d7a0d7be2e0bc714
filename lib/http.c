/* SPDX-License-Identifier: Apache-2.0 */
/* See http.h. One blocking call, and the same on a loop by libcurl's multi socket interface. */
#include "lib/http.h"
#include "lib/buf.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define URL_MAX		   4096
#define DEFAULT_TIMEOUT_MS 10000

/* One request under way; the asynchronous fields are unused by http_call(). */
struct call {
	const struct http_taker *taker; /* of http_stream() alone */
	struct call *next, **prev;
	struct http_client *client;
	CURL *easy;
	struct curl_slist *headers;
	struct buf body;
	char etag[sizeof(((struct http_answer *)0)->etag)];
	void (*done)(const struct http_answer *a, void *arg);
	void *arg;
};

struct http_client {
	struct loop *loop;
	CURLM *multi;
	struct call *calls;
	struct timer timer;
	struct watch kick;  /* an eventfd: "now" without waiting for a tick of the timer wheel */
	bool in_done, dead; /* a callback is running; it has freed the client */
};

struct socket_watch {
	struct watch watch;
	struct http_client *client;
};

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
	struct call *c = arg;

	buf_add(&c->body, data, size * n);
	return c->body.failed ? 0 : size * n;
}

static size_t on_header(char *line, size_t size, size_t n, void *arg)
{
	struct call *c = arg;
	size_t len = size * n, at = 5;

	if (len < 5 || strncasecmp(line, "etag:", 5))
		return len;
	while (at < len && (line[at] == ' ' || line[at] == '\t'))
		at++;
	while (len > at && (line[len - 1] == '\r' || line[len - 1] == '\n' || line[len - 1] == ' '))
		len--;
	/* half an entity tag would be another one: rather none */
	if (len - at < sizeof(c->etag)) {
		memcpy(c->etag, line + at, len - at);
		c->etag[len - at] = 0;
	}
	return size * n;
}

/* No byte that could end the request line or a header. */
static bool plain(const char *s, bool blanks)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f || (*s == ' ' && !blanks))
			return false;
	return true;
}

static int add_header(struct call *c, const char *name, const char *value)
{
	char line[URL_MAX];
	struct curl_slist *l;
	int n = snprintf(line, sizeof(line), "%s%s", name, value);

	if (n < 0 || (size_t)n >= sizeof(line) || !plain(value, true))
		return -EINVAL;
	l = curl_slist_append(c->headers, line);
	if (!l)
		return -ENOMEM;
	c->headers = l;
	return 0;
}

static int set_headers(struct call *c, const struct http_call *h)
{
	char bearer[URL_MAX];
	int r = add_header(c, "Expect:", ""); /* never wait for 100-continue */

	if (!r && h->body)
		r = add_header(c, "Content-Type: application/json", "");
	if (!r && h->if_match)
		r = add_header(c, "If-Match: ", h->if_match);
	if (!r && h->if_none_match)
		r = add_header(c, "If-None-Match: ", h->if_none_match);
	if (!r && h->token) {
		if ((size_t)snprintf(bearer, sizeof(bearer), "Bearer %s", h->token) >=
		    sizeof(bearer))
			return -EINVAL;
		r = add_header(c, "Authorization: ", bearer);
	}
	if (r)
		return r;
	return curl_easy_setopt(c->easy, CURLOPT_HTTPHEADER, c->headers) ? -ENOMEM : 0;
}

static int set_target(CURL *e, const struct http_call *h)
{
	bool local = !strncmp(h->base, "unix:", 5);
	const char *base = local ? "http://localhost" : h->base;
	char url[URL_MAX];
	size_t base_len = strlen(base);

	if (strncmp(base, "http://", 7) || !plain(base, false) || h->path[0] != '/' ||
	    !plain(h->path, false))
		return -EINVAL;
	while (base_len && base[base_len - 1] == '/')
		base_len--;
	if ((size_t)snprintf(url, sizeof(url), "%.*s%s", (int)base_len, base, h->path) >=
	    sizeof(url))
		return -EINVAL;
	if (local && curl_easy_setopt(e, CURLOPT_UNIX_SOCKET_PATH, h->base + 5))
		return -EINVAL;
	return curl_easy_setopt(e, CURLOPT_URL, url) ? -ENOMEM : 0;
}

static int set_method(CURL *e, const struct http_call *h)
{
	bool sends = h->body || !strcmp(h->method, "POST") || !strcmp(h->method, "PUT") ||
		     !strcmp(h->method, "PATCH");
	CURLcode r = CURLE_OK;

	if (!*h->method || !plain(h->method, false))
		return -EINVAL;
	if (sends) {
		curl_off_t len = h->body ? (curl_off_t)h->body_len : 0;

		r = curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, len);
		if (!r)
			r = curl_easy_setopt(e, CURLOPT_COPYPOSTFIELDS, h->body ? h->body : "");
	}
	if (!r && !strcmp(h->method, "HEAD"))
		r = curl_easy_setopt(e, CURLOPT_NOBODY, 1L);
	else if (!r)
		r = curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, h->method);
	return r ? -ENOMEM : 0;
}

static int set_limits(struct call *c, const struct http_call *h)
{
	long timeout = h->timeout_ms ? (long)h->timeout_ms : DEFAULT_TIMEOUT_MS;
	CURL *e = c->easy;

	return curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L) ||
			       curl_easy_setopt(e, CURLOPT_NOPROXY, "*") ||
			       curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http") ||
			       curl_easy_setopt(e, CURLOPT_HTTP_VERSION,
						(long)CURL_HTTP_VERSION_1_1) ||
			       curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, timeout) ||
			       curl_easy_setopt(e, CURLOPT_MAXFILESIZE_LARGE,
						(curl_off_t)HTTP_ANSWER_MAX) ||
			       curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body) ||
			       curl_easy_setopt(e, CURLOPT_WRITEDATA, c) ||
			       curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header) ||
			       curl_easy_setopt(e, CURLOPT_HEADERDATA, c) ||
			       curl_easy_setopt(e, CURLOPT_PRIVATE, c)
		       ? -EINVAL
		       : 0;
}

static void call_done(struct call *c)
{
	curl_easy_cleanup(c->easy);
	curl_slist_free_all(c->headers);
	buf_done(&c->body);
}

static int call_init(struct call *c, const struct http_call *h)
{
	int r;

	memset(c, 0, sizeof(*c));
	buf_init(&c->body, HTTP_ANSWER_MAX);
	c->easy = curl_easy_init();
	if (!c->easy)
		return -ENOMEM;
	r = set_limits(c, h);
	if (!r)
		r = set_target(c->easy, h);
	if (!r)
		r = set_method(c->easy, h);
	if (!r)
		r = set_headers(c, h);
	if (r)
		call_done(c);
	return r;
}

static int connect_error(CURL *e)
{
	long os = 0;

	if (curl_easy_getinfo(e, CURLINFO_OS_ERRNO, &os) || os <= 0)
		return -ECONNREFUSED;
	return -(int)os;
}

static int map_error(const struct call *c, CURLcode code)
{
	switch (code) {
	case CURLE_OK:
		return 0;
	case CURLE_COULDNT_CONNECT:
		return connect_error(c->easy);
	case CURLE_OPERATION_TIMEDOUT:
		return -ETIMEDOUT;
	case CURLE_FILESIZE_EXCEEDED:
	case CURLE_WRITE_ERROR: /* on_body() refused */
		return -EMSGSIZE;
	case CURLE_OUT_OF_MEMORY:
		return -ENOMEM;
	case CURLE_GOT_NOTHING:
	case CURLE_SEND_ERROR:
	case CURLE_RECV_ERROR:
		return -ECONNRESET;
	case CURLE_COULDNT_RESOLVE_HOST:
		return -EHOSTUNREACH;
	case CURLE_URL_MALFORMAT:
		return -EINVAL;
	default:
		return -EPROTO;
	}
}

static void take_answer(struct call *c, CURLcode code, struct http_answer *a)
{
	long status = 0;

	memset(a, 0, sizeof(*a));
	a->error = map_error(c, code);
	if (a->error)
		return;
	if (curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status))
		status = 0;
	a->status = (int)status;
	a->len = c->body.len;
	a->body = buf_take(&c->body);
	if (!a->body)
		a->error = -ENOMEM;
	memcpy(a->etag, c->etag, sizeof(a->etag));
}

int http_call(const struct http_call *h, struct http_answer *a)
{
	struct call c;
	int r = call_init(&c, h);

	if (r) {
		*a = (struct http_answer){.error = r};
		return r;
	}
	take_answer(&c, curl_easy_perform(c.easy), a);
	call_done(&c);
	return a->error;
}

void http_answer_done(struct http_answer *a)
{
	free(a->body);
	*a = (struct http_answer){0};
}

/* --- a body that is taken while it comes ---------------------------------------------- */

static size_t on_piece(char *data, size_t size, size_t n, void *arg)
{
	struct call *c = arg;
	long status = 0;

	if (curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status) || status != 200)
		return on_body(data, size, n, arg);
	return c->taker->take(data, size * n, c->taker->arg) ? 0 : size * n;
}

static int set_endless(struct call *c, const struct http_call *h)
{
	long connect = h->timeout_ms ? (long)h->timeout_ms : DEFAULT_TIMEOUT_MS;
	CURL *e = c->easy;

	return curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, 0L) ||
			       curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, connect) ||
			       curl_easy_setopt(e, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)0) ||
			       curl_easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, 1L) ||
			       curl_easy_setopt(e, CURLOPT_LOW_SPEED_TIME,
						(long)(c->taker->idle_ms + 999) / 1000) ||
			       curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_piece)
		       ? -EINVAL
		       : 0;
}

/* Until the transfer has ended; its result is *out. 0 or -errno. */
static int drive(CURLM *multi, int stop_fd, CURLcode *out)
{
	struct curl_waitfd stop = {.fd = stop_fd, .events = CURL_WAIT_POLLIN};
	int running, left;
	CURLMsg *m;

	for (;;) {
		if (curl_multi_perform(multi, &running))
			return -EIO;
		m = curl_multi_info_read(multi, &left);
		if (m && m->msg == CURLMSG_DONE) {
			*out = m->data.result;
			return 0;
		}
		if (curl_multi_poll(multi, &stop, stop_fd >= 0, 1000, NULL))
			return -EIO;
		if (stop.revents)
			return -ECANCELED;
	}
}

int http_stream(const struct http_call *h, const struct http_taker *t, struct http_answer *a)
{
	CURLM *multi = curl_multi_init();
	CURLcode code = CURLE_OK;
	struct call c;
	int r = multi ? call_init(&c, h) : -ENOMEM;

	*a = (struct http_answer){.error = r};
	if (r)
		goto out;
	c.taker = t;
	r = set_endless(&c, h);
	if (!r && curl_multi_add_handle(multi, c.easy))
		r = -ENOMEM;
	if (!r) {
		r = drive(multi, t->stop_fd, &code);
		curl_multi_remove_handle(multi, c.easy);
	}
	take_answer(&c, code, a);
	if (!r && code == CURLE_WRITE_ERROR && !c.body.failed)
		r = -ECANCELED;
	if (r)
		a->error = r;
	call_done(&c);
out:
	if (multi)
		curl_multi_cleanup(multi);
	return a->error;
}

int http_escape(const char *s, char *out, size_t cap)
{
	static const char hex[] = "0123456789ABCDEF";
	size_t at = 0;

	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;
		bool safe = (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') ||
			    c == '-' || c == '.' || c == '_' || c == '~';

		if (cap - at <= (safe ? 1 : 3))
			return -ENOBUFS;
		if (safe) {
			out[at++] = (char)c;
		} else {
			out[at++] = '%';
			out[at++] = hex[c >> 4];
			out[at++] = hex[c & 15];
		}
	}
	if (at >= cap)
		return -ENOBUFS;
	out[at] = 0;
	return 0;
}

/* --- on a loop ----------------------------------------------------------------------- */

static void call_free(struct call *c)
{
	*c->prev = c->next;
	if (c->next)
		c->next->prev = c->prev;
	curl_multi_remove_handle(c->client->multi, c->easy);
	call_done(c);
	free(c);
}

static void client_destroy(struct http_client *hc)
{
	while (hc->calls)
		call_free(hc->calls);
	curl_multi_cleanup(hc->multi);
	timer_cancel(hc->loop, &hc->timer);
	if (hc->kick.fd >= 0) {
		int fd = hc->kick.fd;

		loop_del(hc->loop, &hc->kick);
		close(fd);
	}
	free(hc);
}

/* Delivers what is finished. A callback may start calls and may free the client. */
static void deliver(struct http_client *hc)
{
	struct http_answer answer;
	struct call *c = NULL;
	CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(hc->multi, &left))) {
		void (*done)(const struct http_answer *, void *);
		void *arg;

		if (m->msg != CURLMSG_DONE ||
		    curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &c))
			continue;
		take_answer(c, m->data.result, &answer);
		done = c->done;
		arg = c->arg;
		call_free(c);
		hc->in_done = true;
		done(&answer, arg);
		hc->in_done = false;
		http_answer_done(&answer);
		if (hc->dead) {
			client_destroy(hc);
			return;
		}
	}
}

static void act(struct http_client *hc, curl_socket_t fd, int events)
{
	int running;

	curl_multi_socket_action(hc->multi, fd, events, &running);
	deliver(hc);
}

static void on_timer(struct timer *t)
{
	act((struct http_client *)((char *)t - offsetof(struct http_client, timer)),
	    CURL_SOCKET_TIMEOUT, 0);
}

static void on_kick(struct watch *w, uint32_t events)
{
	uint64_t n;

	if (read(w->fd, &n, sizeof(n)) == sizeof(n))
		act((struct http_client *)((char *)w - offsetof(struct http_client, kick)),
		    CURL_SOCKET_TIMEOUT, 0);
}

static void on_socket(struct watch *w, uint32_t events)
{
	struct socket_watch *sw = (struct socket_watch *)w;
	int bits = (events & EPOLLIN ? CURL_CSELECT_IN : 0) |
		   (events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
		   (events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);

	act(sw->client, w->fd, bits); /* may free sw */
}

static int timer_changed(CURLM *m, long ms, void *arg)
{
	struct http_client *hc = arg;
	uint64_t one = 1;

	timer_cancel(hc->loop, &hc->timer);
	if (ms > 0)
		timer_arm(hc->loop, &hc->timer, (uint64_t)ms, on_timer);
	else if (ms == 0 && write(hc->kick.fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		return -1;
	return 0;
}

static int socket_changed(CURL *e, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
	struct http_client *hc = arg;
	struct socket_watch *sw = socket_arg;
	uint32_t events =
		(what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);

	if (what == CURL_POLL_REMOVE) {
		if (sw)
			loop_del(hc->loop, &sw->watch);
		free(sw);
		return 0;
	}
	if (sw)
		return loop_mod(hc->loop, &sw->watch, events) ? -1 : 0;
	sw = calloc(1, sizeof(*sw));
	if (!sw)
		return -1;
	sw->client = hc;
	if (loop_add(hc->loop, &sw->watch, fd, events, on_socket)) {
		free(sw);
		return -1;
	}
	curl_multi_assign(hc->multi, fd, sw);
	return 0;
}

int http_client_new(struct loop *l, struct http_client **out)
{
	struct http_client *hc = calloc(1, sizeof(*hc));
	int fd, r = 0;

	if (!hc)
		return -ENOMEM;
	hc->loop = l;
	hc->kick.fd = -1;
	hc->multi = curl_multi_init();
	fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (fd < 0)
		r = -errno;
	else if (!hc->multi)
		r = -ENOMEM;
	if (!r)
		r = loop_add(l, &hc->kick, fd, EPOLLIN, on_kick);
	if (r && fd >= 0)
		close(fd);
	if (!r && (curl_multi_setopt(hc->multi, CURLMOPT_SOCKETFUNCTION, socket_changed) ||
		   curl_multi_setopt(hc->multi, CURLMOPT_SOCKETDATA, hc) ||
		   curl_multi_setopt(hc->multi, CURLMOPT_TIMERFUNCTION, timer_changed) ||
		   curl_multi_setopt(hc->multi, CURLMOPT_TIMERDATA, hc)))
		r = -ENOMEM;
	if (r) {
		client_destroy(hc);
		return r;
	}
	*out = hc;
	return 0;
}

void http_client_free(struct http_client **c)
{
	struct http_client *hc = *c;

	*c = NULL;
	if (hc && hc->in_done)
		hc->dead = true;
	else if (hc)
		client_destroy(hc);
}

int http_client_start(struct http_client *hc, const struct http_call *h,
		      void (*done)(const struct http_answer *a, void *arg), void *arg)
{
	struct call *c = malloc(sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	r = call_init(c, h);
	if (r) {
		free(c);
		return r;
	}
	c->client = hc;
	c->done = done;
	c->arg = arg;
	c->next = hc->calls;
	c->prev = &hc->calls;
	if (c->next)
		c->next->prev = &c->next;
	hc->calls = c;
	if (curl_multi_add_handle(hc->multi, c->easy)) {
		call_free(c);
		return -ENOMEM;
	}
	return 0;
}
