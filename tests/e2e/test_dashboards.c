/* SPDX-License-Identifier: Apache-2.0 */
/* A real Prometheus scrapes a real mesh to which everything happens that the dashboards and rules
 * of deploy/ ask about: each of their expressions must return data. */
#include "tests/e2e/harness.h"

#include "lib/http.h"
#include "tests/e2e/promql.h"

#include <dirent.h>
#include <sys/stat.h>

#define PROMETHEUS "127.0.0.1:9090"
#define DASHBOARDS "deploy/grafana/dashboards"
#define EXPRS	   1024
#define TRACE	   "4bf92f3577b34da6a3ce929d0e0e4736"
#define WINDOW	   "20s" /* for $__rate_interval: Grafana's is four scrapes at least */

struct expr {
	char text[EXPR_MAX]; /* variables are not substituted yet */
	char where[256];     /* dashboard and panel, or rule */
	char legend[128];
	bool found;
};
static struct expr exprs[EXPRS];
static size_t nexprs;

/* --- the mesh, and what happens to it --------------------------------------------------------- */

static struct caller *who;
static struct instance *web, *db, *full;

static struct instance *origin(const char *service, const char *mode)
{
	char id[64];
	struct instance *i;

	snprintf(id, sizeof(id), "%s-1", service);
	i = instance_ready(instance_start(service, id, "--netns", "origin --port 8000"));
	if (*mode)
		origin_set(i, mode);
	return i;
}

/* Requests through the gateway, until the end of the story. */
static void load(const char *service, int rate)
{
	load_start(NULL, "--to " GATEWAY_ADDRESS " --path /%s/ --rate %d --connections 8", service,
		   rate);
}

static struct instance *tcp_server(const char *service)
{
	char id[64];

	snprintf(id, sizeof(id), "%s-1", service);
	return instance_ready(instance_start(service, id, "--netns --protocol tcp",
					     "tcpserver --port 9000 --banner x"));
}

/* One of two fails, and is ejected. In turns: who was slow at first would hardly be asked. */
static void sick(void)
{
	configure("sick", "{\"loadBalancer\":{\"policy\":\"round-robin\"}}");
	origin_set(
		instance_ready(instance_start("sick", "sick-2", "--netns", "origin --port 8000")),
		"status=500");
	origin("sick", "");
	load("sick", 20);
}

/* The only one is drained. */
static void drained(void)
{
	origin("drained", "");
	api("POST", "/api/drain/drained/drained-1", "");
	assert_int_equal(api_status, 200);
}

static void order_faults(void)
{
	api("PUT", "/api/faults/web",
	    "{\"delay\":{\"percent\":20,\"duration\":\"20ms\"},"
	    "\"abort\":{\"percent\":10,\"status\":503},\"for\":\"10m\"}");
	assert_int_equal(api_status, 200);
}

static void everything_happens(void)
{
	web = origin("web", "");
	origin("flaky", "status=503&fail=1&of=3");
	origin("broken", "status=500");
	origin("narrow", "delay=100");
	db = tcp_server("db");
	full = tcp_server("full");
	who = caller_start("client", "--netns");
	configure("flaky", "{\"circuitBreaker\":{\"errorPercent\":100},"
			   "\"retry\":{\"backoff\":\"1ms\",\"budget\":{\"percent\":5,"
			   "\"minPerSecond\":1}}}");
	configure("broken", "{\"circuitBreaker\":{\"openFor\":\"2s\"}}");
	configure("narrow", "{\"bulkhead\":{\"maxRequests\":1,\"maxPending\":1}}");
	configure("ghost", "{}");
	configure("full", "{\"protocol\":\"tcp\",\"bulkhead\":{\"maxConnections\":1}}");
	order_faults();
	sick();
	drained();
	load("web", 50);
	load("flaky", 20);
	load("broken", 20);
	load("narrow", 40);
	load("ghost", 5);
	assert_true(caller_dial(who, full->address) >= 0); /* the only one that it gets */
}

static void dial_and_close(const char *address)
{
	int fd = caller_dial(who, address);

	if (fd >= 0)
		close(fd);
}

