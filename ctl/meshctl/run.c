/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meshctl run: starts a program as an instance of a service. The parent makes the cgroup (and the
 * network namespace), waits, and tidies up. The child enters the cgroup and re-executes meshctl
 * there as `__exec`, because a process shows the environment that it was executed with: now the
 * agent can read MESH_*. Then it waits until the agent captures its connections, and becomes the
 * program.
 */
#include "ctl/meshctl/meshctl.h"
#include "ctl/meshctl/run_netns.h"
#include "ctl/meshctl/text.h"
#include "ctl/meshctl/run_cgroup.h"
#include "lib/cgroup.h"
#include "lib/name.h"
#include "lib/weight.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define READY_WITHIN_MS 5000

static const char *opt_service, *opt_instance, *opt_version, *opt_port, *opt_protocol, *opt_root,
	*opt_weight;
static bool opt_netns;

const struct option_spec run_options[] = {
	{"service", 's', "NAME", NULL, "the service that this is an instance of (needed)",
	 &opt_service, NULL},
	{"instance", 'i', "NAME", NULL, "its name, default SERVICE-PID", &opt_instance, NULL},
	{"version", 0, "NAME", "v1", "its version", &opt_version, NULL},
	{"port", 'p', "PORT", NULL, "its primary port; default: the lowest that it listens on",
	 &opt_port, NULL},
	{"protocol", 0, "NAME", NULL, "auto, http or tcp; default auto", &opt_protocol, NULL},
	{"weight", 0, "N", NULL, "its share beside the other instances, 1 to 1000; default 100",
	 &opt_weight, NULL},
	{"cgroup", 0, "ROOT", NULL, "where the cgroup is made; default: the cgroup2 root",
	 &opt_root, NULL},
	{"netns", 0, NULL, NULL, "its own network namespace on the bridge mesh0", NULL, &opt_netns},
	{0},
};

struct run {
	char instance[NAME_LEN_MAX + 1];
	char root[PATH_MAX];
	struct run_cgroup cgroup;
	struct run_netns netns;
	sigset_t ours, before; /* signals that we wait for; the mask that the program is to get */
};

static int check_names(struct cli *cli, struct run *r)
{
	uint64_t port;

	if (!opt_service)
		return cli_usage(
			cli, "--service NAME is missing: which service is this an instance of?");
	if (opt_instance)
		snprintf(r->instance, sizeof(r->instance), "%s", opt_instance);
	else
		snprintf(r->instance, sizeof(r->instance), "%.48s-%d", opt_service, getpid());
	if (!run_cgroup_name_valid(opt_service) || !name_valid(opt_version) ||
	    (opt_instance && !run_cgroup_name_valid(opt_instance)))
		return cli_usage(cli, "service, instance and version are " NAME_WHAT
				      ", and not with \"cgroup.\"");
	if (opt_port && text_number(opt_port, 1, 65535, &port))
		return cli_usage(cli, "--port %s: a port is a number from 1 to 65535", opt_port);
	if (opt_protocol && strcmp(opt_protocol, "auto") && strcmp(opt_protocol, "http") &&
	    strcmp(opt_protocol, "tcp"))
		return cli_usage(cli, "--protocol %s: auto, http or tcp", opt_protocol);
	if (opt_weight && !weight_parse(opt_weight))
		return cli_usage(cli, "--weight %s: a weight is " WEIGHT_WHAT, opt_weight);
	return EXIT_OK;
}

static int fail_cgroup(const struct run *r, int rc)
{
	switch (rc) {
	case -EBUSY:
		return cli_fail(
			"instance %s of %s is already running in %s/mesh/%s/%s; choose another "
			"--instance, or end it (echo 1 > .../cgroup.kill)",
			r->instance, opt_service, r->root, opt_service, r->instance);
	case -EINVAL:
		return cli_fail("%s is not on a cgroup2 file system; name a directory that is with "
				"--cgroup",
				r->root);
	case -EACCES:
	case -EPERM:
	case -EROFS:
		return cli_fail("cannot make the cgroup %s/mesh/%s/%s: %s; run as root, or name a "
				"cgroup that is yours with --cgroup",
				r->root, opt_service, r->instance, strerror(-rc));
	}
	return cli_fail("cannot make the cgroup %s/mesh/%s/%s: %s", r->root, opt_service,
			r->instance, strerror(-rc));
}

static const int forwarded[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};

