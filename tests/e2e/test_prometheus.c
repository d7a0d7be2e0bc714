/* SPDX-License-Identifier: Apache-2.0 */
/* /metrics of agent and meshd, as those see it who read it: all that was promised is there, in each
 * form that can be asked for. */
#include "tests/e2e/harness.h"

#define OPENMETRICS "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
#define TRACE	    "4bf92f3577b34da6a3ce929d0e0e4736"

enum { AGENT = 1, MESHD = 2 };

static const char *const addresses[] = {[AGENT] = ADMIN_ADDRESS, [MESHD] = MESHD_ADDRESS};

/* The contract's list: names, labels that each has, and who serves it. */
static const struct {
	const char *name, *labels; /* by commas */
	unsigned who;
} contract[] = {
	{"mesh_requests_total", "source,destination,version,code,cause", AGENT},
	{"mesh_request_duration_seconds_bucket", "source,destination,le", AGENT},
	{"mesh_request_duration_seconds_sum", "source,destination", AGENT},
	{"mesh_request_duration_seconds_count", "source,destination", AGENT},
	{"mesh_request_bytes_total", "source,destination", AGENT},
	{"mesh_response_bytes_total", "source,destination", AGENT},
	{"mesh_requests_in_flight", "destination", AGENT},
	{"mesh_retries_total", "destination,result", AGENT},
	{"mesh_circuit_breaker_state", "destination,endpoint", AGENT},
	{"mesh_circuit_breaker_transitions_total", "destination,to", AGENT},
	{"mesh_bulkhead_rejected_total", "destination,reason", AGENT},
	{"mesh_endpoints", "service,version,status", AGENT | MESHD},
	{"mesh_tcp_connections_total", "source,destination,outcome", AGENT},
	{"mesh_tcp_connect_duration_seconds_bucket", "source,destination,le", AGENT},
	{"mesh_connections_captured_total", "path", AGENT},
	{"mesh_splice_bytes_total", "path", AGENT},
	{"mesh_spans_exported_total", "result", MESHD},
	{"mesh_spans_dropped_total", "reason", AGENT},
	{"mesh_spans_dropped_total", "", MESHD},
	{"mesh_ring_lost_total", "ring", AGENT},
	{"mesh_bpf_map_entries", "map", AGENT},
	{"mesh_bpf_map_max_entries", "map", AGENT},
	{"mesh_config_revision", "", AGENT | MESHD},
	{"mesh_config_last_reload_successful", "", AGENT | MESHD},
	{"mesh_build_info", "version", AGENT | MESHD},
	{"process_cpu_seconds_total", "", AGENT | MESHD},
	{"process_resident_memory_bytes", "", AGENT | MESHD},
	{"process_virtual_memory_bytes", "", AGENT | MESHD},
	{"process_open_fds", "", AGENT | MESHD},
	{"process_max_fds", "", AGENT | MESHD},
	{"process_start_time_seconds", "", AGENT | MESHD},
	{"http_requests_total", "service", AGENT | MESHD},
	{"http_errors_total", "service", AGENT | MESHD},
	{"http_request_duration_ms", "service,quantile", AGENT | MESHD},
};

static struct instance *web, *db;
static struct caller *who;

/* Something of everything: answers of each kind, connections that the kernel took. */
static void traffic(void)
{
	struct client *c = gateway();

	web = instance_start("web", "web-1", "--netns", "origin --port 8000");
	db = instance_start("db", "db-1", "--netns --protocol tcp", "tcpserver --port 9000");
	instance_ready(web);
	instance_ready(db);
	who = caller_start("client", "--netns");
	eventually(2000, get(gateway(), "/web/") == 200);
	for (int i = 0; i < 10; i++)
		assert_int_equal(get(c, "/web/"), 200);
	assert_int_equal(get(c, "/web/?status=500"), 500);
	assert_int_equal(get(call(who, web->address), "/"), 200);
	hang_up(call(who, db->address));
	eventually(2000, metric("mesh_tcp_connections_total", "destination=\"db\"", NULL) >= 1);
}

