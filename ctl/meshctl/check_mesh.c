/* SPDX-License-Identifier: Apache-2.0 */
/* The daemons, as `meshctl check` sees them: meshd, and the agent of this host through its own
 * admin address. */
#include "ctl/meshctl/acceleration.h"
#include "ctl/meshctl/api.h"
#include "ctl/meshctl/check.h"
#include "lib/cgroup.h"
#include "lib/http.h"
#include "lib/json.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ADMIN_TIMEOUT_MS 2000
#define WORKERS_END	 "read mesh-agent's log: it says why its workers end"
#define START_AGENT	 "start it (mesh-agent, as root); when it runs, its log says what is wrong"
#define NO_ADMIN                                                                                   \
	"does mesh-agent run? If not, start it: its workers serve on without it. If it does, is "  \
	"--admin right?"

static bool check_meshd(struct check *c)
{
	struct api_answer a;
	bool ok;

	api_call(c->cli, &(struct api_request){.method = "GET", .path = "/health"}, &a);
	c->unreachable = a.code == EXIT_UNREACHABLE;
	if (a.code == EXIT_OK)
		ok = check_add(c, "meshd", CHECK_PASSED, NULL, "version %s answers at %s",
			       json_str(a.json, "version", "?"), c->cli->control);
	else if (c->unreachable)
		ok = check_add(c, "meshd", CHECK_FAILED, a.error, "no answer at %s",
			       c->cli->control);
	else
		ok = check_add(c, "meshd", CHECK_FAILED, "read its log", "%s", a.error);
	api_done(&a);
	return ok;
}

/* The agent of this host: by the host's name, or the only one there is. */
static const cJSON *find_agent(const cJSON *answer)
{
	const cJSON *agents = cJSON_GetObjectItemCaseSensitive(answer, "agents"), *a;
	char host[256] = "";

	gethostname(host, sizeof(host) - 1);
	cJSON_ArrayForEach (a, agents)
		if (!strcmp(json_str(a, "node", ""), host))
			return a;
	return cJSON_GetArraySize(agents) == 1 ? cJSON_GetArrayItem(agents, 0) : NULL;
}

static bool check_reported(struct check *c, const cJSON *agent)
{
	char host[256] = "";

	if (!agent) {
		gethostname(host, sizeof(host) - 1);
		return check_add(c, "agent", CHECK_FAILED, START_AGENT,
				 "no agent of this host (%s) has reported to meshd", host);
	}
	if (strcmp(json_str(agent, "status", ""), "live"))
		return check_add(c, "agent", CHECK_FAILED, START_AGENT,
				 "the agent of %s has not been heard of since %s",
				 json_str(agent, "node", "?"), json_str(agent, "lastSeen", "?"));
	return check_add(c, "agent", CHECK_PASSED, NULL, "%s is live, version %s, pid %.0f",
			 json_str(agent, "node", "?"), json_str(agent, "version", "?"),
			 json_num(agent, "pid", 0));
}

/* The status, 0 when there was no answer; what came, or why nothing did, in text. */
static int ask_admin(const char *admin, const char *path, char *text, size_t cap)
{
	struct http_answer a;
	struct http_call call = {.method = "GET", .path = path, .timeout_ms = ADMIN_TIMEOUT_MS};
	char base[128];
	int status;

	snprintf(base, sizeof(base), "http://%s", admin);
	call.base = base;
	if (http_call(&call, &a)) {
		snprintf(text, cap, "%s", strerror(-a.error));
		status = 0;
	} else {
		snprintf(text, cap, "status %d: %.*s", a.status, (int)strcspn(a.body, "\r\n"),
			 a.body);
		status = a.status;
	}
	http_answer_done(&a);
	return status;
}

static bool check_admin(struct check *c, const cJSON *agent)
{
	static const char *const paths[] = {"/healthz", "/readyz"};
	const char *admin = json_str(agent, "admin", NULL);
	char text[160];
	int status;

	if (!admin)
		return check_add(c, "ready", CHECK_SKIPPED, NULL,
				 "not asked: the agent's --admin is off");
	for (int i = 0; i < 2; i++) {
		status = ask_admin(admin, paths[i], text, sizeof(text));
		if (status != 200)
			return check_add(c, "ready", CHECK_FAILED,
					 status ? "read mesh-agent's log" : NO_ADMIN,
					 "http://%s%s: %s", admin, paths[i], text);
	}
	return check_add(c, "ready", CHECK_PASSED, NULL, "http://%s says healthy and ready", admin);
}

static bool check_workers(struct check *c, const cJSON *agent)
{
	double wanted = json_num(agent, "workers", 0), n = api_agent_workers(agent);

	if (n < 1)
		return check_add(c, "workers", CHECK_FAILED, WORKERS_END,
				 "no worker answers: connections pass by the mesh");
	if (n < wanted)
		return check_add(c, "workers", CHECK_FAILED, WORKERS_END,
				 "%.0f of %.0f workers answer%s", n, wanted, n == 1 ? "s" : "");
	return check_add(c, "workers", CHECK_PASSED, NULL, "%.0f worker%s up", n,
			 n == 1 ? " is" : "s are");
}

static bool check_config(struct check *c, const cJSON *agent)
{
	const char *error = json_str(agent, "configError", NULL);

	if (error && *error)
		return check_add(c, "config", CHECK_FAILED,
				 "correct the configuration; the last good one is in force",
				 "the agent refuses the configuration: %s", error);
	return check_add(c, "config", CHECK_PASSED, NULL, "revision %.0f is in force",
			 json_num(agent, "configRevision", 0));
}

static bool check_gateway(struct check *c, const cJSON *agent)
{
	const char *error = json_str(agent, "gatewayError", NULL),
		   *at = json_str(agent, "gateway", NULL);

	if (error)
		return check_add(c, "gateway", CHECK_FAILED,
				 "end who listens there (ss -ltnp), or start mesh-agent with an "
				 "address of this host that is free: --gateway",
				 "%s; until that is possible %s%s", error,
				 at ? "it is at " : "there is none", at ? at : "");
	return !at || check_add(c, "gateway", CHECK_PASSED, NULL, "listens on %s", at);
}

static bool check_agent(struct check *c, const cJSON *agent)
{
	const char *cgroup = json_str(agent, "cgroup", NULL);
	bool ok;

	if (!check_reported(c, agent))
		return false;
	if (cgroup)
		snprintf(c->cgroup, sizeof(c->cgroup), "%s", cgroup);
	else if (cgroup_root(c->cgroup, sizeof(c->cgroup)))
		c->cgroup[0] = '\0';
	ok = check_admin(c, agent); /* all of them are told, whatever the first says */
	ok = check_workers(c, agent) && ok;
	ok = check_gateway(c, agent) && ok;
	ok = check_config(c, agent) && ok;
	check_coverage(c, agent);
	return check_acceleration(c, agent) && ok;
}

bool check_mesh(struct check *c)
{
	cJSON *answer;
	struct api_answer a;
	bool ok = check_meshd(c);

	if (!ok)
		return false;
	api_call(c->cli, &(struct api_request){.method = "GET", .path = "/api/agents"}, &a);
	answer = a.json;
	if (a.code != EXIT_OK)
		ok = check_add(c, "agent", CHECK_FAILED, "read meshd's log", "%s", a.error);
	else
		ok = check_agent(c, find_agent(answer));
	api_done(&a);
	return ok;
}
