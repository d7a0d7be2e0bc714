/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking over what an agent that is gone has left in the kernel: its maps, if they are laid out as
 * ours would be, become ours with all that is in them, and its links get our programs. Whatever
 * meets a hook meanwhile meets the old programs or the new ones, over the same maps. Called by
 * load.c; the directory is locked.
 */
#include "agent/kernel/impl.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static bool same_layout(const struct bpf_map *m, int fd)
{
	struct bpf_map_info info = {0};
	__u32 len = sizeof(info);

	if (bpf_obj_get_info_by_fd(fd, &info, &len) < 0)
		return false;
	return info.type == (__u32)bpf_map__type(m) && info.key_size == bpf_map__key_size(m) &&
	       info.value_size == bpf_map__value_size(m) &&
	       info.max_entries == bpf_map__max_entries(m) &&
	       info.map_flags == bpf_map__map_flags(m);
}

static bool same_abi(int fd)
{
	struct mesh_ctl ctl;
	__u32 zero = 0;

	return bpf_map_lookup_elem(fd, &zero, &ctl) == 0 && ctl.abi == MESH_ABI_VERSION;
}

/* All or nothing: fd[] is filled only if each of them fits. */
static bool find_maps(const struct kernel *k, struct bpf_object *obj, int fd[KM_MAPS])
{
	int n = 0;
	bool fits = true;

	while (fits && n < KM_MAPS) {
		const struct bpf_map *m = bpf_object__find_map_by_name(obj, kernel_map_names[n]);

		fd[n] = kernel_pinned(k, "", kernel_map_names[n]);
		if (!m || fd[n] < 0)
			break;
		fits = same_layout(m, fd[n++]);
	}
	fits = fits && n == KM_MAPS && same_abi(fd[KM_CTL]);
	while (!fits && n)
		close(fd[--n]);
	return fits;
}

int kernel_adopt_maps(struct kernel *k, struct bpf_object *obj)
{
	int fd[KM_MAPS], r = 0;

	if (!find_maps(k, obj, fd))
		return 0;
	for (int i = 0; i < KM_MAPS; i++) {
		struct bpf_map *m = bpf_object__find_map_by_name(obj, kernel_map_names[i]);

		if (!r)
			r = bpf_map__reuse_fd(m, fd[i]);
		close(fd[i]);
	}
	return r ? r : 1;
}

/* Is the link what we would make? A cgroup that is gone has the id 0. */
static bool same_place(int fd, enum bpf_attach_type type, uint64_t cgroup)
{
	struct bpf_link_info info = {0};
	__u32 len = sizeof(info);

	return bpf_obj_get_info_by_fd(fd, &info, &len) == 0 && info.type == BPF_LINK_TYPE_CGROUP &&
	       info.cgroup.cgroup_id == cgroup && info.cgroup.attach_type == (__u32)type;
}

int kernel_adopt_link(struct kernel *k, enum kernel_link i, int prog)
{
	int fd = k->adopted ? kernel_pinned(k, KERNEL_LINK_PREFIX, kernel_link_names[i]) : -ENOENT;

	if (fd < 0)
		return -ENOENT;
	if (same_place(fd, kernel_attach_types[i], k->cgroup_id) &&
	    bpf_link_update(fd, prog, NULL) == 0)
		return fd;
	bpf_link_detach(fd);
	close(fd);
	return -ENOENT;
}

/* Calls fn for each entry. Entries that come or go meanwhile may be missed; fn may delete the one
 * that it is given. */
static int each(struct kernel *k, enum kernel_map m, void *key, void *next, void *value,
		size_t size, void (*fn)(const void *key, const void *value, void *arg), void *arg)
{
	int r = bpf_map_get_next_key(k->map[m], NULL, key) < 0 ? -errno : 0;

	while (!r) {
		r = bpf_map_get_next_key(k->map[m], key, next) < 0 ? -errno : 0;
		if (bpf_map_lookup_elem(k->map[m], key, value) == 0)
			fn(key, value, arg);
		memcpy(key, next, size);
	}
	return r == -ENOENT ? 0 : r; /* the end of the map */
}

int kernel_each_dest(struct kernel *k, void (*fn)(const void *key, const void *value, void *arg),
		     void *arg)
{
	struct mesh_dest_key key, next;
	struct mesh_dest d;

	return each(k, KM_DESTS, &key, &next, &d, sizeof(key), fn, arg);
}

int kernel_each_workload(struct kernel *k,
			 void (*fn)(const void *key, const void *value, void *arg), void *arg)
{
	struct mesh_workload w;
	__u64 key, next;

	return each(k, KM_WORKLOADS, &key, &next, &w, sizeof(key), fn, arg);
}

int kernel_each_netns(struct kernel *k, void (*fn)(const void *key, const void *value, void *arg),
		      void *arg)
{
	struct mesh_netns n;
	__u64 key, next;

	return each(k, KM_NETNS, &key, &next, &n, sizeof(key), fn, arg);
}

bool kernel_adopted(const struct kernel *k)
{
	return k->adopted;
}
