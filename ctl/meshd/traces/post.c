/* SPDX-License-Identifier: Apache-2.0 */
/* See post.h: spans of applications in our own form, and what both forms need. */
#include "ctl/meshd/traces/post.h"
#include "ctl/meshd/traces/span.h"
#include "lib/json.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define ID_WHAT "1 to 64 of A-Z a-z 0-9 . _ -"

static bool id_valid(const char *s)
{
	return trace_id_usable(s, strlen(s));
}

static const struct schema any = {SCHEMA_OBJECT, .open = true,
				  .fields = (const struct schema_field[]){{NULL}}};
static const struct schema id = {SCHEMA_TEXT, .min = 1, .max = SPAN_ID_MAX, .valid = id_valid,
				 .what = ID_WHAT};
static const struct schema parent = {SCHEMA_TEXT, .min = 0, .max = SPAN_ID_MAX};
static const struct schema name = {SCHEMA_TEXT, .min = 1, .max = NAME_LEN_MAX, .valid = name_valid,
				   .what = NAME_WHAT};
static const struct schema label = {SCHEMA_TEXT, .min = 0, .max = NAME_LEN_MAX};
static const struct schema text = {SCHEMA_TEXT, .min = 0, .max = SPAN_OPERATION_MAX};
static const struct schema path = {SCHEMA_TEXT, .min = 0, .max = 2048};
static const struct schema duration = {SCHEMA_NUMBER, .min = 0, .max = SPAN_DURATION_MAX};
static const struct schema instant = {SCHEMA_NUMBER, .min = 0, .max = SPAN_TIME_MAX};
static const struct schema status = {SCHEMA_INTEGER, .min = 0, .max = 999};
static const struct schema count = {SCHEMA_INTEGER, .min = 0, .max = 9007199254740991.0};
static const struct schema flag = {SCHEMA_BOOL};
static const struct schema aliases = {SCHEMA_LIST, .min = 0, .max = SPAN_ALIASES_MAX, .item = &id};
static const struct schema events = {SCHEMA_LIST, .min = 0, .max = 128, .item = &any};

static const struct schema span_form = {
	SCHEMA_OBJECT,
	.fields = (const struct schema_field[]){{"id", &id, .required = true},
						{"parentId", &parent},
						{"remoteParentId", &parent},
						{"traceId", &id, .required = true},
						{"aliases", &aliases},
						{"service", &name, .required = true},
						{"source", &label},
						{"operation", &text, .required = true},
						{"method", &label},
						{"path", &path},
						{"host", &text},
						{"startTime", &instant, .required = true},
						{"duration", &duration, .required = true},
						{"statusCode", &status},
						{"error", &flag},
						{"cause", &text},
						{"instance", &label},
						{"version", &label},
						{"node", &label},
						{"requestId", &text},
						{"bytesIn", &count},
						{"bytesOut", &count},
						{"head", &duration},
						{"upstream", &duration},
						{"kind", &label},
						{"sampled", &flag},
						{"tries", &count},
						{"events", &events},
						{"attributes", &any},
						{"tags", &any},
						{NULL}}};
static const struct schema list_form = {SCHEMA_LIST, .min = 0, .max = POST_SPANS_MAX,
					.item = &span_form};

/* --- times ----------------------------------------------------------------------------- */

