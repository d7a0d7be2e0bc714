/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this machine must have, checked one by one without loading anything of ours: used by the
 * agent before it starts and by `meshctl check --pre`. Each line of the answer can be acted upon.
 */
#include "agent/kernel/impl.h"
#include "lib/cgroup.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

struct list {
	struct kernel_check *out;
	size_t n;
};

static void add(struct list *l, const char *name, const char *missing, const char *remedy)
{
	struct kernel_check *c = &l->out[l->n++];

	c->name = name;
	c->ok = !missing;
	snprintf(c->missing, sizeof(c->missing), "%s", missing ? missing : "");
	c->remedy = missing ? remedy : "";
}

static bool has_capability(unsigned cap)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {};

	if (syscall(SYS_capget, &head, data) < 0)
		return false;
	return data[cap / 32].effective & 1u << cap % 32;
}

static void check_privileges(struct list *l)
{
	static const struct {
		unsigned cap;
		const char *without;
	} needed[] = {
		{CAP_SYS_ADMIN, "CAP_SYS_ADMIN is missing"},
		{CAP_NET_ADMIN, "CAP_NET_ADMIN is missing"},
		{CAP_SYS_PTRACE, "CAP_SYS_PTRACE is missing"},
		{CAP_SETUID, "CAP_SETUID is missing"},
		{CAP_SETGID, "CAP_SETGID is missing"},
	};
	const char *missing = NULL;

	for (size_t i = 0; !missing && i < sizeof(needed) / sizeof(needed[0]); i++)
		if (!has_capability(needed[i].cap))
			missing = needed[i].without;
	add(l, "privileges", missing, "run as root (in a container: --privileged)");
}

static void check_release(struct list *l)
{
	unsigned major = 0, minor = 0;
	char missing[64];
	struct utsname u;
	bool old;

	old = uname(&u) < 0 || sscanf(u.release, "%u.%u", &major, &minor) != 2 || major < 6 ||
	      (major == 6 && minor < 1);
	snprintf(missing, sizeof(missing), "this is Linux %u.%u", major, minor);
	add(l, "kernel", old ? missing : NULL, "use Linux 6.1 or newer");
}

static void check_cgroup(struct list *l, const char *cgroup)
{
	char root[PATH_MAX], missing[96];
	uint64_t id;

	if (cgroup_root(root, sizeof(root))) {
		add(l, "cgroup2", "no cgroup2 is mounted", "mount -t cgroup2 none /sys/fs/cgroup");
		return;
	}
	snprintf(missing, sizeof(missing), "%.60s is not a cgroup2 directory",
		 cgroup ? cgroup : root);
	add(l, "cgroup2", cgroup_id(cgroup ? cgroup : root, &id) ? missing : NULL,
	    "give one with --cgroup");
}

static void check_bpffs(struct list *l)
{
	struct statfs fs;
	bool there = statfs("/sys/fs/bpf", &fs) == 0;

	add(l, "bpffs", there ? NULL : "/sys/fs/bpf does not exist",
	    "mount sysfs at /sys; the kernel needs CONFIG_BPF_SYSCALL");
}

/* Not by libbpf's own probe, which tries fentry: kernels without that have tp_btf all the same. */
static bool has_tp_btf(void)
{
	static const struct bpf_insn nothing[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0},
		{.code = BPF_JMP | BPF_EXIT},
	};
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = BPF_TRACE_RAW_TP);
	int id = libbpf_find_vmlinux_btf_id("inet_sock_set_state", BPF_TRACE_RAW_TP), fd;

	if (id < 0)
		return false;
	opts.attach_btf_id = (__u32)id;
	fd = bpf_prog_load(BPF_PROG_TYPE_TRACING, "mesh_probe", "GPL", nothing, 2, &opts);
	if (fd < 0)
		return false;
	close(fd);
	return true;
}

static void check_bpf(struct list *l)
{
	static const struct {
		enum bpf_prog_type type;
		const char *name;
	} types[] = {
		{BPF_PROG_TYPE_CGROUP_SOCK_ADDR, "BPF cgroup/connect"},
		{BPF_PROG_TYPE_SOCK_OPS, "BPF sockops"},
	};
	static const struct {
		enum bpf_map_type type;
		const char *name;
	} maps[] = {{BPF_MAP_TYPE_SK_STORAGE, "BPF socket storage"},
		    {BPF_MAP_TYPE_RINGBUF, "BPF ring buffer"}};
	const char *remedy =
		"the kernel needs CONFIG_BPF_SYSCALL, CONFIG_CGROUP_BPF and CONFIG_BPF_EVENTS";

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		add(l, types[i].name,
		    libbpf_probe_bpf_prog_type(types[i].type, NULL) == 1
			    ? NULL
			    : "the kernel refuses such a program",
		    remedy);
	add(l, "BPF tp_btf", has_tp_btf() ? NULL : "the kernel refuses such a program", remedy);
	for (size_t i = 0; i < sizeof(maps) / sizeof(maps[0]); i++)
		add(l, maps[i].name,
		    libbpf_probe_bpf_map_type(maps[i].type, NULL) == 1
			    ? NULL
			    : "the kernel refuses such a map",
		    remedy);
}

static int quiet(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	return 0;
}

size_t kernel_qualify(const char *cgroup, struct kernel_check out[KERNEL_CHECKS])
{
	struct list l = {.out = out};

	libbpf_set_print(quiet);
	check_privileges(&l);
	check_release(&l);
	add(&l, "BTF",
	    access("/sys/kernel/btf/vmlinux", R_OK) ? "/sys/kernel/btf/vmlinux is not there" : NULL,
	    "use a kernel with CONFIG_DEBUG_INFO_BTF");
	check_cgroup(&l, cgroup);
	check_bpffs(&l);
	if (out[0].ok)
		check_bpf(&l);
	return l.n;
}
