/* SPDX-License-Identifier: Apache-2.0 */
/* See exposition.h. */
#include "lib/exposition.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <zlib.h>

/* --- what is wanted --- */

struct item { /* of a list as in Accept (RFC 9110, 12.5) */
	const char *name, *version;
	size_t name_len, version_len; /* version_len 0: it names none */
	unsigned q;		      /* thousandths */
};

static const char *skip_space(const char *p)
{
	return p + strspn(p, " \t");
}

/* 0 for what is no weight: who cannot say how much, does not get it. */
static unsigned weight(const char *p, size_t len)
{
	unsigned q = 0, unit = 1000;

	for (size_t i = 0; i < len; i++) {
		if (i == 1 ? p[i] != '.' : !isdigit((unsigned char)p[i]))
			return 0;
		if (i == 1)
			continue;
		q += (unsigned)(p[i] - '0') * unit;
		unit /= 10;
	}
	return len > 5 || q > 1000 ? 0 : q;
}

/* name=value or name="value" behind a semicolon. Returns what comes next. */
static const char *take_parameter(const char *p, struct item *it)
{
	const char *name = skip_space(p), *value;
	size_t n = strcspn(name, "=;,"), len;

	if (name[n] != '=')
		return name + n;
	value = name + n + 1;
	if (*value == '"') {
		value++;
		len = strcspn(value, "\"");
		p = value + len + (value[len] == '"');
		p += strcspn(p, ";,");
	} else {
		len = strcspn(value, ";, \t");
		p = value + len + strcspn(value + len, ";,");
	}
	if (n == 1 && tolower((unsigned char)*name) == 'q')
		it->q = weight(value, len);
	if (n == 7 && !strncasecmp(name, "version", 7)) {
		it->version = value;
		it->version_len = len;
	}
	return p;
}

/* NULL at the end. */
static const char *take_item(const char *p, struct item *it)
{
	p += strspn(p, " \t,");
	if (!*p)
		return NULL;
	*it = (struct item){.name = p, .name_len = strcspn(p, ";, \t"), .q = 1000};
	p = skip_space(p + it->name_len);
	while (*p == ';')
		p = take_parameter(p + 1, it);
	return p + strcspn(p, ",");
}

static bool is(const struct item *it, const char *name)
{
	return it->name_len == strlen(name) && !strncasecmp(it->name, name, it->name_len);
}

static bool of_version(const struct item *it, const char *version)
{
	return !it->version_len || (it->version_len == strlen(version) &&
				    !memcmp(it->version, version, it->version_len));
}

/* OpenMetrics only by its name: who takes anything may not know it. Of text, the closest range
 * counts. */
static bool wants_openmetrics(const char *accept)
{
	static const char *const ranges[] = {"*/*", "text/*", "text/plain"};
	unsigned text = 0, openmetrics = 0;
	size_t closest = 0;
	struct item it;

	for (const char *p = accept; p && (p = take_item(p, &it));) {
		if (is(&it, "application/openmetrics-text") && of_version(&it, "1.0.0") &&
		    it.q > openmetrics)
			openmetrics = it.q;
		for (size_t i = closest; i < 3; i++)
			if (is(&it, ranges[i]) && of_version(&it, "0.0.4")) {
				text = i > closest || it.q > text ? it.q : text;
				closest = i;
			}
	}
	return openmetrics && openmetrics >= text;
}

bool exposition_accepts_gzip(const char *accept_encoding)
{
	unsigned any = 0;
	struct item it;

	for (const char *p = accept_encoding; p && (p = take_item(p, &it));) {
		if (is(&it, "gzip") || is(&it, "x-gzip"))
			return it.q > 0;
		if (is(&it, "*"))
			any = it.q;
	}
	return any > 0;
}

struct exposition exposition_choose(const char *accept, const char *accept_encoding)
{
	return (struct exposition){.openmetrics = wants_openmetrics(accept),
				   .gzip = exposition_accepts_gzip(accept_encoding)};
}

const char *exposition_type(const struct exposition *x)
{
	return x->openmetrics ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
			      : "text/plain; version=0.0.4; charset=utf-8";
}

/* --- as OpenMetrics --- */

static bool ends_with(const char *s, size_t len, const char *end)
{
	size_t n = strlen(end);

	return len > n && !memcmp(s + len - n, end, n);
}

static void seal_unit(struct buf *out, const char *name, size_t len)
{
	static const char *const units[] = {"seconds", "bytes"};

	for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++)
		if (ends_with(name, len, units[i]))
			buf_printf(out, "# UNIT %.*s %s\n", (int)len, name, units[i]);
}

