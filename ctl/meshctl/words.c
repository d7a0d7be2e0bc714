/* SPDX-License-Identifier: Apache-2.0 */
/* See words.h. */
#include "ctl/meshctl/words.h"
#include "ctl/meshctl/text.h"
#include "lib/json.h"

#include <mesh/abi.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define VERSIONS_MAX 32 /* that are named of one service */

__attribute__((format(printf, 3, 4))) static void add(char *out, size_t cap, const char *fmt, ...)
{
	size_t len = strlen(out);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(out + len, cap - len, fmt, ap);
	va_end(ap);
}

static const char *comma(const char *out)
{
	return *out ? ", " : "";
}

const cJSON *words_get(const cJSON *object, const char *key)
{
	return cJSON_GetObjectItemCaseSensitive(object, key);
}

unsigned words_sorted(const cJSON *object, const cJSON **out, unsigned max)
{
	const cJSON *i;
	unsigned n = 0, at;

	cJSON_ArrayForEach (i, object) {
		if (n == max)
			break;
		for (at = n++; at && strverscmp(out[at - 1]->string, i->string) > 0; at--)
			out[at] = out[at - 1];
		out[at] = i;
	}
	return n;
}

char *words_number(double v, char out[24])
{
	snprintf(out, 24, "%.0f", v);
	return out;
}

char *words_ms(double ms, char out[24])
{
	snprintf(out, 24, ms < 10 ? "%.2g" : "%.0f", ms);
	return out;
}

char *words_age(const cJSON *object, const char *key, char out[24])
{
	double ms = json_num(object, key, 0);

	if (ms < 1 || ms > 1e15)
		strcpy(out, "-");
	else
		text_age((uint64_t)ms, out);
	return out;
}

char *words_add_once(const char *word, char *list, size_t cap)
{
	size_t n = strlen(word), len = strlen(list);

	for (const char *p = list; (p = strstr(p, word)); p++)
		if ((p == list || p[-1] == ',') && (p[n] == ',' || !p[n]))
			return list;
	if (len + n + 2 <= cap)
		add(list, cap, "%s%s", len ? "," : "", word);
	return list;
}

char *words_versions(const cJSON *endpoints, char *out, size_t cap)
{
	const char *v[VERSIONS_MAX];
	const cJSON *e;
	int n = 0;

	cJSON_ArrayForEach (e, endpoints) {
		const char *version = json_str(e, "version", "");
		int at = n;

		while (at > 0 && strverscmp(v[at - 1], version) > 0)
			at--;
		if ((at > 0 && !strcmp(v[at - 1], version)) || n == VERSIONS_MAX)
			continue;
		memmove(v + at + 1, v + at, (size_t)(n - at) * sizeof(*v));
		v[at] = version;
		n++;
	}
	out[0] = '\0';
	for (int i = 0; i < n; i++)
		add(out, cap, "%s%s", i ? "," : "", v[i]);
	return out;
}

char *words_address(const cJSON *e, char *out, size_t cap)
{
	const char *ip = json_str(e, "address", "?");
	bool v6 = strchr(ip, ':') && ip[0] != '[';

	snprintf(out, cap, "%s%s%s:%.0f", v6 ? "[" : "", ip, v6 ? "]" : "", json_num(e, "port", 0));
	return out;
}

char *words_ports(const cJSON *e, char *out, size_t cap)
{
	const cJSON *p;

	out[0] = '\0';
	cJSON_ArrayForEach (p, words_get(e, "ports")) {
		char text[24];

		words_add_once(words_number(cJSON_IsNumber(p) ? p->valuedouble : 0, text), out,
			       cap);
	}
	return out;
}

unsigned words_count(const cJSON *endpoints, const char *version, const char *status)
{
	const cJSON *e;
	unsigned n = 0;

	cJSON_ArrayForEach (e, endpoints)
		n += (!version || !strcmp(json_str(e, "version", ""), version)) &&
		     (!status || !strcmp(json_str(e, "status", ""), status));
	return n;
}

