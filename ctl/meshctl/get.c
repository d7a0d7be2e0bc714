/* SPDX-License-Identifier: Apache-2.0 */
/* meshctl get: what meshd knows, as tables, JSON or names. Reads only. */
#include "ctl/meshctl/api.h"
#include "ctl/meshctl/output.h"
#include "ctl/meshctl/service.h"
#include "ctl/meshctl/shapes.h"
#include "ctl/meshctl/text.h"
#include "ctl/meshctl/words.h"
#include "lib/clock.h"
#include "lib/json.h"

#include <stdlib.h>
#include <string.h>

/* One kind of thing. The list is in member `list` of the answer; the name of an item in member
 * `key`. */
struct kind {
	const char *name;
	const char *path, *one; /* one: path of a single one, which its name is appended to; NULL:
				   filtered here */
	int (*fetch)(struct cli *cli, const char *name, cJSON **answer); /* instead of path, one */
	const char *list, *key;
	const char *const *headers;
	unsigned columns, wide; /* how many columns a table has, and a wide one */
	void (*rows)(struct table *t, const cJSON *item);
	void (*names)(const cJSON *item); /* NULL: what key says */
	bool ordered;			  /* the order of the list says something */
};

static void service_rows(struct table *t, const cJSON *s)
{
	const cJSON *endpoints = words_get(s, "endpoints"), *e;
	char count[32], versions[256], addresses[900] = "", out[64];

	cJSON_ArrayForEach (e, endpoints) {
		char address[96];

		words_add_once(words_address(e, address, sizeof(address)), addresses,
			       sizeof(addresses));
	}
	snprintf(count, sizeof(count), "%u/%d", words_count(endpoints, NULL, "healthy"),
		 cJSON_GetArraySize(endpoints));
	table_row(t, (const char *[]){
			     json_str(s, "name", "?"), json_str(s, "status", "?"), count,
			     words_out(endpoints, out, sizeof(out)), json_str(s, "protocol", "-"),
			     words_versions(endpoints, versions, sizeof(versions)), addresses});
}

static void endpoint_rows(struct table *t, const cJSON *s)
{
	const cJSON *e;

	cJSON_ArrayForEach (e, words_get(s, "endpoints")) {
		char address[96], ports[128], weight[24];

		words_address(e, address, sizeof(address));
		words_ports(e, ports, sizeof(ports));
		table_row(t,
			  (const char *[]){json_str(s, "name", "?"), json_str(e, "id", "?"),
					   address, json_str(e, "version", "-"),
					   json_str(e, "status", "?"), json_str(e, "node", "-"),
					   words_number(json_num(e, "weight", 100), weight), ports,
					   json_str(e, "source", "-"), json_str(e, "cgroup", "-")});
	}
}

/* In a list an item is {"service","revision","config"}; a single one is the configuration itself.
 */
static void config_rows(struct table *t, const cJSON *item)
{
	const cJSON *c = words_get(item, "config"), *key;
	char set[512] = "", revision[24];

	if (!c)
		c = item;
	cJSON_ArrayForEach (key, c)
		if (strcmp(key->string, "service"))
			words_add_once(key->string, set, sizeof(set));
	words_number(json_num(item, "revision", 0), revision);
	table_row(t, (const char *[]){json_str(c, "service", "?"),
				      json_str(words_get(c, "loadBalancer"), "policy", "p2c"),
				      json_str(c, "protocol", "auto"), set,
				      c == item ? "-" : revision});
}

static const char *last_seen(const cJSON *a, char out[AGE_MAX])
{
	uint64_t then, now = clock_wall_ms();

	if (text_iso_ms(json_str(a, "lastSeen", ""), &then))
		return "-";
	return text_age(now > then ? now - then : 0, out);
}

static const char *gateway_of(const cJSON *a)
{
	return json_str(a, "gateway", json_str(a, "gatewayError", NULL) ? "failed" : "-");
}

static void agent_rows(struct table *t, const cJSON *a)
{
	char count[24], endpoints[24], revision[24], age[AGE_MAX], pid[24];

	table_row(t, (const char *[]){
			     json_str(a, "node", "?"), json_str(a, "status", "?"),
			     json_str(a, "version", "-"), words_number(api_agent_workers(a), count),
			     words_number(cJSON_GetArraySize(words_get(a, "endpoints")), endpoints),
			     words_number(json_num(a, "configRevision", 0), revision),
			     last_seen(a, age), words_number(json_num(a, "pid", 0), pid),
			     gateway_of(a), json_str(a, "admin", "-")});
}

/* The route of an item of shape_routes(). */
static const char *route_name(const cJSON *r, char out[24])
{
	snprintf(out, 24, "#%.0f", json_num(r, "index", 0));
	return json_str(r, "name", json_bool(r, "default", 0) ? "(default)" : out);
}

