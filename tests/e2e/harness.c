/* SPDX-License-Identifier: Apache-2.0 */
/* See harness.h: stories, daemons and programs. Runs on a virtual host only, as demo/vhost makes
 * them. */
#include "tests/e2e/harness.h"
#include "tests/e2e/harness_impl.h"
#include "lib/cgroup.h"
#include "tests/bench/net.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define AGENT_LOG SCRATCH "/agent.log"

#define END_MS	  20000
#define TAIL_MAX  6000 /* of a log that is shown after a failure */
#define LOGS	  32

pid_t meshd_pid, agent_pid;
char harness_root[PATH_MAX]; /* of cgroup2 */

static struct instance *instances;
static bool failed, skipped;
static struct {
	char name[64];
	off_t from; /* where the story began */
} logs[LOGS];
static int nlogs;

/* --- stories -----------------------------------------------------------------------------------
 */

static void log_path(const char *name, char *out, size_t cap)
{
	snprintf(out, cap, SCRATCH "/%s.log", name);
}

static void logs_mark(void)
{
	for (int i = 0; i < nlogs; i++) {
		char path[PATH_MAX];
		struct stat st;

		log_path(logs[i].name, path, sizeof(path));
		logs[i].from = stat(path, &st) ? 0 : st.st_size;
	}
}

static void log_show(const char *name, off_t from)
{
	char path[PATH_MAX], text[TAIL_MAX + 1];
	struct stat st;
	ssize_t n;
	int fd;

	log_path(name, path, sizeof(path));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (!fstat(fd, &st) && st.st_size > from) {
		if (st.st_size - from > TAIL_MAX)
			from = st.st_size - TAIL_MAX;
		n = pread(fd, text, TAIL_MAX, from);
		printf("--- %s\n%.*s", path, n > 0 ? (int)n : 0, text);
	}
	close(fd);
}

void story_run(void **state)
{
	void (*fn)(void **) = (void (*)(void **)) * state;
	void *none = NULL;

	failed = true;
	skipped = false;
	logs_mark();
	fn(&none);
	failed = false;
}

void story_skip(const char *why)
{
	printf("SKIPPED: %s\n", why);
	skipped = true;
	skip();
	abort(); /* skip() does not return */
}

