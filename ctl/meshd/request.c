/* SPDX-License-Identifier: Apache-2.0 */
/* What a request says, and the answers to it; see server.h. Called by handlers. */
#include "ctl/meshd/server.h"
#include "lib/addr.h"
#include "lib/exposition.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

const char *request_query(const struct request *r, const char *name)
{
	return MHD_lookup_connection_value(r->mhd, MHD_GET_ARGUMENT_KIND, name);
}

const char *request_header(const struct request *r, const char *name)
{
	return MHD_lookup_connection_value(r->mhd, MHD_HEADER_KIND, name);
}

int request_flag(struct request *r, const char *name, bool *out)
{
	const char *v = request_query(r, name);

	if (v && strcmp(v, "true") && strcmp(v, "false")) {
		reply_error(r, 400, name, "must be true or false");
		return -EINVAL;
	}
	*out = v && !strcmp(v, "true");
	return 0;
}

int request_number(struct request *r, const char *name, uint64_t fallback, uint64_t *out)
{
	const char *v = request_query(r, name);

	if (!v) {
		*out = fallback;
		return 0;
	}
	if (!*v || strlen(v) > 16 || strspn(v, "0123456789") != strlen(v)) {
		reply_error(r, 400, name, "must be a whole number");
		return -EINVAL;
	}
	*out = strtoull(v, NULL, 10);
	return 0;
}

const char *request_author(const struct request *r, char *out, size_t cap)
{
	const union MHD_ConnectionInfo *i;
	const char *how = request_header(r, "Authorization") ? "token " : "";
	struct sockaddr_storage ss = {0};
	char ip[ADDR_TEXT_MAX];
	struct ucred peer;
	struct addr a;
	socklen_t len;
	int fd;

	i = MHD_get_connection_info(r->mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
	fd = i ? i->connect_fd : -1;
	len = sizeof(peer);
	if (r->local && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0) {
		snprintf(out, cap, "uid %u", peer.uid);
		return out;
	}
	len = sizeof(ss);
	if (getpeername(fd, (struct sockaddr *)&ss, &len) == 0 && addr_from_sockaddr(&ss, &a) == 0)
		snprintf(out, cap, "%s%s", how, addr_format_ip(a.ip, ip));
	else
		snprintf(out, cap, "unknown");
	return out;
}

cJSON *request_json(struct request *r)
{
	return request_json_part(r, r->body.len);
}

cJSON *request_json_part(struct request *r, size_t len)
{
	struct schema_error e;
	cJSON *v = strict_parse(r->body.data, len, r->route->values_max, &e);

	if (!v)
		reply_invalid(r, &e);
	return v;
}

/* --- answers ------------------------------------------------------------------------- */

static const struct {
	const char *name, *value;
} always[] = {
	{"X-Content-Type-Options", "nosniff"},
	{"Referrer-Policy", "no-referrer"},
	{"Cache-Control", "no-store"},
	{"Content-Security-Policy",
	 "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
	 "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
	 "require-trusted-types-for 'script'; trusted-types 'none'"},
	{"Cross-Origin-Opener-Policy", "same-origin"},
	{"Cross-Origin-Resource-Policy", "same-origin"},
};

static void add_headers(struct MHD_Response *p, const char *type)
{
	for (size_t i = 0; i < sizeof(always) / sizeof(*always); i++)
		MHD_add_response_header(p, always[i].name, always[i].value);
	MHD_add_response_header(p, "Content-Type", type);
}

static struct MHD_Response *response_new(char *data, size_t len, enum MHD_ResponseMemoryMode mode,
					 const char *type)
{
	struct MHD_Response *p = MHD_create_response_from_buffer(len, data, mode);

	if (p)
		add_headers(p, type);
	else if (mode == MHD_RESPMEM_MUST_FREE)
		free(data);
	return p;
}

static void queue(struct request *r, unsigned status, struct MHD_Response *p)
{
	r->answered = true;
	if (p && server_quiesced(r->server)) /* or who waits would ask again at once */
		MHD_add_response_header(p, "Connection", "close");
	r->queued = p ? MHD_queue_response(r->mhd, status, p) : MHD_NO;
}

static void reply_owned(struct request *r, unsigned status, const char *type, char *data,
			size_t len, enum MHD_ResponseMemoryMode mode)
{
	struct MHD_Response *p = response_new(data, len, mode, type);
	char etag[32];

	if (p && r->etag) {
		snprintf(etag, sizeof(etag), "\"%llu\"", (unsigned long long)r->etag);
		MHD_add_response_header(p, "ETag", etag);
	}
	if (p && r->again)
		MHD_add_response_header(p, "Retry-After", "1");
	if (p && r->vary)
		MHD_add_response_header(p, "Vary", r->vary);
	if (p && r->gzip)
		MHD_add_response_header(p, "Content-Encoding", "gzip");
	if (p && status == 401)
		MHD_add_response_header(p, "WWW-Authenticate", "Bearer realm=\"meshd\"");
	if (p && status == 405)
		MHD_add_response_header(p, "Allow", r->allow);
	queue(r, status, p);
	if (p)
		MHD_destroy_response(p);
}

static const char json_type[] = "application/json";

/* Clients that ask and do not read: each answer is bounded, and so are all together. */
static void reply_busy(struct request *r)
{
	static char text[] = "{\"error\":\"too many large answers wait to be read: try again\"}";
	struct MHD_Response *p =
		response_new(text, sizeof(text) - 1, MHD_RESPMEM_PERSISTENT, json_type);

	if (p)
		MHD_add_response_header(p, "Retry-After", "1");
	queue(r, 503, p);
	if (p)
		MHD_destroy_response(p);
}

/* Of memory (malloc) that is the answer's from here on. */
static void reply_made(struct request *r, unsigned status, const char *type, char *data, size_t len)
{
	if (server_hold(r, len)) {
		reply_owned(r, status, type, data, len, MHD_RESPMEM_MUST_FREE);
		return;
	}
	free(data);
	reply_busy(r);
}

void reply_json(struct request *r, unsigned status, cJSON *v)
{
	static char no_memory[] = "{\"error\":\"out of memory\"}";
	char *text = v ? cJSON_PrintUnformatted(v) : NULL;

	cJSON_Delete(v);
	if (text)
		reply_made(r, status, json_type, text, strlen(text));
	else
		reply_owned(r, 500, json_type, no_memory, sizeof(no_memory) - 1,
			    MHD_RESPMEM_PERSISTENT);
}

void reply_error(struct request *r, unsigned status, const char *field, const char *fmt, ...)
{
	char text[512];
	cJSON *v = cJSON_CreateObject();
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	cJSON_AddStringToObject(v, "error", text);
	if (field)
		cJSON_AddStringToObject(v, "field", field);
	reply_json(r, status, v);
}

void reply_again(struct request *r, const char *why)
{
	r->again = true;
	reply_error(r, 503, NULL, "%s", why);
}

void reply_invalid(struct request *r, const struct schema_error *e)
{
	if (e->path[0])
		reply_error(r, 400, e->path, "%s: %s", e->path, e->text);
	else
		reply_error(r, 400, NULL, "%s", e->text);
}

void reply_buf(struct request *r, unsigned status, const char *type, struct buf *b)
{
	size_t len = b->len;
	char *data = buf_take(b);

	if (data)
		reply_made(r, status, type, data, len);
	else
		reply_json(r, 500, NULL);
}

/* FNV-1a: names what is sent, guards nothing. */
static uint64_t content_hash(const char *data, size_t len)
{
	uint64_t h = 0xcbf29ce484222325;

	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)data[i]) * 0x100000001b3;
	return h;
}

