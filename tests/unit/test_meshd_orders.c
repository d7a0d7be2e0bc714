/* SPDX-License-Identifier: Apache-2.0 */
/* What people order by hand: faults, drains, breakers. It reaches the agents, and it ends. */
#include "tests/unit/meshd_watch.h"

/* web with two endpoints, of v1 and v2, as agent n1 says. */
static void web_listens(void)
{
	assert_int_equal(call("PUT", "/api/agents/n1",
			      "{'epoch':'e','endpoints':["
			      "{'service':'web','id':'web-1','address':'10.0.0.1','port':80},"
			      "{'service':'web','id':'web-2','address':'10.0.0.2','port':80,"
			      "'version':'v2'}],'breakers':["
			      "{'service':'web','endpoint':null,'state':'closed','held':false,"
			      "'sinceMs':0,'forMs':0,'requests':7},"
			      "{'service':'web','endpoint':'web-2','state':'open','sinceMs':1000,"
			      "'forMs':29000,'level':1,'opened':2}]}"),
			 200);
}

static uint64_t number_in(const char *key)
{
	cJSON *v = json_parse(answer.body, answer.len, NULL);
	uint64_t n = (uint64_t)json_num(v, key, 0);

	cJSON_Delete(v);
	return n;
}

static void a_fault_is_set_told_shown_and_removed(void **state)
{
	unsigned long left;

	web_listens();
	assert_int_equal(call("GET", "/api/faults/web", NULL), 404);
	assert_int_equal(call("PUT", "/api/faults/web", "{'delay':{'duration':'500ms'}}"), 200);
	assert_body("{'service':'web','delay':{'percent':100,'duration':'500ms','leftMs':60000},"
		    "'leftMs':60000,'success':true,'serial':");
	assert_int_equal(call("PUT", "/api/faults/web", "{'abort':{'percent':12.5},'for':'1h'}"),
			 200);
	assert_int_equal(call("GET", "/api/faults", NULL), 200);
	assert_body("{'faults':[{'service':'web','delay':{'percent':100,'duration':'500ms','");
	assert_body("'abort':{'percent':12.5,'status':503,'leftMs':3");
	assert_true(number_in("leftMs") == 0); /* of each fault, not of the list */

	assert_int_equal(call("GET", "/api/faults/web", NULL), 200);
	assert_in_range(number_in("leftMs"), 3590000, 3600000);
	assert_int_equal(call("GET", "/api/watch", NULL), 200);
	assert_body("'faults':[{'service':'web','delay':{'percent':100,'durationMs':500},"
		    "'abort':{'percent':12.5,'status':503},'leftMs':");
	left = strtoul(strstr(answer.body, "\"leftMs\":") + 9, NULL, 10);
	assert_in_range(left, 50000, 60000); /* the nearer end */
	assert_int_equal(call("GET", "/metrics", NULL), 200);
	assert_body("mesh_faults_active 1\n");

	assert_int_equal(call("DELETE", "/api/faults/web", NULL), 200);
	assert_body("'removed':1");
	assert_int_equal(call("DELETE", "/api/faults/web", NULL), 200);
	assert_body("'removed':0");
	assert_int_equal(call("GET", "/api/watch", NULL), 200);
	assert_body("'faults':[]");
	assert_int_equal(call("PUT", "/api/faults/web", "{'abort':{}}"), 200);
	assert_int_equal(call("DELETE", "/api/faults", NULL), 200);
	assert_body("'removed':1");
}