/* A daemon that ended without being told to: the story failed, whatever it thinks. */
static bool died(pid_t *pid, const char *what)
{
	int status;

	if (!*pid || waitpid(*pid, &status, WNOHANG) != *pid)
		return false;
	printf("%s died: %s %d\n", what, WIFSIGNALED(status) ? "signal" : "status",
	       WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	*pid = 0;
	return true;
}

/* The next story may have one of the same name at another address: as long as the registry has this
 * one, which an agent that was not there has not seen go, it would be taken for that. */
static bool instances_end(void)
{
	uint64_t until = mono_ms() + END_MS * slowness();
	bool all = true;

	for (struct instance *i; (i = instances);) {
		bool stays;

		while ((stays = !strcmp(endpoint_status(i->service, i->id), "healthy")) &&
		       mono_ms() < until)
			usleep(2000);
		if (stays)
			printf("%s of %s has ended, and is healthy all the same\n", i->id,
			       i->service);
		all &= !stays;
		instances = i->next;
		free(i);
	}
	return all;
}

int story_end(void **state)
{
	bool broken = died(&meshd_pid, "meshd");

	broken |= died(&agent_pid, "mesh-agent");
	if (broken || (failed && !skipped)) {
		answer_show();
		for (int i = 0; i < nlogs; i++)
			log_show(logs[i].name, logs[i].from);
	}
	clients_end();
	loads_end();
	if (meshd_pid)
		configure_end();
	for (struct instance *i = instances; i; i = i->next)
		if (i->run)
			reap(&i->run, SIGTERM);
	nlogs = nlogs > 2 ? 2 : nlogs; /* the daemons' stay */
	if (!meshd_pid)
		meshd_start();
	if (!agent_pid) {
		workers_kill(); /* of an agent that the story killed */
		agent_start("");
	}
	broken |= !instances_end();
	api_end();
	return broken ? -1 : 0;
}

/* --- programs ----------------------------------------------------------------------------------
 */

pid_t spawn(const char *name, const char *cmd)
{
	char path[PATH_MAX];
	pid_t pid;

	log_path(name, path, sizeof(path));
	if (nlogs < LOGS)
		snprintf(logs[nlogs++].name, sizeof(logs[0].name), "%s", name);
	pid = fork();
	if (pid < 0)
		fail_msg("fork: %s", strerror(errno));
	if (!pid) {
		int out = open(path, O_WRONLY | O_CREAT | O_APPEND, 0644),
		    in = open("/dev/null", O_RDONLY);

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(in, 0);
		dup2(out, 1);
		dup2(out, 2);
		closefrom(3);
		execl("/bin/sh", "sh", "-c", cmd, NULL);
		_exit(127);
	}
	return pid;
}

int reap(pid_t *pid, int sig)
{
	uint64_t until = mono_ms() + END_MS * slowness();
	pid_t p = *pid;
	int status = 0;

	*pid = 0;
	if (sig)
		kill(p, sig);
	while (waitpid(p, &status, WNOHANG) == 0) {
		if (mono_ms() > until) {
			printf("process %d did not end within %d ms of signal %d: killed\n", p,
			       END_MS, sig);
			kill(p, SIGKILL);
			waitpid(p, &status, 0);
			break;
		}
		usleep(2000);
	}
	return status;
}

/* --- daemons -----------------------------------------------------------------------------------
 */

static bool answers(const char *address, const char *path)
{
	struct client *c = client_try(address);
	bool ok = c && get(c, "%s", path) == 200;

	if (c)
		hang_up(c);
	return ok;
}

/* Waits for path to answer 200; fails at once when the daemon ends. */
static void daemon_wait(pid_t *pid, const char *what, const char *address, const char *path)
{
	for (uint64_t until = mono_ms() + START_MS * slowness(); !answers(address, path);
	     usleep(5000)) {
		int status;

		if (waitpid(*pid, &status, WNOHANG) == *pid) {
			*pid = 0;
			fail_msg("%s ended with status %d", what, WEXITSTATUS(status));
		}
		if (mono_ms() > until)
			fail_msg("%s is not ready after %d ms", what, START_MS);
	}
}

void meshd_start(void)
{
	meshd_pid = spawn("meshd", "exec meshd --listen " MESHD_ADDRESS " --socket " MESHD_SOCKET
				   " --state " SCRATCH "/state --config " SCRATCH "/conf.d");
	daemon_wait(&meshd_pid, "meshd", MESHD_ADDRESS, "/health");
}

static void agent_spawn(const char *flags)
{
	char cmd[1024];

	snprintf(cmd, sizeof(cmd),
		 "exec mesh-agent --log-level debug --token-file " SCRATCH "/state/token %s",
		 flags);
	agent_pid = spawn("agent", cmd);
}

void agent_wait(void)
{
	daemon_wait(&agent_pid, "mesh-agent", ADMIN_ADDRESS, "/readyz");
}

long agent_log_size(void)
{
	struct stat st;

	return stat(AGENT_LOG, &st) ? 0 : st.st_size;
}

bool agent_logged(long from, const char *text)
{
	FILE *f = fopen(AGENT_LOG, "re");
	char line[1024];
	bool found = false;

	if (!f)
		return false;
	if (!fseek(f, from, SEEK_SET))
		while (!found && fgets(line, sizeof(line), f))
			found = strstr(line, text);
	fclose(f);
	return found;
}

void agent_start(const char *flags)
{
	agent_spawn(flags);
	agent_wait();
}

pid_t agent_succeed(const char *flags)
{
	pid_t before = agent_pid;

	agent_spawn(flags);
	return before;
}

int meshd_stop(int sig)
{
	return meshd_pid ? reap(&meshd_pid, sig) : 0;
}

static pid_t parent_of(pid_t pid)
{
	char path[64], text[512];
	FILE *f;
	int ppid = 0;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	if (fgets(text, sizeof(text), f) && strrchr(text, ')'))
		(void)sscanf(strrchr(text, ')'), ") %*c %d", &ppid);
	fclose(f);
	return ppid;
}

static bool is_worker(pid_t pid)
{
	static const char wanted[] = "mesh-agent\0worker";
	char path[64], text[sizeof(wanted)] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	(void)!fread(text, 1, sizeof(text), f);
	fclose(f);
	return !memcmp(text, wanted, sizeof(wanted));
}

/* Of that parent; 0: of any. A virtual host sees no processes but its own. */
static int find_workers(pid_t parent, pid_t *pids, int max)
{
	DIR *d = opendir("/proc");
	struct dirent *e;
	int n = 0;

	while (d && (e = readdir(d)) && n < max) {
		pid_t pid = isdigit(e->d_name[0]) ? atoi(e->d_name) : 0;

		if (pid && (!parent || parent_of(pid) == parent) && is_worker(pid))
			pids[n++] = pid;
	}
	if (d)
		closedir(d);
	return n;
}

int agent_workers(pid_t *pids, int max)
{
	return agent_pid ? find_workers(agent_pid, pids, max) : 0;
}

int all_workers(pid_t *pids, int max)
{
	return find_workers(0, pids, max);
}

/* What they accept until they are gone ends with them. */
void workers_kill(void)
{
	pid_t pids[32];
	int n;

	for (uint64_t until = mono_ms() + 5000 * slowness(); (n = all_workers(pids, 32));
	     usleep(2000)) {
		if (mono_ms() > until)
			fail_msg("%d workers cannot be killed", n);
		for (int i = 0; i < n; i++)
			kill(pids[i], SIGKILL);
	}
}

void agent_orphan(void)
{
	reap(&agent_pid, SIGKILL);
}

int agent_stop(int sig)
{
	int status = agent_pid ? reap(&agent_pid, sig) : 0;

	if (sig == SIGKILL)
		workers_kill();
	return status;
}

/* Only where nothing of the machine can be touched: the cgroup2 root that we see must not be the
 * machine's. */
static void require_vhost(void)
{
	char path[PATH_MAX + 16];

	if (cgroup_root(harness_root, sizeof(harness_root)))
		fail_msg("no cgroup2 is mounted");
	snprintf(path, sizeof(path), "%s/cgroup.type", harness_root);
	if (access(path, F_OK))
		fail_msg("not on a virtual host: run this by tests/run.sh e2e");
}

static void set_path(void)
{
	const char *build = getenv("BUILD");
	char real[PATH_MAX], path[PATH_MAX * 3];

	if (!realpath(build && *build ? build : "build", real))
		fail_msg("BUILD=%s: %s", build, strerror(errno));
	snprintf(path, sizeof(path), "%s:%s/tests/bench:%s:/usr/sbin:/sbin", real, real,
		 getenv("PATH"));
	setenv("PATH", path, 1);
}

int harness_start(void **state)
{
	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdout, NULL, _IOLBF, 0);
	net_raise_nofile();
	require_vhost();
	set_path();
	if (mkdir(SCRATCH, 0755) || mkdir(SCRATCH "/conf.d", 0755))
		fail_msg("%s: %s", SCRATCH, strerror(errno));
	failed = true;
	meshd_start();
	agent_start("");
	failed = false;
	return 0;
}

