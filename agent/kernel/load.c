/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loading: from the skeleton to descriptors. libbpf's object is thrown away as soon as everything
 * is loaded: what stays are descriptors and mapped arrays, so that an idle supervisor stays small.
 */
#include "agent/kernel/impl.h"
#include "agent/kernel/splice.h"
#include "lib/cgroup.h"

#include "bpf/mesh.skel.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *const kernel_map_names[KM_MAPS] = {
	[KM_CTL] = "ctl",
	[KM_UPSTREAMS] = "upstreams",
	[KM_SLOTS] = "slots",
	[KM_ENDPOINTS] = "endpoints",
	[KM_EP_STATS] = "ep_stats",
	[KM_EP_INFLIGHT] = "ep_inflight",
	[KM_UP_STATS] = "up_stats",
	[KM_SVC_STATS] = "svc_stats",
	[KM_SVC_INFLIGHT] = "svc_inflight",
	[KM_EDGES] = "edges",
	[KM_BEATS] = "beats",
	[KM_ORIGDST] = "origdst",
	[KM_WORKLOADS] = "workloads",
	[KM_DESTS] = "dests",
	[KM_NETNS] = "netns",
	[KM_LISTENERS] = "listeners",
	[KM_EVENTS] = "events",
	[KM_COUNTERS] = "counters",
	[KM_SERVICES] = "services",
	[KM_REFUSALS] = "refusals",
	[KM_REACH] = "reach",
	[KM_SOCKETS] = "sockets",
	[KM_SPLICE_SOCKS] = "splice_socks",
	[KM_SPLICE_PAIRS] = "splice_pairs",
	[KM_SPLICE_ENDS] = "splice_ends",
	[KM_SPLICE_CTL] = "splice_ctl",
	[KM_SPLICE_STEER] = "splice_steer",
	[KM_SPLICE_TASKS] = "splice_tasks",
	[KM_SPLICE_STYLE] = "splice_style",
	[KM_ACCEL] = "accel",
	[KM_SPLICERS] = "splicers",
	[KM_SPLICED] = "spliced",
	[KM_WORKER_TASKS] = "worker_tasks",
	[KM_NAMES] = "names",
	[KM_COVERAGE] = "coverage",
	[KM_STRANGERS] = "strangers",
	[KM_ESCAPES] = "escapes",
};

const char *const kernel_link_names[KL_LINKS] = {
	[KL_SOCKOPS] = "mesh_sockops",
	[KL_CONNECT4] = "mesh_connect4",
	[KL_CONNECT6] = "mesh_connect6",
	[KL_GETPEERNAME4] = "mesh_getpeername4",
	[KL_GETPEERNAME6] = "mesh_getpeername6",
	[KL_SET_STATE] = "mesh_set_state",
	[KL_EXIT] = "mesh_exit",
	[KL_NOTICE] = "mesh_notice",
	[KL_KILL] = "mesh_kill",
};

int kernel_fail(char error[KERNEL_ERROR_MAX], int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(error, KERNEL_ERROR_MAX, fmt, ap);
	va_end(ap);
	return err;
}

/* libbpf's own words: warnings only, into a buffer of which the first line is shown. */
static char *libbpf_words;

static int keep_first_warning(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	if (level == LIBBPF_WARN && libbpf_words && !*libbpf_words) {
		vsnprintf(libbpf_words, KERNEL_ERROR_MAX, fmt, ap);
		libbpf_words[strcspn(libbpf_words, "\n")] = 0;
	}
	return 0;
}

/* Our own copies of the object's descriptors: closing the object closes its own. */
static int take_maps(struct kernel *k, struct bpf_object *obj)
{
	for (int i = 0; i < KM_MAPS; i++) {
		int fd = bpf_object__find_map_fd_by_name(obj, kernel_map_names[i]);

		if (fd < 0)
			return fd;
		k->map[i] = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		if (k->map[i] < 0)
			return -errno;
	}
	return 0;
}

static int find_programs(struct bpf_object *obj, int prog[KL_LINKS])
{
	for (int i = 0; i < KL_LINKS; i++) {
		struct bpf_program *p = bpf_object__find_program_by_name(obj, kernel_link_names[i]);

		if (!p)
			return -ENOENT;
		prog[i] = bpf_program__fd(p);
	}
	return 0;
}

/* Kept, unlike the others' descriptors: they are attached when splice is switched on. */
static int take_splice(struct kernel *k, struct bpf_object *obj)
{
	for (int i = 0; i < KS_PROGS; i++) {
		struct bpf_program *p =
			bpf_object__find_program_by_name(obj, kernel_splice_names[i]);

		if (!p)
			return -ENOENT;
		if (!bpf_program__autoload(p))
			continue;
		k->splice[i] = fcntl(bpf_program__fd(p), F_DUPFD_CLOEXEC, 3);
		if (k->splice[i] < 0)
			return -errno;
	}
	return 0;
}

/* A second descriptor of the map that cannot write: what a worker may keep. */
static int open_read_only(int fd)
{
	LIBBPF_OPTS(bpf_get_fd_by_id_opts, opts, .open_flags = BPF_F_RDONLY);
	struct bpf_map_info info = {};
	__u32 len = sizeof(info);

	if (bpf_obj_get_info_by_fd(fd, &info, &len) < 0)
		return -errno;
	fd = bpf_map_get_fd_by_id_opts(info.id, &opts);
	return fd < 0 ? -errno : fd;
}