/* From the beginning: a signal must not end us between making something and removing it. */
static void block_signals(sigset_t *ours, sigset_t *before)
{
	signal(SIGCHLD, SIG_DFL); /* ignored by whoever started us, waitpid would find nothing */
	sigemptyset(ours);
	sigaddset(ours, SIGCHLD);
	for (size_t i = 0; i < sizeof(forwarded) / sizeof(forwarded[0]); i++)
		sigaddset(ours, forwarded[i]);
	sigprocmask(SIG_BLOCK, ours, before);
}

/* A signal that came while there was no child to pass it on to: the number of one that ends, or 0.
 */
static int ended_by_signal(void)
{
	static const int ending[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT};
	sigset_t pending;

	sigpending(&pending);
	for (size_t i = 0; i < sizeof(ending) / sizeof(ending[0]); i++)
		if (sigismember(&pending, ending[i]) == 1)
			return ending[i];
	return 0;
}

static int prepare(struct cli *cli, struct run *r)
{
	char error[NETNS_ERROR_MAX];
	int rc;

	if (opt_root)
		snprintf(r->root, sizeof(r->root), "%s", opt_root);
	else if (cgroup_root(r->root, sizeof(r->root)))
		return cli_fail("no cgroup2 is mounted; mount it: mount -t cgroup2 none "
				"/sys/fs/cgroup");
	rc = run_cgroup_create(&r->cgroup, r->root, opt_service, r->instance);
	if (rc)
		return fail_cgroup(r, rc);
	if (!opt_netns)
		return EXIT_OK;
	if (run_netns_create(&r->netns, opt_service, r->instance, error))
		return cli_fail("cannot make a network namespace for %s: %s%s", r->instance, error,
				geteuid() ? " (needs root)" : "");
	if (cli->verbose)
		fprintf(stderr, "meshctl: network namespace %s, address %s%s%s\n", r->netns.name,
			r->netns.address, *r->netns.address6 ? ", " : "", r->netns.address6);
	return EXIT_OK;
}

static int set_environment(const struct run *r)
{
	int rc = setenv("MESH_SERVICE", opt_service, 1) | setenv("MESH_INSTANCE", r->instance, 1) |
		 setenv("MESH_VERSION", opt_version, 1);

	/* Nothing of a mesh program that runs us may leak into what we run. */
	rc |= opt_port ? setenv("MESH_PORT", opt_port, 1) : unsetenv("MESH_PORT");
	rc |= opt_protocol ? setenv("MESH_PROTOCOL", opt_protocol, 1) : unsetenv("MESH_PROTOCOL");
	rc |= opt_weight ? setenv("MESH_WEIGHT", opt_weight, 1) : unsetenv("MESH_WEIGHT");
	rc |= r->netns.name[0] ? setenv("MESH_ADDRESS", r->netns.address, 1)
			       : unsetenv("MESH_ADDRESS");
	return rc ? -ENOMEM : 0;
}

static int enter_netns(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), rc;

	if (fd < 0)
		return -errno;
	rc = setns(fd, CLONE_NEWNET) ? -errno : 0;
	close(fd);
	return rc;
}