int harness_stop(void **state)
{
	if (failed)
		for (int i = 0; i < nlogs; i++)
			log_show(logs[i].name, 0);
	agent_stop(SIGTERM);
	workers_kill();
	meshd_stop(SIGTERM);
	return 0;
}

/* --- instances ---------------------------------------------------------------------------------
 */

struct instance *instance_start(const char *service, const char *id, const char *flags,
				const char *cmd)
{
	struct instance *i = calloc(1, sizeof(*i));
	char text[4096];

	assert_non_null(i);
	snprintf(i->service, sizeof(i->service), "%s", service);
	snprintf(i->id, sizeof(i->id), "%s", id);
	snprintf(text, sizeof(text), "exec meshctl run --service %s --instance %s %s -- %s",
		 service, id, flags, cmd);
	i->next = instances;
	instances = i;
	i->run = spawn(id, text);
	return i;
}

static const cJSON *find_endpoint(const char *service, const char *id)
{
	char path[128];
	cJSON *s, *e;

	snprintf(path, sizeof(path), "/api/services/%s", service);
	s = api("GET", path, NULL);
	if (api_status != 200 || !s)
		return NULL;
	if (cJSON_GetObjectItemCaseSensitive(s, "services"))
		s = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(s, "services"), 0);
	cJSON_ArrayForEach (e, cJSON_GetObjectItemCaseSensitive(s, "endpoints"))
		if (!id || !strcmp(json_str(e, "id", ""), id))
			return e;
	return NULL;
}

bool registered(const char *service, const char *id)
{
	return find_endpoint(service, id) != NULL;
}

const char *endpoint_status(const char *service, const char *id)
{
	const cJSON *e = find_endpoint(service, id);

	return e ? json_str(e, "status", "") : "";
}

int healthy(const char *service)
{
	cJSON *all = api("GET", "/api/services", NULL), *s, *e;
	int n = 0;

	cJSON_ArrayForEach (s, cJSON_GetObjectItemCaseSensitive(all, "services")) {
		if (strcmp(json_str(s, "name", ""), service))
			continue;
		cJSON_ArrayForEach (e, cJSON_GetObjectItemCaseSensitive(s, "endpoints"))
			n += !strcmp(json_str(e, "status", ""), "healthy");
	}
	return n;
}

struct instance *instance_ready(struct instance *i)
{
	const cJSON *e;

	eventually(10000, (e = find_endpoint(i->service, i->id)) &&
				  !strcmp(json_str(e, "status", ""), "healthy"));
	snprintf(i->ip, sizeof(i->ip), "%s", json_str(e, "address", ""));
	i->port = (int)json_num(e, "port", 0);
	snprintf(i->address, sizeof(i->address), strchr(i->ip, ':') ? "[%s]:%d" : "%s:%d", i->ip,
		 i->port);
	return i;
}

pid_t instance_pid(const struct instance *i)
{
	char path[PATH_MAX + 160];
	FILE *f;
	int pid = 0;

	snprintf(path, sizeof(path), "%s/mesh/%s/%s/cgroup.procs", harness_root, i->service, i->id);
	f = fopen(path, "re");
	if (f) {
		if (fscanf(f, "%d", &pid) != 1)
			pid = 0;
		fclose(f);
	}
	return pid;
}

void instance_kill(struct instance *i)
{
	pid_t pid = instance_pid(i);

	if (!pid)
		fail_msg("%s of %s does not run", i->id, i->service);
	kill(pid, SIGKILL);
	reap(&i->run, 0);
}