/* One line of a scrape: is it a sample of that metric with all these labels? */
static bool is_sample(const char *line, const char *name, const char *labels)
{
	size_t n = strlen(name);
	char label[64];

	if (strncmp(line, name, n) || (line[n] != '{' && line[n] != ' '))
		return false;
	for (const char *p = labels; *p; p += n, p += *p == ',') {
		n = strcspn(p, ",");
		snprintf(label, sizeof(label), "%.*s=\"", (int)n, p);
		if (!strstr(line, label))
			return false;
	}
	return true;
}

static bool serves(unsigned daemon, const char *name, const char *labels)
{
	struct client *c = call_directly(addresses[daemon]);
	bool found = false;

	assert_int_equal(get(c, "/metrics"), 200);
	for (char *line = strtok(c->body, "\n"); line && !found; line = strtok(NULL, "\n"))
		found = is_sample(line, name, labels);
	hang_up(c);
	return found;
}

static void all_that_the_contract_names_is_there(void **state)
{
	traffic();
	for (size_t i = 0; i < sizeof(contract) / sizeof(*contract); i++)
		for (unsigned daemon = AGENT; daemon <= MESHD; daemon++)
			if (contract[i].who & daemon) {
				uint64_t until = mono_ms() + 3000;

				while (!serves(daemon, contract[i].name, contract[i].labels))
					if (mono_ms() > until)
						fail_msg("%s has no %s{%s}", addresses[daemon],
							 contract[i].name, contract[i].labels);
			}
}

/* The name of a family, or where docs/metrics.md shortens it, what it has there. */
static bool documented(const char *family)
{
	static const char *const as[][2] = {{"mesh_splice_service_", "mesh_splice_service_state"}};

	for (size_t i = 0; i < sizeof(as) / sizeof(*as); i++)
		if (!strncmp(family, as[i][0], strlen(as[i][0])))
			family = as[i][1];
	return sh("grep -Eq '`%s[`{]' docs/metrics.md", family)->status == 0;
}

static void all_that_is_there_is_documented(void **state)
{
	for (unsigned daemon = AGENT; daemon <= MESHD; daemon++) {
		struct client *c = call_directly(addresses[daemon]);
		char name[128];

		assert_int_equal(get(c, "/metrics"), 200);
		for (char *at = c->body; (at = strstr(at, "\n# TYPE ")); at++) {
			assert_int_equal(sscanf(at, "\n# TYPE %127s", name), 1);
			if (!documented(name))
				fail_msg("docs/metrics.md has no %s", name);
		}
	}
}

static void promtool_has_nothing_to_say(void **state)
{
	if (!have_program("promtool"))
		story_skip("no promtool: deploy/install-deps.sh tests");
	traffic();
	for (unsigned daemon = AGENT; daemon <= MESHD; daemon++) {
		struct output *o = sh("curl -sS http://%s/metrics | promtool check metrics 2>&1 | "
				      /* a name of the contract, older than this rule */
				      "grep -v '^http_request_duration_ms metric names should not "
				      "contain abbreviated units$'",
				      addresses[daemon]);

		if (*o->out)
			fail_msg("%s: %s", addresses[daemon], o->out);
	}
}

static int exemplars(unsigned daemon)
{
	struct output *o = sh("curl -sS -H 'Accept: " OPENMETRICS "' http://%s/metrics > " SCRATCH
			      "/om.txt && tests/e2e/openmetrics.py " SCRATCH "/om.txt",
			      addresses[daemon]);
	int families = 0, samples = 0, n = -1;

	if (o->status ||
	    sscanf(o->out, "families %d samples %d exemplars %d", &families, &samples, &n) != 3)
		fail_msg("%s: %s%s", addresses[daemon], o->out, o->err);
	assert_true(families > 15 && samples >= families);
	return n;
}

static void need_parser(void)
{
	if (sh("/usr/bin/python3 -c 'import prometheus_client.openmetrics.parser'")->status)
		story_skip("no python3-prometheus-client: deploy/install-deps.sh tests");
}

