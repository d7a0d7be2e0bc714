/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The proof of `meshctl check`: a small HTTP server and a client, each started by `meshctl run` in
 * a cgroup of its own, and one request to the server's ordinary address. It went through the mesh
 * if the answer names the instance; no other way leads there. Both are gone when it is over.
 */
#include "ctl/meshctl/check.h"
#include "ctl/meshctl/probe.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/name.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SERVER_SERVICE NAME_OWN "server"
#define CLIENT_SERVICE NAME_OWN "client"
#define START_MS       8000 /* `run` itself waits 5 s for the agent */
#define CLIENT_MS      (START_MS + PROBE_CAPTURED_WITHIN_MS)
#define END_MS	       8000

extern char **environ;

struct child {
	pid_t pid;   /* 0: none */
	int in, out; /* our ends of its stdin and stdout */
};

static int start(struct child *k, const char *const argv[])
{
	posix_spawn_file_actions_t actions;
	int in[2], out[2], rc;

	if (pipe2(in, O_CLOEXEC))
		return -errno;
	if (pipe2(out, O_CLOEXEC)) {
		rc = -errno;
		close(in[0]);
		close(in[1]);
		return rc;
	}
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, in[0], 0);
	posix_spawn_file_actions_adddup2(&actions, out[1], 1);
	posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
	rc = -posix_spawn(&k->pid, "/proc/self/exe", &actions, NULL, (char *const *)argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(in[0]);
	close(out[1]);
	k->in = in[1];
	k->out = out[0];
	if (rc) {
		k->pid = 0;
		close(k->in);
		close(k->out);
	}
	return rc;
}

static int start_in_mesh(const struct check *c, struct child *k, const char *service,
			 const char *instance, const char *command, const char *port)
{
	const char *argv[] = {"meshctl",  "run",       "--service", service,	      "--instance",
			      instance,	  "--version", "v1",	    "--protocol",     "http",
			      "--cgroup", c->cgroup,   "--",	    "/proc/self/exe", command,
			      "--",	  port,	       NULL};

	return start(k, argv);
}

/* One line of its output, without the newline. 0, -ETIMEDOUT, or -EPIPE when it ended first. */
static int read_line(struct child *k, char *line, size_t cap, unsigned timeout_ms)
{
	uint64_t until = clock_mono_ns() + timeout_ms * 1000000ull;
	size_t len = 0;

	while (len + 1 < cap) {
		struct pollfd p = {.fd = k->out, .events = POLLIN};
		uint64_t now = clock_mono_ns();
		ssize_t n;

		if (now >= until || !poll(&p, 1, (until - now) / 1000000 + 1))
			return -ETIMEDOUT;
		n = read(k->out, line + len, 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -EPIPE;
		if (line[len] == '\n')
			break;
		len++;
	}
	line[len] = '\0';
	return 0;
}

/* SIGTERM is passed on by `run`, which then tidies up; only if that hangs it is killed. */
static void stop(struct child *k)
{
	uint64_t until = clock_mono_ns() + END_MS * 1000000ull;
	struct timespec pause = {.tv_nsec = 5000000};

	if (!k->pid)
		return;
	close(k->in);
	close(k->out);
	kill(k->pid, SIGTERM);
	while (!waitpid(k->pid, NULL, WNOHANG)) {
		if (clock_mono_ns() > until)
			kill(k->pid, SIGKILL);
		nanosleep(&pause, NULL);
	}
	k->pid = 0;
}

static bool judge(struct check *c, const char *line, const char *instance)
{
	cJSON *v = json_parse(line, strlen(line), NULL);
	const char *by = json_str(v, "instance", "");
	bool ok;

	if (!v)
		ok = check_add(c, "request", CHECK_FAILED, "this is a bug in meshctl",
			       "the client's report makes no sense: %.100s", line);
	else if (*json_str(v, "error", ""))
		ok = check_add(c, "request", CHECK_FAILED,
			       "read mesh-agent's log; meshctl get endpoints " SERVER_SERVICE,
			       "a request between two workloads failed: %s",
			       json_str(v, "error", ""));
	else if (!json_bool(v, "captured", 0))
		ok = check_add(
			c, "request", CHECK_FAILED,
			"is another BPF program attached below the agent's cgroup? bpftool "
			"cgroup tree",
			"a request between two workloads was answered, but not through the mesh");
	else if (strcmp(by, instance))
		ok = check_add(c, "request", CHECK_FAILED, "meshctl get endpoints " SERVER_SERVICE,
			       "a request went through the mesh to %s instead of %s", by, instance);
	else
		ok = check_add(c, "request", CHECK_PASSED, NULL,
			       "captured, and answered by %s through a worker in %.1f ms", by,
			       json_num(v, "millis", 0));
	cJSON_Delete(v);
	return ok;
}

static bool run_client(struct check *c, const char *server, const char *client, const char *port)
{
	struct child k = {0};
	char line[512];
	int rc = start_in_mesh(c, &k, CLIENT_SERVICE, client, "__probe-client", port);
	bool ok;

	if (!rc)
		rc = read_line(&k, line, sizeof(line), CLIENT_MS);
	if (rc)
		ok = check_add(c, "request", CHECK_FAILED,
			       "try: meshctl run -v --service x -- true",
			       "the test client did not come up: %s", strerror(-rc));
	else
		ok = judge(c, line, server);
	stop(&k);
	return ok;
}

bool check_request(struct check *c)
{
	char server[64], client[64], port[16];
	struct child k = {0};
	bool ok;
	int rc;

	snprintf(server, sizeof(server), SERVER_SERVICE "-%d", getpid());
	snprintf(client, sizeof(client), CLIENT_SERVICE "-%d", getpid());
	signal(SIGPIPE, SIG_IGN);
	rc = start_in_mesh(c, &k, SERVER_SERVICE, server, "__probe-server", NULL);
	if (!rc)
		rc = read_line(&k, port, sizeof(port), START_MS);
	if (rc)
		ok = check_add(c, "request", CHECK_FAILED,
			       "try: meshctl run -v --service x -- true",
			       "the test server did not come up: %s", strerror(-rc));
	else
		ok = run_client(c, server, client, port);
	stop(&k);
	return ok;
}