/* What load does not do; again and again, as rates want it. */
static void pulse(void)
{
	static int past_the_mesh = -1, turn;
	struct client *c = call(who, web->address);
	char address[96];

	(void)get_with(c, "traceparent: 00-" TRACE "-00f067aa0ba902b7-01", "/");
	hang_up(c);
	dial_and_close(db->address);
	dial_and_close(full->address);
	if (past_the_mesh >= 0)
		close(past_the_mesh);
	snprintf(address, sizeof(address), "mptcp %s", web->address);
	past_the_mesh = caller_dial(who, address);
	configure("ghost", "{\"retry\":{\"attempts\":%d}}", turn++ % 3);
}

/* --- Prometheus ---------------------------------------------------------------------------------
 */

static pid_t prometheus;

/* The delivered configuration, but for its pace and where its rules are. */
static void prometheus_start(void)
{
	assert_int_equal(sh("sed -E 's/^(  (scrape|evaluation)_(interval|timeout)): .*/\\1: 1s/;"
			    " s|- rules/|- '$PWD'/deploy/prometheus/rules/|'"
			    " deploy/prometheus/prometheus.yml > " SCRATCH "/prometheus.yml")
				 ->status,
			 0);
	prometheus = spawn("prometheus", "exec prometheus --config.file=" SCRATCH "/prometheus.yml"
					 " --storage.tsdb.path=" SCRATCH "/prometheus"
					 " --enable-feature=exemplar-storage --log.level=warn"
					 " --web.listen-address=" PROMETHEUS);
	eventually(20000, sh("curl -fsS http://" PROMETHEUS "/-/ready")->status == 0);
}

/* GET of its API; `data`, of an answer that the caller frees with cJSON_Delete(*all). NULL: it was
 * refused, and why is in *all. */
static const cJSON *ask(const char *path, const char *query, cJSON **all)
{
	char url[EXPR_MAX * 3 + 64], escaped[EXPR_MAX * 3];
	struct http_call call = {.method = "GET", .base = "http://" PROMETHEUS, .path = url};
	struct http_answer a;

	assert_int_equal(http_escape(query, escaped, sizeof(escaped)), 0);
	snprintf(url, sizeof(url), "%s%s", path, escaped);
	assert_int_equal(http_call(&call, &a), 0);
	*all = json_parse(a.body, a.len, NULL);
	http_answer_done(&a);
	assert_non_null(*all);
	return cJSON_GetObjectItem(*all, "data");
}

/* Has one of the results of a legend's labels each? */
static bool has_labels(const cJSON *results, const char *legend)
{
	const cJSON *r;
	char label[64];

	for (const char *at = legend; (at = strstr(at, "{{")); at++) {
		bool has = false;

		assert_int_equal(sscanf(at, "{{%63[^}]}}", label), 1);
		cJSON_ArrayForEach (r, results)
			has |= cJSON_HasObjectItem(cJSON_GetObjectItem(r, "metric"), label);
		if (!has)
			return false;
	}
	return true;
}

/* Does it return anything that is a number? A refusal fails the story. */
static bool has_data(const struct expr *e, const char *text)
{
	cJSON *all;
	const cJSON *data = ask("/api/v1/query?query=", text, &all), *r;
	const cJSON *results = cJSON_GetObjectItem(data, "result");
	bool found = false;

	if (!data)
		fail_msg("%s: %s: %s", e->where, text, json_str(all, "error", ""));
	if (!strcmp(json_str(data, "resultType", ""), "scalar")) {
		cJSON_Delete(all);
		return true;
	}
	cJSON_ArrayForEach (r, results)
		found |= strcmp(cJSON_GetArrayItem(cJSON_GetObjectItem(r, "value"), 1)->valuestring,
				"NaN") != 0;
	found = found && has_labels(results, e->legend);
	cJSON_Delete(all);
	return found;
}

/* --- expressions --------------------------------------------------------------------------------
 */

static void add_one(const char *where, const char *panel, const char *text, const char *legend)
{
	struct expr *e = &exprs[nexprs++];

	assert_true(nexprs <= EXPRS);
	assert_true(snprintf(e->text, sizeof(e->text), "%s", text) < (int)sizeof(e->text));
	snprintf(e->where, sizeof(e->where), "%s: %s", where, panel);
	snprintf(e->legend, sizeof(e->legend), "%s", legend);
	e->found = false;
}

