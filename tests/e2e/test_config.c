/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration: checked whole, in force at once, with a history that survives. */
#include "tests/e2e/harness.h"

static int put(const char *service, const char *body)
{
	char path[128];

	snprintf(path, sizeof(path), "/api/config/%s", service);
	api("PUT", path, body);
	return api_status;
}

static const char *policy_of(const char *service)
{
	char path[128];
	cJSON *v;

	snprintf(path, sizeof(path), "/api/config/%s", service);
	v = api("GET", path, NULL);
	if (v && cJSON_GetObjectItem(v, "config"))
		v = cJSON_GetObjectItem(v, "config");
	return json_str(cJSON_GetObjectItem(v, "loadBalancer"), "policy", "");
}

static void what_is_applied_is_shown(void **state)
{
	sh("echo '{\"service\":\"one\",\"loadBalancer\":{\"policy\":\"random\"}}' >" SCRATCH
	   "/one.json");
	assert_int_equal(sh("meshctl apply -f " SCRATCH "/one.json")->status, 0);
	assert_string_equal(policy_of("one"), "random");
	assert_non_null(strstr(sh("meshctl get config one -o json")->out, "random"));
	assert_int_equal(sh("meshctl diff -f " SCRATCH "/one.json")->status, 0);
	assert_int_equal(sh("meshctl delete one")->status, 0);
	assert_string_equal(policy_of("one"), "");
}

static void a_dry_run_changes_nothing(void **state)
{
	assert_int_equal(
		sh("echo '{\"service\":\"dry\",\"loadBalancer\":{\"policy\":\"random\"}}' | "
		   "meshctl apply -f - --dry-run")
			->status,
		0);
	assert_string_equal(policy_of("dry"), "");
}

/* Every bad one is refused with the path of the key, and the old one stays. */
static void bad_configuration_is_refused_with_its_path(void **state)
{
	static const struct {
		const char *body, *path;
	} bad[] = {
		{"{\"service\":\"kept\",\"loadBalancer\":{\"policy\":\"best\"}}", "policy"},
		{"{\"service\":\"kept\",\"timeouts\":{\"try\":\"fast\"}}", "try"},
		{"{\"service\":\"kept\",\"timeouts\":{\"try\":3}}", "try"},
		{"{\"service\":\"kept\",\"timeout\":{\"try\":\"3s\"}}", "timeout"},
		{"{\"service\":\"kept\",\"retry\":{\"attempts\":-1}}", "attempts"},
		{"{\"service\":\"kept\",\"split\":{\"v1\":\"many\"}}", "v1"},
		{"{\"service\":\"other\"}", "service"},
		{"{\"service\":\"kept\",", NULL},
		{"[]", NULL},
		{"{\"service\":\"kept\",\"protocol\":\"http\",\"protocol\":\"tcp\"}", NULL},
	};

	assert_int_equal(
		put("kept", "{\"service\":\"kept\",\"loadBalancer\":{\"policy\":\"round-robin\"}}"),
		200);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cJSON *v = api("PUT", "/api/config/kept", bad[i].body);

		if (api_status != 400 || !*json_str(v, "error", ""))
			fail_msg("%s: status %d", bad[i].body, api_status);
		if (bad[i].path && !strstr(json_str(v, "field", ""), bad[i].path))
			fail_msg("%s: field '%s'", bad[i].body, json_str(v, "field", ""));
		assert_string_equal(policy_of("kept"), "round-robin");
	}
	sh("echo '{\"service\":\"kept\",\"loadBalancer\":{\"policy\":\"best\"}}' >" SCRATCH
	   "/bad.json");
	assert_int_equal(sh("meshctl apply -f " SCRATCH "/bad.json")->status, 1);
	assert_non_null(
		strstr(sh("meshctl apply -f " SCRATCH "/bad.json")->err, "loadBalancer.policy"));
	api("DELETE", "/api/config/kept", NULL);
}

