/* SPDX-License-Identifier: Apache-2.0 */
/* See qualify_rig.h. */
#include "agent/kernel/qualify_rig.h"

#include "bpf/trial.skel.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ENTRIES 512 /* of any map here, at most */

struct rig {
	struct trial_bpf *skel;
	int link;
	bool verdict; /* its program is on the map */
	struct mesh_splice_ctl ctl;
};

/* libbpf's own words are not for the log: what cannot be loaded shows in the errno. */
static int say_nothing(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	return 0;
}

/* The agent's limits are for a host; here they would only cost time and memory. */
static int shrink(struct bpf_object *obj)
{
	struct bpf_map *m;

	bpf_object__for_each_map (m, obj) {
		uint32_t n = bpf_map__max_entries(m);
		int err = 0;

		if (bpf_map__type(m) == BPF_MAP_TYPE_RINGBUF)
			err = bpf_map__set_max_entries(m, (uint32_t)sysconf(_SC_PAGESIZE));
		else if (n > ENTRIES)
			err = bpf_map__set_max_entries(m, ENTRIES);
		if (err)
			return err;
	}
	return 0;
}

static int attach_msg(struct rig *r, struct bpf_program *p, enum bpf_attach_type type)
{
	return bpf_prog_attach(bpf_program__fd(p), rig_map(r, "splice_socks"), type, 0) < 0 ? -errno
											    : 0;
}

static int load(struct rig *r, int cgroup_fd)
{
	int err;

	r->skel = trial_bpf__open();
	if (!r->skel)
		return -errno;
	err = shrink(r->skel->obj);
	if (!err)
		err = trial_bpf__load(r->skel);
	if (!err)
		err = attach_msg(r, r->skel->progs.mesh_splice_msg, BPF_SK_MSG_VERDICT);
	if (err)
		return err;
	r->link = bpf_link_create(bpf_program__fd(r->skel->progs.mesh_trial_sockops), cgroup_fd,
				  BPF_CGROUP_SOCK_OPS, NULL);
	return r->link < 0 ? -errno : 0;
}

int rig_open(int cgroup_fd, struct rig **out, char error[RIG_ERROR_MAX])
{
	struct rig *r = calloc(1, sizeof(*r));
	libbpf_print_fn_t before = libbpf_set_print(say_nothing);
	int err = r ? 0 : -ENOMEM;

	if (r) {
		r->link = -1;
		err = load(r, cgroup_fd);
	}
	libbpf_set_print(before);
	if (err) {
		snprintf(error, RIG_ERROR_MAX, "the kernel does not take the programs: %s",
			 strerror(-err));
		rig_close(&r);
		return err;
	}
	*out = r;
	return 0;
}

void rig_close(struct rig **rp)
{
	struct rig *r = *rp;

	if (!r)
		return;
	if (r->link >= 0)
		close(r->link);
	trial_bpf__destroy(r->skel);
	free(r);
	*rp = NULL;
}

static int put(struct rig *r, enum mesh_splice_mode mode)
{
	struct mesh_splice_ctl c = r->ctl;
	uint32_t zero = 0;

	c.mode = mode;
	return bpf_map_update_elem(rig_map(r, "splice_ctl"), &zero, &c, BPF_ANY) < 0 ? -errno : 0;
}

int rig_mode(struct rig *r, enum mesh_splice_mode mode, uint32_t left_out)
{
	int err = 0;

	if (mode == MESH_SPLICE_REDIRECT && r->verdict)
		return -EINVAL;
	if (mode == MESH_SPLICE_VERDICT && !r->verdict)
		err = attach_msg(r, r->skel->progs.mesh_splice_verdict, BPF_SK_SKB_STREAM_VERDICT);
	if (err)
		return err;
	r->verdict = r->verdict || mode == MESH_SPLICE_VERDICT;
	r->ctl = (struct mesh_splice_ctl){
		.mode = mode, .flags = MESH_SPLICE_ALL, .left_out = left_out};
	return put(r, mode);
}

int rig_map(const struct rig *r, const char *name)
{
	return bpf_object__find_map_fd_by_name(r->skel->obj, name);
}

int rig_steer(void *rig, bool redirect)
{
	struct rig *r = rig;

	return put(r, redirect ? (enum mesh_splice_mode)r->ctl.mode : MESH_SPLICE_OFF);
}
