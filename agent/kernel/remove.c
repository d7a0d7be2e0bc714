/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking away what an agent that is gone has left in the kernel, for `mesh-agent --remove`. First
 * nothing more is captured, last everything is detached; in between the caller lets the workers
 * finish. Sockets that skip TCP keep their programs, which keep the maps: those go with the last of
 * them, and until then send by TCP.
 */
#include "agent/kernel/impl.h"
#include "agent/kernel/splice.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct kernel *remains_of(const char *pin_dir)
{
	struct kernel *k = calloc(1, sizeof(*k));

	if (!k)
		return NULL;
	snprintf(k->pin_dir, sizeof(k->pin_dir), "%s", pin_dir ? pin_dir : KERNEL_PIN_DIR);
	k->pin_fd = -1;
	return k;
}

static bool is_there(const char *dir, const char *suffix)
{
	char path[PATH_MAX + 8];
	struct stat st;

	snprintf(path, sizeof(path), "%s%s", dir, suffix);
	return stat(path, &st) == 0;
}

/* Another layout than ours: then it is not for us to write there. */
static void splice_off(struct kernel *k)
{
	const struct mesh_splice_ctl off = {.mode = MESH_SPLICE_OFF};
	int fd = kernel_pinned(k, "", kernel_map_names[KM_SPLICE_CTL]);
	struct bpf_map_info info = {0};
	__u32 len = sizeof(info), zero = 0;

	if (fd < 0)
		return;
	if (bpf_obj_get_info_by_fd(fd, &info, &len) == 0 && info.value_size == sizeof(off))
		bpf_map_update_elem(fd, &zero, &off, BPF_ANY);
	close(fd);
}

/* Each side of a pair is in it for itself. */
static uint32_t count_spliced(struct kernel *k)
{
	int fd = kernel_pinned(k, "", kernel_map_names[KM_SPLICE_PAIRS]);
	struct bpf_map_info info = {0};
	__u32 len = sizeof(info), n = 0;

	if (fd < 0)
		return 0;
	if (bpf_obj_get_info_by_fd(fd, &info, &len) == 0 && info.type == BPF_MAP_TYPE_HASH)
		n = kernel_count_entries(fd, info.key_size, info.value_size);
	close(fd);
	return n;
}

int kernel_remove(const char *pin_dir, void (*between)(void *arg), void *arg, uint32_t *spliced,
		  char error[KERNEL_ERROR_MAX])
{
	struct kernel *k = remains_of(pin_dir);
	int r;

	if (!k)
		return kernel_fail(error, -ENOMEM, "out of memory");
	*spliced = 0;
	if (!is_there(k->pin_dir, "") && !is_there(k->pin_dir, KERNEL_OLD_SUFFIX)) {
		between(arg);
		free(k);
		return -ENOENT;
	}
	r = kernel_pins_lock(k, error);
	if (!r) {
		kernel_pins_detach(k, kernel_link_names[KL_CONNECT4]);
		kernel_pins_detach(k, kernel_link_names[KL_CONNECT6]);
		splice_off(k);
		between(arg);
		*spliced = count_spliced(k);
		r = kernel_unpin(k);
		if (r)
			kernel_fail(error, r, "cannot remove what is in %s: %s", k->pin_dir,
				    strerror(-r));
	}
	free(k);
	return r;
}