static void a_patch_changes_only_what_it_names(void **state)
{
	cJSON *v;

	assert_int_equal(put("patched",
			     "{\"service\":\"patched\",\"loadBalancer\":{\"policy\":\"random\"},"
			     "\"timeouts\":{\"try\":\"1s\",\"connect\":\"2s\"}}"),
			 200);
	api("PATCH", "/api/config/patched", "{\"timeouts\":{\"try\":\"4s\",\"connect\":null}}");
	assert_int_equal(api_status, 200);
	v = api("GET", "/api/config/patched", NULL);
	if (cJSON_GetObjectItem(v, "config"))
		v = cJSON_GetObjectItem(v, "config");
	assert_string_equal(json_str(cJSON_GetObjectItem(v, "timeouts"), "try", ""), "4s");
	assert_string_equal(policy_of("patched"), "random");
	api("DELETE", "/api/config/patched", NULL);
}

static void a_service_that_is_not_there_yet_can_be_configured(void **state)
{
	static const char warning[] = "nothing listens as service early";
	struct output *o = sh("meshctl lb set early random");

	assert_int_equal(o->status, 0);
	assert_non_null(strstr(o->err, warning));
	assert_null(strstr(o->out, "nothing listens"));
	assert_string_equal(policy_of("early"), "random");
	api("DELETE", "/api/config/early", NULL);
	instance_ready(instance_start("early", "early-1", "--netns", "origin --port 8000"));
	assert_string_equal(sh("meshctl lb set early random")->err, "");
	api("DELETE", "/api/config/early", NULL);
}

static void history_and_rollback_survive_kill_9(void **state)
{
	struct output *o;
	long revision;

	assert_int_equal(sh("meshctl lb set past random")->status, 0);
	assert_int_equal(sh("meshctl lb set past round-robin")->status, 0);
	meshd_stop(SIGKILL);
	meshd_start();
	assert_string_equal(policy_of("past"), "round-robin");
	o = sh("meshctl history past -o json");
	assert_int_equal(o->status, 0);
	assert_non_null(strstr(o->out, "random"));
	o = sh("meshctl history past -o name | tail -1");
	revision = strtol(o->out + strcspn(o->out, "0123456789"), NULL, 10);
	assert_true(revision > 0);
	assert_int_equal(sh("meshctl rollback past %ld", revision)->status, 0);
	assert_string_equal(policy_of("past"), "random");
	api("DELETE", "/api/config/past", NULL);
}

static void a_stale_etag_is_refused(void **state)
{
	assert_int_equal(put("etag", "{\"service\":\"etag\"}"), 200);
	assert_int_equal(atoi(sh("curl -s -o /dev/null -w %%{http_code} --unix-socket " MESHD_SOCKET
				 " -X PUT -H 'If-Match: \"nonsense\"' -d '{\"service\":\"etag\"}' "
				 "http://localhost/api/config/etag")
				      ->out),
			 412);
	api("DELETE", "/api/config/etag", NULL);
}

static void writes_need_the_token_or_the_socket(void **state)
{
	struct client *c = call_directly(MESHD_ADDRESS);
	static const char body[] = "{\"service\":\"x\"}";
	char token[256] = "";
	struct output *o;

	say(c,
	    "PUT /api/config/x HTTP/1.1\r\nHost: 127.0.0.1:15000\r\nContent-Length: %zu\r\n\r\n%s",
	    strlen(body), body);
	assert_int_equal(answer(c, "PUT"), 401);
	o = sh("cat " SCRATCH "/state/token");
	snprintf(token, sizeof(token), "%.*s", (int)strcspn(o->out, "\n"), o->out);
	c = call_directly(MESHD_ADDRESS);
	say(c,
	    "PUT /api/config/x HTTP/1.1\r\nHost: 127.0.0.1:15000\r\nAuthorization: Bearer %s\r\n"
	    "Content-Length: %zu\r\n\r\n%s",
	    token, strlen(body), body);
	assert_int_equal(answer(c, "PUT"), 200);
	/* another name for 127.0.0.1 in a browser's request: DNS rebinding */
	c = call_directly(MESHD_ADDRESS);
	say(c, "GET /api/services HTTP/1.1\r\nHost: evil.example\r\n\r\n");
	assert_in_range(answer(c, "GET"), 400, 421);
	api("DELETE", "/api/config/x", NULL);
}

