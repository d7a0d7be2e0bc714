/* SPDX-License-Identifier: Apache-2.0 */
/* Who is live, who is shown, and for how long, by a clock that the test moves. */
#include "ctl/meshd/registry.h"
#include "lib/json.h"
#include "tests/unit/meshd_dir.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* after the types that it needs */
#include <cmocka.h>

#include "tests/unit/quoted.h"

static struct test_dir dir;
static struct store *store;
static struct registry *registry;
static uint64_t now; /* ms */

static int setup(void **state)
{
	char why[256];

	test_dir_make(&dir);
	now = 1000000;
	return store_open(dir.path, &store, why, sizeof(why)) ||
	       registry_new(store, now, &registry);
}

static int teardown(void **state)
{
	registry_free(&registry);
	store_close(&store);
	test_dir_remove(&dir);
	return 0;
}

static void agent_says(const char *node, const char *state)
{
	struct schema_error e;

	if (registry_agent_put(registry, node, quoted_json(state), now, now, &e))
		fail_msg("%s: %s %s", state, e.path, e.text);
}

static int reg(const char *body, bool *changed, struct schema_error *e)
{
	char service[64], instance[64];
	cJSON *v = quoted_json(body);
	int r = registry_register(registry, v, now, service, instance, changed, e);

	cJSON_Delete(v);
	return r;
}

static void registered(const char *body)
{
	struct schema_error e;
	bool changed;

	if (reg(body, &changed, &e))
		fail_msg("%s: %s %s", body, e.path, e.text);
}

/* "service/id@address:port version status node source" of all, each with a line end. */
static const char *shown(void)
{
	static char text[2048];
	struct endpoint *e;
	size_t len = 0;
	int n = registry_endpoints(registry, now, &e);

	text[0] = '\0';
	for (int i = 0; i < n; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s/%s@%s:%d %s %s %s %s\n",
					e[i].service, e[i].id, e[i].address, e[i].port,
					e[i].version, e[i].status, *e[i].node ? e[i].node : "-",
					e[i].discovered ? "discovered" : "registered");
	free(e);
	return text;
}

#define WEB                                                                                        \
	"{'epoch':'e1','endpoints':[{'service':'web','id':'web-1','address':'10.0.0.1','port':80}" \
	"]}"

static void an_agent_is_shown_until_it_is_stale(void **state)
{
	struct registry_counts c;

	agent_says("n1", WEB);
	now += REGISTRY_STALE_MS;
	assert_string_equal(shown(), "web/web-1@10.0.0.1:80 v1 healthy n1 discovered\n");
	now++;
	assert_string_equal(shown(), "");
	registry_count(registry, now, &c);
	assert_int_equal(c.agents_live, 0);
	assert_int_equal(c.agents_stale, 1);
	agent_says("n1", WEB);
	assert_string_equal(shown(), "web/web-1@10.0.0.1:80 v1 healthy n1 discovered\n");
}

/* What people ordered for them must not end with a partition. */
static void endpoints_of_a_stale_agent_are_remembered_as_long_as_it_is(void **state)
{
	struct endpoint *all;
	int n;

	agent_says("n1", WEB);
	now += REGISTRY_FORGET_MS;
	assert_int_equal(registry_sweep(registry, now), 0);
	n = registry_endpoints_last(registry, &all);
	assert_true(endpoints_have(all, n, "web", "web-1"));
	free(all);
	now++;
	assert_int_equal(registry_sweep(registry, now), 0);
	n = registry_endpoints_last(registry, &all);
	assert_int_equal(n, 0);
	free(all);
	agent_says("n1", WEB);
	agent_says("n1", "{'epoch':'e1','endpoints':[]}");
	n = registry_endpoints_last(registry, &all);
	assert_int_equal(n, 0);
	free(all);
}

