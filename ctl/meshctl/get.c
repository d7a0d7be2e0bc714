/* SPDX-License-Identifier: Apache-2.0 */
/* meshctl get and describe: what meshd knows, as tables, JSON or names. Reads only. */
#include "ctl/meshctl/api.h"
#include "ctl/meshctl/output.h"
#include "ctl/meshctl/text.h"
#include "lib/clock.h"
#include "lib/json.h"

#include <stdlib.h>
#include <string.h>

/* One kind of thing. The list is in member `list` of the answer; the name of an item in member
 * `name`. */
struct kind {
	const char *name;
	const char *path, *one; /* one: path of a single one, which its name is appended to; NULL:
				   filtered here */
	const char *list, *key;
	const char *const *headers;
	unsigned columns, wide; /* how many columns a table has, and a wide one */
	void (*rows)(struct table *t, const cJSON *item);
};

static const char *number(char out[24], double v)
{
	snprintf(out, 24, "%.0f", v);
	return out;
}

/* Adds word to a list separated by commas, once. */
static void add_once(char *list, size_t cap, const char *word)
{
	size_t n = strlen(word), len = strlen(list);

	for (const char *p = list; (p = strstr(p, word)); p++)
		if ((p == list || p[-1] == ',') && (p[n] == ',' || !p[n]))
			return;
	if (len + n + 2 <= cap)
		snprintf(list + len, cap - len, "%s%s", len ? "," : "", word);
}

static void endpoint_address(const cJSON *e, char *out, size_t cap)
{
	const char *ip = json_str(e, "address", "?");
	bool v6 = strchr(ip, ':') && ip[0] != '[';

	snprintf(out, cap, "%s%s%s:%.0f", v6 ? "[" : "", ip, v6 ? "]" : "", json_num(e, "port", 0));
}

static void service_rows(struct table *t, const cJSON *s)
{
	const cJSON *endpoints = cJSON_GetObjectItemCaseSensitive(s, "endpoints"), *e;
	char count[32], versions[256] = "", addresses[900] = "";
	unsigned healthy = 0;

	cJSON_ArrayForEach (e, endpoints) {
		char address[96];

		healthy += !strcmp(json_str(e, "status", ""), "healthy");
		add_once(versions, sizeof(versions), json_str(e, "version", ""));
		endpoint_address(e, address, sizeof(address));
		add_once(addresses, sizeof(addresses), address);
	}
	snprintf(count, sizeof(count), "%u/%d", healthy, cJSON_GetArraySize(endpoints));
	table_row(t, (const char *[]){json_str(s, "name", "?"), json_str(s, "status", "?"), count,
				      json_str(s, "protocol", "-"), versions, addresses});
}

static void port_list(const cJSON *e, char *out, size_t cap)
{
	const cJSON *p;

	out[0] = '\0';
	cJSON_ArrayForEach (p, cJSON_GetObjectItemCaseSensitive(e, "ports")) {
		char text[24];

		add_once(out, cap, number(text, cJSON_IsNumber(p) ? p->valuedouble : 0));
	}
}

static void endpoint_rows(struct table *t, const cJSON *s)
{
	const cJSON *e;

	cJSON_ArrayForEach (e, cJSON_GetObjectItemCaseSensitive(s, "endpoints")) {
		char address[96], ports[128];

		endpoint_address(e, address, sizeof(address));
		port_list(e, ports, sizeof(ports));
		table_row(t, (const char *[]){json_str(s, "name", "?"), json_str(e, "id", "?"),
					      address, json_str(e, "version", "-"),
					      json_str(e, "status", "?"), json_str(e, "node", "-"),
					      ports, json_str(e, "source", "-"),
					      json_str(e, "cgroup", "-")});
	}
}

/* In a list an item is {"service","revision","config"}; a single one is the configuration itself.
 */