void reply_static(struct request *r, const struct static_file *f)
{
	bool gzip = f->gzip_len && exposition_accepts_gzip(request_header(r, "Accept-Encoding"));
	const char *data = gzip ? f->gzip : f->data, *known = request_header(r, "If-None-Match");
	size_t len = gzip ? f->gzip_len : f->len;
	struct MHD_Response *p;
	bool same;
	char etag[24];

	snprintf(etag, sizeof(etag), "\"%016llx\"", (unsigned long long)content_hash(data, len));
	same = known && strstr(known, etag);
	p = response_new((char *)data, same ? 0 : len, MHD_RESPMEM_PERSISTENT, f->type);
	if (p) {
		MHD_del_response_header(p, "Cache-Control", "no-store");
		MHD_add_response_header(p, "Cache-Control", "no-cache");
		MHD_add_response_header(p, "ETag", etag);
		MHD_add_response_header(p, "Vary", "Accept-Encoding");
		if (gzip && !same)
			MHD_add_response_header(p, "Content-Encoding", "gzip");
	}
	queue(r, same ? 304 : 200, p);
	if (p)
		MHD_destroy_response(p);
}

struct MHD_Response *response_json(char *text, size_t len)
{
	return response_new(text, len, MHD_RESPMEM_MUST_FREE, json_type);
}

void reply_shared(struct request *r, struct MHD_Response *response)
{
	queue(r, 200, response);
}

void reply_stream(struct request *r, const char *type, const struct stream *s)
{
	struct MHD_Response *p = stream_response(r, s);

	if (p)
		add_headers(p, type);
	queue(r, 200, p);
	if (p)
		MHD_destroy_response(p);
}
