/* SPDX-License-Identifier: Apache-2.0 */
/* See send.h. One connection, kept open, driven by curl's multi interface because only that can be
 * woken. */
#include "ctl/meshd/otlp/send.h"
#include "lib/clock.h"
#include "lib/json.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define URL_MAX	    2048
#define HEADERS_MAX 4096
#define PACKED_MAX  (OTLP_QUEUE_BYTES + (1u << 20))
#define STEP_MS	    1000 /* of waiting for an answer, at most at a time */

struct sender {
	CURLM *multi;
	CURL *easy;
	struct curl_slist *headers;
	char url[URL_MAX];
	struct buf packed, answer;
};

static uint64_t now_ms(void)
{
	return clock_mono_ns() / 1000000;
}

/* --- where to, and with what --------------------------------------------------------- */

/* OTLP/HTTP: the path of a base URL is kept, v1/traces comes behind it. */
static int make_url(const char *endpoint, char out[URL_MAX])
{
	size_t len = strlen(endpoint);
	CURLU *u = curl_url();
	char *scheme = NULL, *host = NULL;
	int err = u ? 0 : -ENOMEM;

	while (len && endpoint[len - 1] == '/')
		len--;
	if (!err && (strpbrk(endpoint, "?# \r\n") || curl_url_set(u, CURLUPART_URL, endpoint, 0) ||
		     curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) ||
		     curl_url_get(u, CURLUPART_HOST, &host, 0) ||
		     (strcmp(scheme, "http") && strcmp(scheme, "https"))))
		err = -EINVAL;
	if (!err && snprintf(out, URL_MAX, "%.*s/v1/traces", (int)len, endpoint) >= URL_MAX)
		err = -EINVAL;
	curl_free(scheme);
	curl_free(host);
	curl_url_cleanup(u);
	return err;
}

static int add_header(struct sender *s, const char *line)
{
	struct curl_slist *l = curl_slist_append(s->headers, line);

	if (!l)
		return -ENOMEM;
	s->headers = l;
	return 0;
}

/* A value may have blanks but no control characters: it must not become another header. */
static bool header_valid(const char *name, size_t name_len, const char *value, size_t len)
{
	static const char token[] = "!#$%&'*+-.^_`|~0123456789"
				    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

	for (size_t i = 0; i < len; i++)
		if ((unsigned char)value[i] < ' ' || value[i] == 0x7f)
			return false;
	return name_len && strspn(name, token) >= name_len;
}

static size_t trim(const char **s, size_t len)
{
	while (len && **s == ' ') {
		(*s)++;
		len--;
	}
	while (len && (*s)[len - 1] == ' ')
		len--;
	return len;
}

/* "NAME=VALUE,NAME=VALUE", as in OTEL_EXPORTER_OTLP_HEADERS. */
static int add_headers(struct sender *s, const char *list)
{
	char line[HEADERS_MAX];
	int err = 0;

	for (const char *p = list; *p && !err;) {
		size_t len = strcspn(p, ","), left;
		const char *equals = memchr(p, '=', len), *name = p, *value;

		if (!equals || len >= sizeof(line) - 2)
			return -EINVAL;
		value = equals + 1;
		left = trim(&value, len - (size_t)(value - p));
		len = trim(&name, (size_t)(equals - p));
		if (!header_valid(name, len, value, left))
			return -EINVAL;
		snprintf(line, sizeof(line), "%.*s: %.*s", (int)len, name, (int)left, value);
		err = add_header(s, line);
		p = value + left;
		p += strcspn(p, ",");
		p += *p == ',';
	}
	return err;
}

static int make_headers(struct sender *s, const char *more)
{
	int err = add_header(s, "Content-Type: application/json");

	if (!err)
		err = add_header(s, "Content-Encoding: gzip");
	if (!err)
		err = add_header(s, "Expect:"); /* no round trip before the body */
	return err || !more ? err : add_headers(s, more);
}

