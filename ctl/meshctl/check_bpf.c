/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's programs as the kernel sees them: what is pinned, and that each pinned link's program
 * is among those that run for the agent's cgroup. Another program attached later, or a link to a
 * cgroup that is gone, shows here.
 */
#include "ctl/meshctl/check.h"
#include "lib/cgroup.h"

#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PIN_DIR	      "/sys/fs/bpf/sockmesh"
#define EFFECTIVE_MAX 64
#define DEPTH_MAX     4

static const struct hook {
	enum bpf_attach_type type;
	const char *name;
} hooks[] = {
	{BPF_CGROUP_INET4_CONNECT, "connect4"},
	{BPF_CGROUP_INET6_CONNECT, "connect6"},
	{BPF_CGROUP_INET4_GETPEERNAME, "getpeername4"},
	{BPF_CGROUP_INET6_GETPEERNAME, "getpeername6"},
	{BPF_CGROUP_SOCK_OPS, "sockops"},
};
enum { HOOKS = sizeof(hooks) / sizeof(hooks[0]) };

struct pinned {
	unsigned links;
	__u32 prog[HOOKS]; /* of the pinned link; 0: there is none */
	__u64 cgroup[HOOKS];
};

/* A descriptor of a link; other pinned things are told apart by what /proc calls them. */
static bool is_link(int fd)
{
	char path[64], target[128];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return false;
	target[n] = '\0';
	return strstr(target, "bpf-link") || strstr(target, "bpf_link"); /* newer, older kernels */
}

static void note_link(struct pinned *p, const char *path)
{
	struct bpf_link_info info = {0};
	__u32 len = sizeof(info);
	int fd = bpf_obj_get(path);

	if (fd < 0)
		return;
	if (is_link(fd) && !bpf_obj_get_info_by_fd(fd, &info, &len)) {
		p->links++;
		for (size_t i = 0; i < HOOKS; i++) {
			if (info.type == BPF_LINK_TYPE_CGROUP &&
			    info.cgroup.attach_type == hooks[i].type) {
				p->prog[i] = info.prog_id;
				p->cgroup[i] = info.cgroup.cgroup_id;
			}
		}
	}
	close(fd);
}

static int scan(struct pinned *p, const char *dir, int depth)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	char path[512];

	if (!d)
		return -errno;
	while ((e = readdir(d))) {
		if (e->d_name[0] == '.' ||
		    snprintf(path, sizeof(path), "%s/%s", dir, e->d_name) >= (int)sizeof(path))
			continue;
		if (e->d_type == DT_DIR && depth < DEPTH_MAX)
			scan(p, path, depth + 1);
		else if (e->d_type == DT_REG)
			note_link(p, path);
	}
	closedir(d);
	return 0;
}

static bool effective(int cgroup, enum bpf_attach_type type, __u32 prog)
{
	__u32 ids[EFFECTIVE_MAX], flags = 0, count = EFFECTIVE_MAX;

	if (bpf_prog_query(cgroup, type, BPF_F_QUERY_EFFECTIVE, &flags, ids, &count))
		return false;
	for (__u32 i = 0; i < count; i++)
		if (ids[i] == prog)
			return true;
	return false;
}

static bool check_effective(struct check *c, const struct pinned *p, int cgroup, __u64 id)
{
	char wrong[128] = "", right[128] = "";

	for (size_t i = 0; i < HOOKS; i++) {
		bool ok = p->prog[i] && p->cgroup[i] == id &&
			  effective(cgroup, hooks[i].type, p->prog[i]);
		char *list = ok ? right : wrong;

		strcat(list, list[0] ? ", " : "");
		strcat(list, hooks[i].name);
	}
	if (wrong[0])
		return check_add(c, "programs", CHECK_FAILED,
				 "restart mesh-agent; if it stays, look at bpftool cgroup tree for "
				 "other programs",
				 "not effective on %s: %s", c->cgroup, wrong);
	return check_add(c, "programs", CHECK_PASSED, NULL, "effective on %s: %s", c->cgroup,
			 right);
}

bool check_programs(struct check *c)
{
	struct pinned p = {0};
	uint64_t id;
	int fd, rc = scan(&p, PIN_DIR, 0);
	bool ok;

	if (rc || !p.links)
		return check_add(
			c, "programs", CHECK_FAILED,
			"start mesh-agent on this host; its log says why it did not attach",
			rc ? "nothing is pinned: " PIN_DIR ": %s"
			   : "no link is pinned in " PIN_DIR "%s",
			rc ? strerror(-rc) : "");
	fd = open(c->cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || cgroup_id(c->cgroup, &id)) {
		ok = check_add(c, "programs", CHECK_FAILED,
			       "run meshctl in the same mount namespace as mesh-agent",
			       "cannot open the agent's cgroup %s: %s", c->cgroup, strerror(errno));
	} else {
		ok = check_effective(c, &p, fd, id);
	}
	if (fd >= 0)
		close(fd);
	return ok;
}
