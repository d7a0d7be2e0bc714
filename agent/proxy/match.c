/* SPDX-License-Identifier: Apache-2.0 */
/* See match.h. */
#include "agent/proxy/match.h"

#include <string.h>
#include <strings.h>

static bool same(const char *s, size_t len, const char *text)
{
	return strlen(text) == len && !memcmp(s, text, len);
}

static bool match_prefix(const char *prefix, const char *path, size_t len)
{
	size_t n = strlen(prefix);

	if (n > len || memcmp(prefix, path, n))
		return false;
	return n == len || path[n] == '/' || prefix[n - 1] == '/';
}

/* Both begin with a slash; so does what is left of each after a round. */
static bool match_template(const char *t, const char *path, size_t len)
{
	const char *end = path + len;

	while (*t == '/' && path < end && *path == '/') {
		size_t want = strcspn(++t, "/"), have = 0;

		path++;
		if (!strcmp(t, "**"))
			return true;
		while (path + have < end && path[have] != '/')
			have++;
		if (*t == '{' ? !have : have != want || memcmp(t, path, want))
			return false;
		t += want;
		path += have;
	}
	return !*t && path == end;
}

bool match_path(uint32_t kind, const char *pattern, const char *path, size_t len)
{
	switch (kind) {
	case SNAP_PATH_ANY:
		return true;
	case SNAP_PATH_EXACT:
		return same(path, len, pattern);
	case SNAP_PATH_PREFIX:
		return match_prefix(pattern, path, len);
	case SNAP_PATH_TEMPLATE:
		return match_template(pattern, path, len);
	default:
		return false;
	}
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte at s[*at], escaped or not; *at moves behind it. */
static char unescaped(const char *s, size_t len, size_t *at)
{
	size_t i = *at;

	if (s[i] == '%' && len - i > 2 && hex_digit(s[i + 1]) >= 0 && hex_digit(s[i + 2]) >= 0) {
		*at += 3;
		return (char)(hex_digit(s[i + 1]) << 4 | hex_digit(s[i + 2]));
	}
	*at += 1;
	return s[i];
}

static bool same_unescaped(const char *s, size_t len, const char *text)
{
	size_t at = 0;

	while (at < len) {
		char c = unescaped(s, len, &at);

		if (!c || c != *text++)
			return false;
	}
	return !*text;
}

bool match_query(const char *query, size_t len, const char *name, const char *value)
{
	const char *end = query + len;

	while (query < end) {
		const char *amp = memchr(query, '&', (size_t)(end - query)), *eq, *stop;

		stop = amp ? amp : end;
		eq = memchr(query, '=', (size_t)(stop - query));
		if (same_unescaped(query, (size_t)((eq ? eq : stop) - query), name) &&
		    same_unescaped(eq ? eq + 1 : stop, eq ? (size_t)(stop - eq - 1) : 0, value))
			return true;
		query = amp ? amp + 1 : end;
	}
	return false;
}

/* Any field of that name, which is in small letters, has exactly that value. */
static bool match_header(const struct http1_head *h, const char *head, const char *name,
			 const char *value)
{
	size_t n = strlen(name);

	for (unsigned i = 0; i < h->nheaders; i++) {
		const struct http1_header *f = &h->headers[i];

		if (f->name.len == n && !strncasecmp(head + f->name.at, name, n) &&
		    same(head + f->value.at, f->value.len, value))
			return true;
	}
	return false;
}

struct target {
	const char *path, *query;
	size_t path_len, query_len;
};

/* As put_request_line of the codec sends it. */
static struct target target_of(const struct http1_head *h, const char *head, uint32_t skip)
{
	struct target t = {.path = head + h->path.at + skip, .path_len = h->path.len - skip};
	const char *mark = memchr(t.path, '?', t.path_len);

	if (mark) {
		t.query = mark + 1;
		t.query_len = t.path_len - (size_t)(mark + 1 - t.path);
		t.path_len = (size_t)(mark - t.path);
	}
	if (!t.path_len) {
		t.path = "/";
		t.path_len = 1;
	}
	return t;
}

static bool matches(const struct snapshot *snap, const struct snap_match *m,
		    const struct http1_head *h, const char *head, const struct target *t)
{
	const struct snap_pair *headers = snapshot_pairs(snap, m->headers),
			       *queries = snapshot_pairs(snap, m->queries);

	if (m->path_kind &&
	    !match_path(m->path_kind, snapshot_string(snap, m->path), t->path, t->path_len))
		return false;
	if (m->method &&
	    !same(head + h->method_name.at, h->method_name.len, snapshot_string(snap, m->method)))
		return false;
	for (uint32_t i = 0; i < m->nheaders; i++)
		if (!match_header(h, head, snapshot_string(snap, headers[i].name),
				  snapshot_string(snap, headers[i].value)))
			return false;
	for (uint32_t i = 0; i < m->nqueries; i++)
		if (!match_query(t->query, t->query_len, snapshot_string(snap, queries[i].name),
				 snapshot_string(snap, queries[i].value)))
			return false;
	return true;
}

const struct snap_route *match_route(const struct snapshot *snap, const struct snap_service *s,
				     const struct http1_head *h, const char *head, uint32_t skip)
{
	const struct snap_route *r = snapshot_routes(snap, s);
	struct target t;

	if (!s->nroutes)
		return NULL;
	t = target_of(h, head, skip);
	for (uint32_t i = 0; i < s->nroutes; i++)
		if (matches(snap, &r[i].match, h, head, &t))
			return &r[i];
	return NULL;
}