/* The token's directory is not root's; who reads there follows no link and waits for no pipe. */
static void only_a_plain_file_is_a_token(void **state)
{
	static const char tcp[] = "timeout 5 meshctl --control http://" MESHD_ADDRESS;
	struct output *o = sh("%s --token-file " SCRATCH "/state/token lb set plain p2c", tcp);

	assert_int_equal(o->status, 0);
	sh("ln -s " SCRATCH "/state/token " SCRATCH "/link; mkfifo " SCRATCH "/pipe");
	o = sh("%s --token-file " SCRATCH "/link lb set plain p2c", tcp);
	assert_int_equal(o->status, 1);
	assert_non_null(strstr(o->err, "links are not followed"));
	o = sh("%s --token-file " SCRATCH "/pipe lb set plain p2c", tcp);
	assert_int_equal(o->status, 1);
	assert_non_null(strstr(o->err, "no regular file"));
	api("DELETE", "/api/config/plain", NULL);
}

/* The agent keeps what it was told last: without meshd, over its own restart too. */
static void the_agent_runs_on_its_last_configuration(void **state)
{
	struct instance *a =
		instance_ready(instance_start("last", "last-a", "--netns", "origin --port 8000"));
	struct caller *who = caller_start("client", "--netns");
	struct client *c;

	instance_ready(
		instance_start("last", "last-b", "--netns", "origin --port 8000 --delay 30"));
	assert_int_equal(sh("meshctl lb set last round-robin")->status, 0);
	eventually(5000, strstr(sh("cat /run/mesh/config.json")->out, "round-robin"));
	meshd_stop(SIGKILL);
	agent_stop(SIGKILL);
	agent_start("");
	c = call(who, a->address);
	eventually(10000, ({
			   int slow = 0;

			   for (int k = 0; k < 20; k++) {
				   assert_int_equal(get(c, "/"), 200);
				   slow += !strcmp(header(c, "x-instance-id"), "last-b");
			   }
			   slow >= 8 && slow <= 12; /* p2c would hardly ask the slow one */
		   }));
	meshd_start();
	api("DELETE", "/api/config/last", NULL);
}

/* Half a file, or none at all: the agent starts, and takes what meshd says. */
static void a_broken_last_configuration_stops_nobody(void **state)
{
	static const char *const broken[] = {"printf '{\"revision\":' >", "mkfifo "};

	for (size_t i = 0; i < sizeof(broken) / sizeof(*broken); i++) {
		agent_stop(SIGTERM);
		sh("rm -f /run/mesh/config.json; %s/run/mesh/config.json", broken[i]);
		agent_start("");
		assert_int_equal(sh("meshctl lb set broken random")->status, 0);
		eventually(5000, sh("test -f /run/mesh/config.json && grep -q broken "
				    "/run/mesh/config.json")
						 ->status == 0);
		api("DELETE", "/api/config/broken", NULL);
	}
}

static void files_are_applied_at_start_and_on_sighup(void **state)
{
	sh("echo '{\"service\":\"filed\",\"loadBalancer\":{\"policy\":\"random\"}}' >" SCRATCH
	   "/conf.d/filed.json");
	kill(meshd_pid, SIGHUP);
	eventually(5000, !strcmp(policy_of("filed"), "random"));
	sh("echo '{\"service\":\"filed\",\"loadBalancer\":{\"policy\":\"nonsense\"}}' >" SCRATCH
	   "/conf.d/filed.json");
	kill(meshd_pid, SIGHUP);
	eventually(5000, strstr(sh("curl -s http://127.0.0.1:15000/health")->out, "filed.json"));
	assert_string_equal(policy_of("filed"), "random");
	sh("rm " SCRATCH "/conf.d/filed.json");
	api("DELETE", "/api/config/filed", NULL);
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(what_is_applied_is_shown),
		STORY(a_dry_run_changes_nothing),
		STORY(bad_configuration_is_refused_with_its_path),
		STORY(a_patch_changes_only_what_it_names),
		STORY(a_service_that_is_not_there_yet_can_be_configured),
		STORY(history_and_rollback_survive_kill_9),
		STORY(a_stale_etag_is_refused),
		STORY(writes_need_the_token_or_the_socket),
		STORY(only_a_plain_file_is_a_token),
		STORY(the_agent_runs_on_its_last_configuration),
		STORY(a_broken_last_configuration_stops_nobody),
		STORY(files_are_applied_at_start_and_on_sighup),
	};

	return RUN(stories);
}
