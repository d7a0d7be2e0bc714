/* SPDX-License-Identifier: Apache-2.0 */
/* What people type: exit codes, and one line that says what is wrong and what to do. */
#include "tests/e2e/harness.h"

#include <sys/wait.h>

#define DAEMONS 3
static const char *const programs[DAEMONS] = {"meshd", "mesh-agent", "meshctl"};

/* Failed as it should: the exit status, one line on stderr that holds `word`, nothing on stdout. */
static void assert_fails(const struct output *o, int status, const char *word)
{
	const char *nl = strchr(o->err, '\n');

	if (o->status != status || !strcasestr(o->err, word) || !nl || nl[1] || *o->out)
		fail_msg("exit %d (want %d), stdout '%s', stderr '%s' (want one line with '%s')",
			 o->status, status, o->out, o->err, word);
}

static void help_and_version_are_everywhere(void **state)
{
	for (int i = 0; i < DAEMONS; i++) {
		struct output *o = sh("%s --help", programs[i]);

		assert_int_equal(o->status, 0);
		assert_non_null(strstr(o->out, "Usage:"));
		o = sh("%s --version", programs[i]);
		assert_int_equal(o->status, 0);
		assert_non_null(strstr(o->out, "0."));
	}
	assert_int_equal(sh("meshctl run --help")->status, 0);
}

static void an_unknown_flag_is_a_usage_error(void **state)
{
	for (int i = 0; i < DAEMONS; i++)
		assert_fails(sh("%s --nonsense", programs[i]), 2, "nonsense");
	assert_fails(sh("meshctl nonsense"), 2, "nonsense");
	assert_fails(sh("meshctl get nonsense"), 2, "nonsense");
	assert_fails(sh("meshctl get services -o xml"), 2, "xml");
	assert_fails(sh("meshctl run -- true"), 2, "--service");
	assert_fails(sh("mesh-agent --workers many"), 2, "workers");
	assert_fails(sh("mesh-agent --node 'rack 1'"), 2, "--node rack 1");
	assert_fails(sh("meshd --listen nowhere"), 2, "listen");
}

static void what_is_shown_can_be_read_by_programs(void **state)
{
	static const char *const commands[] = {"status",     "get services", "get endpoints",
					       "get config", "get agents",   "version"};

	instance_ready(instance_start("shown", "shown-1", "--netns", "origin --port 8000"));
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		struct output *o = sh("meshctl %s -o json", commands[i]);
		cJSON *v = json_parse(o->out, strlen(o->out), NULL);

		if (o->status || !v)
			fail_msg("meshctl %s -o json: exit %d: %s%s", commands[i], o->status,
				 o->out, o->err);
		cJSON_Delete(v);
	}
	assert_non_null(strstr(sh("meshctl get services")->out, "shown"));
	assert_non_null(strstr(sh("meshctl get endpoints")->out, "shown-1"));
	assert_non_null(strstr(sh("meshctl describe service shown")->out, "shown-1"));
	assert_string_equal(sh("meshctl get services -o name")->out, "shown\n");
	assert_null(strchr(sh("meshctl status")->out, '\033'));
	assert_fails(sh("meshctl get services nobody"), 1, "nobody");
}

static void completion_is_valid_shell(void **state)
{
	assert_int_equal(
		sh("meshctl completion bash >" SCRATCH "/c.bash && bash -n " SCRATCH "/c.bash")
			->status,
		0);
	assert_int_equal(sh("meshctl completion zsh")->status, 0);
	assert_int_equal(sh("meshctl completion fish")->status, 0);
}

static void status_and_check_prove_that_it_works(void **state)
{
	struct output *o;

	assert_int_equal(sh("meshctl status")->status, 0);
	o = sh("meshctl check");
	if (o->status)
		fail_msg("meshctl check: exit %d: %s%s", o->status, o->out, o->err);
	assert_int_equal(sh("meshctl check --pre")->status, 0);
	agent_stop(SIGTERM);
	assert_int_equal(sh("meshctl check")->status, 1);
	assert_int_equal(sh("meshctl status")->status, 1);
	agent_start("");
	assert_int_equal(sh("meshctl check --wait 10s")->status, 0);
}

/* An agent of this host that is not there, and says so of itself. */
static void pretend_agent(const char *more)
{
	char host[256], path[300], body[300];

	assert_int_equal(gethostname(host, sizeof(host)), 0);
	snprintf(path, sizeof(path), "/api/agents/%s", host);
	snprintf(body, sizeof(body), "{\"endpoints\":[],%s}", more);
	api("PUT", path, body);
	assert_int_equal(api_status, 200);
}