/* Each selector must find something by itself: what stands beside an `or` would hide it. */
static void add_selectors(const char *where, const char *panel, const char *text)
{
	char selector[EXPR_MAX];
	const char *end;

	for (const char *p = text; *p; p = end) {
		size_t len = strspn(p, NAME_BYTES);

		end = *p == '"' ? skip_string(p) : p + (len ? len : 1);
		if (!len || isdigit(*p) || !names_metric(p, len))
			continue;
		end = selector_end(p);
		snprintf(selector, sizeof(selector), "%.*s", (int)(end - p), p);
		add_one(where, panel, selector, "");
	}
}

static void add(const char *where, const char *panel, const char *text, const char *legend)
{
	add_one(where, panel, text, legend);
	add_selectors(where, panel, text);
}

/* label_values(metric, label) */
static void add_variable(const char *file, const cJSON *v)
{
	char metric[128], label[64], text[256];

	if (sscanf(json_str(v, "definition", ""), "label_values(%127[^,], %63[a-z])", metric,
		   label) != 2)
		return;
	snprintf(text, sizeof(text), "count by (%s) (%s)", label, metric);
	snprintf(metric, sizeof(metric), "{{%s}}", label);
	add(file, json_str(v, "name", ""), text, metric);
}

/* Every "expr" of it, wherever it stands: panels, annotations, what Grafana may bring yet. */
static void add_all(const char *file, const char *title, const cJSON *v)
{
	const char *expr = json_str(v, "expr", ""), *mine = json_str(v, "title", "");
	const cJSON *item;

	if (*expr)
		add(file, title, expr, json_str(v, "legendFormat", ""));
	add_variable(file, v);
	cJSON_ArrayForEach (item, v)
		add_all(file, *mine ? mine : title, item);
}

static cJSON *dashboard(const char *file)
{
	static char text[1 << 18];
	char path[512];
	cJSON *v;
	FILE *f;

	snprintf(path, sizeof(path), DASHBOARDS "/%s", file);
	f = fopen(path, "re");
	assert_non_null(f);
	v = json_parse(text, fread(text, 1, sizeof(text), f), NULL);
	fclose(f);
	if (!v)
		fail_msg("%s is not JSON", path);
	return v;
}

/* Calls fn for each dashboard that is delivered. */
static void each_dashboard(void (*fn)(const char *file, const cJSON *v))
{
	DIR *d = opendir(DASHBOARDS);
	const struct dirent *e;
	int n = 0;

	assert_non_null(d);
	while ((e = readdir(d))) {
		cJSON *v;

		if (e->d_name[0] == '.')
			continue;
		v = dashboard(e->d_name);
		fn(e->d_name, v);
		cJSON_Delete(v);
		n++;
	}
	closedir(d);
	assert_true(n >= 4);
}

static void add_dashboard(const char *file, const cJSON *v)
{
	size_t before = nexprs;

	add_all(file, "", v);
	assert_true(nexprs > before + 10);
}

static void add_rules(void)
{
	char text[EXPR_MAX];
	const cJSON *group, *rule;
	cJSON *all;
	const cJSON *data = ask("/api/v1/rules", "", &all);

	cJSON_ArrayForEach (group, cJSON_GetObjectItem(data, "groups"))
		cJSON_ArrayForEach (rule, cJSON_GetObjectItem(group, "rules")) {
			const char *name = json_str(rule, "name", "");

			snprintf(text, sizeof(text), "%s", json_str(rule, "query", ""));
			if (!strcmp(json_str(rule, "type", ""), "recording"))
				add("recorded", name, name, "");
			else
				without_comparisons(text);
			add("rule", name, text, "");
		}
	cJSON_Delete(all);
}

