/* SPDX-License-Identifier: Apache-2.0 */
/* meshctl status and version: the whole mesh on one screen, and what is wrong with it in plain
 * words. Reads only. */
#include "ctl/meshctl/acceleration.h"
#include "ctl/meshctl/api.h"
#include "ctl/meshctl/output.h"
#include "ctl/meshctl/text.h"
#include "ctl/meshctl/words.h"
#include "lib/json.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct status {
	cJSON *health, *agents, *services; /* answers of meshd */
	cJSON *breakers, *faults;	   /* and these, NULL from an older one */
	cJSON *problems;		   /* a list of sentences */
	cJSON *notes;			   /* what is not as usual, but no problem */
};

static void sentence(cJSON *list, const char *fmt, va_list ap)
{
	char text[512];

	vsnprintf(text, sizeof(text), fmt, ap);
	cJSON_AddItemToArray(list, cJSON_CreateString(text_mask(text)));
}

__attribute__((format(printf, 2, 3))) static void problem(struct status *s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	sentence(s->problems, fmt, ap);
	va_end(ap);
}

__attribute__((format(printf, 2, 3))) static void note(struct status *s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	sentence(s->notes, fmt, ap);
	va_end(ap);
}

static const cJSON *list(const cJSON *answer, const char *key)
{
	return cJSON_GetObjectItemCaseSensitive(answer, key);
}

/* A meshd that is not well says so with 503 and the same document. */
static int fetch_health(struct cli *cli, struct status *s)
{
	struct api_answer a;
	int rc = api_call(cli, &(struct api_request){.method = "GET", .path = "/health"}, &a);

	if (rc != EXIT_OK && !json_str(a.json, "status", NULL)) {
		api_report(&a);
	} else {
		rc = EXIT_OK;
		s->health = a.json;
		a.json = NULL;
	}
	api_done(&a);
	return rc;
}

static bool lags(const struct status *s, const cJSON *agent)
{
	return json_num(agent, "configRevision", 0) < json_num(s->health, "revision", 0);
}

static bool is_live(const cJSON *agent)
{
	return !strcmp(json_str(agent, "status", ""), "live");
}

static bool is_short(const cJSON *agent)
{
	return api_agent_workers(agent) < json_num(agent, "workers", 0);
}

static bool is_late(const struct status *s, const cJSON *agent)
{
	return is_short(agent) || (lags(s, agent) && !json_str(agent, "configError", NULL));
}

/* An agent that lags, or has just begun, may only be about to report: it gets a second. */
static int fetch_agents(struct cli *cli, struct status *s)
{
	struct timespec pause = {.tv_nsec = 100000000};
	const cJSON *a;

	for (int i = 0;; i++) {
		bool wait = false;
		int rc = api_get(cli, "/api/agents", &s->agents);

		if (rc != EXIT_OK)
			return rc;
		cJSON_ArrayForEach (a, list(s->agents, "agents"))
			wait = wait || (is_live(a) && is_late(s, a));
		if (!wait || i == 10)
			return EXIT_OK;
		cJSON_Delete(s->agents);
		s->agents = NULL;
		nanosleep(&pause, NULL);
	}
}

/* What an older meshd does not know is left out. */
static int fetch_newer(struct cli *cli, const char *path, cJSON **out)
{
	struct api_answer a;
	int rc = api_call(cli, &(struct api_request){.method = "GET", .path = path}, &a);

	if (rc == EXIT_OK) {
		*out = a.json;
		a.json = NULL;
	} else if (a.status == 404) {
		rc = EXIT_OK;
	} else {
		api_report(&a);
	}
	api_done(&a);
	return rc;
}

static int fetch(struct cli *cli, struct status *s)
{
	int rc = fetch_health(cli, s);

	if (rc == EXIT_OK)
		rc = fetch_agents(cli, s);
	if (rc == EXIT_OK)
		rc = api_get(cli, "/api/services", &s->services);
	if (rc == EXIT_OK)
		rc = fetch_newer(cli, "/api/breakers", &s->breakers);
	if (rc == EXIT_OK)
		rc = fetch_newer(cli, "/api/faults", &s->faults);
	return rc;
}

static void judge_agent(struct status *s, const cJSON *a)
{
	const char *node = json_str(a, "node", "?"), *error = json_str(a, "configError", NULL);

	if (!is_live(a)) {
		problem(s,
			"the agent of %s has not been heard of for 15 s; is mesh-agent running "
			"there?",
			node);
		return;
	}
	if (error && *error)
		problem(s, "the agent of %s refuses the configuration: %s", node, error);
	else if (lags(s, a))
		problem(s,
			"the agent of %s runs revision %.0f of the configuration, not %.0f; its "
			"log says why",
			node, json_num(a, "configRevision", 0), json_num(s->health, "revision", 0));
	if (json_str(a, "gatewayError", NULL))
		problem(s, "the agent of %s: %s", node, json_str(a, "gatewayError", ""));
	if (!api_agent_workers(a))
		problem(s, "no worker of the agent of %s answers: connections pass by the mesh",
			node);
	else if (is_short(a))
		problem(s, "of the agent of %s, %.0f of %.0f workers answer; its log says why",
			node, api_agent_workers(a), json_num(a, "workers", 0));
}

