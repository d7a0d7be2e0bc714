/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs tests/bench/floor.bpf.c on a cgroup until it is told to end: what any implementation could
 * reach on this kernel and machine, since it does nothing but the redirect itself. No flow control,
 * no order, no proof of who is who: for measuring, never for use. Modes:
 *
 *   pass       each message goes by TCP: what it costs to be in a map of sockets at all
 *   redirect   each message goes into the queue of the socket at the other end
 *   verdict    the same, and TCP's bytes pass through the same queue
 *
 * Called by part_floor.sh, in a virtual host. The root cgroup of a machine is refused.
 */
#include "lib/options.h"

#include "bpf/floor.skel.h"
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *opt_cgroup, *opt_mode;
static const struct option_spec options[] = {
	{"cgroup", 0, "DIR", NULL, "whose connections skip TCP from now on", &opt_cgroup},
	{"mode", 'm', "NAME", "redirect", "pass, redirect or verdict", &opt_mode},
	{0},
};
static const struct program program = {"floor", "--cgroup DIR [--mode NAME]",
				       "the least that skipping TCP costs", options};

/* A cgroup, or -errno. The root of all has no cgroup.events. */
static int open_cgroup(void)
{
	int fd = open(opt_cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;

	if (fd < 0)
		return -errno;
	if (faccessat(fd, "cgroup.events", R_OK, 0) < 0) {
		r = -errno;
		close(fd);
	}
	return r ? r : fd;
}

/* 0 or -errno. */
static int attach(struct floor_bpf *s, int cgroup)
{
	const bool pass = !strcmp(opt_mode, "pass"), verdict = !strcmp(opt_mode, "verdict");
	int map = bpf_map__fd(s->maps.floor_socks), r;

	r = bpf_prog_attach(bpf_program__fd(pass ? s->progs.floor_pass : s->progs.floor_redirect),
			    map, BPF_SK_MSG_VERDICT, 0);
	if (!r && verdict)
		r = bpf_prog_attach(bpf_program__fd(s->progs.floor_verdict), map,
				    BPF_SK_SKB_STREAM_VERDICT, 0);
	if (r)
		return r;
	s->links.floor_enrol = bpf_program__attach_cgroup(s->progs.floor_enrol, cgroup);
	return s->links.floor_enrol ? 0 : -errno;
}

int main(int argc, char **argv)
{
	struct floor_bpf *s = NULL;
	sigset_t end;
	int cgroup, r, sig;

	(void)options_parse(&program, argc, argv);
	if (!opt_cgroup || (strcmp(opt_mode, "pass") && strcmp(opt_mode, "redirect") &&
			    strcmp(opt_mode, "verdict")))
		options_usage(&program, "--cgroup is missing, or --mode none of the three");
	sigemptyset(&end);
	sigaddset(&end, SIGTERM);
	sigaddset(&end, SIGINT);
	sigprocmask(SIG_BLOCK, &end, NULL);
	cgroup = r = open_cgroup();
	if (r >= 0) {
		s = floor_bpf__open_and_load();
		r = s ? attach(s, cgroup) : -errno;
	}
	if (r) {
		fprintf(stderr, "floor: %s: %s\n", opt_cgroup, strerror(-r));
	} else {
		puts("ready");
		fflush(stdout);
		sigwait(&end, &sig);
	}
	floor_bpf__destroy(s);
	if (cgroup >= 0)
		close(cgroup);
	return r ? 1 : 0;
}