/* As Grafana would: all services where a panel takes several, else one after the other. */
static bool finds(const struct expr *e)
{
	static const char *const services[] = {"web", "db", "flaky", "narrow", "broken"};
	char text[EXPR_MAX];

	for (size_t i = 0; i < sizeof(services) / sizeof(*services); i++) {
		snprintf(text, sizeof(text), "%s", e->text);
		replace(text, "$__rate_interval", WINDOW);
		replace(text, "=~\"$service\"", "=~\".*\"");
		replace(text, "=~\"$instance\"", "=~\".*\"");
		replace(text, "$service", services[i]);
		if (has_data(e, text))
			return true;
		if (!strstr(e->text, "\"$service\"") || strstr(e->text, "=~\"$service\""))
			return false;
	}
	return false;
}

static size_t missing(void)
{
	size_t n = 0;

	for (size_t i = 0; i < nexprs; i++) {
		if (!exprs[i].found)
			exprs[i].found = finds(&exprs[i]);
		n += !exprs[i].found;
	}
	return n;
}

/* Behind a latency is a trace, in Prometheus as well. */
static bool has_exemplar(void)
{
	const unsigned long long now_s = clock_wall_ms() / 1000;
	const cJSON *data, *series, *e;
	bool found = false;
	char path[128];
	cJSON *all;

	snprintf(path, sizeof(path),
		 "/api/v1/query_exemplars?start=%llu&end=%llu&query=", now_s - 60, now_s + 60);
	data = ask(path, "mesh_request_duration_seconds_bucket{source=\"client\"}", &all);
	cJSON_ArrayForEach (series, data)
		cJSON_ArrayForEach (e, cJSON_GetObjectItem(series, "exemplars"))
			found |= !strcmp(json_str(cJSON_GetObjectItem(e, "labels"), "trace_id", ""),
					 TRACE);
	cJSON_Delete(all);
	return found;
}

/* Is it pending or firing, for these labels (a text of JSON; NULL: any)? */
static bool alerts(const char *name, const char *label, const char *value)
{
	const cJSON *data, *a;
	bool found = false;
	cJSON *all;

	data = ask("/api/v1/alerts", "", &all);
	cJSON_ArrayForEach (a, cJSON_GetObjectItem(data, "alerts")) {
		const cJSON *labels = cJSON_GetObjectItem(a, "labels");

		found |= !strcmp(json_str(labels, "alertname", ""), name) &&
			 (!label || !strcmp(json_str(labels, label, ""), value));
	}
	cJSON_Delete(all);
	return found;
}

/* What was done to the mesh is seen, and nothing else: of its own parts all are well. */
static void alerts_tell_what_happens(void)
{
	static const char *const seen[][3] = {
		{"MeshErrorRateHigh", "destination", "broken"},
		{"MeshErrorBudgetBurnsFast", "destination", "broken"},
		{"MeshCircuitBreakerOpen", "destination", "broken"},
		{"MeshNoHealthyEndpoint", "service", "drained"},
		{"MeshEndpointEjected", "endpoint", "sick-2"},
		{"MeshCallsWithoutEndpoint", "destination", "ghost"},
		{"MeshBulkheadRejects", "destination", "narrow"},
		{"MeshBulkheadRejects", "destination", "full"},
		{"MeshTcpConnectsFail", "destination", "full"},
		{"MeshRetryBudgetSpent", "destination", "flaky"},
		{"MeshFaultsInjected", "destination", "web"},
		{"MeshConnectionsPassUncaptured", "what", "passed-protocol"},
		{"MeshWorkloadsEscape", NULL},
	};
	static const char *const quiet[] = {
		"MeshAgentDown",
		"MeshdDown",
		"MeshAgentSilent",
		"MeshAgentWithoutControl",
		"MeshWorkerMissing",
		"MeshWorkersRestart",
		"MeshSpliceMayHang",
		"MeshMapNearlyFull",
		"MeshTableFull",
		"MeshMetricsOverflow",
		"MeshDescriptorsNearlyUsedUp",
		"MeshConfigReloadFailed",
		"MeshStoreUnhealthy",
		"MeshRecordsLost",
		"MeshRingCorrupt",
		"MeshSpanExportFails",
		"MeshTelemetryDropped",
		"MeshWindowsNotStored",
		"MeshTracesNotStored",
		"MeshSpansDropped",
	};

	for (size_t i = 0; i < sizeof(seen) / sizeof(*seen); i++)
		for (uint64_t until = mono_ms() + 20000 * slowness();
		     !alerts(seen[i][0], seen[i][1], seen[i][2]); pulse())
			if (mono_ms() > until)
				fail_msg("%s is quiet", seen[i][0]);
	/* a scrape that the machine was late for makes one pend, until the next */
	for (size_t i = 0; i < sizeof(quiet) / sizeof(*quiet); i++)
		for (uint64_t until = mono_ms() + 10000 * slowness(); alerts(quiet[i], NULL, NULL);
		     usleep(200000))
			if (mono_ms() > until)
				fail_msg("%s is not quiet", quiet[i]);
	assert_false(alerts("MeshCircuitBreakerOpen", "destination", "web"));
}

