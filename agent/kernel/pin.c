/*
 * Pins: every map and link as a file on the bpffs, so that `bpftool` and `meshctl bpf` find them by
 * name and the hooks do not vanish in the middle of something when the supervisor does. A directory
 * of pins belongs to one agent.
 */
#include "agent/kernel/impl.h"

#include <dirent.h>
#include <errno.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define BPFFS	    "/sys/fs/bpf"
#define LINK_PREFIX "link_"

static bool is_bpffs(const char *path)
{
	struct statfs fs;

	return statfs(path, &fs) == 0 && fs.f_type == BPF_FS_MAGIC;
}

int kernel_mount_bpffs(char error[KERNEL_ERROR_MAX])
{
	if (is_bpffs(BPFFS))
		return 0;
	if (mount("bpf", BPFFS, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") < 0)
		return kernel_fail(error, -errno, "cannot mount a bpffs at " BPFFS ": %s",
				   strerror(errno));
	return 0;
}

static int pin_one(const char *dir, const char *kind, const char *name, int fd,
		   char error[KERNEL_ERROR_MAX])
{
	char path[PATH_MAX + 128];

	snprintf(path, sizeof(path), "%s/%s%s", dir, kind, name);
	if (bpf_obj_pin(fd, path) < 0)
		return kernel_fail(error, -errno, "cannot pin %s: %s", path, strerror(errno));
	return 0;
}

int kernel_pin(struct kernel *k, char error[KERNEL_ERROR_MAX])
{
	int r = 0;

	if (mkdir(k->pin_dir, 0700) < 0)
		return kernel_fail(error, -errno, "cannot make %s: %s", k->pin_dir,
				   strerror(errno));
	k->pinned = true;
	for (int i = 0; !r && i < KM_MAPS; i++)
		r = pin_one(k->pin_dir, "", kernel_map_names[i], k->map[i], error);
	for (int i = 0; !r && i < KL_LINKS; i++)
		r = pin_one(k->pin_dir, LINK_PREFIX, kernel_link_names[i], k->link[i], error);
	return r;
}

/* Takes a dead agent's program off its cgroup now: the kernel frees an unpinned link some time
 * later. Links that cannot be detached (the tracepoint's) go then. */
static void detach(const char *dir, const char *name)
{
	char path[PATH_MAX + 256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = bpf_obj_get(path);
	if (fd < 0)
		return;
	bpf_link_detach(fd);
	close(fd);
}

/* Whatever is in there, also of an older version with other names. Only on a bpffs: a wrong
 * pin_dir must not cost anybody a file. */
int kernel_unpin(const char *dir)
{
	struct dirent *e;
	int r = 0;
	DIR *d;

	d = opendir(dir);
	if (!d)
		return errno == ENOENT ? 0 : -errno;
	if (!is_bpffs(dir))
		r = -EINVAL;
	while (!r && (e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		if (!strncmp(e->d_name, LINK_PREFIX, strlen(LINK_PREFIX)))
			detach(dir, e->d_name);
		if (unlinkat(dirfd(d), e->d_name, 0) < 0)
			r = -errno;
	}
	closedir(d);
	if (!r && rmdir(dir) < 0)
		r = -errno;
	return r;
}