static void judge_coverage(struct status *s, const cJSON *a)
{
	const cJSON *v = words_get(a, "coverage");
	double n = cJSON_GetArraySize(words_get(v, "escaping")) + json_num(v, "more", 0);

	if (is_live(a) && n > 0)
		note(s,
		     "on %s connections of %.0f workload%s go past the mesh; meshctl check says "
		     "whose and why",
		     json_str(a, "node", "?"), n, n == 1 ? "" : "s");
}

/* Plain TCP is right, but slower: nobody is to wonder why. */
static void judge_acceleration(struct status *s, const cJSON *a)
{
	char words[ACCELERATION_WORDS_MAX], plain[ACCELERATION_WORDS_MAX];

	if (!is_live(a))
		return;
	if (acceleration_words(a, words) == ACCELERATION_REFUSED)
		note(s, "on %s %s", json_str(a, "node", "?"), words);
	acceleration_plain(a, plain);
	if (*plain)
		note(s, "on %s these use splice(2), and stay with plain TCP: %s",
		     json_str(a, "node", "?"), plain);
}

static void judge_service(struct status *s, const cJSON *service)
{
	const char *name = json_str(service, "name", "?");
	const cJSON *e;

	if (strcmp(json_str(service, "status", ""), "healthy"))
		problem(s,
			"service %s has no healthy endpoint; see: meshctl describe service "
			"%s",
			name, name);
	cJSON_ArrayForEach (e, list(service, "endpoints"))
		if (strcmp(json_str(e, "status", ""), "healthy"))
			note(s, "endpoint %s of %s is %s", json_str(e, "id", "?"), name,
			     json_str(e, "status", "?"));
}

/* An endpoint's breaker is no problem: the others take over. */
static void judge_breaker(struct status *s, const cJSON *b)
{
	const char *service = json_str(b, "service", "?"), *state = json_str(b, "state", "?");
	char words[WORDS_MAX];

	if (json_str(b, "endpoint", NULL))
		return;
	words_breaker(b, words, sizeof(words));
	if (!strcmp(state, "open"))
		problem(s, "the circuit breaker of %s is %s: its requests are refused", service,
			words);
	else if (strcmp(state, "closed") || json_bool(b, "held", 0))
		note(s, "the circuit breaker of %s is %s", service, words);
}

static void judge_fault(struct status *s, const cJSON *f)
{
	char fault[WORDS_MAX], left[24];

	note(s, "service %s has a fault by hand: %s, %s left", json_str(f, "service", "?"),
	     words_fault(f, fault, sizeof(fault)), words_age(f, "leftMs", left));
}

/* What meshd says of itself. */
static void judge_meshd(struct status *s)
{
	const char *health = json_str(s->health, "status", "unknown"),
		   *config = json_str(s->health, "configError", NULL),
		   *telemetry = json_str(s->health, "telemetryError", NULL),
		   *traces = json_str(s->health, "tracesError", NULL);

	if (strcmp(health, "healthy"))
		problem(s, "meshd says that it is %s, and cannot change anything: %s", health,
			json_str(s->health, "storeError", "its log says why"));
	if (config)
		problem(s, "meshd refuses its configuration files: %s", config);
	if (telemetry)
		note(s, "meshd keeps figures in memory only, until it ends: %s", telemetry);
	if (traces)
		note(s, "meshd misses traces: %s", traces);
}

static void judge(struct status *s)
{
	const cJSON *agents = list(s->agents, "agents"), *services = list(s->services, "services");
	const cJSON *i;

	judge_meshd(s);
	if (!cJSON_GetArraySize(agents))
		problem(s, "no agent has reported: start mesh-agent, as root; when it runs, its "
			   "log says what is wrong");
	cJSON_ArrayForEach (i, agents) {
		judge_agent(s, i);
		judge_acceleration(s, i);
		judge_coverage(s, i);
	}
	cJSON_ArrayForEach (i, services)
		judge_service(s, i);
	cJSON_ArrayForEach (i, list(s->breakers, "breakers"))
		judge_breaker(s, i);
	cJSON_ArrayForEach (i, list(s->faults, "faults"))
		judge_fault(s, i);
}

static void print_agent(const struct status *s, const cJSON *a, bool colour)
{
	const char *state = json_str(a, "status", "?"), *error = json_str(a, "configError", NULL);
	double want = json_num(s->health, "revision", 0), have = json_num(a, "configRevision", 0);
	double workers = api_agent_workers(a);
	char sync[64];

	if (error && *error)
		snprintf(sync, sizeof(sync), "refuses the configuration");
	else if (have < want)
		snprintf(sync, sizeof(sync), "revision %.0f of %.0f", have, want);
	else
		snprintf(sync, sizeof(sync), "in sync (revision %.0f)", have);
	printf("agent     %s  %s, version %s, %.0f worker%s, %s\n",
	       output_paint(colour, output_state_colour(state), state), json_str(a, "node", "?"),
	       json_str(a, "version", "?"), workers, workers == 1 ? "" : "s", sync);
}

