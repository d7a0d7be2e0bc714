/* SPDX-License-Identifier: Apache-2.0 */
/* meshctl describe: everything about one service, from several answers of meshd. Reads only. */
#include "ctl/meshctl/api.h"
#include "ctl/meshctl/gain.h"
#include "ctl/meshctl/output.h"
#include "ctl/meshctl/service.h"
#include "ctl/meshctl/words.h"
#include "lib/json.h"

#include <stdlib.h>
#include <string.h>

struct description {
	const char *name;
	struct api_answer service, config, breakers, faults, agents;
	const cJSON *endpoints;
	bool colour;
};

static const cJSON *of(const struct api_answer *a, const char *key)
{
	return a->code == EXIT_OK ? words_get(a->json, key) : NULL;
}

static int print_endpoints(const struct description *d)
{
	static const char *const headers[] = {"ID",	"ADDRESS", "VERSION",
					      "STATUS", "NODE",	   "PORTS"};
	const cJSON *e;
	struct table t;
	int rc;

	table_init(&t, headers, 6);
	cJSON_ArrayForEach (e, d->endpoints) {
		char address[96], ports[128];

		words_address(e, address, sizeof(address));
		words_ports(e, ports, sizeof(ports));
		table_row(&t, (const char *[]){
				      json_str(e, "id", "?"), address, json_str(e, "version", "-"),
				      json_str(e, "status", "?"), json_str(e, "node", "-"), ports});
	}
	table_sort(&t);
	rc = t.count ? table_print(&t, stdout, d->colour) : 0;
	if (!t.count)
		puts("No endpoint: nothing of this service listens.");
	table_done(&t);
	return rc;
}

static void print_policy(const struct description *d)
{
	const cJSON *sticky = of(&d->config, "sticky"), *kind = sticky ? sticky->child : NULL;
	char split[WORDS_MAX];

	printf("\nPolicy    %s", json_str(of(&d->config, "loadBalancer"), "policy", "p2c"));
	if (cJSON_IsString(kind))
		printf(", sticky by %s %s", kind->string, kind->valuestring);
	words_split(of(&d->config, "split"), split, sizeof(split));
	printf("\nSplit     %s\n", *split ? split : "none: all versions alike");
}

static void print_routes(const struct description *d)
{
	const cJSON *r;
	unsigned index = 0;

	cJSON_ArrayForEach (r, of(&d->config, "routes")) {
		char match[WORDS_MAX], text[WORDS_MAX], unnamed[16];

		snprintf(unnamed, sizeof(unnamed), "#%u", ++index);
		printf("Route     %s: %s", json_str(r, "name", unnamed),
		       words_match(words_get(r, "match"), match, sizeof(match)));
		if (*words_split(words_get(r, "split"), text, sizeof(text)))
			printf(" -> %s", text);
		if (*words_mirror(words_get(r, "mirror"), text, sizeof(text)))
			printf("; mirrored to %s", text);
		if (*words_fault(words_get(r, "fault"), text, sizeof(text)))
			printf("; fault: %s", text);
		putchar('\n');
	}
}

/* Several agents may know the service: a line for each, and for each endpoint that is not well. */
static void print_breakers(const struct description *d)
{
	const cJSON *list = of(&d->breakers, "breakers"), *b;
	const cJSON *policy = of(&d->config, "circuitBreaker");
	char words[WORDS_MAX];

	cJSON_ArrayForEach (b, list) {
		const char *endpoint = json_str(b, "endpoint", NULL);

		printf("%-9s %s%s%s; %.0f requests, %.0f failed%s%s\n",
		       endpoint ? "Ejection" : "Breaker", endpoint ? endpoint : "",
		       endpoint ? " " : "", words_breaker(b, words, sizeof(words)),
		       json_num(b, "requests", 0), json_num(b, "failures", 0),
		       json_str(b, "node", NULL) ? ", on " : "", json_str(b, "node", ""));
	}
	if (policy)
		printf("%-9s opens at %g%% failures of at least %.0f requests in %s, for %s\n",
		       list && list->child ? "" : "Breaker", json_num(policy, "errorPercent", 50),
		       json_num(policy, "minRequests", 10), json_str(policy, "window", "10s"),
		       json_str(policy, "openFor", "30s"));
}