static void a_fault_ends_and_agents_hear_of_both(void **state)
{
	struct waiting w = {0};
	struct http_client *hc;
	uint64_t before, rev;
	struct loop l;

	web_listens();
	assert_int_equal(loop_init(&l), 0);
	assert_int_equal(http_client_new(&l, &hc), 0);
	before = serial();
	rev = revision();
	watch_start(hc, rev, before, &w);
	await_watchers(&l, 1);
	assert_int_equal(call("PUT", "/api/faults/web", "{'abort':{'status':500},'for':'400ms'}"),
			 200);
	run_until(&l, &w, 1, 5000);
	assert_non_null(strstr(w.body, "\"abort\":{\"percent\":100,\"status\":500}"));

	watch_start(hc, rev, before + 1, &w);
	run_until(&l, &w, 2, 5000);
	assert_int_equal(w.answered, 2);
	assert_non_null(strstr(w.body, "\"faults\":[]"));
	assert_int_equal(call("GET", "/api/faults/web", NULL), 404);
	assert_int_equal(serial(), before + 2);
	assert_int_equal(revision(), rev); /* it is no configuration */
	http_client_free(&hc);
	loop_done(&l);
}

static void a_bad_order_is_refused_with_what_would_do(void **state)
{
	static const struct {
		const char *method, *path, *body;
		int status;
		const char *says;
	} cases[] = {
		{"PUT", "/api/faults/web", "{}", 400, "must have \\'delay\\' or \\'abort\\'"},
		{"PUT", "/api/faults/web", "[]", 400, "must be an object"},
		{"PUT", "/api/faults/web", "{'delay':{}}", 400, "'field':'delay.duration'"},
		{"PUT", "/api/faults/web", "{'abort':{},'for':'25h'}", 400, "'field':'for'"},
		{"PUT", "/api/faults/web", "{'abort':{},'for':'0s'}", 400, "'field':'for'"},
		{"PUT", "/api/faults/web", "{'abort':{'status':99}}", 400,
		 "'field':'abort.status'"},
		{"PUT", "/api/faults/web", "{'abort':{'percent':101}}", 400,
		 "'field':'abort.percent'"},
		{"PUT", "/api/faults/web", "{'abort':{'x':1}}", 400, "'field':'abort.x'"},
		{"PUT", "/api/faults/wep", "{'abort':{}}", 404,
		 "no service wep; there are: db, web"},
		{"DELETE", "/api/faults/wep", NULL, 404, "there are: db, web"},
		{"POST", "/api/drain/wep/web-1", NULL, 404, "there are: db, web"},
		{"POST", "/api/drain/web/web-3", NULL, 404, "it has: web-1, web-2"},
		{"DELETE", "/api/drain/web/web-3", NULL, 404, "it has: web-1, web-2"},
		{"POST", "/api/breakers/wep/open", NULL, 404, "there are: db, web"},
		{"POST", "/api/breakers/web/open?endpoint=db-1", NULL, 404, "it has: web-1, web-2"},
		{"POST", "/api/breakers/web/open?endpoint=", NULL, 400, "'field':'endpoint'"},
		{"POST", "/api/breakers/web/shut", NULL, 404, "no such address"},
		{"GET", "/api/breakers/wep", NULL, 404, "there are: db, web"},
	};
	uint64_t before;

	assert_int_equal(call("PUT", "/api/faults/web", "{'abort':{}}"), 404);
	assert_body("nothing listens");
	web_listens();
	assert_int_equal(call("POST", "/api/register", "{'name':'db','port':1}"), 200);
	before = serial();
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		int status = call(cases[i].method, cases[i].path, cases[i].body);

		if (status != cases[i].status)
			fail_msg("case %zu: %d %s", i, status, answer.body);
		assert_body(cases[i].says);
	}
	assert_int_equal(serial(), before);
	/* what is only configured is known too */
	assert_int_equal(call("PUT", "/api/config/later", "{}"), 200);
	assert_int_equal(call("PUT", "/api/faults/later", "{'abort':{}}"), 200);
}

