/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose connections go past the mesh, and why, from the agent's report: a line for each workload
 * and reason. What the mesh itself is to blame for, just now, is a failure; what a program does, or
 * what is left of the past, is a note.
 */
#include "ctl/meshctl/check.h"
#include "ctl/meshctl/words.h"
#include "lib/json.h"

#include <stdio.h>
#include <string.h>

#define SHOWN_MAX 8	/* lines; the rest is a number */
#define NOW_MS	  10000 /* how long ago still is "just now" */

static const struct cause {
	const char *reason, *what, *hint;
	bool ours; /* the mesh is to blame */
} causes[] = {
	{"no-worker", "no worker was there to take them",
	 "look at the line `workers`; if all are up, mesh-agent's log says what it cannot listen "
	 "on. Connections that are open stay as they are until they close",
	 true},
	{"memory", "the kernel had no memory to note where they were going",
	 "free memory on this host; connections that are open stay as they are until they close",
	 true},
	{"device", "their sockets are bound to a network device, and cannot be sent to a worker",
	 "configure the program not to bind to an interface (SO_BINDTODEVICE)", false},
	{"mptcp", "they are MPTCP, which the mesh leaves alone",
	 "switch MPTCP off in the program (Go: GODEBUG=multipathtcp=0), or for its network "
	 "namespace: sysctl net.mptcp.enabled=0",
	 false},
	{"unseen", "they are older than the agent, or than what it knows of caller and service",
	 "restart this workload, or have it connect anew", false},
};

static const struct cause *cause_of(const char *reason)
{
	static const struct cause other = {"", "for a reason that this meshctl does not know",
					   "use the meshctl of the agent's version", false};

	for (size_t i = 0; i < sizeof(causes) / sizeof(causes[0]); i++)
		if (!strcmp(causes[i].reason, reason))
			return &causes[i];
	return &other;
}

static void plural(char *out, size_t cap, double n, const char *what)
{
	snprintf(out, cap, "%.0f %s%s", n, what, n == 1 ? "" : "s");
}

/* "3 connections", "2 connects, the last one 5s ago". */
static void how_many(const cJSON *r, char *out, size_t cap)
{
	double open = json_num(r, "open", 0);
	char number[64], age[24];

	if (open > 0) {
		plural(out, cap, open, "open connection");
		return;
	}
	plural(number, sizeof(number), json_num(r, "connects", 0), "connection");
	snprintf(out, cap, "%s, the last one %s ago,", number, words_age(r, "agoMs", age));
}

static void add_reason(struct check *c, const cJSON *w, const cJSON *r)
{
	const struct cause *why = cause_of(json_str(r, "reason", ""));
	const char *to = json_str(r, "to", NULL);
	bool failed = why->ours && json_num(r, "agoMs", NOW_MS) < NOW_MS;
	char n[96];

	how_many(r, n, sizeof(n));
	check_add(c, "coverage", failed ? CHECK_FAILED : CHECK_NOTED, why->hint,
		  "%s/%s: %s%s%s past the mesh: %s", json_str(w, "service", "?"),
		  json_str(w, "instance", "?"), n, to ? " to " : "", to ? to : "", why->what);
}

static void add_stranger(struct check *c, const cJSON *s)
{
	const char *cgroup = json_str(s, "cgroup", NULL), *to = json_str(s, "to", NULL);
	char n[64], where[160];

	if (json_num(s, "open", 0) > 0)
		plural(n, sizeof(n), json_num(s, "open", 0), "open connection");
	else
		plural(n, sizeof(n), json_num(s, "connects", 0), "connection");
	if (cgroup)
		snprintf(where, sizeof(where), "%.140s", *cgroup ? cgroup : "/");
	else
		snprintf(where, sizeof(where), "(gone, or outside of the agent's: id %.0f)",
			 json_num(s, "id", 0));
	check_add(c, "coverage", CHECK_NOTED,
		  "if this is meant to be part of the mesh, start it by `meshctl run`, or with "
		  "MESH_SERVICE in its environment",
		  "cgroup %s is no workload: %s%s%s past the mesh", where, n, to ? " to " : "",
		  to ? to : "");
}

void check_coverage(struct check *c, const cJSON *agent)
{
	const cJSON *v = words_get(agent, "coverage"), *w, *r, *s;
	double hidden = json_num(v, "more", 0);
	unsigned shown = 0;

	if (!v)
		return; /* an agent that is older */
	if (json_str(v, "error", NULL))
		check_add(c, "coverage", CHECK_NOTED,
			  "the kernel needs inet_diag with cgroup ids and socket storage (5.7)",
			  "connections that exist cannot be looked at: %s",
			  json_str(v, "error", "?"));
	cJSON_ArrayForEach (w, words_get(v, "escaping"))
		cJSON_ArrayForEach (r, words_get(w, "reasons")) {
			if (shown++ < SHOWN_MAX)
				add_reason(c, w, r);
			else
				hidden++;
		}
	cJSON_ArrayForEach (s, words_get(v, "strangers")) {
		if (shown++ < SHOWN_MAX)
			add_stranger(c, s);
		else
			hidden++;
	}
	if (hidden > 0)
		check_add(c, "coverage", CHECK_NOTED, "meshctl get agents -o json: coverage",
			  "%.0f more", hidden);
	if (!shown && !json_str(v, "error", NULL))
		check_add(c, "coverage", CHECK_PASSED, NULL,
			  "no connection of a workload to a service goes past the mesh");
}