static void route_rows(struct table *t, const cJSON *r)
{
	char index[24], match[WORDS_MAX], split[WORDS_MAX], fault[WORDS_MAX], mirror[WORDS_MAX],
		timeouts[WORDS_MAX], retry[WORDS_MAX];
	bool rest = json_bool(r, "default", 0) && json_num(r, "index", 0) > 1;

	words_match(words_get(r, "match"), match, sizeof(match));
	table_row(t, (const char *[]){
			     json_str(r, "service", "?"), route_name(r, index),
			     rest ? "everything else" : match,
			     words_split(words_get(r, "split"), split, sizeof(split)),
			     words_fault(words_get(r, "fault"), fault, sizeof(fault)),
			     words_mirror(words_get(r, "mirror"), mirror, sizeof(mirror)),
			     words_values(words_get(r, "timeouts"), timeouts, sizeof(timeouts)),
			     words_values(words_get(r, "retry"), retry, sizeof(retry))});
}

static void route_names(const cJSON *r)
{
	char index[24];

	printf("%s/%s\n", json_str(r, "service", "?"), route_name(r, index));
}

/* One line a kind: a delay and an abort may end at different times. */
static void fault_rows(struct table *t, const cJSON *f)
{
	static const char *const kinds_of[] = {"delay", "abort"};
	char percent[24], status[24], left[24];

	for (size_t i = 0; i < 2; i++) {
		const cJSON *k = words_get(f, kinds_of[i]);

		if (!cJSON_IsObject(k))
			continue;
		snprintf(percent, sizeof(percent), "%g", json_num(k, "percent", 100));
		table_row(t,
			  (const char *[]){json_str(f, "service", "?"), json_str(f, "route", NULL),
					   kinds_of[i],
					   json_str(k, "duration",
						    words_number(json_num(k, "status", 0), status)),
					   percent, words_age(k, "leftMs", left)});
	}
}

static void breaker_rows(struct table *t, const cJSON *b)
{
	static const char *const numbers[] = {"requests", "failures", "opened", "level",
					      "consecutive"};
	char since[24], left[24], n[5][24];

	for (size_t i = 0; i < 5; i++)
		words_number(json_num(b, numbers[i], 0), n[i]);
	table_row(t, (const char *[]){json_str(b, "service", "?"), json_str(b, "endpoint", NULL),
				      json_str(b, "state", "?"),
				      json_bool(b, "held", 0) ? "by hand" : NULL,
				      words_age(b, "sinceMs", since), words_age(b, "forMs", left),
				      n[0], n[1], n[2], json_str(b, "node", NULL), n[3], n[4]});
}

static void breaker_names(const cJSON *b)
{
	const char *endpoint = json_str(b, "endpoint", NULL);

	printf("%s%s%s\n", json_str(b, "service", "?"), endpoint ? "/" : "",
	       endpoint ? endpoint : "");
}

static void endpoint_names(const cJSON *s)
{
	const cJSON *e;

	cJSON_ArrayForEach (e, words_get(s, "endpoints"))
		puts(json_str(e, "id", "?"));
}

/* Nothing to show of a service is well, as long as there is such a service. */
static int need_some(struct cli *cli, const char *name, const cJSON *list)
{
	return name && !cJSON_GetArraySize(list) ? service_need(cli, name) : EXIT_OK;
}

static int fetch_routes(struct cli *cli, const char *name, cJSON **answer)
{
	cJSON *configs = NULL;
	int rc = api_get(cli, "/api/config", &configs);

	if (rc != EXIT_OK)
		return rc;
	*answer = shape_routes(configs, name);
	cJSON_Delete(configs);
	return *answer ? need_some(cli, name, words_get(*answer, "routes"))
		       : cli_fail("out of memory");
}

static int fetch_faults(struct cli *cli, const char *name, cJSON **answer)
{
	cJSON *faults = NULL, *configs = NULL;
	int rc = api_get(cli, "/api/faults", &faults);

	if (rc == EXIT_OK)
		rc = api_get(cli, "/api/config?effective=true", &configs);
	if (rc == EXIT_OK) {
		*answer = shape_faults(faults, configs, name);
		rc = *answer ? need_some(cli, name, words_get(*answer, "faults"))
			     : cli_fail("out of memory");
	}
	cJSON_Delete(faults);
	cJSON_Delete(configs);
	return rc;
}

static const char *const service_headers[] = {"NAME",	  "STATUS",   "ENDPOINTS", "OUT",
					      "PROTOCOL", "VERSIONS", "ADDRESSES"};
static const char *const endpoint_headers[] = {"SERVICE", "ID",	    "ADDRESS", "VERSION", "STATUS",
					       "NODE",	  "WEIGHT", "PORTS",   "SOURCE",  "CGROUP"};
static const char *const config_headers[] = {"SERVICE", "POLICY", "PROTOCOL", "SET", "REVISION"};
static const char *const agent_headers[] = {"NODE",	"STATUS", "VERSION", "WORKERS", "ENDPOINTS",
					    "REVISION", "SEEN",	  "PID",     "GATEWAY", "ADMIN"};

static const char *const route_headers[] = {"SERVICE", "ROUTE",	 "MATCH",    "SPLIT",
					    "FAULT",   "MIRROR", "TIMEOUTS", "RETRY"};
