/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attaching, and the proof that it took effect: "attached" is what the kernel says and what a
 * connect() meets, not what was asked for.
 */
#include "agent/kernel/impl.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

const enum bpf_attach_type kernel_attach_types[KL_CGROUP_LINKS] = {
	[KL_SOCKOPS] = BPF_CGROUP_SOCK_OPS,
	[KL_CONNECT4] = BPF_CGROUP_INET4_CONNECT,
	[KL_CONNECT6] = BPF_CGROUP_INET6_CONNECT,
	[KL_GETPEERNAME4] = BPF_CGROUP_INET4_GETPEERNAME,
	[KL_GETPEERNAME6] = BPF_CGROUP_INET6_GETPEERNAME,
};

static int note_program(struct kernel *k, int i, int fd)
{
	struct bpf_prog_info info = {};
	__u32 len = sizeof(info);

	if (bpf_obj_get_info_by_fd(fd, &info, &len) < 0)
		return -errno;
	k->prog_id[i] = info.id;
	return 0;
}

static int make_link(const struct kernel *k, int i, int prog)
{
	int fd = i < KL_CGROUP_LINKS
			 ? bpf_link_create(prog, k->cgroup_fd, kernel_attach_types[i], NULL)
			 : bpf_raw_tracepoint_open(NULL, prog);

	return fd < 0 ? -errno : fd;
}

/* A tracepoint's link takes no other program: the new one is attached beside the old one, which
 * goes when it is pinned in its place. What both do they do once: they take an entry out of a map,
 * or write 0. */
int kernel_attach(struct kernel *k, const int prog[KL_LINKS], char error[KERNEL_ERROR_MAX])
{
	for (int i = 0; i < KL_LINKS; i++) {
		int r = note_program(k, i, prog[i]), fd;

		if (r)
			return kernel_fail(error, r, "cannot read back %s: %s",
					   kernel_link_names[i], strerror(-r));
		fd = i < KL_CGROUP_LINKS ? kernel_adopt_link(k, i, prog[i]) : -ENOENT;
		k->link_is_new[i] = fd < 0;
		if (fd < 0)
			fd = make_link(k, i, prog[i]);
		if (fd < 0)
			return kernel_fail(error, fd,
					   "cannot attach %s to %s: %s; another program may forbid "
					   "it (bpftool cgroup tree)",
					   kernel_link_names[i], k->cgroup, strerror(-fd));
		k->link[i] = fd;
	}
	return 0;
}

static bool is_effective(const struct kernel *k, int i)
{
	__u32 ids[64], n = 64;

	if (bpf_prog_query(k->cgroup_fd, kernel_attach_types[i], BPF_F_QUERY_EFFECTIVE, NULL, ids,
			   &n) < 0)
		return false;
	for (__u32 j = 0; j < n && j < 64; j++)
		if (ids[j] == k->prog_id[i])
			return true;
	return false;
}

/* What a connect() to the reserved address says: an errno. */
static int probe_connect(void)
{
	struct sockaddr_in to = {
		.sin_family = AF_INET,
		.sin_port = htons(MESH_PROBE_PORT),
		.sin_addr.s_addr = htonl(MESH_PROBE_IP4),
	};
	int s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), r;

	if (s < 0)
		return errno;
	r = connect(s, (struct sockaddr *)&to, sizeof(to)) < 0 ? errno : 0;
	close(s);
	return r;
}

/* In the child: from inside `procs`' cgroup. */
static int probe_from(const char *procs)
{
	int fd = open(procs, O_WRONLY | O_CLOEXEC);

	return fd < 0 || write(fd, "0", 1) != 1 ? errno : probe_connect();
}

bool kernel_sees_us(void)
{
	int r = probe_connect();

	return r == MESH_PROBE_UNKNOWN || r == MESH_PROBE_MANAGED;
}

/* Returns what the probe met: an errno, or -errno when it could not be made. */
static int run_probe(const struct kernel *k)
{
	char dir[PATH_MAX + 32], procs[PATH_MAX + 64];
	int status, r;
	pid_t pid;

	snprintf(dir, sizeof(dir), "%s/mesh-probe-%d", k->cgroup, getpid());
	snprintf(procs, sizeof(procs), "%s/cgroup.procs", dir);
	if (mkdir(dir, 0755) < 0 && errno != EEXIST)
		return -errno;
	pid = fork();
	if (pid == 0)
		_exit(probe_from(procs));
	if (pid < 0) {
		r = -errno;
	} else {
		while ((r = waitpid(pid, &status, 0)) < 0 && errno == EINTR)
			;
		if (r < 0)
			r = -errno;
		else
			r = WIFEXITED(status) ? WEXITSTATUS(status) : -EINTR;
	}
	rmdir(dir);
	return r;
}

int kernel_verify(struct kernel *k, char error[KERNEL_ERROR_MAX])
{
	int r;

	for (int i = 0; i < KL_CGROUP_LINKS; i++)
		if (!is_effective(k, i))
			return kernel_fail(error, -ENOTCONN,
					   "%s is attached to %s but not effective there",
					   kernel_link_names[i], k->cgroup);
	r = run_probe(k);
	if (r == MESH_PROBE_UNKNOWN || r == MESH_PROBE_MANAGED)
		return 0;
	if (r < 0)
		return kernel_fail(error, r, "cannot probe the hooks in a cgroup under %s: %s",
				   k->cgroup, strerror(-r));
	return kernel_fail(error, -ENOTCONN,
			   "a connect() under %s does not meet the hook (it got: %s)", k->cgroup,
			   strerror(r));
}