static void every_expression_returns_data(void **state)
{
	uint64_t until;

	if (!have_program("prometheus"))
		story_skip("no prometheus: deploy/install-deps.sh tests");
	nexprs = 0;
	prometheus_start();
	everything_happens();
	each_dashboard(add_dashboard);
	add_rules();
	print_message("%zu expressions\n", nexprs);
	until = mono_ms() + 40000 * slowness();
	while (missing() && mono_ms() < until)
		pulse();
	for (size_t i = 0; i < nexprs; i++)
		if (!exprs[i].found)
			print_error("no data: %s: %s\n", exprs[i].where, exprs[i].text);
	assert_int_equal(missing(), 0);
	eventually(5000, has_exemplar());
	alerts_tell_what_happens();
	reap(&prometheus, SIGTERM);
}

static void check_panel(const char *file, const cJSON *panel)
{
	const cJSON *grid = cJSON_GetObjectItem(panel, "gridPos");
	const cJSON *defaults =
		cJSON_GetObjectItem(cJSON_GetObjectItem(panel, "fieldConfig"), "defaults");
	const char *title = json_str(panel, "title", ""), *type = json_str(panel, "type", "");
	int x = cJSON_GetObjectItem(grid, "x")->valueint;

	if (!*title || x < 0 || x + cJSON_GetObjectItem(grid, "w")->valueint > 24)
		fail_msg("%s: \"%s\" is no panel", file, title);
	if (!strcmp(type, "row"))
		return;
	if (strlen(json_str(panel, "description", "")) < 10)
		fail_msg("%s: %s: no description", file, title);
	if (strcmp(type, "heatmap") && !*json_str(defaults, "unit", ""))
		fail_msg("%s: %s: no unit", file, title);
	if (strcmp(json_str(cJSON_GetObjectItem(panel, "datasource"), "uid", ""), "${datasource}"))
		fail_msg("%s: %s: another data source", file, title);
}

static bool overlap(const cJSON *a, const cJSON *b)
{
	static const char *const axes[][2] = {{"x", "w"}, {"y", "h"}};

	a = cJSON_GetObjectItem(a, "gridPos");
	b = cJSON_GetObjectItem(b, "gridPos");
	for (int i = 0; i < 2; i++) {
		int p = cJSON_GetObjectItem(a, axes[i][0])->valueint,
		    q = cJSON_GetObjectItem(b, axes[i][0])->valueint;

		if (p + cJSON_GetObjectItem(a, axes[i][1])->valueint <= q ||
		    q + cJSON_GetObjectItem(b, axes[i][1])->valueint <= p)
			return false;
	}
	return true;
}

static void check_dashboard(const char *file, const cJSON *v)
{
	const cJSON *panels = cJSON_GetObjectItem(v, "panels"), *p, *q;

	assert_memory_equal(json_str(v, "uid", ""), "mesh-", 5);
	assert_memory_equal(json_str(v, "title", ""), "Mesh: ", 6);
	cJSON_ArrayForEach (p, panels) {
		check_panel(file, p);
		for (q = p->next; q; q = q->next)
			if (overlap(p, q) || cJSON_GetObjectItem(p, "id")->valueint ==
						     cJSON_GetObjectItem(q, "id")->valueint)
				fail_msg("%s: %s and %s", file, json_str(p, "title", ""),
					 json_str(q, "title", ""));
	}
}

static void every_panel_says_what_it_shows(void **state)
{
	each_dashboard(check_dashboard);
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(every_panel_says_what_it_shows),
		STORY(every_expression_returns_data),
	};

	return RUN(stories);
}