static const char *const fault_headers[] = {"SERVICE", "ROUTE", "KIND", "WHAT", "PERCENT", "LEFT"};
static const char *const breaker_headers[] = {"SERVICE", "ENDPOINT", "STATE",	 "HELD",
					      "SINCE",	 "LEFT",     "REQUESTS", "FAILURES",
					      "TRIPS",	 "NODE",     "LEVEL",	 "CONSECUTIVE"};

static const struct kind kinds[] = {
	{"services", "/api/services", "/api/services/", NULL, "services", "name", service_headers,
	 6, 7, service_rows},
	{"endpoints", "/api/services", "/api/services/", NULL, "services", "name", endpoint_headers,
	 6, 10, endpoint_rows, endpoint_names},
	{"routes", NULL, NULL, fetch_routes, "routes", "service", route_headers, 6, 8, route_rows,
	 route_names, .ordered = true},
	{"breakers", "/api/breakers", "/api/breakers/", NULL, "breakers", "service",
	 breaker_headers, 9, 12, breaker_rows, breaker_names},
	{"faults", NULL, NULL, fetch_faults, "faults", "service", fault_headers, 6, 6, fault_rows},
	{"agents", "/api/agents", NULL, NULL, "agents", "node", agent_headers, 7, 10, agent_rows},
	{"config", "/api/config", "/api/config/", NULL, "services", "service", config_headers, 4, 5,
	 config_rows},
};
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

/* The plural or the singular. */
static const struct kind *find_kind(const char *word)
{
	size_t n = strlen(word);

	for (size_t i = 0; i < KINDS; i++) {
		size_t len = strlen(kinds[i].name);

		if (!strcmp(word, kinds[i].name) ||
		    (n + 1 == len && kinds[i].name[n] == 's' && !strncmp(word, kinds[i].name, n)))
			return &kinds[i];
	}
	return NULL;
}

static int unknown_kind(struct cli *cli, const char *word)
{
	const char *names[KINDS];

	for (size_t i = 0; i < KINDS; i++)
		names[i] = kinds[i].name;
	return cli_no_such(cli, "kind", word, names, KINDS);
}

/* A list in an answer: in the member that has it, or the answer itself (a list, or the only one).
 */
static const cJSON *items_of(const struct kind *k, const cJSON *answer)
{
	const cJSON *list = words_get(answer, k->list);

	return list ? list : answer;
}

static void print_names(const struct kind *k, const cJSON *item)
{
	if (k->names)
		k->names(item);
	else
		puts(json_str(item, k->key, "?"));
}

static int print_items(struct cli *cli, const struct kind *k, const cJSON *items)
{
	struct table t;
	const cJSON *item;
	int rc = 0;

	table_init(&t, k->headers, cli->format == OUTPUT_WIDE ? k->wide : k->columns);
	if (cJSON_IsArray(items)) {
		cJSON_ArrayForEach (item, items)
			k->rows(&t, item);
	} else {
		k->rows(&t, items);
	}
	if (!k->ordered)
		table_sort(&t);
	if (t.count)
		rc = table_print(&t, stdout, output_colour(stdout));
	else
		fprintf(stderr, "meshctl: no %s\n", k->name);
	table_done(&t);
	return rc ? cli_fail("out of memory") : EXIT_OK;
}

static int print_answer(struct cli *cli, const struct kind *k, const cJSON *answer)
{
	const cJSON *items = items_of(k, answer), *item;

	switch (cli->format) {
	case OUTPUT_JSON:
		return output_json(answer);
	case OUTPUT_NAME:
		if (!cJSON_IsArray(items))
			print_names(k, items);
		else
			cJSON_ArrayForEach (item, items)
				print_names(k, item);
		return EXIT_OK;
	default:
		return print_items(cli, k, items);
	}
}

static int fetch(struct cli *cli, const struct kind *k, const char *name, cJSON **answer)
{
	char path[API_PATH_MAX];
	int rc;

	if (k->fetch)
		return k->fetch(cli, name, answer);
	if (!name || !k->one)
		return api_get(cli, k->path, answer);
	rc = api_path(cli, k->one, name, "", path);
	return rc ? rc : api_get(cli, path, answer);
}

int get_show(struct cli *cli, const char *kind, const char *name)
{
	const struct kind *k = find_kind(kind);
	const cJSON *one = NULL, *item;
	cJSON *answer = NULL;
	int rc;

	if (!k)
		return unknown_kind(cli, kind);
	rc = fetch(cli, k, name, &answer);
	if (rc == EXIT_OK && name && !k->one && !k->fetch) {
		cJSON_ArrayForEach (item, items_of(k, answer))
			if (!strcmp(json_str(item, k->key, ""), name))
				one = item;
		if (!one)
			rc = cli_fail("there is no %.*s %s; meshctl get %s lists them",
				      (int)strlen(k->name) - 1, k->name, name, k->name);
	}
	if (rc == EXIT_OK)
		rc = print_answer(cli, k, one ? one : answer);
	cJSON_Delete(answer);
	return rc;
}

int cmd_get(struct cli *cli)
{
	return get_show(cli, cli->argv[0], cli->argc > 1 ? cli->argv[1] : NULL);
}