static void config_rows(struct table *t, const cJSON *item)
{
	const cJSON *c = cJSON_GetObjectItemCaseSensitive(item, "config"), *key;
	char set[512] = "", revision[24];

	if (!c)
		c = item;
	cJSON_ArrayForEach (key, c)
		if (strcmp(key->string, "service"))
			add_once(set, sizeof(set), key->string);
	number(revision, json_num(item, "revision", 0));
	table_row(t, (const char *[]){json_str(c, "service", "?"),
				      json_str(cJSON_GetObjectItemCaseSensitive(c, "loadBalancer"),
					       "policy", "p2c"),
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

static void agent_rows(struct table *t, const cJSON *a)
{
	char count[24], endpoints[24], revision[24], age[AGE_MAX], pid[24];

	table_row(t, (const char *[]){
			     json_str(a, "node", "?"), json_str(a, "status", "?"),
			     json_str(a, "version", "-"), number(count, api_agent_workers(a)),
			     number(endpoints, cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(
						       a, "endpoints"))),
			     number(revision, json_num(a, "configRevision", 0)), last_seen(a, age),
			     number(pid, json_num(a, "pid", 0)), json_str(a, "gateway", "-"),
			     json_str(a, "admin", "-")});
}

static const char *const service_headers[] = {"NAME",	  "STATUS",   "ENDPOINTS",
					      "PROTOCOL", "VERSIONS", "ADDRESSES"};
static const char *const endpoint_headers[] = {"SERVICE", "ID",	   "ADDRESS", "VERSION", "STATUS",
					       "NODE",	  "PORTS", "SOURCE",  "CGROUP"};
static const char *const config_headers[] = {"SERVICE", "POLICY", "PROTOCOL", "SET", "REVISION"};
static const char *const agent_headers[] = {"NODE",	"STATUS", "VERSION", "WORKERS", "ENDPOINTS",
					    "REVISION", "SEEN",	  "PID",     "GATEWAY", "ADMIN"};

static const struct kind kinds[] = {
	{"services", "/api/services", "/api/services/", "services", "name", service_headers, 5, 6,
	 service_rows},
	{"endpoints", "/api/services", "/api/services/", "services", "name", endpoint_headers, 6, 9,
	 endpoint_rows},
	{"config", "/api/config", "/api/config/", "services", "service", config_headers, 4, 5,
	 config_rows},
	{"agents", "/api/agents", NULL, "agents", "node", agent_headers, 7, 10, agent_rows},
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
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(answer, k->list);

	return list ? list : answer;
}

static void print_names(const struct kind *k, const cJSON *item)
{
	const cJSON *e;
	char line[TEXT_CELL_MAX];

	if (k->rows != endpoint_rows) {
		snprintf(line, sizeof(line), "%s", json_str(item, k->key, "?"));
		puts(text_mask(line));
		return;
	}
	cJSON_ArrayForEach (e, cJSON_GetObjectItemCaseSensitive(item, "endpoints")) {
		snprintf(line, sizeof(line), "%s", json_str(e, "id", "?"));
		puts(text_mask(line));
	}
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

	if (!name || !k->one)
		return api_get(cli, k->path, answer);
	rc = api_path(cli, k->one, name, "", path);
	return rc ? rc : api_get(cli, path, answer);
}

int cmd_get(struct cli *cli)
{
	const struct kind *k = find_kind(cli->argv[0]);
	const char *name = cli->argc > 1 ? cli->argv[1] : NULL;
	const cJSON *one = NULL, *item;
	cJSON *answer = NULL;
	int rc;

	if (!k)
		return unknown_kind(cli, cli->argv[0]);
	rc = fetch(cli, k, name, &answer);
	if (rc == EXIT_OK && name && !k->one) {
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

static void print_section(const char *title, const cJSON *v)
{
	char *text = output_json_text(v);

	printf("\n%s\n", title);
	if (text)
		fputs(text, stdout);
	free(text);
}

static int describe_text(struct cli *cli, const cJSON *service, const cJSON *config)
{
	static const char *const headers[] = {"ID",	"ADDRESS", "VERSION",
					      "STATUS", "NODE",	   "PORTS"};
	const cJSON *split = cJSON_GetObjectItemCaseSensitive(config, "split"), *e;
	bool colour = output_colour(stdout);
	struct table t;
	int rc;

	printf("%s  %s  protocol %s\n\n", output_paint(colour, COLOUR_BOLD, cli->argv[1]),
	       output_paint(colour, output_state_colour(json_str(service, "status", "?")),
			    json_str(service, "status", "not seen")),
	       json_str(service, "protocol", json_str(config, "protocol", "auto")));
	table_init(&t, headers, 6);
	cJSON_ArrayForEach (e, cJSON_GetObjectItemCaseSensitive(service, "endpoints")) {
		char address[96], ports[128];

		endpoint_address(e, address, sizeof(address));
		port_list(e, ports, sizeof(ports));
		table_row(&t, (const char *[]){
				      json_str(e, "id", "?"), address, json_str(e, "version", "-"),
				      json_str(e, "status", "?"), json_str(e, "node", "-"), ports});
	}
	table_sort(&t);
	rc = t.count ? table_print(&t, stdout, colour) : 0;
	if (!t.count)
		puts("No endpoint: nothing of this service listens.");
	table_done(&t);
	cJSON_ArrayForEach (e, split)
		printf("%s%s %g%%", e == split->child ? "\nSplit: " : ", ", e->string,
		       e->valuedouble);
	if (cJSON_GetArraySize(split))
		putchar('\n');
	if (config)
		print_section("Configuration, with the defaults", config);
	else
		puts("\nConfiguration: none, the defaults are in force");
	return rc ? cli_fail("out of memory") : EXIT_OK;
}

static int describe_json(cJSON *service, cJSON *config)
{
	cJSON *both = cJSON_CreateObject();
	int rc;

	if (!service || !cJSON_AddItemReferenceToObject(both, "service", service))
		cJSON_AddNullToObject(both, "service");
	if (!config || !cJSON_AddItemReferenceToObject(both, "config", config))
		cJSON_AddNullToObject(both, "config");
	rc = output_json(both);
	cJSON_Delete(both);
	return rc;
}

/* Either may be NULL. */
static int describe(struct cli *cli, cJSON *service, cJSON *config)
{
	return cli->format == OUTPUT_JSON ? describe_json(service, config)
					  : describe_text(cli, service, config);
}

int cmd_describe(struct cli *cli)
{
	char service_path[API_PATH_MAX], config_path[API_PATH_MAX];
	struct api_answer service = {0}, config = {0};
	int rc;

	if (strcmp(cli->argv[0], "service"))
		return cli_usage(cli,
				 "only a service can be described: meshctl describe service S");
	rc = api_path(cli, "/api/services/", cli->argv[1], "", service_path);
	if (rc)
		return rc;
	api_path(cli, "/api/config/", cli->argv[1], "?effective=true", config_path);
	api_call(cli, &(struct api_request){.method = "GET", .path = service_path}, &service);
	if (service.code == EXIT_OK || service.status == 404)
		api_call(cli, &(struct api_request){.method = "GET", .path = config_path}, &config);
	/* Either one may be missing: configured before it runs, or running without configuration.
	 */
	if (service.status == 404 && config.status == 404)
		rc = cli_fail(
			"nothing listens as %s, and it has no configuration; meshctl get services "
			"lists what there is",
			cli->argv[1]);
	else if (service.code != EXIT_OK && service.status != 404)
		rc = api_report(&service);
	else if (config.code != EXIT_OK && config.status != 404)
		rc = api_report(&config);
	else
		rc = describe(cli, service.code == EXIT_OK ? service.json : NULL,
			      config.code == EXIT_OK ? config.json : NULL);
	api_done(&service);
	api_done(&config);
	return rc;
}
