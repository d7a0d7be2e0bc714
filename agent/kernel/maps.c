/* SPDX-License-Identifier: Apache-2.0 */
/* The maps from user space: shared arrays mapped, the others by system call. */
#include "agent/kernel/impl.h"
#include "agent/kernel/splice.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const struct {
	size_t entries, size;
} shape[KM_ARRAYS] = {
	[KM_CTL] = {1, sizeof(struct mesh_ctl)},
	[KM_UPSTREAMS] = {MESH_MAX_UPSTREAMS, sizeof(struct mesh_upstream)},
	[KM_ENDPOINTS] = {MESH_MAX_ENDPOINTS, sizeof(struct mesh_endpoint)},
	[KM_EP_STATS] = {MESH_MAX_ENDPOINTS, sizeof(struct mesh_ep_stat)},
	[KM_EP_INFLIGHT] = {MESH_MAX_ENDPOINTS, sizeof(struct mesh_ep_inflight)},
	[KM_UP_STATS] = {MESH_MAX_UPSTREAMS, sizeof(struct mesh_up_stat)},
	[KM_SVC_STATS] = {MESH_MAX_SERVICES, sizeof(struct mesh_svc_stat)},
	[KM_SVC_INFLIGHT] = {MESH_MAX_SERVICES, sizeof(struct mesh_svc_inflight)},
	[KM_EDGES] = {MESH_MAX_EDGES, sizeof(struct mesh_edge)},
	[KM_BEATS] = {1, sizeof(struct mesh_beats)},
};

int kernel_map_arrays(struct kernel *k)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	for (int i = 0; i < KM_ARRAYS; i++) {
		size_t len = (shape[i].entries * shape[i].size + page - 1) & ~(page - 1);
		void *p;

		if (!len) /* KM_SLOTS, see kernel_slots_set */
			continue;
		p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, k->map[i], 0);

		if (p == MAP_FAILED)
			return -errno;
		k->mapped[i] = p;
		k->mapped_len[i] = len;
	}
	k->arrays = (struct kernel_arrays){
		.ctl = k->mapped[KM_CTL],
		.upstreams = k->mapped[KM_UPSTREAMS],
		.endpoints = k->mapped[KM_ENDPOINTS],
		.ep_stats = k->mapped[KM_EP_STATS],
		.ep_inflight = k->mapped[KM_EP_INFLIGHT],
		.up_stats = k->mapped[KM_UP_STATS],
		.svc_stats = k->mapped[KM_SVC_STATS],
		.svc_inflight = k->mapped[KM_SVC_INFLIGHT],
		.edges = k->mapped[KM_EDGES],
		.beats = k->mapped[KM_BEATS],
	};
	return 0;
}

void kernel_unmap_arrays(struct kernel *k)
{
	for (int i = 0; i < KM_ARRAYS; i++)
		if (k->mapped[i])
			munmap(k->mapped[i], k->mapped_len[i]);
}

const struct kernel_arrays *kernel_arrays(struct kernel *k)
{
	return &k->arrays;
}

int kernel_worker_started(struct kernel *k, int pidfd, uint32_t worker)
{
	__u64 index = worker;

	return bpf_map_update_elem(k->map[KM_WORKER_TASKS], &pidfd, &index, BPF_ANY) < 0 ? -errno
											 : 0;
}

/* Inserts or replaces, and keeps count: nobody else writes these maps. */
static int set(struct kernel *k, enum kernel_map m, const void *key, const void *value)
{
	if (bpf_map_update_elem(k->map[m], key, value, BPF_EXIST) == 0)
		return 0;
	if (errno != ENOENT)
		return -errno;
	if (bpf_map_update_elem(k->map[m], key, value, BPF_NOEXIST) < 0)
		return -errno;
	k->entries[m]++;
	return 0;
}

static int delete (struct kernel *k, enum kernel_map m, const void *key)
{
	if (bpf_map_delete_elem(k->map[m], key) < 0)
		return -errno;
	k->entries[m]--;
	return 0;
}

int kernel_slots_set(struct kernel *k, uint32_t subset, const struct mesh_slots *t)
{
	return bpf_map_update_elem(k->map[KM_SLOTS], &subset, t, BPF_ANY) < 0 ? -errno : 0;
}

int kernel_service_set(struct kernel *k, uint32_t service, const struct mesh_service *s)
{
	return bpf_map_update_elem(k->map[KM_SERVICES], &service, s, BPF_ANY) < 0 ? -errno : 0;
}

int kernel_names_set(struct kernel *k, uint32_t service, const struct mesh_names *n)
{
	return bpf_map_update_elem(k->map[KM_NAMES], &service, n, BPF_ANY) < 0 ? -errno : 0;
}

int kernel_names_get(struct kernel *k, uint32_t service, struct mesh_names *n)
{
	return bpf_map_lookup_elem(k->map[KM_NAMES], &service, n) < 0 ? -errno : 0;
}