static void a_strict_parser_reads_openmetrics(void **state)
{
	need_parser();
	traffic();
	for (unsigned daemon = AGENT; daemon <= MESHD; daemon++) {
		assert_true(exemplars(daemon) >= 0);
		assert_string_equal(sh("tail -n 1 " SCRATCH "/om.txt")->out, "# EOF\n");
	}
}

static void a_bucket_names_a_trace_that_it_counted(void **state)
{
	struct client *c = gateway();

	need_parser();
	traffic();
	assert_int_equal(
		get_with(c, "traceparent: 00-" TRACE "-00f067aa0ba902b7-01", "/web/?delay=150"),
		200);
	eventually(2000, exemplars(AGENT) > 0 && sh("grep -c 'le=\"0.25\".*# {trace_id=\"" TRACE
						    "\"} 0[.]1' " SCRATCH "/om.txt")
								 ->status == 0);
	assert_int_not_equal(
		sh("curl -sS http://" ADMIN_ADDRESS "/metrics | grep trace_id")->status, 0);
}

static void each_form_is_for_who_asks_for_it(void **state)
{
	static const struct {
		const char *header, *type, *encoding;
	} cases[] = {
		{"X-Nothing: x", "text/plain; version=0.0.4; charset=utf-8", ""},
		{"Accept: " OPENMETRICS,
		 "application/openmetrics-text; version=1.0.0; charset=utf-8", ""},
		{"Accept: application/openmetrics-text;q=0.1, text/plain",
		 "text/plain; version=0.0.4; charset=utf-8", ""},
		{"Accept-Encoding: br, gzip;q=0.5", "text/plain; version=0.0.4; charset=utf-8",
		 "gzip"},
		{"Accept-Encoding: gzip;q=0", "text/plain; version=0.0.4; charset=utf-8", ""},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		for (unsigned daemon = AGENT; daemon <= MESHD; daemon++) {
			struct client *c = call_directly(addresses[daemon]);

			assert_int_equal(get_with(c, cases[i].header, "/metrics"), 200);
			assert_string_equal(header(c, "content-type"), cases[i].type);
			assert_string_equal(header(c, "content-encoding"), cases[i].encoding);
			assert_string_equal(header(c, "vary"), "Accept, Accept-Encoding");
			hang_up(c);
		}
}

static void what_is_compressed_is_the_same(void **state)
{
	for (unsigned daemon = AGENT; daemon <= MESHD; daemon++) {
		struct output *o = sh("curl -sS --compressed http://%s/metrics | grep -c '^# TYPE'",
				      addresses[daemon]);
		int n = atoi(o->out);

		assert_true(n > 15);
		o = sh("curl -sS http://%s/metrics | grep -c '^# TYPE'", addresses[daemon]);
		assert_int_equal(atoi(o->out), n);
	}
}

/* Whatever clients send, there are no more series after it. */
static void no_label_comes_from_a_client(void **state)
{
	struct client *c = gateway();
	int before = 0, after;

	traffic();
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 50; i++) {
			char h[128];

			snprintf(h, sizeof(h), "x-request-id: made-up-%d-%d", round, i);
			assert_int_equal(get_with(c, h, "/web/made-up/path?x=y"), 200);
			assert_int_equal(get(gateway(), "/made-up-%d-%d/", round, i), 404);
		}
		after = atoi(sh("curl -sS http://" ADMIN_ADDRESS "/metrics | wc -l")->out);
		if (round)
			assert_int_equal(after, before);
		before = after;
		assert_int_not_equal(sh("curl -sS http://" ADMIN_ADDRESS
					"/metrics http://" MESHD_ADDRESS "/metrics | grep made-up")
					     ->status,
				     0);
	}
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(all_that_the_contract_names_is_there),
		STORY(all_that_is_there_is_documented),
		STORY(promtool_has_nothing_to_say),
		STORY(a_strict_parser_reads_openmetrics),
		STORY(a_bucket_names_a_trace_that_it_counted),
		STORY(each_form_is_for_who_asks_for_it),
		STORY(what_is_compressed_is_the_same),
		STORY(no_label_comes_from_a_client),
	};

	return RUN(stories);
}