static void a_stale_agent_is_listed_then_forgotten(void **state)
{
	cJSON *v;

	agent_says("n1", WEB);
	now += REGISTRY_STALE_MS + 1;
	assert_int_equal(registry_sweep(registry, now), 0);
	v = registry_agents(registry, now);
	assert_string_equal(json_str(v->child->child, "status", ""), "stale");
	assert_string_equal(json_str(v->child->child, "node", ""), "n1");
	cJSON_Delete(v);
	now += REGISTRY_FORGET_MS;
	assert_int_equal(registry_sweep(registry, now), 0);
	v = registry_agents(registry, now);
	assert_null(v->child->child);
	cJSON_Delete(v);
}

static void a_new_state_replaces_the_whole_old_one(void **state)
{
	agent_says("n1", WEB);
	agent_says("n1", "{'endpoints':[{'service':'db','id':'db-1','address':'::1','port':1,'"
			 "status':'unhealthy','version':'v2'}]}");
	assert_string_equal(shown(), "db/db-1@::1:1 v2 unhealthy n1 discovered\n");
	agent_says("n1", "{'endpoints':[]}");
	assert_string_equal(shown(), "");
}

static void a_bad_state_leaves_the_old_one(void **state)
{
	static const char *const bad[][2] = {
		{"{}", "endpoints"},
		{"{'endpoints':{}}", "endpoints"},
		{"{'endpoints':[{'service':'a','id':'b','address':'10.0.0.1'}]}",
		 "endpoints[0].port"},
		{"{'endpoints':[{'service':'a','id':'b','address':'host','port':1}]}",
		 "endpoints[0].address"},
		{"{'endpoints':[{'service':'a','id':'b','address':'1.1.1.1','port':70000}]}",
		 "endpoints[0].port"},
		{"{'endpoints':[{'service':'a\\u000ab','id':'b','address':'1.1.1.1','port':1}]}",
		 "endpoints[0].service"},
		{"{'endpoints':[{'service':'a','id':'b','address':'1.1.1.1','port':1,'status':'odd'"
		 "}]}",
		 "endpoints[0].status"},
		{"{'endpoints':[],'workloads':[{}]}", "workloads[0].service"},
		{"{'endpoints':[],'pid':'x'}", "pid"},
	};
	struct schema_error e;

	agent_says("n1", WEB);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		assert_int_equal(
			registry_agent_put(registry, "n1", quoted_json(bad[i][0]), now, now, &e),
			-EINVAL);
		assert_string_equal(e.path, bad[i][1]);
	}
	assert_string_equal(shown(), "web/web-1@10.0.0.1:80 v1 healthy n1 discovered\n");
}

static void an_agent_may_say_more_than_we_know(void **state)
{
	agent_says("n1", "{'new':{'x':1},'configError':null,'endpoints':[{'service':'a','id':'b','"
			 "address':'1.1.1.1',"
			 "'port':1,'extra':true,'version':null}]}");
	assert_string_equal(shown(), "a/b@1.1.1.1:1 v1 healthy n1 discovered\n");
}

static void only_the_same_process_takes_its_state_away(void **state)
{
	agent_says("n1", WEB);
	assert_int_equal(registry_agent_delete(registry, "n1", "e0"), -ESTALE);
	assert_int_equal(registry_agent_delete(registry, "n2", NULL), -ENOENT);
	assert_int_equal(registry_agent_delete(registry, "n1", "e1"), 0);
	assert_int_equal(registry_agent_delete(registry, "n1", "e1"), -ENOENT);
	assert_string_equal(shown(), "");
}

static void agents_have_a_limit(void **state)
{
	struct schema_error e;
	char node[32];

	for (int i = 0; i < REGISTRY_AGENTS_MAX; i++) {
		snprintf(node, sizeof(node), "n%d", i);
		agent_says(node, "{'endpoints':[]}");
	}
	assert_int_equal(
		registry_agent_put(registry, "more", quoted_json("{'endpoints':[]}"), now, now, &e),
		-ENOSPC);
	agent_says("n0", WEB);
}