static void a_drain_survives_a_restart(void **state)
{
	uint64_t before;

	web_listens();
	assert_int_equal(call("POST", "/api/drain/web/web-1", NULL), 200);
	assert_body("'endpoint':'web-1','changed':true");
	assert_int_equal(call("POST", "/api/drain/web/web-1", NULL), 200);
	assert_body("'changed':false");
	assert_int_equal(call("PUT", "/api/faults/web", "{'abort':{}}"), 200);
	before = serial();
	assert_body("'drains':[{'service':'web','endpoint':'web-1'}]");
	daemon_stop();
	daemon_start();
	assert_true(serial() > before); /* or agents would think they know it all */
	assert_body("'faults':[],'drains':[{'service':'web','endpoint':'web-1'}],'hands':[]");
	assert_int_equal(call("GET", "/api/drain", NULL), 200);
	assert_body("{'service':'web','endpoint':'web-1','author':'uid ");
	assert_int_equal(call("GET", "/metrics", NULL), 200);
	assert_body("mesh_drains 1\n");
	assert_int_equal(call("DELETE", "/api/drain/web/web-1", NULL), 200);
	assert_body("'changed':true");
	web_listens();
	assert_int_equal(call("DELETE", "/api/drain/web/web-1", NULL), 200);
	assert_body("'changed':false");
	daemon_stop();
	daemon_start();
	assert_int_equal(call("GET", "/api/drain", NULL), 200);
	assert_body("{'drains':[]}");
}

static double since_of(int index)
{
	cJSON *v = json_parse(answer.body, answer.len, NULL);
	double since =
		json_num(cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(v, "breakers"), index),
			 "sinceMs", -1);

	cJSON_Delete(v);
	return since;
}

static void time_goes_on_for_a_breaker_that_has_moved_only(void **state)
{
	uint64_t end_ns = clock_mono_ns() + 20000000000ULL;

	web_listens();
	do { /* the report is getting old */
		assert_true(clock_mono_ns() < end_ns);
		assert_int_equal(call("GET", "/api/breakers/web", NULL), 200);
	} while (since_of(1) < 1005);
	assert_true(since_of(0) == 0);
}

static void breakers_are_shown_and_steered(void **state)
{
	char want[160];
	uint64_t first;

	web_listens();
	assert_int_equal(call("GET", "/api/breakers/web", NULL), 200);
	assert_body("{'service':'web','endpoint':null,'state':'closed','held':false,'requests':7,"
		    "'node':'n1','sinceMs':0,'forMs':0}");
	assert_body("{'service':'web','endpoint':'web-2','state':'open','level':1,'opened':2,"
		    "'node':'n1','sinceMs':1");
	assert_int_equal(call("POST", "/api/register", "{'name':'db','port':1}"), 200);
	assert_int_equal(call("GET", "/api/breakers/db", NULL), 200);
	assert_string_equal(answer.body, "{\"breakers\":[]}");

	assert_int_equal(call("POST", "/api/breakers/web/open", NULL), 200);
	assert_body("'success':true,'service':'web','endpoint':null,'action':'open','serial':");
	first = number_in("serial");
	assert_int_equal(call("POST", "/api/breakers/web/close?endpoint=web-1", NULL), 200);
	assert_int_equal(call("POST", "/api/breakers/web/reset", NULL), 200);
	assert_int_equal(serial(), first + 2);
	/* of the service only the newest is left */
	snprintf(want, sizeof(want),
		 "'hands':[{'serial':%llu,'service':'web','endpoint':'web-1','action':'close'},"
		 "{'serial':%llu,'service':'web','action':'reset'}]",
		 (unsigned long long)first + 1, (unsigned long long)first + 2);
	assert_body(want);
}

static void a_bad_breaker_leaves_the_old_state(void **state)
{
	web_listens();
	assert_int_equal(call("PUT", "/api/agents/n1",
			      "{'endpoints':[],'breakers':[{'service':'web','state':'ajar'}]}"),
			 400);
	assert_body("'field':'breakers[0].state'");
	assert_int_equal(call("GET", "/api/breakers", NULL), 200);
	assert_body("'endpoint':'web-2','state':'open'");
}