static int use_object(struct kernel *k, struct bpf_object *obj, char error[KERNEL_ERROR_MAX])
{
	int prog[KL_LINKS], r;

	r = take_maps(k, obj);
	if (!r)
		r = find_programs(obj, prog);
	if (!r)
		r = take_splice(k, obj);
	if (!r)
		r = k->origdst_ro = open_read_only(k->map[KM_ORIGDST]);
	if (r >= 0)
		r = kernel_map_arrays(k);
	if (r < 0)
		return kernel_fail(error, r, "cannot use the BPF maps: %s", strerror(-r));
	k->arrays.ctl->abi = MESH_ABI_VERSION;
	if (k->adopted)
		kernel_count_adopted(k);
	return kernel_attach(k, prog, error);
}

/* k: NULL: with maps of their own. */
static int open_and_load(struct kernel *k, struct mesh_bpf **out, char error[KERNEL_ERROR_MAX])
{
	char words[KERNEL_ERROR_MAX] = "";
	struct mesh_bpf *skel;
	int r;

	libbpf_words = words;
	libbpf_set_print(keep_first_warning);
	skel = mesh_bpf__open();
	r = skel ? 0 : -errno;
	if (!r && k)
		r = kernel_adopt_maps(k, skel->obj);
	if (r == 1)
		k->adopted = true;
	if (r >= 0)
		r = mesh_bpf__load(skel);
	libbpf_words = NULL;
	if (!r) {
		*out = skel;
		return 0;
	}
	mesh_bpf__destroy(skel);
	return kernel_fail(error, r,
			   "cannot load the BPF programs: %s (%.150s); `meshctl check --pre` says "
			   "what this kernel lacks",
			   strerror(-r), words);
}

static int load(struct kernel *k, char error[KERNEL_ERROR_MAX])
{
	struct mesh_bpf *skel;
	int r = open_and_load(k, &skel, error);

	if (r)
		return r;
	if (!k->adopted)
		r = kernel_pins_aside(k, error);
	if (!r)
		r = use_object(k, skel->obj, error);
	mesh_bpf__destroy(skel);
	malloc_trim(0);
	return r;
}

int kernel_try(char error[KERNEL_ERROR_MAX])
{
	struct mesh_bpf *skel;
	int r = open_and_load(NULL, &skel, error);

	if (!r)
		mesh_bpf__destroy(skel);
	return r;
}

static int open_cgroup(struct kernel *k, const char *path, char error[KERNEL_ERROR_MAX])
{
	int r;

	if (path)
		r = snprintf(k->cgroup, sizeof(k->cgroup), "%s", path) < (int)sizeof(k->cgroup)
			    ? 0
			    : -ENAMETOOLONG;
	else
		r = cgroup_root(k->cgroup, sizeof(k->cgroup));
	if (r)
		return kernel_fail(
			error, r,
			"no cgroup2 found: mount it (mount -t cgroup2 none /sys/fs/cgroup)");
	r = cgroup_id(k->cgroup, &k->cgroup_id);
	if (r)
		return kernel_fail(error, r,
				   "%s is not a cgroup2 directory: give one with --cgroup",
				   k->cgroup);
	k->cgroup_fd = open(k->cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (k->cgroup_fd < 0)
		return kernel_fail(error, -errno, "cannot open the cgroup %s: %s", k->cgroup,
				   strerror(errno));
	return 0;
}

static struct kernel *kernel_new(const struct kernel_config *cfg)
{
	struct kernel *k = calloc(1, sizeof(*k));

	if (!k)
		return NULL;
	snprintf(k->pin_dir, sizeof(k->pin_dir), "%s",
		 cfg->pin_dir ? cfg->pin_dir : KERNEL_PIN_DIR);
	k->cgroup_fd = k->pin_fd = k->origdst_ro = k->watch.fd = -1;
	memset(k->map, -1, sizeof(k->map));
	memset(k->link, -1, sizeof(k->link));
	memset(k->splice, -1, sizeof(k->splice));
	return k;
}

static void close_all(int *fd, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (fd[i] >= 0)
			close(fd[i]);
}

void kernel_leave(struct kernel **kp)
{
	struct kernel *k = *kp;

	if (!k)
		return;
	kernel_events_stop(k);
	close_all(&k->pin_fd, 1);
	close_all(k->link, KL_LINKS);
	close_all(k->splice, KS_PROGS);
	kernel_unmap_arrays(k);
	close_all(k->map, KM_MAPS);
	close_all(&k->origdst_ro, 1);
	close_all(&k->cgroup_fd, 1);
	free(k->counted);
	free(k);
	*kp = NULL;
}

void kernel_close(struct kernel **kp)
{
	char error[KERNEL_ERROR_MAX]; /* going off has none to report */
	struct kernel *k = *kp;

	if (!k)
		return;
	if (k->map[KM_SPLICE_CTL] >= 0)
		kernel_splice_set(k, &(struct mesh_splice_ctl){.mode = MESH_SPLICE_OFF}, error);
	kernel_unpin(k);
	kernel_leave(kp);
}

/* What was there before us stays as it is. */
static void give_up(struct kernel **k)
{
	kernel_pins_undo(*k);
	kernel_leave(k);
}

int kernel_open(const struct kernel_config *cfg, struct kernel **out, char error[KERNEL_ERROR_MAX])
{
	struct kernel *k = kernel_new(cfg);
	int r;

	if (!k)
		return kernel_fail(error, -ENOMEM, "out of memory");
	r = open_cgroup(k, cfg->cgroup, error);
	if (!r)
		r = kernel_mount_bpffs(error);
	if (!r)
		r = kernel_pins_lock(k, error);
	if (!r)
		r = load(k, error);
	if (!r)
		r = kernel_pin(k, error);
	if (!r)
		r = kernel_verify(k, error);
	if (r) {
		give_up(&k);
		return r;
	}
	*out = k;
	return 0;
}

const char *kernel_cgroup(const struct kernel *k)
{
	return k->cgroup;
}
