/* SPDX-License-Identifier: Apache-2.0 */
/* See splice.h. */
#include "agent/kernel/splice.h"
#include "agent/kernel/impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *const kernel_splice_names[KS_PROGS] = {
	[KS_MSG] = "mesh_splice_msg",
	[KS_VERDICT] = "mesh_splice_verdict",
};

static const enum bpf_attach_type attach_types[KS_PROGS] = {
	[KS_MSG] = BPF_SK_MSG_VERDICT,
	[KS_VERDICT] = BPF_SK_SKB_STREAM_VERDICT,
};

static int put(struct kernel *k, enum kernel_map m, uint32_t i, const void *value)
{
	return bpf_map_update_elem(k->map[m], &i, value, BPF_ANY) < 0 ? -errno : 0;
}

/* The map holds one program of each type: a new one takes the place of the old one, of a
 * predecessor too. */
static int attach(struct kernel *k, enum kernel_splice_prog p, char error[KERNEL_ERROR_MAX])
{
	if (k->splice[p] < 0)
		return kernel_fail(error, -EOPNOTSUPP, "this kernel cannot run %s",
				   kernel_splice_names[p]);
	if (bpf_prog_attach(k->splice[p], k->map[KM_SPLICE_SOCKS], attach_types[p], 0) == 0)
		return 0;
	return kernel_fail(error, -errno, "cannot put %s on the map of sockets: %s",
			   kernel_splice_names[p], strerror(errno));
}

/* Fails when there is none, which is as well. */
static void detach(struct kernel *k, enum kernel_splice_prog p)
{
	LIBBPF_OPTS(bpf_prog_query_opts, q);
	uint32_t id = 0;
	int fd;

	q.prog_ids = &id;
	q.prog_cnt = 1;
	if (bpf_prog_query_opts(k->map[KM_SPLICE_SOCKS], attach_types[p], &q) < 0 || !id)
		return;
	fd = bpf_prog_get_fd_by_id(id);
	if (fd < 0)
		return;
	bpf_prog_detach2(fd, k->map[KM_SPLICE_SOCKS], attach_types[p]);
	close(fd);
}

int kernel_splice_set(struct kernel *k, const struct mesh_splice_ctl *c,
		      char error[KERNEL_ERROR_MAX])
{
	const struct mesh_splice_ctl off = {.mode = MESH_SPLICE_OFF};
	int r = put(k, KM_SPLICE_CTL, 0, &off);

	if (r)
		return kernel_fail(error, r, "cannot write the control word of splice: %s",
				   strerror(-r));
	if (c->mode == MESH_SPLICE_OFF)
		return 0;
	r = attach(k, KS_MSG, error);
	if (r)
		return r;
	if (c->mode == MESH_SPLICE_VERDICT)
		r = attach(k, KS_VERDICT, error);
	else
		detach(k, KS_VERDICT);
	if (!r)
		r = put(k, KM_SPLICE_CTL, 0, c);
	return r;
}

int kernel_splice_steer(struct kernel *k, uint32_t upstream, const struct mesh_splice_steer *s)
{
	return put(k, KM_SPLICE_STEER, upstream, s);
}

int kernel_splice_upstream(struct kernel *k, uint32_t upstream)
{
	const struct mesh_splice_steer everybody = {0};
	struct mesh_accel a;
	int r = kernel_splice_accel(k, upstream, &a);

	if (!r) { /* its counts stay: they are part of the sum over all, which never falls */
		memset(a.brief, 0, sizeof(a.brief));
		r = put(k, KM_ACCEL, upstream, &a);
	}
	return r ? r : kernel_splice_steer(k, upstream, &everybody);
}

int kernel_splice_task(struct kernel *k, uint32_t workload, bool off)
{
	uint32_t word = off ? MESH_SPLICE_TASK_OFF : 0;

	return put(k, KM_SPLICE_TASKS, workload, &word);
}

int kernel_splice_forget(struct kernel *k, uint32_t workload)
{
	uint32_t word = 0;
	int r = put(k, KM_SPLICE_STYLE, workload, &word);

	return r ? r : put(k, KM_SPLICE_TASKS, workload, &word);
}

int kernel_splice_workload(struct kernel *k, uint64_t cgroup, uint32_t workload, bool *off)
{
	uint64_t since;

	int r = kernel_splice_forget(k, workload);

	*off = bpf_map_lookup_elem(k->map[KM_SPLICERS], &cgroup, &since) == 0;
	return r || !*off ? r : kernel_splice_task(k, workload, true);
}

int kernel_splice_accel(struct kernel *k, uint32_t upstream, struct mesh_accel *out)
{
	return bpf_map_lookup_elem(k->map[KM_ACCEL], &upstream, out) < 0 ? -errno : 0;
}

#define BATCH 256

int kernel_splice_total(struct kernel *k, struct mesh_accel *out)
{
	struct mesh_accel *values = malloc(BATCH * sizeof(*values));
	uint32_t *keys = malloc(BATCH * sizeof(*keys)), in, next = 0;
	int r = values && keys ? 0 : -ENOMEM;

	memset(out, 0, sizeof(*out));
	for (bool first = true; !r; first = false) {
		uint32_t n = BATCH;

		in = next;
		if (bpf_map_lookup_batch(k->map[KM_ACCEL], first ? NULL : &in, &next, keys, values,
					 &n, NULL) < 0)
			r = -errno;
		for (uint32_t i = 0; (!r || r == -ENOENT) && i < n; i++)
			for (int g = 0; g < MESH_ACCEL_GROUPS; g++)
				mesh_accel_add(&out->group[g], &values[i].group[g]);
	}
	free(keys);
	free(values);
	return r == -ENOENT ? 0 : r; /* the end of the map */
}

uint32_t kernel_splice_pairs(struct kernel *k)
{
	return kernel_count_entries(k->map[KM_SPLICE_PAIRS], sizeof(uint64_t),
				    sizeof(struct mesh_splice_pair));
}