/* What is counted of it has its place first, and keeps it when the workload changes. */
int kernel_workload_set(struct kernel *k, uint64_t cgroup, const struct mesh_workload *w)
{
	static const struct mesh_coverage none;

	if (bpf_map_update_elem(k->map[KM_COVERAGE], &cgroup, &none, BPF_NOEXIST) < 0 &&
	    errno != EEXIST)
		return -errno;
	return set(k, KM_WORKLOADS, &cgroup, w);
}

int kernel_workload_delete(struct kernel *k, uint64_t cgroup)
{
	struct mesh_workload w;
	int r;

	if (bpf_map_lookup_elem(k->map[KM_WORKLOADS], &cgroup, &w) == 0)
		kernel_splice_forget(k, w.id);
	r = delete (k, KM_WORKLOADS, &cgroup);
	bpf_map_delete_elem(k->map[KM_COVERAGE], &cgroup);
	kernel_counted_forget(k, cgroup);
	return r;
}

int kernel_strangers(struct kernel *k,
		     void (*fn)(uint64_t cgroup, const struct mesh_stranger *s, void *arg),
		     void *arg)
{
	uint64_t key, *last = NULL;
	struct mesh_stranger s;

	/* an entry that goes meanwhile makes it begin again: so many steps, and no more */
	for (uint32_t i = 0; i < 2 * MESH_MAX_STRANGERS; i++) {
		if (bpf_map_get_next_key(k->map[KM_STRANGERS], last, &key) < 0)
			return errno == ENOENT ? 0 : -errno;
		last = &key;
		if (!bpf_map_lookup_elem(k->map[KM_STRANGERS], &key, &s))
			fn(key, &s, arg);
	}
	return 0;
}

int kernel_dest_get(struct kernel *k, const struct mesh_dest_key *key, struct mesh_dest *d)
{
	return bpf_map_lookup_elem(k->map[KM_DESTS], key, d) < 0 ? -errno : 0;
}

int kernel_dest_set(struct kernel *k, const struct mesh_dest_key *key, const struct mesh_dest *d)
{
	return set(k, KM_DESTS, key, d);
}

int kernel_dest_delete(struct kernel *k, const struct mesh_dest_key *key)
{
	return delete (k, KM_DESTS, key);
}

int kernel_netns_set(struct kernel *k, uint64_t cookie, const struct mesh_netns *n)
{
	return set(k, KM_NETNS, &cookie, n);
}

int kernel_netns_delete(struct kernel *k, uint64_t cookie)
{
	return delete (k, KM_NETNS, &cookie);
}

int kernel_listener_add(struct kernel *k, uint64_t cookie, const struct mesh_listener *l)
{
	return bpf_map_update_elem(k->map[KM_LISTENERS], &cookie, l, BPF_NOEXIST) < 0 ? -errno : 0;
}

static bool was_full(struct kernel *k)
{
	uint64_t c[MESH_C_MAX];

	return !kernel_counters(k, c) && c[MESH_C_LISTENERS_FULL];
}

int kernel_listener_stand(struct kernel *k, uint64_t cookie, uint32_t endpoint, uint32_t gen,
			  uint32_t *was, uint32_t *was_gen)
{
	struct mesh_listener l;
	uint32_t index = endpoint == MESH_NONE ? 0 : endpoint + 1;

	*was = MESH_NONE;
	*was_gen = 0;
	if (bpf_map_lookup_elem(k->map[KM_LISTENERS], &cookie, &l) < 0)
		return was_full(k) ? -E2BIG : -ENOENT;
	if (l.endpoint == index && (!index || l.gen == gen))
		return -EALREADY;
	*was = l.endpoint - 1;
	*was_gen = l.gen;
	l.endpoint = index;
	l.gen = gen;
	return bpf_map_update_elem(k->map[KM_LISTENERS], &cookie, &l, BPF_EXIST) < 0 ? -errno : 0;
}

int kernel_listener_delete(struct kernel *k, uint64_t cookie)
{
	return bpf_map_delete_elem(k->map[KM_LISTENERS], &cookie) < 0 ? -errno : 0;
}

int kernel_refusals(struct kernel *k,
		    void (*fn)(const struct mesh_refusal_key *key, uint64_t n, void *arg),
		    void *arg)
{
	struct mesh_refusal_key key, next;
	int fd = k->map[KM_REFUSALS], err = bpf_map_get_next_key(fd, NULL, &next) ? -errno : 0;
	uint64_t n;

	for (int i = 0; !err && i < MESH_MAX_REFUSALS; i++) {
		key = next;
		err = bpf_map_get_next_key(fd, &key, &next) ? -errno : 0;
		if (bpf_map_lookup_and_delete_elem(fd, &key, &n) == 0)
			fn(&key, n, arg);
	}
	return err == -ENOENT ? 0 : err;
}

