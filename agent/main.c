/* SPDX-License-Identifier: Apache-2.0 */
/* mesh-agent: reads the command line, then is the supervisor; `mesh-agent worker` is what the
 * supervisor starts. */
#include "agent/remove.h"
#include "agent/supervisor.h"
#include "agent/worker.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "lib/name.h"
#include "lib/options.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct flags {
	const char *control, *cgroup, *workers, *gateway, *gateway_default, *admin, *node, *run_dir,
		*accelerate, *accelerate_mode, *drain, *listener_port, *token_file, *user,
		*access_log, *trace_limit, *trace_slow, *telemetry, *log_format, *log_level;
};

static struct flags f;
static bool upgrade, removal;

static const struct option_spec options[] = {
	{"control", 0, "URL", "http://127.0.0.1:15000", "meshd: http://ADDR:PORT or unix:PATH",
	 &f.control, NULL},
	{"cgroup", 0, "PATH", "", "cgroup2 directory to take care of (default: the cgroup2 root)",
	 &f.cgroup, NULL},
	{"workers", 0, "N", "", "proxy processes (default: one per core, 15 at most)", &f.workers,
	 NULL},
	{"gateway", 0, "ADDR:PORT", "127.0.0.1:8080",
	 "where requests from outside enter; off: nowhere", &f.gateway, NULL},
	{"gateway-default", 0, "SERVICE", "", "who gets what names no service", &f.gateway_default,
	 NULL},
	{"admin", 0, "ADDR:PORT", "127.0.0.1:15020", "/metrics, /healthz, /readyz; off: nowhere",
	 &f.admin, NULL},
	{"node", 0, "NAME", "", "name of this host (default: the hostname)", &f.node, NULL},
	{"run-dir", 0, "DIR", "/run/mesh", "lock and last configuration", &f.run_dir, NULL},
	{"accelerate", 0, "auto|on|off", "auto", "let connections on this host skip TCP",
	 &f.accelerate, NULL},
	{"accelerate-mode", 0, "trials|redirect|verdict|off", "trials",
	 "how; for tests: whatever the trials of this kernel would say", &f.accelerate_mode, NULL},
	{"drain", 0, "SECONDS", "15", "what runs may take so long when a worker is to end",
	 &f.drain, NULL},
	{"listener-port", 0, "PORT", "15001", "port on loopback that captured connections go to",
	 &f.listener_port, NULL},
	{"token-file", 0, "FILE", "", "token for meshd (default: /var/lib/mesh/token if readable)",
	 &f.token_file, NULL},
	{"user", 0, "NAME", "", "whom the workers run as (default: mesh, else nobody)", &f.user,
	 NULL},
	{"access-log", 0, "off|-|FILE", "off", "one JSON line a request; - is stdout",
	 &f.access_log, NULL},
	{"trace-limit", 0, "N", "0", "traces a second that may begin to be sampled; 0: any number",
	 &f.trace_limit, NULL},
	{"telemetry", 0, "on|off", "on",
	 "off: requests are neither traced nor recorded, to measure what that costs", &f.telemetry,
	 NULL},
	{"trace-slow", 0, "DURATION", "1s",
	 "a request that takes longer is kept as a span, sampled or not", &f.trace_slow, NULL},
	{"upgrade", 0, NULL, NULL, "take over from the agent that runs, without losing a request",
	 NULL, &upgrade},
	{"remove", 0, NULL, NULL, "take away what an agent that is gone has left running, and end",
	 NULL, &removal},
	{"log-format", 0, "text|json", "text", "of the log on stderr", &f.log_format, NULL},
	{"log-level", 0, "LEVEL", "info", "debug, info, warn or error", &f.log_level, NULL},
	{NULL},
};

static const struct program program = {
	.name = "mesh-agent",
	.usage = "[FLAGS]",
	.summary = "Captures, routes and observes the calls of the workloads on this host. Runs as "
		   "root.",
	.options = options,
};

static const char *or_null(const char *s)
{
	return s && *s ? s : NULL;
}

static uint32_t number(const char *flag, const char *s, uint32_t least, uint32_t most)
{
	char *end;
	unsigned long v = strtoul(s, &end, 10);

	if (*s < '0' || *s > '9' || *end || v < least || v > most)
		options_usage(&program, "--%s %s: a number from %u to %u", flag, s, least, most);
	return (uint32_t)v;
}