static void a_registration_has_defaults(void **state)
{
	registered("{'name':'db','port':5432}");
	registered("{'name':'db','port':1,'address':'fd00::1','instance':'x','metadata':{'version':"
		   "'v2','region':'eu'}}");
	assert_string_equal(shown(), "db/db-5432@127.0.0.1:5432 v1 healthy - registered\n"
				     "db/x@fd00::1:1 v2 healthy - registered\n");
}

static void a_bad_registration_is_refused(void **state)
{
	static const char *const bad[][2] = {
		{"{}", "name"},
		{"{'name':'db'}", "port"},
		{"{'name':'db','port':0}", "port"},
		{"{'name':'db','port':65536}", "port"},
		{"{'name':'db','port':'80'}", "port"},
		{"{'name':'d b','port':1}", "name"},
		{"{'name':'db','port':1,'address':'localhost'}", "address"},
		{"{'name':'db','port':1,'address':'0.0.0.0'}", "address"},
		{"{'name':'db','port':1,'address':'::'}", "address"},
		{"{'name':'db','port':1,'instance':'a/b'}", "instance"},
		{"{'name':'db','port':1,'sidecarPort':0}", "sidecarPort"},
		{"{'name':'db','port':1,'metadata':{'version':1}}", "metadata.version"},
		{"{'name':'db','port':1,'metadata':{'version':''}}", "metadata.version"},
		{"{'name':'db','port':1,'metadata':{'weight':200}}", "metadata.weight"},
		{"{'name':'db','port':1,'metadata':{'weight':''}}", "metadata.weight"},
		{"{'name':'db','port':1,'metadata':{'weight':'0'}}", "metadata.weight"},
		{"{'name':'db','port':1,'metadata':{'weight':'1001'}}", "metadata.weight"},
		{"{'name':'db','port':1,'ttl':30}", "ttl"},
		{"{'name':'db','port':1,'ttl':'10ms'}", "ttl"},
		{"{'name':'db','port':1,'x':1}", "x"},
	};
	uint64_t before = store_revision(store);
	struct schema_error e;
	bool changed;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		if (reg(bad[i][0], &changed, &e) != -EINVAL || strcmp(e.path, bad[i][1]))
			fail_msg("%s: at '%s'", bad[i][0], e.path);
	}
	assert_int_equal(store_revision(store), before);
}

static void weights_come_from_registrations_and_agents(void **state)
{
	struct endpoint *e;
	cJSON *v;

	agent_says("n1", "{'endpoints':[{'service':'db','id':'a','address':'10.0.0.1','port':80,"
			 "'weight':7},{'service':'db','id':'b','address':'10.0.0.2','port':80}]}");
	registered("{'name':'db','port':1,'instance':'c','metadata':{'weight':'250'}}");
	registered("{'name':'db','port':1,'instance':'d'}");
	assert_int_equal(registry_endpoints(registry, now, &e), 4);
	assert_int_equal(e[0].weight, 7);
	assert_int_equal(e[1].weight, 100);
	assert_int_equal(e[2].weight, 250);
	assert_int_equal(e[3].weight, 100);
	free(e);
	v = registry_registered(registry);
	assert_int_equal((int)json_num(cJSON_GetArrayItem(v, 0), "weight", 0), 250);
	assert_int_equal((int)json_num(cJSON_GetArrayItem(v, 1), "weight", 0), 100);
	cJSON_Delete(v);
}

static void a_weight_stored_before_there_was_a_rule_is_the_usual_one(void **state)
{
	struct endpoint *e;

	assert_int_equal(store_registration_put(store, "db", "x",
						"{\"name\":\"db\",\"port\":1,\"metadata\":{"
						"\"weight\":\"heavy\"}}"),
			 0);
	registry_free(&registry);
	assert_int_equal(registry_new(store, now, &registry), 0);
	assert_int_equal(registry_endpoints(registry, now, &e), 1);
	assert_int_equal(e[0].weight, 100);
	free(e);
}

