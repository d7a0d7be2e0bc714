/* SPDX-License-Identifier: Apache-2.0 */
/* See why.h. Called by why.c. */
#include "ctl/meshctl/why.h"
#include "ctl/meshctl/output.h"
#include "ctl/meshctl/words.h"
#include "lib/json.h"

#include <string.h>

const char *why_meaning(const char *cause)
{
	static const struct {
		const char *cause, *meaning;
	} list[] = {
		{"breaker-open",
		 "The circuit breaker of the service was open: too many requests before had "
		 "failed, so this one was refused at once."},
		{"no-endpoint", "Nothing listens as this service (or as the version that was "
				"chosen)."},
		{"no-healthy-endpoint",
		 "The service has endpoints, but none that may get requests: they are unhealthy, "
		 "ejected or draining."},
		{"no-route", "No service is known for the address or the name that was called."},
		{"bulkhead-full",
		 "The service had as many requests or connections under way as its bulkhead lets "
		 "in, of all callers or of this one."},
		{"connect-failed", "No connection to an endpoint came about: it refused, or there "
				   "was no way to it."},
		{"connect-timeout",
		 "No connection to an endpoint came about within timeouts.connect."},
		{"try-timeout", "The endpoint did not answer within timeouts.try."},
		{"request-timeout",
		 "There was no answer within the time for the whole request, all tries and waits "
		 "included (timeouts.request, or what the caller set)."},
		{"upstream-reset", "The endpoint closed the connection before it had answered."},
		{"upstream-protocol", "What the endpoint answered is not valid HTTP."},
		{"bad-request", "The request is not valid HTTP, so it was not passed on."},
		{"header-too-large", "The head of the request or of the answer is too large."},
		{"body-too-large", "The body is too large."},
		{"retry-budget",
		 "The request failed and could have been tried again, but the budget for retries "
		 "was used up: so many retries at a time would only add to the load."},
		{"fault-injected",
		 "The fault was injected on purpose, by meshctl chaos or by a route (meshctl get "
		 "faults)."},
		{"draining", "The mesh was about to end, or the endpoint was draining."},
		{"denied", "The caller may not call this service."},
	};

	for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++)
		if (!strcmp(list[i].cause, cause))
			return list[i].meaning;
	return NULL;
}

static void print_head(const cJSON *w, FILE *out, bool colour)
{
	const char *source = json_str(w, "source", ""), *route = json_str(w, "route", ""),
		   *cause = json_str(w, "cause", "?"), *trace = json_str(w, "traceId", "");
	double tries = json_num(w, "tries", 0);
	char ms[24];

	fprintf(out, "Request   %s", json_str(w, "id", "?"));
	if (*trace && strcmp(trace, json_str(w, "id", "")))
		fprintf(out, "  trace %s", trace);
	fprintf(out, "\nWhen      %s", json_str(w, "time", "?"));
	if (json_str(w, "node", NULL))
		fprintf(out, "  on %s", json_str(w, "node", "?"));
	fprintf(out, "\nCall      %s -> %s%s%s\n", *source ? source : "(unknown caller)",
		json_str(w, "service", "(no service)"), *route ? "  route " : "", route);
	fprintf(out, "Answer    %.0f %s  after %s ms, %.0f %s\n", json_num(w, "status", 0),
		output_paint(colour, COLOUR_RED, cause), words_ms(json_num(w, "durationMs", 0), ms),
		tries, tries == 1 ? "try" : "tries");
	if (why_meaning(cause))
		fprintf(out, "          %s\n", why_meaning(cause));
}

static void print_state(const cJSON *w, FILE *out)
{
	const cJSON *breaker = words_get(w, "breaker"), *budget = words_get(w, "budget"),
		    *bulkhead = words_get(w, "bulkhead");
	char words[WORDS_MAX];

	if (!cJSON_IsObject(breaker) && !cJSON_IsObject(budget) && !cJSON_IsObject(bulkhead))
		return;
	fputs("\nAt that moment\n", out);
	if (cJSON_IsObject(breaker)) {
		fprintf(out, "Breaker   %s", words_breaker(breaker, words, sizeof(words)));
		if (words_get(breaker, "requests"))
			fprintf(out, "; %.0f requests in its window, %.0f failed",
				json_num(breaker, "requests", 0), json_num(breaker, "failures", 0));
		if (json_num(breaker, "opened", 0))
			fprintf(out, "; opened %.0f times so far", json_num(breaker, "opened", 0));
		fputc('\n', out);
	}
	if (cJSON_IsObject(budget))
		fprintf(out, "Budget    %.1f retries left\n", json_num(budget, "tokens", 0));
	if (cJSON_IsObject(bulkhead))
		fprintf(out,
			"Bulkhead  %.0f requests under way (%.0f of this caller), %.0f "
			"connections, %.0f waiting\n",
			json_num(bulkhead, "requests", 0), json_num(bulkhead, "fromSource", 0),
			json_num(bulkhead, "connections", 0), json_num(bulkhead, "pending", 0));
}

static void endpoint_row(struct table *t, const cJSON *e)
{
	const char *tried = json_bool(e, "tried", 0) ? "yes" : NULL;
	char out[24], latency[24], in_flight[24], cost[24];
	bool measured = json_num(e, "latencyMs", 0) > 0;

	table_row(t,
		  (const char *[]){json_str(e, "id", "?"), json_str(e, "status", "?"),
				   words_age(e, "ejectedMs", out),
				   measured ? words_ms(json_num(e, "latencyMs", 0), latency) : NULL,
				   words_number(json_num(e, "inFlight", 0), in_flight),
				   words_ms(json_num(e, "costMs", 0), cost), tried,
				   json_str(e, "result", NULL), json_str(e, "version", NULL),
				   json_str(e, "address", NULL)});
}

int why_print(const cJSON *w, FILE *out, bool colour, bool wide)
{
	static const char *const headers[] = {"ENDPOINT",  "STATUS",  "EJECTED", "LATENCY-MS",
					      "IN-FLIGHT", "COST-MS", "TRIED",	 "RESULT",
					      "VERSION",   "ADDRESS"};
	const cJSON *e;
	struct table t;
	int rc = 0;

	print_head(w, out, colour);
	print_state(w, out);
	table_init(&t, headers, wide ? 10 : 8);
	cJSON_ArrayForEach (e, words_get(w, "endpoints"))
		endpoint_row(&t, e);
	if (t.count) {
		fputs("\nEndpoints considered\n", out);
		rc = table_print(&t, out, colour);
	} else {
		fputs("\nNo endpoint was considered.\n", out);
	}
	table_done(&t);
	return rc;
}
