/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The form of a service's configuration, as tables: every key, its type, range and default. This
 * file is the one place that knows them; docs/configuration.md is its prose. Used through
 * config_check() and config_fill() only.
 */
#include "ctl/meshd/config.h"
#include "lib/addr.h"
#include "lib/clock.h"
#include "lib/json.h"

#include <mesh/abi.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define VERSIONS_MAX (MESH_VERSIONS - 1) /* number 0 is everybody */

#define MINUTE	     60e3
#define HOUR	     (60 * MINUTE)
#define WORDS(...)                                                                                 \
	(const char *const[])                                                                      \
	{                                                                                          \
		__VA_ARGS__, NULL                                                                  \
	}

/* RFC 9110, 5.6.2: token */
static bool token_valid(const char *s)
{
	static const char set[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~";
	size_t len = strlen(s);

	return len && len <= 128 && strspn(s, set) == len;
}

static bool address_valid(const char *s)
{
	struct addr a;

	return strchr(s, ':') != s && !addr_parse(s, &a) && a.port && !addr_is_any(a.ip) &&
	       !addr_is_loopback(a.ip);
}

static bool method_valid(const char *s)
{
	size_t len = strlen(s);

	return len && len <= 20 && strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") == len;
}

static bool path_valid(const char *s)
{
	return s[0] == '/' && !strpbrk(s, " ?#");
}

/* Of a template: {name}, `**` at the end, or text with neither braces nor asterisks. */
static bool segment_valid(const char *s, size_t len, bool last)
{
	static const char set[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";

	if (len == 2 && !memcmp(s, "**", 2))
		return last;
	if (len > 2 && s[0] == '{' && s[len - 1] == '}')
		return strspn(s + 1, set) == len - 2;
	return strcspn(s, "{}*") >= len;
}

static bool template_valid(const char *s)
{
	if (!path_valid(s))
		return false;
	while (*s++ == '/') {
		size_t len = strcspn(s, "/");

		if (!segment_valid(s, len, !s[len]))
			return false;
		s += len;
	}
	return true;
}

/* Others the proxy has no names for, so it would never retry them. */
static bool retry_method_valid(const char *s)
{
	static const char *const methods[] = {"GET",	"HEAD",	   "POST",  "PUT",
					      "DELETE", "OPTIONS", "PATCH", "TRACE"};

	for (size_t i = 0; i < sizeof(methods) / sizeof(*methods); i++)
		if (!strcmp(s, methods[i]))
			return true;
	return false;
}

/* The key of a JSON object: whether that has control characters nobody has looked at yet. */
static bool query_name_valid(const char *s)
{
	size_t len = strlen(s);

	for (size_t i = 0; i < len; i++)
		if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f ||
		    ((unsigned char)s[i] == 0xc2 && (unsigned char)s[i + 1] < 0xa0))
			return false;
	return len && len <= 128;
}

static bool retry_on_valid(const char *s)
{
	static const char *const causes[] = {"connect-failed", "connect-timeout", "try-timeout",
					     "upstream-reset", "upstream-protocol"};

	for (size_t i = 0; i < sizeof(causes) / sizeof(*causes); i++)
		if (!strcmp(s, causes[i]))
			return true;
	return strlen(s) == 3 && (s[0] == '4' || s[0] == '5') && strspn(s + 1, "0123456789") == 2;
}

static int split_check(const cJSON *v, struct schema_error *e)
{
	double sum = 0;
	const cJSON *m;

	cJSON_ArrayForEach (m, v)
		sum += m->valuedouble;
	return fabs(sum - 100) < 1e-6
		       ? 0
		       : schema_fail(e, "", "weights must sum to 100, not %.10g", sum);
}

static int path_match_check(const cJSON *v, struct schema_error *e)
{
	return cJSON_GetArraySize(v) == 1
		       ? 0
		       : schema_fail(e, "",
				     "must have one of \"prefix\", \"exact\" and \"template\"");
}

/* Written differently they may still be the same. */
static int addresses_check(const cJSON *v, struct schema_error *e)
{
	struct addr a[16], b;
	int n = 0;

	for (const cJSON *item = v->child; item && n < 16; item = item->next) {
		if (!cJSON_IsString(item) || addr_parse(item->valuestring, &b))
			continue;
		for (int i = 0; i < n; i++)
			if (a[i].port == b.port && !memcmp(a[i].ip, b.ip, sizeof(b.ip)))
				return schema_fail(e, "", "%s stands there twice",
						   item->valuestring);
		a[n++] = b;
	}
	return 0;
}

static int sticky_check(const cJSON *v, struct schema_error *e)
{
	return cJSON_GetArraySize(v) == 1
		       ? 0
		       : schema_fail(e, "", "must have either \"header\" or \"cookie\"");
}

static int retry_check(const cJSON *v, struct schema_error *e)
{
	uint64_t base, most;

	if (duration_parse(json_str(v, "backoff", ""), &base) == 0 &&
	    duration_parse(json_str(v, "maxBackoff", ""), &most) == 0 && base > most)
		return schema_fail(e, ".maxBackoff", "must not be less than backoff");
	return 0;
}

static int health_check(const cJSON *v, struct schema_error *e)
{
	uint64_t interval, timeout;

	if (cJSON_GetObjectItemCaseSensitive(v, "path") &&
	    strcmp(json_str(v, "type", "http"), "http"))
		return schema_fail(e, ".path", "is for type \"http\" only");
	if (duration_parse(json_str(v, "interval", "2s"), &interval) == 0 &&
	    duration_parse(json_str(v, "timeout", "1s"), &timeout) == 0 && timeout > interval)
		return schema_fail(e, ".timeout", "must not be longer than interval");
	return 0;
}

static int routes_check(const cJSON *v, struct schema_error *e)
{
	const cJSON *a, *b;

	cJSON_ArrayForEach (a, v) {
		const char *name = json_str(a, "name", NULL);
		size_t len = strlen(e->path);
		int i = 0;

		for (b = v->child; name && b != a; b = b->next, i++) {
			if (strcmp(name, json_str(b, "name", "")))
				continue;
			for (i = 0, b = v->child; b != a; b = b->next)
				i++;
			snprintf(e->path + len, sizeof(e->path) - len, "[%d]", i);
			return schema_fail(e, ".name", "is used by another route");
		}
	}
	return 0;
}

/* Versions that are named so far, none twice. */
struct named {
	const char *name[VERSIONS_MAX];
	int n;
};

/* 0, or -ENOSPC when it is one too many. */
static int name_version(struct named *all, const char *version)
{
	for (int i = 0; i < all->n; i++)
		if (!strcmp(all->name[i], version))
			return 0;
	if (all->n == VERSIONS_MAX)
		return -ENOSPC;
	all->name[all->n++] = version;
	return 0;
}

static int name_split(struct named *all, const cJSON *owner)
{
	const cJSON *m;

	cJSON_ArrayForEach (m, cJSON_GetObjectItemCaseSensitive(owner, "split"))
		if (name_version(all, m->string))
			return -ENOSPC;
	return 0;
}

static int service_check(const cJSON *v, struct schema_error *e)
{
	struct named all = {.n = 0};
	const cJSON *r;
	int err = name_split(&all, v);

	cJSON_ArrayForEach (r, cJSON_GetObjectItemCaseSensitive(v, "routes")) {
		const cJSON *mirror = cJSON_GetObjectItemCaseSensitive(r, "mirror");
		const char *version = json_str(mirror, "version", NULL);

		if (!err)
			err = name_split(&all, r);
		if (!err && version)
			err = name_version(&all, version);
	}
	return err ? schema_fail(e, ".routes", "name more than %d versions together with split",
				 VERSIONS_MAX)
		   : 0;
}

/* clang-format off: the tables are read as tables */
static const struct schema boolean = {.kind = SCHEMA_BOOL};
static const struct schema name = {SCHEMA_TEXT, .min = 1, .max = 63, .valid = name_valid,
				   .what = NAME_WHAT};
static const struct schema percent = {SCHEMA_NUMBER, .min = 0, .max = 100};
static const struct schema positive_percent = {SCHEMA_NUMBER, .min = 0.001, .max = 100};
static const struct schema count = {SCHEMA_INTEGER, .min = 1, .max = 1000000};
static const struct schema count0 = {SCHEMA_INTEGER, .min = 0, .max = 1000000};
static const struct schema few = {SCHEMA_INTEGER, .min = 1, .max = 1000};
static const struct schema few0 = {SCHEMA_INTEGER, .min = 0, .max = 1000};
static const struct schema timeout = {SCHEMA_DURATION, .min = 1, .max = 24 * HOUR};
static const struct schema timeout0 = {SCHEMA_DURATION, .min = 0, .max = 24 * HOUR};
static const struct schema url_path = {
	SCHEMA_TEXT, .min = 1, .max = 1024, .valid = path_valid,
	.what = "a path that begins with / and has no space, ? or #"};
static const struct schema method = {SCHEMA_TEXT, .min = 1, .max = 20, .valid = method_valid,
				     .what = "a method in capital letters"};
static const struct schema header = {SCHEMA_TEXT, .min = 1, .max = 128, .valid = token_valid,
				     .what = "a header name"};

static const struct schema split = {SCHEMA_MAP,		 .min = 1,	    .max = MESH_SPLITS,
				    .valid = name_valid, .what = NAME_WHAT, .item = &percent,
				    .check = split_check};

static const struct schema timeouts = {
	SCHEMA_OBJECT,
	.fields = (const struct schema_field[]){{"connect", &timeout, .fallback = "\"1s\""},
						{"try", &timeout0, .fallback = "\"3s\""},
						{"request", &timeout0, .fallback = "\"15s\""},
						{"idle", &timeout0, .fallback = "\"60s\""},
						{NULL}}};

static const struct schema budget = {
	SCHEMA_OBJECT,
	.fields = (const struct schema_field[]){{"percent", &percent, .fallback = "20"},
						{"minPerSecond", &count0, .fallback = "10"},
						{NULL}}};

static const struct schema backoff = {SCHEMA_DURATION, .min = 0, .max = MINUTE};
static const struct schema attempts = {SCHEMA_INTEGER, .min = 0, .max = 10};
static const struct schema retry_on = {
	SCHEMA_TEXT, .min = 1, .max = 32, .valid = retry_on_valid,
	.what = "connect-failed, connect-timeout, try-timeout, upstream-reset, upstream-protocol "
		"or a status 400-599"};
static const struct schema retry_ons = {SCHEMA_LIST, .min = 0, .max = 32, .item = &retry_on};
static const struct schema retry_method = {
	SCHEMA_TEXT, .min = 1, .max = 20, .valid = retry_method_valid,
	.what = "one of GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH, TRACE"};
static const struct schema methods = {SCHEMA_LIST, .min = 0, .max = 16, .item = &retry_method};
static const struct schema retry = {
	SCHEMA_OBJECT, .check = retry_check,
	.fields = (const struct schema_field[]){
		{"attempts", &attempts, .fallback = "2"},
		{"on", &retry_ons,
		 .fallback = "[\"connect-failed\",\"upstream-reset\",\"502\",\"503\",\"504\"]"},
		{"methods", &methods,
		 .fallback = "[\"GET\",\"HEAD\",\"OPTIONS\",\"PUT\",\"DELETE\"]"},
		{"backoff", &backoff, .fallback = "\"25ms\""},
		{"maxBackoff", &backoff, .fallback = "\"250ms\""},
		{"budget", &budget, .inside = true, .fallback = "{}"},
		{NULL}}};
/* The budget is the service's: all routes spend from it. */
static const struct schema route_retry = {
	SCHEMA_OBJECT, .check = retry_check,
	.fields = (const struct schema_field[]){{"attempts", &attempts},
						{"on", &retry_ons},
						{"methods", &methods},
						{"backoff", &backoff},
						{"maxBackoff", &backoff},
						{NULL}}};

static const struct schema template = {SCHEMA_TEXT, .min = 1, .max = 1024, .valid = template_valid,
				       .what = "a path of texts, {name} and, at the end, **"};
static const struct schema path_match = {
	SCHEMA_OBJECT, .check = path_match_check,
	.fields = (const struct schema_field[]){
		{"prefix", &url_path}, {"exact", &url_path}, {"template", &template}, {NULL}}};
static const struct schema header_value = {SCHEMA_TEXT, .min = 0, .max = 1024};
static const struct schema headers = {
	SCHEMA_MAP,	      .min = 1, .max = 16, .valid = token_valid, .what = "a header name",
	.item = &header_value};
static const struct schema query = {SCHEMA_MAP,
				    .min = 1,
				    .max = 16,
				    .valid = query_name_valid,
				    .what = "1 to 128 bytes without control characters",
				    .item = &header_value};
static const struct schema match = {SCHEMA_OBJECT,
				    .fields = (const struct schema_field[]){{"path", &path_match},
									    {"method", &method},
									    {"headers", &headers},
									    {"query", &query},
									    {NULL}}};

static const struct schema mirror = {
	SCHEMA_OBJECT,
	.fields = (const struct schema_field[]){{"version", &name, .required = true},
						{"percent", &percent, .fallback = "100"},
						{NULL}}};

static const struct schema status = {SCHEMA_INTEGER, .min = 200, .max = 599};
static const struct schema delay_time = {SCHEMA_DURATION, .min = 1, .max = 10 * MINUTE};
static const struct schema fault_delay = {
	SCHEMA_OBJECT,
	.fields = (const struct schema_field[]){{"percent", &percent, .fallback = "100"},
						{"duration", &delay_time, .required = true},
						{NULL}}};
static const struct schema fault_abort = {
	SCHEMA_OBJECT,
	.fields = (const struct schema_field[]){{"percent", &percent, .fallback = "100"},
						{"status", &status, .required = true},
						{NULL}}};
static const struct schema fault = {SCHEMA_OBJECT, .fields = (const struct schema_field[]){
							   {"delay", &fault_delay, .inside = true},
							   {"abort", &fault_abort, .inside = true},
							   {NULL}}};

static const struct schema fallback = {SCHEMA_WORD, .words = WORDS("split", "none")};

/* What a route leaves out it takes from the service, so there are no defaults for fallback,
 * timeouts and retry. */
static const struct schema route = {
	SCHEMA_OBJECT, .fields = (const struct schema_field[]){{"name", &name},
							       {"match", &match},
							       {"split", &split},
							       {"fallback", &fallback},
							       {"timeouts", &timeouts},
							       {"retry", &route_retry},
							       {"mirror", &mirror, .inside = true},
							       {"fault", &fault, .inside = true},
							       {NULL}}};
static const struct schema routes = {SCHEMA_LIST, .min = 0, .max = 64, .item = &route,
				     .check = routes_check};

static const struct schema policy = {
	SCHEMA_WORD, .words = WORDS("p2c", "least-request", "round-robin", "random")};
static const struct schema slow_start = {SCHEMA_DURATION, .min = 0, .max = HOUR};
static const struct schema balancer = {
	SCHEMA_OBJECT,
	.fields = (const struct schema_field[]){{"policy", &policy, .fallback = "\"p2c\""},
						{"slowStart", &slow_start, .fallback = "\"0s\""},
						{NULL}}};

static const struct schema window = {SCHEMA_DURATION, .min = 1000, .max = 5 * MINUTE};
static const struct schema open_for = {SCHEMA_DURATION, .min = 100, .max = HOUR};
static const struct schema breaker = {SCHEMA_OBJECT,
				      .fields = (const struct schema_field[]){
					      {"errorPercent", &positive_percent, .fallback = "50"},
					      {"minRequests", &count, .fallback = "10"},
					      {"window", &window, .fallback = "\"10s\""},
					      {"openFor", &open_for, .fallback = "\"30s\""},
					      {"halfOpenRequests", &few, .fallback = "1"},
					      {"consecutiveErrors", &few0, .fallback = "5"},
					      {"maxEjectedPercent", &percent, .fallback = "50"},
					      {NULL}}};

static const struct schema bulkhead = {
	SCHEMA_OBJECT,
	.fields = (const struct schema_field[]){{"maxConnections", &count, .fallback = "1024"},
						{"maxRequests", &count, .fallback = "1024"},
						{"maxPending", &count0, .fallback = "128"},
						{"maxRequestsPerSource", &count, .fallback = "512"},
						{NULL}}};

static const struct schema health_type = {SCHEMA_WORD, .words = WORDS("http", "tcp", "none")};
static const struct schema health_interval = {SCHEMA_DURATION, .min = 100, .max = HOUR};
static const struct schema health_timeout = {SCHEMA_DURATION, .min = 10, .max = HOUR};
static const struct schema health_path = {
	SCHEMA_TEXT, .min = 1, .max = 255, .valid = path_valid,
	.what = "a path that begins with / and has no space, ? or #"};
static const struct schema health = {SCHEMA_OBJECT, .check = health_check,
				     .fields = (const struct schema_field[]){
					     {"type", &health_type, .fallback = "\"http\""},
					     {"path", &health_path},
					     {"interval", &health_interval, .fallback = "\"2s\""},
					     {"timeout", &health_timeout, .fallback = "\"1s\""},
					     {"unhealthyAfter", &few, .fallback = "3"},
					     {"healthyAfter", &few, .fallback = "2"},
					     {NULL}}};

static const struct schema cookie = {SCHEMA_TEXT, .min = 1, .max = 128, .valid = token_valid,
				     .what = "the name of a cookie"};
static const struct schema sticky = {
	SCHEMA_OBJECT, .check = sticky_check,
	.fields = (const struct schema_field[]){{"header", &header}, {"cookie", &cookie}, {NULL}}};
static const struct schema sampling = {SCHEMA_NUMBER, .min = 0, .max = 1};
static const struct schema tracing = {
	SCHEMA_OBJECT,
	.fields = (const struct schema_field[]){{"sampling", &sampling, .fallback = "1"}, {NULL}}};
static const struct schema address = {SCHEMA_TEXT, .min = 1, .max = 64, .valid = address_valid,
				      .what = "ADDR:PORT, and no loopback address"};
static const struct schema addresses = {SCHEMA_LIST, .min = 0, .max = 16, .item = &address,
					.check = addresses_check};
static const struct schema protocol = {SCHEMA_WORD, .words = WORDS("auto", "http", "tcp")};
static const struct schema accelerate = {SCHEMA_WORD, .words = WORDS("auto", "on", "off")};

static const struct schema service = {
	SCHEMA_OBJECT, .check = service_check,
	.fields = (const struct schema_field[]){
		{"service", &name, .required = true},
		{"protocol", &protocol, .fallback = "\"auto\""},
		{"loadBalancer", &balancer, .inside = true, .fallback = "{}"},
		{"split", &split},
		{"fallback", &fallback, .fallback = "\"split\""},
		{"routes", &routes},
		{"timeouts", &timeouts, .inside = true, .fallback = "{}"},
		{"retry", &retry, .inside = true, .fallback = "{}"},
		{"circuitBreaker", &breaker, .inside = true, .fallback = "{}"},
		{"bulkhead", &bulkhead, .inside = true, .fallback = "{}"},
		{"healthCheck", &health, .inside = true},
		{"sticky", &sticky},
		{"accelerate", &accelerate, .fallback = "\"auto\""},
		{"failClosed", &boolean, .fallback = "false"},
		{"addresses", &addresses},
		{"tracing", &tracing, .inside = true, .fallback = "{}"},
		{NULL}}};

/* clang-format on */

int config_check(const cJSON *v, struct schema_error *e)
{
	return schema_check(&service, v, e);
}

/* Lists are not entered by schema_fill(): an item of routes has defaults of its own. */
int config_fill(cJSON *v)
{
	cJSON *r, *check = cJSON_GetObjectItemCaseSensitive(v, "healthCheck");

	cJSON_ArrayForEach (r, cJSON_GetObjectItemCaseSensitive(v, "routes"))
		if (schema_fill(&route, r))
			return -ENOMEM;
	if (check && !strcmp(json_str(check, "type", "http"), "http") &&
	    !cJSON_GetObjectItemCaseSensitive(check, "path") &&
	    !cJSON_AddStringToObject(check, "path", "/health"))
		return -ENOMEM;
	return schema_fill(&service, v);
}