static const char *const counter_names[MESH_C_MAX] = {
	[MESH_C_CAPTURED] = "captured",
	[MESH_C_KERNEL] = "kernel",
	[MESH_C_PASSED] = "passed",
	[MESH_C_REFUSED] = "refused",
	[MESH_C_PASSED_SELF] = "passed-self",
	[MESH_C_PASSED_NO_LISTENER] = "passed-no-listener",
	[MESH_C_PASSED_STALE] = "passed-stale",
	[MESH_C_PASSED_DEVICE] = "passed-device",
	[MESH_C_ORIGDST_LOST] = "origdst-lost",
	[MESH_C_LISTENERS_FULL] = "listeners-full",
	[MESH_C_EVENTS_LOST] = "events-lost",
	[MESH_C_CLOSED] = "closed",
	[MESH_C_PASSED_NO_STORAGE] = "passed-no-storage",
	[MESH_C_PASSED_NO_ENDPOINT] = "passed-no-endpoint",
	[MESH_C_REFUSED_LOST] = "refused-lost",
	[MESH_C_SPLICE_FULL] = "splice-full",
	[MESH_C_PASSED_PROTOCOL] = "passed-protocol",
	[MESH_C_STRANGER] = "stranger",
	[MESH_C_COVERAGE_LOST] = "coverage-lost",
	[MESH_C_RESOLVED] = "resolved",
	[MESH_C_PASSED_CROWDED] = "passed-crowded",
};

const char *kernel_counter_name(unsigned counter)
{
	return counter < MESH_C_MAX ? counter_names[counter] : NULL;
}

int kernel_counters(struct kernel *k, uint64_t out[MESH_C_MAX])
{
	int cpus = libbpf_num_possible_cpus(), r = 0;
	uint64_t *per_cpu;

	if (cpus < 0)
		return cpus;
	per_cpu = calloc((size_t)cpus, sizeof(*per_cpu));
	if (!per_cpu)
		return -ENOMEM;
	for (__u32 c = 0; !r && c < MESH_C_MAX; c++) {
		out[c] = 0;
		if (bpf_map_lookup_elem(k->map[KM_COUNTERS], &c, per_cpu) < 0)
			r = -errno;
		for (int i = 0; !r && i < cpus; i++)
			out[c] += per_cpu[i];
	}
	free(per_cpu);
	return r;
}

#define BATCH 1024

uint32_t kernel_count_entries(int fd, size_t key_size, size_t value_size)
{
	__u32 total = 0, n, in, next = 0;
	void *keys = calloc(BATCH, key_size), *values = calloc(BATCH, value_size);
	int r = keys && values ? 0 : -1;

	for (bool first = true; !r; first = false) {
		n = BATCH;
		in = next;
		r = bpf_map_lookup_batch(fd, first ? NULL : &in, &next, keys, values, &n, NULL);
		if (!r || errno == ENOENT)
			total += n;
	}
	free(keys);
	free(values);
	return total;
}

void kernel_count_adopted(struct kernel *k)
{
	k->entries[KM_WORKLOADS] = kernel_count_entries(k->map[KM_WORKLOADS], sizeof(__u64),
							sizeof(struct mesh_workload));
	k->entries[KM_DESTS] = kernel_count_entries(k->map[KM_DESTS], sizeof(struct mesh_dest_key),
						    sizeof(struct mesh_dest));
	k->entries[KM_NETNS] =
		kernel_count_entries(k->map[KM_NETNS], sizeof(__u64), sizeof(struct mesh_netns));
}

size_t kernel_map_use(struct kernel *k, struct kernel_map_use *out, size_t cap)
{
	const struct kernel_map_use use[] = {
		{"workloads", k->entries[KM_WORKLOADS], MESH_MAX_WORKLOADS},
		{"dests", k->entries[KM_DESTS], MESH_MAX_DESTS},
		{"netns", k->entries[KM_NETNS], MESH_MAX_NETNS},
		{"origdst",
		 kernel_count_entries(k->map[KM_ORIGDST], sizeof(struct mesh_origdst_key),
				      sizeof(struct mesh_origdst)),
		 MESH_MAX_ORIGDST},
		{"listeners",
		 kernel_count_entries(k->map[KM_LISTENERS], sizeof(__u64),
				      sizeof(struct mesh_listener)),
		 MESH_MAX_LISTENERS},
		{"splice_pairs", kernel_splice_pairs(k), MESH_MAX_PAIRS},
	};
	size_t n = sizeof(use) / sizeof(use[0]);

	if (n > cap)
		n = cap;
	memcpy(out, use, n * sizeof(*out));
	return n;
}

uint32_t kernel_maps_id(const struct kernel *k)
{
	struct bpf_map_info info = {};
	__u32 len = sizeof(info);

	return bpf_obj_get_info_by_fd(k->map[KM_CTL], &info, &len) < 0 ? 0 : info.id;
}

void kernel_worker_fds(const struct kernel *k, int out[KERNEL_WORKER_FDS])
{
	memcpy(out, k->map, KM_ARRAYS * sizeof(int));
	out[KM_ORIGDST] = k->origdst_ro;
}