/* help: "NAME TEXT\n", type: "NAME WORD\n", of the same name. A quote in the text is escaped. */
static void seal_head(struct buf *out, const char *help, const char *type)
{
	size_t len = strcspn(type, " "), family = len;
	const char *word = type + len + 1;

	if (!strncmp(word, "counter\n", 8) && ends_with(type, len, "_total"))
		family -= strlen("_total");
	buf_printf(out, "# TYPE %.*s %.*s\n", (int)family, type, (int)strcspn(word, "\n"), word);
	seal_unit(out, type, family);
	buf_printf(out, "# HELP %.*s ", (int)family, type);
	for (const char *p = help + len + 1; *p && *p != '\n'; p++) {
		if (*p == '"')
			buf_char(out, '\\');
		buf_char(out, *p);
	}
	buf_char(out, '\n');
}

/* What is in `out` becomes the text. */
static void replace(struct buf *text, struct buf *out)
{
	out->failed |= text->failed;
	buf_done(text);
	*text = *out;
}

static void seal_openmetrics(struct buf *text, bool last)
{
	const char *help = NULL, *next;
	struct buf out;

	buf_init(&out, text->max);
	for (const char *p = text->len ? text->data : ""; *p; p = next) {
		next = strchr(p, '\n');
		next = next ? next + 1 : p + strlen(p);
		if (!strncmp(p, "# HELP ", 7))
			help = p + 7;
		else if (help && !strncmp(p, "# TYPE ", 7))
			seal_head(&out, help, p + 7);
		else
			buf_add(&out, p, (size_t)(next - p));
	}
	if (last)
		buf_str(&out, "# EOF\n");
	replace(text, &out);
}

struct exposition_stream {
	struct exposition x;
	z_stream z; /* with x.gzip */
};

struct exposition_stream *exposition_stream_new(const struct exposition *x)
{
	struct exposition_stream *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->x = *x;
	if (x->gzip &&
	    deflateInit2(&e->z, Z_BEST_SPEED, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
		free(e);
		return NULL;
	}
	return e;
}

void exposition_stream_free(struct exposition_stream **ep)
{
	if (*ep && (*ep)->x.gzip)
		(void)deflateEnd(&(*ep)->z); /* says only whether the stream had ended */
	free(*ep);
	*ep = NULL;
}

static void seal_gzip(z_stream *z, struct buf *text, bool last)
{
	unsigned char room[16384];
	struct buf out;
	int err = Z_OK;

	buf_init(&out, text->max);
	z->next_in = (unsigned char *)text->data;
	z->avail_in = (unsigned)text->len;
	do {
		z->next_out = room;
		z->avail_out = sizeof(room);
		err = deflate(z, last ? Z_FINISH : Z_SYNC_FLUSH);
		buf_add(&out, room, sizeof(room) - z->avail_out);
	} while (!z->avail_out && err == Z_OK);
	/* Z_BUF_ERROR: there was nothing to do */
	out.failed |= last ? err != Z_STREAM_END : err != Z_OK && err != Z_BUF_ERROR;
	replace(text, &out);
}

void exposition_stream_part(struct exposition_stream *e, struct buf *text, bool last)
{
	if (e->x.openmetrics)
		seal_openmetrics(text, last);
	if (e->x.gzip && !text->failed)
		seal_gzip(&e->z, text, last);
}

void exposition_seal(const struct exposition *x, struct buf *text)
{
	struct exposition_stream *e;

	if (!text->len && !x->openmetrics) /* nothing stays nothing */
		return;
	e = exposition_stream_new(x);
	text->failed |= !e;
	if (e)
		exposition_stream_part(e, text, true);
	exposition_stream_free(&e);
}

/* --- text --- */

void exposition_head(struct buf *out, const char *name, const char *type, const char *help)
{
	buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void exposition_label(struct buf *out, const char *name, const char *value)
{
	size_t n;

	buf_str(out, name);
	buf_str(out, "=\"");
	for (; *value; value += n) {
		n = strcspn(value, "\\\"\n");
		buf_add(out, value, n);
		if (!value[n])
			break;
		buf_char(out, '\\');
		buf_char(out, value[n] == '\n' ? 'n' : value[n]);
		n++;
	}
	buf_char(out, '"');
}

void exposition_single(struct buf *out, const char *name, const char *type, const char *help,
		       double value)
{
	exposition_head(out, name, type, help);
	buf_printf(out, "%s %.17g\n", name, value);
}

void exposition_exemplar(struct buf *out, const uint8_t trace_id[16], double value,
			 uint64_t time_ms)
{
	static const char digits[] = "0123456789abcdef";
	char id[33] = "";

	for (int i = 0; i < 16; i++) {
		id[2 * i] = digits[trace_id[i] >> 4];
		id[2 * i + 1] = digits[trace_id[i] & 15];
	}
	buf_printf(out, " # {trace_id=\"%s\"} %.9g %llu.%03u", id, value,
		   (unsigned long long)(time_ms / 1000), (unsigned)(time_ms % 1000));
}