static void print_faults(const struct description *d)
{
	char fault[WORDS_MAX], left[24];

	if (d->faults.code != EXIT_OK)
		return;
	printf("Fault     %s by hand, %s left\n", words_fault(d->faults.json, fault, sizeof(fault)),
	       words_age(d->faults.json, "leftMs", left));
}

static void print_config(const struct description *d)
{
	char *text;

	if (d->config.code != EXIT_OK) {
		puts("\nConfiguration: none, the defaults are in force");
		return;
	}
	text = output_json_text(d->config.json);
	printf("\nConfiguration, with the defaults\n%s", text ? text : "");
	free(text);
}

static int describe_text(const struct description *d)
{
	const char *status = json_str(d->service.json, "status", "?");
	int rc;

	if (d->service.code != EXIT_OK)
		status = "not seen";
	printf("%s  %s  protocol %s\n\n", output_paint(d->colour, COLOUR_BOLD, d->name),
	       output_paint(d->colour, output_state_colour(status), status),
	       json_str(d->service.json, "protocol", json_str(d->config.json, "protocol", "auto")));
	rc = print_endpoints(d);
	print_policy(d);
	print_routes(d);
	print_breakers(d);
	print_faults(d);
	gain_print(d->agents.code == EXIT_OK ? d->agents.json : NULL, d->name);
	print_config(d);
	return rc ? cli_fail("out of memory") : EXIT_OK;
}

static void add(cJSON *all, const char *key, const cJSON *v)
{
	if (!v || !cJSON_AddItemReferenceToObject(all, key, (cJSON *)v))
		cJSON_AddNullToObject(all, key);
}

static int describe_json(const struct description *d)
{
	cJSON *all = cJSON_CreateObject();
	int rc;

	add(all, "service", d->service.code == EXIT_OK ? d->service.json : NULL);
	add(all, "config", d->config.code == EXIT_OK ? d->config.json : NULL);
	add(all, "breakers", of(&d->breakers, "breakers"));
	add(all, "faults", d->faults.code == EXIT_OK ? d->faults.json : NULL);
	cJSON_AddItemToObject(
		all, "acceleration",
		gain_json(d->agents.code == EXIT_OK ? d->agents.json : NULL, d->name));
	rc = output_json(all);
	cJSON_Delete(all);
	return rc;
}

static int ask(struct cli *cli, const char *prefix, const char *suffix, const char *service,
	       struct api_answer *a)
{
	char path[API_PATH_MAX];
	int rc = api_path(cli, prefix, service, suffix, path);

	if (rc)
		return rc;
	api_call(cli, &(struct api_request){.method = "GET", .path = path}, a);
	return a->code == EXIT_OK || a->status == 404 ? EXIT_OK : api_report(a);
}

int cmd_describe(struct cli *cli)
{
	static const struct api_answer none = {.code = EXIT_FAILED};
	struct description d = {.name = cli->argv[1],
				.service = none,
				.config = none,
				.breakers = none,
				.faults = none,
				.agents = none,
				.colour = output_colour(stdout)};
	int rc;

	if (strcmp(cli->argv[0], "service"))
		return cli_usage(cli,
				 "only a service can be described: meshctl describe service S");
	/* Any of it may be missing: configured before it runs, or running without configuration. */
	rc = ask(cli, "/api/services/", "", d.name, &d.service);
	if (rc == EXIT_OK)
		rc = ask(cli, "/api/config/", "?effective=true", d.name, &d.config);
	if (rc == EXIT_OK && d.service.status == 404 && d.config.status == 404)
		rc = service_need(cli, d.name);
	if (rc == EXIT_OK)
		rc = ask(cli, "/api/breakers/", "", d.name, &d.breakers);
	if (rc == EXIT_OK)
		rc = ask(cli, "/api/faults/", "", d.name, &d.faults);
	if (rc == EXIT_OK)
		api_call(cli, &(struct api_request){.method = "GET", .path = "/api/agents"},
			 &d.agents);
	d.endpoints = of(&d.service, "endpoints");
	if (rc == EXIT_OK)
		rc = cli->format == OUTPUT_JSON ? describe_json(&d) : describe_text(&d);
	api_done(&d.service);
	api_done(&d.config);
	api_done(&d.breakers);
	api_done(&d.faults);
	api_done(&d.agents);
	return rc;
}