static void print_status(struct cli *cli, const struct status *s)
{
	const cJSON *services = list(s->services, "services"), *i;
	const char *health = json_str(s->health, "status", "unknown");
	bool colour = output_colour(stdout);
	unsigned healthy = 0, total = 0, well = 0;

	printf("meshd     %s  version %s, configuration revision %.0f, at %s\n",
	       output_paint(colour, output_state_colour(health), health),
	       json_str(s->health, "version", "?"), json_num(s->health, "revision", 0),
	       cli->control);
	cJSON_ArrayForEach (i, list(s->agents, "agents"))
		print_agent(s, i, colour);
	cJSON_ArrayForEach (i, services) {
		well += !strcmp(json_str(i, "status", ""), "healthy");
		healthy += words_count(list(i, "endpoints"), NULL, "healthy");
		total += words_count(list(i, "endpoints"), NULL, NULL);
	}
	printf("services  %u/%d healthy, endpoints %u/%u healthy\n", well,
	       cJSON_GetArraySize(services), healthy, total);
	cJSON_ArrayForEach (i, s->problems)
		printf("%s %s\n", output_paint(colour, COLOUR_RED, "problem  "), i->valuestring);
	cJSON_ArrayForEach (i, s->notes)
		printf("%s %s\n", output_paint(colour, COLOUR_YELLOW, "note     "), i->valuestring);
	if (!cJSON_GetArraySize(s->problems) && !cJSON_GetArraySize(s->notes))
		puts(output_paint(colour, COLOUR_GREEN, "All is well."));
}

static int print_json(const struct status *s)
{
	cJSON *all = cJSON_CreateObject();
	int rc;

	cJSON_AddBoolToObject(all, "ok", !cJSON_GetArraySize(s->problems));
	cJSON_AddItemReferenceToObject(all, "problems", s->problems);
	cJSON_AddItemReferenceToObject(all, "notes", s->notes);
	cJSON_AddItemReferenceToObject(all, "meshd", s->health);
	cJSON_AddItemReferenceToObject(all, "agents", (cJSON *)list(s->agents, "agents"));
	cJSON_AddItemReferenceToObject(all, "services", (cJSON *)list(s->services, "services"));
	cJSON_AddItemReferenceToObject(all, "breakers", (cJSON *)list(s->breakers, "breakers"));
	cJSON_AddItemReferenceToObject(all, "faults", (cJSON *)list(s->faults, "faults"));
	rc = output_json(all);
	cJSON_Delete(all);
	return rc;
}

int cmd_status(struct cli *cli)
{
	struct status s = {.problems = cJSON_CreateArray(), .notes = cJSON_CreateArray()};
	int rc = fetch(cli, &s);

	if (rc == EXIT_OK) {
		judge(&s);
		if (cli->format == OUTPUT_JSON)
			rc = print_json(&s);
		else
			print_status(cli, &s);
		if (cJSON_GetArraySize(s.problems))
			rc = EXIT_FAILED;
	}
	cJSON_Delete(s.health);
	cJSON_Delete(s.agents);
	cJSON_Delete(s.services);
	cJSON_Delete(s.breakers);
	cJSON_Delete(s.faults);
	cJSON_Delete(s.problems);
	cJSON_Delete(s.notes);
	return rc;
}

/* Versions of what can be asked; our own is printed whether or not there is a mesh. */
int cmd_version(struct cli *cli)
{
	struct api_answer health = {0}, agents = {0};
	cJSON *all = cJSON_CreateObject(), *nodes = cJSON_AddObjectToObject(all, "agents");
	const cJSON *a;
	int rc = EXIT_OK;

	api_call(cli, &(struct api_request){.method = "GET", .path = "/health"}, &health);
	if (health.code == EXIT_OK)
		api_call(cli, &(struct api_request){.method = "GET", .path = "/api/agents"},
			 &agents);
	cJSON_AddStringToObject(all, "meshctl", MESH_VERSION);
	cJSON_AddItemToObject(all, "meshd",
			      health.code
				      ? cJSON_CreateNull()
				      : cJSON_CreateString(json_str(health.json, "version", "?")));
	cJSON_ArrayForEach (a, list(agents.json, "agents"))
		cJSON_AddStringToObject(nodes, json_str(a, "node", "?"),
					json_str(a, "version", "?"));
	if (cli->format == OUTPUT_JSON) {
		rc = output_json(all);
	} else {
		printf("meshctl %s\n", MESH_VERSION);
		printf("meshd %s\n",
		       health.code ? "not reachable" : json_str(health.json, "version", "?"));
		cJSON_ArrayForEach (a, nodes)
			printf("mesh-agent %s (%s)\n", a->valuestring, a->string);
	}
	api_done(&health);
	api_done(&agents);
	cJSON_Delete(all);
	return rc;
}