static void what_is_reported_is_what_answers(void **state)
{
	const char *text;

	agent_stop(SIGTERM);
	pretend_agent("\"workers\":2,\"workersAnswering\":1,\"admin\":null");
	assert_non_null(strstr(sh("meshctl check -o name")->out, "workers\n"));
	text = sh("meshctl check")->out;
	assert_non_null(strstr(text, "1 of 2 workers answers"));
	assert_non_null(strstr(text, "--admin is off"));
	assert_null(strstr(sh("meshctl check -o name")->out, "ready"));
	assert_non_null(strstr(sh("meshctl status")->out, "1 of 2 workers answer"));
	pretend_agent("\"workers\":2,\"workersAnswering\":0,\"admin\":\"" MESHD_ADDRESS "\"");
	text = sh("meshctl check")->out;
	assert_non_null(strstr(text, "no worker answers"));
	assert_non_null(strstr(text, MESHD_ADDRESS "/healthz: status 404: {"));
	assert_non_null(strstr(sh("meshctl status")->out, "no worker of the agent"));
	pretend_agent("\"workers\":2,\"workersAnswering\":2,\"admin\":null");
	text = sh("meshctl check -o name")->out;
	assert_null(strstr(text, "workers"));
	assert_null(strstr(text, "ready"));
	agent_start("");
}

static void a_missing_meshd_is_exit_3(void **state)
{
	assert_fails(sh("meshctl --control http://127.0.0.1:9 get services"), 3, "127.0.0.1:9");
	meshd_stop(SIGTERM);
	assert_int_equal(sh("meshctl get services")->status, 3);
	assert_int_equal(sh("meshctl lb set x p2c")->status, 3);
	meshd_start();
}

/* Says what is missing, ends with 1, and leaves nothing behind. */
static void what_cannot_start_says_why(void **state)
{
	assert_fails(sh("meshd --listen " MESHD_ADDRESS " --socket " SCRATCH
			"/2.sock --state " SCRATCH "/state2"),
		     1, "15000");
	agent_stop(SIGTERM);
	assert_fails(sh("mesh-agent --cgroup /nonexistent"), 1, "/nonexistent");
	assert_fails(sh("mesh-agent --cgroup /tmp"), 1, "cgroup");
	assert_fails(sh("mesh-agent --admin " MESHD_ADDRESS), 1, "15000");
	assert_fails(sh("mesh-agent --gateway " MESHD_ADDRESS), 1, "15000");
	assert_fails(sh("mesh-agent --user no-such-user-here"), 1, "no-such-user-here");
	assert_fails(
		sh("setpriv --reuid 65534 --clear-groups $(command -v mesh-agent) --run-dir /tmp"),
		1, "root");
	assert_string_equal(sh("bpftool -j cgroup tree /sys/fs/cgroup | grep -o attach_type")->out,
			    "");
	assert_string_equal(sh("ls /sys/fs/bpf | grep -v debug")->out, "");
}

static void a_second_agent_is_refused(void **state)
{
	assert_fails(sh("mesh-agent --admin 127.0.0.1:15999 --gateway 127.0.0.1:15998"), 1,
		     "another agent");
	assert_int_equal(sh("meshctl check --wait 10s")->status, 0); /* the first goes on */
}

static void run_passes_status_signals_and_environment(void **state)
{
	struct instance *i;
	int status;

	assert_int_equal(sh("meshctl run --service r --instance r1 -- sh -c 'exit 7'")->status, 7);
	assert_string_equal(sh("meshctl run --service r --instance r2 --version v9 -- sh -c 'echo "
			       "$MESH_SERVICE $MESH_INSTANCE $MESH_VERSION'")
				    ->out,
			    "r r2 v9\n");
	assert_in_range(sh("meshctl run --service r -- /no/such/program")->status, 1, 127);
	i = instance_start("r", "r3", "",
			   "sh -c 'trap \"exit 9\" TERM; : >" SCRATCH
			   "/trapped; while :; do sleep 0.01; done'");
	eventually(5000, !access(SCRATCH "/trapped", F_OK));
	status = reap(&i->run, SIGTERM);
	assert_int_equal(WEXITSTATUS(status), 9);
	assert_int_not_equal(access("/sys/fs/cgroup/mesh/r", F_OK), 0);
	assert_string_equal(sh("ip netns list")->out, "");
}

static void two_instances_of_one_name_are_refused(void **state)
{
	instance_ready(instance_start("twice", "t1", "--netns", "origin --port 8000"));
	assert_fails(sh("meshctl run --service twice --instance t1 -- true"), 1, "t1");
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(help_and_version_are_everywhere),
		STORY(an_unknown_flag_is_a_usage_error),
		STORY(what_is_shown_can_be_read_by_programs),
		STORY(completion_is_valid_shell),
		STORY(status_and_check_prove_that_it_works),
		STORY(what_is_reported_is_what_answers),
		STORY(a_missing_meshd_is_exit_3),
		STORY(what_cannot_start_says_why),
		STORY(a_second_agent_is_refused),
		STORY(run_passes_status_signals_and_environment),
		STORY(two_instances_of_one_name_are_refused),
	};

	return RUN(stories);
}