/* --- life ---------------------------------------------------------------------------- */

static size_t on_answer(char *data, size_t size, size_t n, void *arg)
{
	buf_add(arg, data, size * n); /* what is too long is cut: it is only looked at */
	return size * n;
}

static int set_options(struct sender *s, const struct otlp_config *c)
{
	long call_ms = c->call_ms ? (long)c->call_ms : OTLP_CALL_MS;
	CURL *e = s->easy;

	/* without QUICK_EXIT the end would wait for a name to be found */
	return curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L) ||
			       curl_easy_setopt(e, CURLOPT_QUICK_EXIT, 1L) ||
			       curl_easy_setopt(e, CURLOPT_NOPROXY, "*") ||
			       curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https") ||
			       curl_easy_setopt(e, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1) ||
			       curl_easy_setopt(e, CURLOPT_USERAGENT, "meshd/" MESH_VERSION) ||
			       curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, call_ms) ||
			       curl_easy_setopt(e, CURLOPT_URL, s->url) ||
			       curl_easy_setopt(e, CURLOPT_HTTPHEADER, s->headers) ||
			       curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_answer) ||
			       curl_easy_setopt(e, CURLOPT_WRITEDATA, &s->answer)
		       ? -ENOMEM
		       : 0;
}

int sender_new(const struct otlp_config *c, struct sender **out, char *why, size_t cap)
{
	struct sender *s = calloc(1, sizeof(*s));
	int err;

	snprintf(why, cap, "out of memory");
	if (!s)
		return -ENOMEM;
	buf_init(&s->packed, PACKED_MAX);
	buf_init(&s->answer, OTLP_ANSWER_MAX);
	err = make_url(c->endpoint, s->url);
	if (err == -EINVAL)
		snprintf(why, cap, "an OTLP endpoint is a URL as http://HOST:4318, not %s",
			 c->endpoint);
	if (!err) {
		err = make_headers(s, c->headers);
		if (err == -EINVAL)
			snprintf(why, cap, "OTLP headers are NAME=VALUE, by commas");
	}
	if (!err && (!(s->multi = curl_multi_init()) || !(s->easy = curl_easy_init())))
		err = -ENOMEM;
	if (!err)
		err = set_options(s, c);
	if (err)
		sender_free(&s);
	else
		*out = s;
	return err;
}

void sender_free(struct sender **s)
{
	if (!*s)
		return;
	curl_easy_cleanup((*s)->easy);
	curl_multi_cleanup((*s)->multi);
	curl_slist_free_all((*s)->headers);
	buf_done(&(*s)->packed);
	buf_done(&(*s)->answer);
	free(*s);
	*s = NULL;
}

/* --- one request --------------------------------------------------------------------- */

static int pack(const struct buf *in, struct buf *out)
{
	z_stream z = {.next_in = (Bytef *)in->data, .avail_in = (uInt)in->len};
	char piece[16384];
	int r = deflateInit2(&z, Z_BEST_SPEED, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);

	if (r != Z_OK)
		return -ENOMEM;
	buf_reset(out);
	do {
		z.next_out = (Bytef *)piece;
		z.avail_out = sizeof(piece);
		r = deflate(&z, Z_FINISH);
		buf_add(out, piece, sizeof(piece) - z.avail_out);
	} while (r == Z_OK);
	deflateEnd(&z);
	return r == Z_STREAM_END && !out->failed ? 0 : -ENOMEM;
}

/* int64 in proto3-JSON: a string, and a number is to be taken too. */
static uint64_t count_of(const cJSON *v)
{
	double n = cJSON_IsString(v)   ? strtod(v->valuestring, NULL)
		   : cJSON_IsNumber(v) ? v->valuedouble
				       : 0;

	return n >= 1 && n < 1e9 ? (uint64_t)n : 0;
}

