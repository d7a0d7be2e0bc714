/* SPDX-License-Identifier: Apache-2.0 */
/* See http.h. A call, and waiting for it; calls on a loop are in http_loop.c. */
#include "lib/http_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define URL_MAX		   4096
#define DEFAULT_TIMEOUT_MS 10000
#define UPLOAD_LARGE	   (512L << 10) /* bytes given to a socket at once, of a body that has more */

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

/* --- a body in pieces ---------------------------------------------------------------- */

static size_t on_read(char *out, size_t size, size_t n, void *arg)
{
	size_t room = size * n, len = 0;
	struct call *c = arg;

	while (len < room && c->piece < c->npieces) {
		const struct iovec *p = &c->pieces[c->piece];
		size_t now = p->iov_len - c->at < room - len ? p->iov_len - c->at : room - len;

		memcpy(out + len, (const char *)p->iov_base + c->at, now);
		len += now;
		c->at += now;
		if (c->at == p->iov_len) {
			c->piece++;
			c->at = 0;
		}
	}
	return len;
}

/* A connection that was kept may turn out to be closed: then all of it goes over another. */
static int on_seek(void *arg, curl_off_t offset, int origin)
{
	struct call *c = arg;

	if (offset || origin != SEEK_SET)
		return CURL_SEEKFUNC_CANTSEEK;
	c->piece = c->at = 0;
	return CURL_SEEKFUNC_OK;
}

static int set_pieces(struct call *c, const struct http_call *h)
{
	curl_off_t len = 0;

	c->pieces = calloc(h->npieces, sizeof(*c->pieces));
	if (!c->pieces)
		return -ENOMEM;
	c->npieces = h->npieces;
	memcpy(c->pieces, h->pieces, h->npieces * sizeof(*c->pieces));
	for (size_t i = 0; i < h->npieces; i++)
		len += (curl_off_t)h->pieces[i].iov_len;
	if (len > UPLOAD_LARGE &&
	    curl_easy_setopt(c->easy, CURLOPT_UPLOAD_BUFFERSIZE, UPLOAD_LARGE))
		return -ENOMEM;
	return curl_easy_setopt(c->easy, CURLOPT_POST, 1L) ||
			       curl_easy_setopt(c->easy, CURLOPT_POSTFIELDSIZE_LARGE, len) ||
			       curl_easy_setopt(c->easy, CURLOPT_READFUNCTION, on_read) ||
			       curl_easy_setopt(c->easy, CURLOPT_READDATA, c) ||
			       curl_easy_setopt(c->easy, CURLOPT_SEEKFUNCTION, on_seek) ||
			       curl_easy_setopt(c->easy, CURLOPT_SEEKDATA, c)
		       ? -ENOMEM
		       : 0;
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

	if (!r && (h->body || h->npieces))
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

static int set_body(struct call *c, const struct http_call *h)
{
	curl_off_t len = h->body ? (curl_off_t)h->body_len : 0;

	if (h->npieces)
		return set_pieces(c, h);
	return curl_easy_setopt(c->easy, CURLOPT_POSTFIELDSIZE_LARGE, len) ||
			       curl_easy_setopt(c->easy, CURLOPT_COPYPOSTFIELDS,
						h->body ? h->body : "")
		       ? -ENOMEM
		       : 0;
}

static int set_method(struct call *c, const struct http_call *h)
{
	bool sends = h->body || h->npieces || !strcmp(h->method, "POST") ||
		     !strcmp(h->method, "PUT") || !strcmp(h->method, "PATCH");
	CURLcode r;

	if (!*h->method || !plain(h->method, false))
		return -EINVAL;
	if (sends && set_body(c, h))
		return -ENOMEM;
	if (!strcmp(h->method, "HEAD"))
		r = curl_easy_setopt(c->easy, CURLOPT_NOBODY, 1L);
	else
		r = curl_easy_setopt(c->easy, CURLOPT_CUSTOMREQUEST, h->method);
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

void http_call_end(struct call *c)
{
	curl_easy_cleanup(c->easy);
	curl_slist_free_all(c->headers);
	free(c->pieces);
	buf_done(&c->body);
}

int http_call_begin(struct call *c, const struct http_call *h)
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
		r = set_method(c, h);
	if (!r)
		r = set_headers(c, h);
	if (r)
		http_call_end(c);
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

void http_call_answer(struct call *c, CURLcode code, struct http_answer *a)
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
	int r = http_call_begin(&c, h);

	if (r) {
		*a = (struct http_answer){.error = r};
		return r;
	}
	http_call_answer(&c, curl_easy_perform(c.easy), a);
	http_call_end(&c);
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
	int r = multi ? http_call_begin(&c, h) : -ENOMEM;

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
	http_call_answer(&c, code, a);
	if (!r && code == CURLE_WRITE_ERROR && !c.body.failed)
		r = -ECANCELED;
	if (r)
		a->error = r;
	http_call_end(&c);
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