char *words_out(const cJSON *endpoints, char *out, size_t cap)
{
	static const char *const status[] = {"unhealthy", "ejected", "draining"};

	out[0] = '\0';
	for (size_t i = 0; i < sizeof(status) / sizeof(status[0]); i++) {
		unsigned n = words_count(endpoints, NULL, status[i]);

		if (n)
			add(out, cap, "%s%u %s", comma(out), n, status[i]);
	}
	return out;
}

char *words_split(const cJSON *split, char *out, size_t cap)
{
	const cJSON *w[MESH_SPLITS];
	unsigned n = words_sorted(split, w, MESH_SPLITS);

	out[0] = '\0';
	for (unsigned i = 0; i < n; i++)
		add(out, cap, "%s%s %g%%", comma(out), w[i]->string, w[i]->valuedouble);
	return out;
}

/* {"prefix":PATH}, {"exact":PATH} or {"template":PATH} */
static void add_path(const cJSON *path, char *out, size_t cap)
{
	static const struct {
		const char *key, *words;
	} kinds[] = {{"exact", "is"}, {"prefix", "begins with"}, {"template", "is like"}};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		const char *text = json_str(path, kinds[i].key, NULL);

		if (text)
			add(out, cap, "%spath %s %s", comma(out), kinds[i].words, text);
	}
}

static void add_equal(const cJSON *map, const char *what, char *out, size_t cap)
{
	const cJSON *i;

	cJSON_ArrayForEach (i, map)
		add(out, cap, "%s%s %s is %s", comma(out), what, i->string,
		    cJSON_IsString(i) ? i->valuestring : "?");
}

char *words_match(const cJSON *match, char *out, size_t cap)
{
	snprintf(out, cap, "%s", json_str(match, "method", ""));
	add_path(words_get(match, "path"), out, cap);
	add_equal(words_get(match, "headers"), "header", out, cap);
	add_equal(words_get(match, "query"), "query", out, cap);
	if (!*out)
		add(out, cap, "everything");
	return out;
}

char *words_fault(const cJSON *fault, char *out, size_t cap)
{
	const cJSON *delay = words_get(fault, "delay"), *abort = words_get(fault, "abort");

	out[0] = '\0';
	if (cJSON_IsObject(delay))
		add(out, cap, "delay %s %g%%", json_str(delay, "duration", "?"),
		    json_num(delay, "percent", 100));
	if (cJSON_IsObject(abort))
		add(out, cap, "%sabort %.0f %g%%", comma(out), json_num(abort, "status", 0),
		    json_num(abort, "percent", 100));
	return out;
}

char *words_mirror(const cJSON *mirror, char *out, size_t cap)
{
	out[0] = '\0';
	if (cJSON_IsObject(mirror))
		add(out, cap, "%s %g%%", json_str(mirror, "version", "?"),
		    json_num(mirror, "percent", 100));
	return out;
}

char *words_values(const cJSON *object, char *out, size_t cap)
{
	const cJSON *i;

	out[0] = '\0';
	cJSON_ArrayForEach (i, object) {
		if (cJSON_IsString(i))
			add(out, cap, "%s%s %s", comma(out), i->string, i->valuestring);
		else if (cJSON_IsNumber(i))
			add(out, cap, "%s%s %g", comma(out), i->string, i->valuedouble);
	}
	return out;
}

char *words_breaker(const cJSON *b, char *out, size_t cap)
{
	char since[24], left[24];

	snprintf(out, cap, "%s", json_str(b, "state", "?"));
	if (strcmp(words_age(b, "sinceMs", since), "-"))
		add(out, cap, " since %s", since);
	if (strcmp(words_age(b, "forMs", left), "-"))
		add(out, cap, ", %s left", left);
	if (json_bool(b, "held", 0))
		add(out, cap, ", held by hand");
	return out;
}