static int enter_cgroup(const char *path)
{
	char procs[PATH_MAX];
	int fd, rc;

	if (snprintf(procs, sizeof(procs), "%s/cgroup.procs", path) >= PATH_MAX)
		return -ENAMETOOLONG;
	fd = open(procs, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	rc = write(fd, "0", 1) == 1 ? 0 : -errno;
	close(fd);
	return rc;
}

/* Before the exec: what is in the cgroup may be silent for a moment, but what says MESH_SERVICE
 * must be in it. */
static void enter_or_exit(const struct run *r)
{
	int rc = r->netns.name[0] ? enter_netns(r->netns.path) : 0;

	if (rc) {
		cli_fail("cannot enter the network namespace %s: %s", r->netns.path, strerror(-rc));
		_exit(126);
	}
	rc = enter_cgroup(r->cgroup.path);
	if (rc) {
		cli_fail("cannot enter the cgroup %s: %s", r->cgroup.path, strerror(-rc));
		_exit(126);
	}
}

static void say_or_warn(const struct cli *cli, const struct run *r)
{
	int rc = run_cgroup_say(&r->cgroup);

	if (rc)
		fprintf(stderr,
			"meshctl: warning: cannot write %s of %s: %s; if %s overwrites its "
			"environment, an agent that starts anew takes it for v1\n",
			CGROUP_SAID, r->cgroup.path, strerror(-rc), cli->argv[0]);
}

/* In the child; the process is single-threaded. */
static void become_exec(struct cli *cli, struct run *r, pid_t parent)
{
	char **argv = calloc(cli->argc + 5, sizeof(*argv));
	int n = 0;

	if (!argv || set_environment(r)) {
		cli_fail("out of memory");
		_exit(126);
	}
	say_or_warn(cli, r);
	argv[n++] = "meshctl";
	argv[n++] = "__exec";
	argv[n++] = "--";
	argv[n++] = r->cgroup.path;
	for (int i = 0; i < cli->argc; i++)
		argv[n++] = cli->argv[i];
	/* meshctl gone by SIGKILL: the program would run on unwatched, in a cgroup that nobody
	 * removes. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(126);
	enter_or_exit(r);
	sigprocmask(SIG_SETMASK, &r->before, NULL);
	execv("/proc/self/exe", argv);
	cli_fail("cannot execute myself (/proc/self/exe): %s", strerror(errno));
	_exit(126);
}

/* Waits for the child and passes signals on. Returns its wait status or -errno. */
static int attend(pid_t child, const sigset_t *ours)
{
	int status;

	for (;;) {
		siginfo_t info;
		int sig;
		pid_t got = waitpid(child, &status, WNOHANG);

		if (got == child)
			return status;
		if (got < 0)
			return -errno;
		sig = sigwaitinfo(ours, &info);
		/* A terminal's signal (SI_KERNEL) has gone to the whole process group, the child
		 * included. */
		if (sig > 0 && sig != SIGCHLD && info.si_code != SI_KERNEL)
			kill(child, sig);
	}
}

static void clean_up(struct run *r)
{
	char error[NETNS_ERROR_MAX], path[PATH_MAX];
	int rc;

	snprintf(path, sizeof(path), "%s", r->cgroup.path);
	rc = run_cgroup_destroy(&r->cgroup);
	if (rc)
		cli_fail("cannot remove the cgroup %s: %s; rmdir it when its processes are gone",
			 path, strerror(-rc));
	if (run_netns_destroy(&r->netns, error))
		cli_fail("cannot remove the network namespace of %s: %s", r->instance, error);
}

static int start_and_attend(struct cli *cli, struct run *r)
{
	pid_t parent = getpid(), child;
	int status = ended_by_signal();

	if (status)
		return 128 + status;
	child = fork();
	if (!child)
		become_exec(cli, r, parent);
	if (child < 0)
		return cli_fail("cannot fork: %s", strerror(errno));
	if (cli->verbose)
		fprintf(stderr, "meshctl: %s runs as %s of %s %s, pid %d, in %s\n", cli->argv[0],
			r->instance, opt_service, opt_version, child, r->cgroup.path);
	status = attend(child, &r->ours);
	if (status < 0)
		return cli_fail("cannot wait for %s: %s", cli->argv[0], strerror(-status));
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

void run_forget_outer(void)
{
	static const char *const names[] = {"MESH_SERVICE", "MESH_INSTANCE", "MESH_VERSION",
					    "MESH_PORT",    "MESH_PROTOCOL", "MESH_WEIGHT",
					    "MESH_ADDRESS"};
	const char *service = getenv("MESH_SERVICE"), *instance = getenv("MESH_INSTANCE");

	if (!service || !instance || !run_cgroup_inside(service, instance))
		return;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		unsetenv(names[i]);
}

int cmd_run(struct cli *cli)
{
	struct run *r;
	int rc;

	r = calloc(1, sizeof(*r));
	if (!r)
		return cli_fail("out of memory");
	rc = check_names(cli, r);
	block_signals(&r->ours, &r->before);
	if (rc == EXIT_OK)
		rc = prepare(cli, r);
	if (rc == EXIT_OK)
		rc = start_and_attend(cli, r);
	clean_up(r);
	free(r);
	return rc;
}

/* meshctl __exec CGROUP CMD... Returns like env(1) and timeout(1): 127 not found, 126 not
 * executable. */
int cmd_exec(struct cli *cli)
{
	const char *cgroup = cli->argv[0];
	char **command = cli->argv + 1;
	int rc = run_cgroup_wait_ready(cgroup, READY_WITHIN_MS);

	if (rc)
		cli_fail("warning: no mesh-agent took notice of %s (%s): %s starts without the "
			 "mesh; see `meshctl check`",
			 cgroup, rc == -ETIMEDOUT ? "within 5 s" : strerror(-rc), command[0]);
	execvp(command[0], command);
	rc = errno;
	cli_fail("cannot run %s: %s", command[0], strerror(rc));
	return rc == ENOENT ? 127 : 126;
}