static void a_registered_endpoint_has_the_status_that_agents_see(void **state)
{
	static const char says[] =
		"{'endpoints':[{'service':'db','id':'db-1','address':'127.0.0.1','port':1,"
		"'registered':true,'status':'%s'}]}";
	char body[256];

	assert_int_equal(call("POST", "/api/register", "{'name':'db','port':1}"), 200);
	snprintf(body, sizeof(body), says, "healthy");
	assert_int_equal(call("PUT", "/api/agents/n1", body), 200);
	snprintf(body, sizeof(body), says, "ejected");
	assert_int_equal(call("PUT", "/api/agents/n2", body), 200);
	assert_int_equal(call("GET", "/api/services", NULL), 200);
	assert_body("{'services':[{'name':'db','status':'unhealthy','protocol':'auto','endpoints':["
		    "{'id':'db-1','address':'127.0.0.1','port':1,'version':'v1','weight':100,'"
		    "status':'ejected',"
		    "'node':'','ports':[1],'cgroup':'','source':'registered'}]}]}");
	assert_int_equal(call("DELETE", "/api/register/db/db-1", NULL), 200);
	assert_int_equal(call("GET", "/api/services", NULL), 200);
	assert_body("{'services':[]}"); /* a remark alone is no endpoint */
}

static void a_split_to_nobody_is_refused_unless_forced(void **state)
{
	web_listens();
	assert_int_equal(call("PUT", "/api/config/web", "{'split':{'v1':90,'v3':10}}"), 409);
	assert_body("split.v3: no endpoint of web has version v3; there are: v1, v2");
	assert_body("'field':'split.v3'");
	assert_int_equal(call("PUT", "/api/config/web?dryRun=true", "{'split':{'v3':100}}"), 409);
	assert_int_equal(call("GET", "/api/config/web", NULL), 404);
	assert_int_equal(call("PUT", "/api/config/web", "{'split':{'v1':100,'v3':0}}"), 200);
	assert_null(strstr(answer.body, "warnings"));
	assert_int_equal(
		call("PATCH", "/api/config/web", "{'routes':[{'mirror':{'version':'v9'}}]}"), 409);
	assert_body("'field':'routes[0].mirror.version'");
	assert_int_equal(call("PATCH", "/api/config/web", "{'routes':[{},{'split':{'v4':100}}]}"),
			 409);
	assert_body("'field':'routes[1].split.v4'");

	assert_int_equal(call("PATCH", "/api/config/web?force=true", "{'split':{'v1':90,'v3':10}}"),
			 200);
	assert_body(
		"'warnings':['split.v3: no endpoint of web has version v3; there are: v1, v2']");
	/* who changes something else is only reminded */
	assert_int_equal(call("PATCH", "/api/config/web", "{'failClosed':true}"), 200);
	assert_body("'warnings':['split.v3: ");
	assert_int_equal(call("PATCH", "/api/config/web", "{'split':{'v1':80,'v3':20}}"), 409);
}

static void a_service_without_endpoints_is_only_warned_of(void **state)
{
	char path[96];

	assert_int_equal(call("PUT", "/api/config/new", "{'split':{'v1':100}}"), 200);
	assert_body("'warnings':['nothing listens as service new");
	snprintf(path, sizeof(path), "/api/config/new/rollback?revision=%llu",
		 (unsigned long long)revision());
	assert_int_equal(call("POST", "/api/register",
			      "{'name':'new','port':1,'metadata':{'version':'v2'}}"),
			 200);
	assert_int_equal(call("PUT", "/api/config/new", "{'split':{'v2':100}}"), 200);
	assert_null(strstr(answer.body, "warnings"));
	assert_int_equal(call("POST", path, NULL), 200); /* back to what was good once */
	assert_body("'warnings':['split.v1: ");
	assert_int_equal(call("DELETE", "/api/config/new", NULL), 200);
	assert_null(strstr(answer.body, "warnings"));
}