static uint32_t default_workers(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	return n < 1 ? 1 : n > MESH_KERNEL_WORKER ? MESH_KERNEL_WORKER : (uint32_t)n;
}

/* An address, or "off" (or nothing): false. */
static bool address(const char *flag, const char *s, struct addr *a)
{
	if (!*s || !strcmp(s, "off"))
		return false;
	if (addr_parse(s, a) || !a->port)
		options_usage(&program, "--%s %s: ADDR:PORT or off", flag, s);
	return true;
}

static const char *node_name(const char *given)
{
	static char host[HOST_NAME_MAX + 1];

	if (*given && !name_valid(given))
		options_usage(&program, "--node %s: " NAME_WHAT, given);
	if (*given)
		return given;
	if (gethostname(host, sizeof(host) - 1) || !*host)
		return "localhost";
	if (!name_valid(host))
		options_usage(&program,
			      "the hostname '%s' cannot name this node: give --node, " NAME_WHAT,
			      host);
	return host;
}

static uint64_t duration_ns(const char *flag, const char *s)
{
	uint64_t ms;

	if (duration_parse(s, &ms))
		options_usage(&program, "--%s %s: a duration, like 1s or 250ms", flag, s);
	return ms * 1000000;
}

static bool one_of(const char *s, const char *a, const char *b, const char *c)
{
	return !strcmp(s, a) || !strcmp(s, b) || (c && !strcmp(s, c));
}

static void start_log(void)
{
	enum log_level level;

	if (!one_of(f.log_format, "text", "json", NULL))
		options_usage(&program, "--log-format %s: text or json", f.log_format);
	if (log_level_parse(f.log_level, &level))
		options_usage(&program, "--log-level %s: debug, info, warn or error", f.log_level);
	log_init("mesh-agent", !strcmp(f.log_format, "json"), level);
}

/* -1: the trials decide. */
static int forced_mode(const char *name)
{
	int mode = strcmp(name, "trials") ? qualify_mode_parse(name) : -1;

	if (mode < 0 && strcmp(name, "trials"))
		options_usage(&program, "--accelerate-mode %s: trials, redirect, verdict or off",
			      name);
	return mode;
}

static void take_flags(struct agent_config *c)
{
	if (*f.gateway_default && !name_valid(f.gateway_default))
		options_usage(&program, "--gateway-default %s: " NAME_WHAT, f.gateway_default);
	if (strncmp(f.control, "http://", 7) && strncmp(f.control, "unix:/", 6))
		options_usage(&program, "--control %s: http://ADDR:PORT or unix:PATH", f.control);
	if (strcmp(f.telemetry, "on") && strcmp(f.telemetry, "off"))
		options_usage(&program, "--telemetry %s: on or off", f.telemetry);
	if (acceleration_parse(f.accelerate) < 0)
		options_usage(&program, "--accelerate %s: auto, on or off", f.accelerate);
	*c = (struct agent_config){
		.control = f.control,
		.cgroup = or_null(f.cgroup),
		.node = node_name(f.node),
		.run_dir = f.run_dir,
		.user = or_null(f.user),
		.token_file = or_null(f.token_file),
		.access_log = f.access_log,
		.gateway_default = or_null(f.gateway_default),
		.accelerate = acceleration_parse(f.accelerate),
		.accelerate_mode = forced_mode(f.accelerate_mode),
		.trace_slow_ns = duration_ns("trace-slow", f.trace_slow),
		.upgrade = upgrade,
		.workers = *f.workers ? number("workers", f.workers, 1, MESH_KERNEL_WORKER)
				      : default_workers(),
		.drain_ms = number("drain", f.drain, 1, 600) * 1000,
		.unobserved = !strcmp(f.telemetry, "off"),
		.trace_limit = number("trace-limit", f.trace_limit, 0, 1000000000),
		.listener_port = (uint16_t)number("listener-port", f.listener_port, 1, 65535),
	};
	c->gateway_on = address("gateway", f.gateway, &c->gateway);
	c->admin_on = address("admin", f.admin, &c->admin);
}

int main(int argc, char **argv)
{
	struct agent_config config;
	int rest;

	if (argc == 2 && !strcmp(argv[1], "worker"))
		return worker_main();
	rest = options_parse(&program, argc, argv);
	if (rest < argc)
		options_usage(&program, "unexpected argument '%s'", argv[rest]);
	start_log();
	take_flags(&config);
	return removal ? remove_run(&config) : supervisor_run(&config);
}
