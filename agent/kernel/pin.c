/*
 * Pins: every map and link as a file on the bpffs, so that `bpftool` and `meshctl bpf` find them by
 * name and the hooks do not vanish in the middle of something when the supervisor does. A directory
 * of pins belongs to one agent, which holds a lock on it for as long as it lives: nobody detaches
 * the programs of an agent that runs.
 */
#include "agent/kernel/impl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
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

/* A descriptor of the directory with the lock, or -errno; -EBUSY: somebody alive has it. The lock
 * goes with the process, however that ends. */
static int lock_dir(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r;

	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return fd;
	r = errno == EWOULDBLOCK ? -EBUSY : -errno;
	close(fd);
	return r;
}

int kernel_pin(struct kernel *k, char error[KERNEL_ERROR_MAX])
{
	int r;

	r = mkdir(k->pin_dir, 0700) < 0 ? -errno : lock_dir(k->pin_dir);
	if (r < 0)
		return kernel_fail(error, r, "cannot make %s: %s", k->pin_dir, strerror(-r));
	k->pin_fd = r;
	r = 0;
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
static int empty(const char *dir)
{
	struct dirent *e;
	int r = 0;
	DIR *d;

	if (!is_bpffs(dir))
		return -EINVAL;
	d = opendir(dir);
	if (!d)
		return -errno;
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

void kernel_unpin(struct kernel *k)
{
	if (k->pin_fd < 0)
		return;
	empty(k->pin_dir); /* what fails to go is the next agent's to report */
	close(k->pin_fd);
	k->pin_fd = -1;
}

int kernel_unpin_dead(const char *dir, char error[KERNEL_ERROR_MAX])
{
	int fd = lock_dir(dir), r;

	if (fd == -ENOENT)
		return 0;
	if (fd == -EBUSY)
		return kernel_fail(error, fd,
				   "another agent on this host keeps its programs in %s: stop it",
				   dir);
	r = fd < 0 ? fd : empty(dir);
	if (fd >= 0)
		close(fd);
	return r ? kernel_fail(error, r, "cannot remove the old pins in %s: %s", dir, strerror(-r))
		 : 0;
}