static void a_time_to_live_ends_unless_it_is_renewed(void **state)
{
	uint64_t revision;
	struct schema_error e;
	bool changed;

	registered("{'name':'db','port':1,'ttl':'2s'}");
	registered("{'name':'stays','port':1}");
	revision = store_revision(store);
	now += 1999;
	assert_int_equal(registry_sweep(registry, now), 0);
	assert_int_equal(reg("{'name':'db','port':1,'ttl':'2s'}", &changed, &e), 0);
	assert_false(changed); /* a renewal: no revision, no write */
	assert_int_equal(store_revision(store), revision);
	now += 1999;
	assert_int_equal(registry_sweep(registry, now), 0);
	now++;
	assert_int_equal(registry_sweep(registry, now), 1);
	assert_int_equal(store_revision(store), revision + 1);
	assert_string_equal(shown(), "stays/stays-1@127.0.0.1:1 v1 healthy - registered\n");
}

static void registering_again_moves_it(void **state)
{
	struct schema_error e;
	bool changed;

	registered("{'name':'db','port':1,'instance':'a'}");
	assert_int_equal(reg("{'name':'db','port':2,'instance':'a'}", &changed, &e), 0);
	assert_true(changed);
	assert_string_equal(shown(), "db/a@127.0.0.1:2 v1 healthy - registered\n");
	assert_int_equal(registry_deregister(registry, "db", "b"), -ENOENT);
	assert_int_equal(registry_deregister(registry, "db", "a"), 0);
	assert_string_equal(shown(), "");
}

static void registrations_survive_a_restart_with_a_new_time_to_live(void **state)
{
	char why[256];

	registered("{'name':'db','port':1,'ttl':'2s'}");
	registry_free(&registry);
	store_close(&store);
	now += 60000;
	assert_int_equal(store_open(dir.path, &store, why, sizeof(why)), 0);
	assert_int_equal(registry_new(store, now, &registry), 0);
	now += 1999;
	assert_int_equal(registry_sweep(registry, now), 0);
	assert_string_equal(shown(), "db/db-1@127.0.0.1:1 v1 healthy - registered\n");
	now++;
	assert_int_equal(registry_sweep(registry, now), 1);
}

static void what_is_discovered_hides_what_is_registered(void **state)
{
	registered("{'name':'web','port':9,'instance':'web-1'}");
	registered("{'name':'web','port':9,'instance':'web-2'}");
	agent_says("n1", WEB);
	agent_says("n2", WEB);
	assert_string_equal(shown(), "web/web-1@10.0.0.1:80 v1 healthy n1 discovered\n"
				     "web/web-1@10.0.0.1:80 v1 healthy n2 discovered\n"
				     "web/web-2@127.0.0.1:9 v1 healthy - registered\n");
	now += REGISTRY_STALE_MS + 1;
	assert_string_equal(shown(), "web/web-1@127.0.0.1:9 v1 healthy - registered\n"
				     "web/web-2@127.0.0.1:9 v1 healthy - registered\n");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(an_agent_is_shown_until_it_is_stale),
		TEST(endpoints_of_a_stale_agent_are_remembered_as_long_as_it_is),
		TEST(a_stale_agent_is_listed_then_forgotten),
		TEST(a_new_state_replaces_the_whole_old_one),
		TEST(a_bad_state_leaves_the_old_one),
		TEST(an_agent_may_say_more_than_we_know),
		TEST(only_the_same_process_takes_its_state_away),
		TEST(agents_have_a_limit),
		TEST(a_registration_has_defaults),
		TEST(a_bad_registration_is_refused),
		TEST(weights_come_from_registrations_and_agents),
		TEST(a_weight_stored_before_there_was_a_rule_is_the_usual_one),
		TEST(a_time_to_live_ends_unless_it_is_renewed),
		TEST(registering_again_moves_it),
		TEST(registrations_survive_a_restart_with_a_new_time_to_live),
		TEST(what_is_discovered_hides_what_is_registered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
