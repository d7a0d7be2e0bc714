/* SPDX-License-Identifier: Apache-2.0 */
/* See telemetry.h. Called by stat, top, edges, graph, trace, tap and log. */
#include "ctl/meshctl/telemetry.h"
#include "ctl/meshctl/figures.h"
#include "ctl/meshctl/text.h"
#include "ctl/meshctl/words.h"
#include "lib/clock.h"
#include "lib/http.h"
#include "lib/json.h"
#include "lib/name.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define WINDOW_MAX_MS (14ull * 86400 * 1000)
#define VALUE_MAX     256
#define TRACE_ID_MAX  64

int telemetry_window(struct cli *cli, const char *text)
{
	uint64_t ms;

	return duration_parse(text, &ms) || ms < 1000 || ms > WINDOW_MAX_MS
		       ? cli_usage(cli, "--window %s: a time from 1s to 14d (336h), as 30s or 5m",
				   text)
		       : EXIT_OK;
}

int telemetry_time(struct cli *cli, const char *what, const char *text, uint64_t *ms)
{
	return duration_parse(text, ms) || !*ms
		       ? cli_usage(cli, "%s %s: a time has a unit, as 100ms, 30s or 10m", what,
				   text)
		       : EXIT_OK;
}

int telemetry_limit(struct cli *cli, const char *what, const char *text, uint64_t max,
		    uint64_t *out)
{
	return text_number(text, 1, max, out)
		       ? cli_usage(cli, "%s %s: a number from 1 to %" PRIu64, what, text, max)
		       : EXIT_OK;
}

int telemetry_name(struct cli *cli, const char *what, const char *name)
{
	if (!name || name_valid(name))
		return EXIT_OK;
	return cli_usage(cli, "%s %s: a name is " NAME_WHAT, what, name);
}

int telemetry_trace_id(struct cli *cli, const char *id)
{
	static const char allowed[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
	size_t n = strlen(id);

	if (n && n <= TRACE_ID_MAX && strspn(id, allowed) == n)
		return EXIT_OK;
	return cli_usage(cli, "%s is no trace id: 1 to %d of A-Z a-z 0-9 . _ -", id, TRACE_ID_MAX);
}

void telemetry_query(char *path, const char *key, const char *value)
{
	size_t len = strlen(path);
	char escaped[VALUE_MAX * 3 + 1];

	if (!value || http_escape(value, escaped, sizeof(escaped)))
		return;
	snprintf(path + len, API_PATH_MAX - len, "%c%s=%s", strchr(path, '?') ? '&' : '?', key,
		 escaped);
}

const cJSON *telemetry_list(const cJSON *answer, const char *key)
{
	const cJSON *list = cJSON_IsArray(answer) ? answer : words_get(answer, key);

	return cJSON_IsArray(list) ? list : NULL;
}

int telemetry_graph(struct cli *cli, const char *window, cJSON **out)
{
	char path[API_PATH_MAX] = "/api/graph";

	telemetry_query(path, "window", window);
	return api_get(cli, path, out);
}

int telemetry_metrics(struct cli *cli, const char *service, const char *source, const char *version,
		      const char *window, cJSON **out)
{
	char path[API_PATH_MAX];
	int rc = api_path(cli, "/api/metrics/", service, "", path);

	if (rc != EXIT_OK)
		return rc;
	telemetry_query(path, "window", window);
	telemetry_query(path, "source", source);
	telemetry_query(path, "version", version);
	return api_get(cli, path, out);
}

static bool fill(cJSON *item, const cJSON *node)
{
	static const char *const kept[] = {"kind", "status", "healthy", "endpoints", "breaker"};
	struct figures f;
	cJSON *copy;

	figures_read(node, &f);
	if (!cJSON_AddStringToObject(item, "service", json_str(node, "name", "?")))
		return false;
	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
		const cJSON *v = words_get(node, kept[i]);

		copy = v ? cJSON_Duplicate(v, true) : NULL;
		if (v && !cJSON_AddItemToObject(item, kept[i], copy)) {
			cJSON_Delete(copy);
			return false;
		}
	}
	return !figures_write(item, &f);
}

/* Not the gateway, nor callers that nothing listens as. */
cJSON *telemetry_services(const cJSON *graph)
{
	cJSON *top = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(top, "services");
	const cJSON *node;
	bool ok = list;

	cJSON_ArrayForEach (node, words_get(graph, "nodes")) {
		cJSON *item;

		if (!ok || strcmp(json_str(node, "kind", "service"), "service"))
			continue;
		item = cJSON_CreateObject();
		ok = cJSON_AddItemToArray(list, item) && fill(item, node);
	}
	if (ok)
		return top;
	cJSON_Delete(top);
	return NULL;
}