/* 200 with anything else than an ExportTraceServiceResponse is still 200. */
static void read_success(struct sender *s, struct verdict *v)
{
	cJSON *root = s->answer.len ? json_parse(s->answer.data, s->answer.len, NULL) : NULL;
	const cJSON *part = cJSON_GetObjectItemCaseSensitive(root, "partialSuccess");
	const char *text = json_str(part, "errorMessage", "");

	v->what = SENT_TAKEN;
	v->rejected = count_of(cJSON_GetObjectItemCaseSensitive(part, "rejectedSpans"));
	if (v->rejected || *text)
		snprintf(v->why, sizeof(v->why), "%llu spans refused: %s",
			 (unsigned long long)v->rejected, text);
	cJSON_Delete(root);
}

static void read_answer(struct sender *s, struct verdict *v)
{
	curl_off_t after = 0;
	long status = 0;

	curl_easy_getinfo(s->easy, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(s->easy, CURLINFO_RETRY_AFTER, &after); /* seconds, also of a date */
	if (status / 100 == 2) {
		read_success(s, v);
		return;
	}
	v->what = status == 429 || status == 502 || status == 503 || status == 504 ? SENT_AGAIN
										   : SENT_REFUSED;
	snprintf(v->why, sizeof(v->why), "status %ld", status);
	if (v->what == SENT_AGAIN && after > 0)
		v->after_ms =
			after < OTLP_AFTER_MAX / 1000 ? (uint64_t)after * 1000 : OTLP_AFTER_MAX;
}

/* What cannot be got right by trying again; all else is the way there. */
static bool hopeless(CURLcode c)
{
	return c == CURLE_OUT_OF_MEMORY || c == CURLE_SSL_CACERT_BADFILE ||
	       c == CURLE_URL_MALFORMAT || c == CURLE_BAD_FUNCTION_ARGUMENT;
}

/* The result of the transfer, or CURLE_AGAIN when time was up before. */
static CURLcode drive(struct sender *s, const _Atomic uint64_t *stop_ms)
{
	int running = 1, left;
	CURLMsg *m;

	while (!curl_multi_perform(s->multi, &running) && running) {
		uint64_t now = now_ms(), stop = *stop_ms, wait = stop > now ? stop - now : 0;

		if (!wait)
			return CURLE_AGAIN;
		if (curl_multi_poll(s->multi, NULL, 0, wait < STEP_MS ? (int)wait : STEP_MS, NULL))
			break;
	}
	m = curl_multi_info_read(s->multi, &left);
	return m && m->msg == CURLMSG_DONE ? m->data.result : CURLE_OUT_OF_MEMORY;
}

void sender_send(struct sender *s, const struct buf *body, const _Atomic uint64_t *stop_ms,
		 struct verdict *v)
{
	CURLcode c = CURLE_OUT_OF_MEMORY;

	*v = (struct verdict){.what = SENT_REFUSED};
	buf_reset(&s->answer);
	if (!pack(body, &s->packed) &&
	    !curl_easy_setopt(s->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)s->packed.len) &&
	    !curl_easy_setopt(s->easy, CURLOPT_POSTFIELDS, s->packed.data) &&
	    !curl_multi_add_handle(s->multi, s->easy)) {
		c = drive(s, stop_ms);
		if (!c)
			read_answer(s, v);
		curl_multi_remove_handle(s->multi, s->easy);
	}
	if (c == CURLE_AGAIN)
		v->what = SENT_STOPPED;
	else if (c)
		v->what = hopeless(c) ? SENT_REFUSED : SENT_AGAIN;
	if (c)
		snprintf(v->why, sizeof(v->why), "%s",
			 c == CURLE_AGAIN ? "no answer in time" : curl_easy_strerror(c));
}

void sender_wait(struct sender *s, uint64_t ms)
{
	curl_multi_poll(s->multi, NULL, 0, ms < OTLP_AFTER_MAX ? (int)ms : OTLP_AFTER_MAX, NULL);
}

void sender_wake(struct sender *s)
{
	curl_multi_wakeup(s->multi);
}