/* Days from 1970-01-01, of the Gregorian calendar (Howard Hinnant, days_from_civil). */
static int64_t days(int y, int m, int d)
{
	int64_t era, yoe, doy;

	y -= m <= 2;
	era = (y >= 0 ? y : y - 399) / 400;
	yoe = y - era * 400;
	doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
	return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static bool zone(const char *s, int *minutes)
{
	int h, m, n = 0;

	*minutes = 0;
	if (!strcmp(s, "Z"))
		return true;
	if ((*s != '+' && *s != '-') || sscanf(s + 1, "%2d:%2d%n", &h, &m, &n) != 2 || n != 5 ||
	    s[6] || h > 23 || m > 59)
		return false;
	*minutes = (h * 60 + m) * (*s == '-' ? -1 : 1);
	return true;
}

double iso_ms(const char *s)
{
	int y, mo, d, h, mi, sec, n = 0, minutes;
	double part = 0;
	char *end;

	if (strspn(s, "0123456789") != 4 || strlen(s) > 40 ||
	    sscanf(s, "%4d-%2d-%2dT%2d:%2d:%2d%n", &y, &mo, &d, &h, &mi, &sec, &n) != 6 ||
	    n != 19 || mo < 1 || mo > 12 || d < 1 || d > 31 || h > 23 || mi > 59 || sec > 60)
		return -1;
	if (s[n] == '.') {
		size_t digits = strspn(s + n + 1, "0123456789");

		part = digits ? strtod(s + n, &end) : 0;
		if (!digits || digits > 9)
			return -1;
		n += (int)digits + 1;
	}
	if (!zone(s + n, &minutes))
		return -1;
	return (double)(days(y, mo, d) * 86400 + h * 3600 + mi * 60 + sec - minutes * 60) * 1e3 +
	       part * 1e3;
}

/* --- our form -------------------------------------------------------------------------- */

static int rename_key(cJSON *span, const char *from, const char *to, struct schema_error *e)
{
	cJSON *v = cJSON_GetObjectItemCaseSensitive(span, from);

	if (!v)
		return 0;
	if (cJSON_GetObjectItemCaseSensitive(span, to))
		return schema_fail(e, "", "has both %s and %s", from, to);
	v = cJSON_DetachItemViaPointer(span, v);
	if (cJSON_AddItemToObject(span, to, v))
		return 0;
	cJSON_Delete(v);
	return schema_fail(e, "", "out of memory");
}

/* null stands for what is not there. */
static void drop_null(cJSON *span)
{
	cJSON *next;

	for (cJSON *v = span->child; v; v = next) {
		next = v->next;
		if (cJSON_IsNull(v))
			cJSON_Delete(cJSON_DetachItemViaPointer(span, v));
	}
}

/* The table knows one kind for each key. */
static int check_start(const cJSON *v, struct schema_error *e)
{
	double ms = cJSON_IsString(v) ? iso_ms(v->valuestring) : v->valuedouble;

	if ((cJSON_IsNumber(v) || cJSON_IsString(v)) && ms >= 0 && ms <= SPAN_TIME_MAX)
		return 0;
	return schema_fail(e, "", "must be ms since 1970, or a time as 2026-11-22T15:20:32.123Z");
}

/* One form for each thing that may be said in two. */
static int normalize(cJSON *span, struct schema_error *e)
{
	cJSON *start;
	double ms;

	if (!cJSON_IsObject(span))
		return 0; /* the table says so better */
	drop_null(span);
	if (rename_key(span, "spanId", "id", e) || rename_key(span, "parentSpanId", "parentId", e))
		return -EINVAL;
	start = cJSON_GetObjectItemCaseSensitive(span, "startTime");
	if (!start)
		return 0;
	if (check_start(start, e)) {
		snprintf(e->path, sizeof(e->path), "startTime");
		return -EINVAL;
	}
	ms = cJSON_IsString(start) ? iso_ms(start->valuestring) : start->valuedouble;
	return cJSON_ReplaceItemInObjectCaseSensitive(span, "startTime", cJSON_CreateNumber(ms))
		       ? 0
		       : schema_fail(e, "", "out of memory");
}

static int check_all(cJSON *list, struct schema_error *e)
{
	struct schema_error inner;
	cJSON *span;
	int i = 0;

	cJSON_ArrayForEach (span, list) {
		if (normalize(span, e)) {
			inner = *e;
			snprintf(e->path, sizeof(e->path), "[%d]%s%.100s", i,
				 inner.path[0] ? "." : "", inner.path);
			return -EINVAL;
		}
		i++;
	}
	return schema_check(&list_form, list, e);
}

cJSON *post_read(cJSON *body, struct schema_error *e)
{
	cJSON *list = cJSON_IsArray(body) ? body : cJSON_CreateArray();
	bool one = list != body;

	if (!list || (one && !cJSON_AddItemToArray(list, body))) {
		schema_fail(e, "", "out of memory");
		cJSON_Delete(body);
		cJSON_Delete(list);
		return NULL;
	}
	if (!check_all(list, e))
		return list;
	if (one && !strncmp(e->path, "[0]", 3)) /* it was no list */
		memmove(e->path, e->path + 3 + (e->path[3] == '.'),
			strlen(e->path + 3 + (e->path[3] == '.')) + 1);
	cJSON_Delete(list);
	return NULL;
}

/* --- packed bodies --------------------------------------------------------------------- */

static int unzip_into(z_stream *z, char *out, size_t cap)
{
	int r;

	z->next_out = (unsigned char *)out;
	z->avail_out = (unsigned)cap;
	r = inflate(z, Z_FINISH);
	if (r == Z_STREAM_END)
		return z->avail_in ? -EINVAL : 0;
	return r == Z_BUF_ERROR && !z->avail_out ? -EMSGSIZE : -EINVAL;
}

int unzip(const char *data, size_t len, char **out, size_t *out_len)
{
	z_stream z = {.next_in = (unsigned char *)data, .avail_in = (unsigned)len};
	size_t cap = POST_UNZIPPED_MAX < len * 1100 + 64 ? POST_UNZIPPED_MAX : len * 1100 + 64;
	char *room, *fit;
	int r;

	if (inflateInit2(&z, 15 + 32) != Z_OK) /* 32: either form, as its head says */
		return -ENOMEM;
	room = malloc(cap);
	r = room ? unzip_into(&z, room, cap) : -ENOMEM;
	inflateEnd(&z);
	if (r) {
		free(room);
		return r;
	}
	*out_len = z.total_out;
	fit = realloc(room, *out_len ? *out_len : 1);
	*out = fit ? fit : room;
	return 0;
}