static void a_file_may_name_versions_that_nobody_has(void **state)
{
	uint64_t before, end = clock_mono_ns() + 5000000000ULL;

	web_listens();
	before = revision();
	test_dir_write(&files, "web.json", "{\"service\":\"web\",\"split\":{\"v3\":100}}");
	assert_int_equal(write(lifeline, "h", 1), 1);
	while (revision() == before)
		if (clock_mono_ns() > end)
			fail_msg("the file is not taken");
	assert_body("'configError':null");
	assert_int_equal(call("GET", "/api/config/web", NULL), 200);
	assert_body("'split':{'v3':100}");
}

static void an_answer_of_the_mesh_is_explained(void **state)
{
	assert_int_equal(call("GET", "/api/why/none", NULL), 404);
	assert_body("nothing is known of none: only answers that the mesh made itself are "
		    "explained, the last 10000 of 15 minutes (0 are kept now)");
	assert_int_equal(call("POST", "/api/telemetry",
			      "{'node':'n1','epoch':'e','whys':["
			      "{'id':'-r~1','traceId':'t1','cause':'no-route','tries':0},"
			      "{'id':'r2','traceId':'t1','cause':'breaker-open','node':'liar'}]}"),
			 200);
	assert_body("'success':true,'kept':2,'dropped':0");
	assert_int_equal(call("GET", "/api/why/-r~1", NULL), 200);
	assert_string_equal(answer.body,
			    "{\"id\":\"-r~1\",\"traceId\":\"t1\",\"cause\":\"no-route\","
			    "\"tries\":0,\"node\":\"n1\"}");
	assert_int_equal(call("GET", "/api/why/t1", NULL), 200); /* the newest of that trace */
	assert_body("'cause':'breaker-open','node':'n1'");
	assert_int_equal(call("POST", "/api/telemetry",
			      "{'node':'n1','whys':[{'id':'r2','cause':'denied'}]}"),
			 200);
	assert_int_equal(call("GET", "/api/why/r2", NULL), 200);
	assert_body("'cause':'denied'");
	assert_int_equal(call("GET", "/metrics", NULL), 200);
	assert_body("mesh_whys 2\n");
	assert_int_equal(call("POST", "/api/telemetry", "{'node':'n1','whys':[{'cause':'x'}]}"),
			 400);
	assert_body("'field':'whys[0].id'");
	assert_int_equal(call("POST", "/api/telemetry", "{'whys':[]}"), 400);
}

static void orders_over_tcp_need_the_token(void **state)
{
	static const struct {
		const char *method, *path;
	} writes[] = {
		{"PUT", "/api/faults/web"},	    {"DELETE", "/api/faults/web"},
		{"DELETE", "/api/faults"},	    {"POST", "/api/drain/web/web-1"},
		{"DELETE", "/api/drain/web/web-1"}, {"POST", "/api/breakers/web/open"},
		{"POST", "/api/telemetry"},
	};

	for (size_t i = 0; i < sizeof(writes) / sizeof(*writes); i++) {
		struct http_call c = {.method = writes[i].method,
				      .base = tcp,
				      .path = writes[i].path,
				      .body = "{}",
				      .body_len = 2};

		assert_int_equal(call_full(&c), 401);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_fault_is_set_told_shown_and_removed),
		TEST(a_fault_ends_and_agents_hear_of_both),
		TEST(a_bad_order_is_refused_with_what_would_do),
		TEST(a_drain_survives_a_restart),
		TEST(time_goes_on_for_a_breaker_that_has_moved_only),
		TEST(breakers_are_shown_and_steered),
		TEST(a_bad_breaker_leaves_the_old_state),
		TEST(a_registered_endpoint_has_the_status_that_agents_see),
		TEST(a_split_to_nobody_is_refused_unless_forced),
		TEST(a_service_without_endpoints_is_only_warned_of),
		TEST(a_file_may_name_versions_that_nobody_has),
		TEST(an_answer_of_the_mesh_is_explained),
		TEST(orders_over_tcp_need_the_token),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
