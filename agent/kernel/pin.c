/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pins: every map and link as a file on the bpffs, so that `bpftool` finds them by name, and the
 * hooks stay when the supervisor goes: the next one takes them over (adopt.c). A directory of pins
 * belongs to one agent, which holds a lock on it for as long as it lives: nobody detaches the
 * programs of an agent that runs. What another version left there is put aside, under the same name
 * with "-old", and goes when the new ones are filled.
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

#define BPFFS "/sys/fs/bpf"

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

/* The directory as a path: of ours, or of what stood there before. */
static void dir_of(const struct kernel *k, bool old, char out[PATH_MAX + 8])
{
	snprintf(out, PATH_MAX + 8, "%s%s", k->pin_dir, old ? KERNEL_OLD_SUFFIX : "");
}

int kernel_pins_lock(struct kernel *k, char error[KERNEL_ERROR_MAX])
{
	bool made = mkdir(k->pin_dir, 0700) == 0;
	int fd;

	if (!made && errno != EEXIST)
		return kernel_fail(error, -errno, "cannot make %s: %s", k->pin_dir,
				   strerror(errno));
	if (!is_bpffs(k->pin_dir)) {
		if (made)
			rmdir(k->pin_dir);
		return kernel_fail(error, -EINVAL, "%s does not lie on a bpffs", k->pin_dir);
	}
	fd = lock_dir(k->pin_dir);
	if (fd == -EBUSY)
		return kernel_fail(error, fd,
				   "another agent on this host keeps its programs in %s: stop it",
				   k->pin_dir);
	if (fd < 0)
		return kernel_fail(error, fd, "cannot lock %s: %s", k->pin_dir, strerror(-fd));
	k->pin_fd = fd;
	return 0;
}

int kernel_pinned(const struct kernel *k, const char *kind, const char *name)
{
	char path[PATH_MAX + 128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s%s", k->pin_dir, kind, name);
	fd = bpf_obj_get(path);
	return fd < 0 ? -errno : fd;
}

/* In place of what may be pinned under that name, at once: a link that is unpinned before the next
 * one is pinned would take its program along if we died in between. */
static int pin_over(const struct kernel *k, const char *name, int fd, char error[KERNEL_ERROR_MAX])
{
	char next[PATH_MAX + 160], path[PATH_MAX + 128];

	snprintf(path, sizeof(path), "%s/" KERNEL_LINK_PREFIX "%s", k->pin_dir, name);
	snprintf(next, sizeof(next), "%s_next", path);
	if (unlink(next) < 0 && errno != ENOENT)
		return kernel_fail(error, -errno, "cannot remove %s: %s", next, strerror(errno));
	if (bpf_obj_pin(fd, next) < 0 || rename(next, path) < 0)
		return kernel_fail(error, -errno, "cannot pin %s: %s", path, strerror(errno));
	return 0;
}

int kernel_pin(struct kernel *k, char error[KERNEL_ERROR_MAX])
{
	int r = 0;

	for (int i = 0; !r && i < KM_MAPS && !k->adopted; i++)
		r = pin_one(k->pin_dir, "", kernel_map_names[i], k->map[i], error);
	for (int i = 0; !r && i < KL_LINKS; i++)
		if (k->link_is_new[i])
			r = pin_over(k, kernel_link_names[i], k->link[i], error);
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
		if (!strncmp(e->d_name, KERNEL_LINK_PREFIX, strlen(KERNEL_LINK_PREFIX)))
			detach(dir, e->d_name);
		if (unlinkat(dirfd(d), e->d_name, 0) < 0)
			r = -errno;
	}
	closedir(d);
	if (!r && rmdir(dir) < 0)
		r = -errno;
	return r;
}

static bool is_there(const char *dir)
{
	struct stat st;

	return stat(dir, &st) == 0;
}

/* Does what lies there capture? A link that was detached has the cgroup 0. */
static bool captures(const char *dir)
{
	struct bpf_link_info info = {0};
	__u32 len = sizeof(info);
	char path[PATH_MAX + 256];
	int fd, r;

	snprintf(path, sizeof(path), "%s/" KERNEL_LINK_PREFIX "%s", dir,
		 kernel_link_names[KL_CONNECT4]); /* the first to go, see kernel_settled() */
	fd = bpf_obj_get(path);
	if (fd < 0)
		return false;
	r = bpf_obj_get_info_by_fd(fd, &info, &len);
	close(fd);
	return !r && info.type == BPF_LINK_TYPE_CGROUP && info.cgroup.cgroup_id;
}

/* The one of two that is filled is kept: who made ours may have died before it was, or since, when
 * the old one had ended its capture and was not gone yet. */
static int put_aside(const char *ours, const char *old)
{
	int r = 0;

	if (is_there(old)) {
		if (captures(old))
			return empty(ours);
		r = empty(old);
	}
	if (!r && rename(ours, old) < 0)
		r = -errno;
	return r;
}

int kernel_pins_aside(struct kernel *k, char error[KERNEL_ERROR_MAX])
{
	char old[PATH_MAX + 8];
	int r = 0;

	k->filling = true;
	dir_of(k, true, old);
	if (rmdir(k->pin_dir) < 0) /* there is something in it */
		r = put_aside(k->pin_dir, old);
	close(k->pin_fd);
	k->pin_fd = -1;
	if (r)
		return kernel_fail(error, r, "cannot put the old pins in %s aside: %s", k->pin_dir,
				   strerror(-r));
	return kernel_pins_lock(k, error);
}

void kernel_pins_undo(struct kernel *k)
{
	char old[PATH_MAX + 8];

	if (k->pin_fd < 0 || k->adopted)
		return;
	if (!k->filling) {
		rmdir(k->pin_dir); /* unless there is something in it */
		return;
	}
	empty(k->pin_dir);
	dir_of(k, true, old);
	if (is_there(old))
		rename(old, k->pin_dir); /* if not, the next start removes it */
}

static void detach_link(const struct kernel *k, bool old, const char *link)
{
	char dir[PATH_MAX + 8], name[64];

	dir_of(k, old, dir);
	snprintf(name, sizeof(name), KERNEL_LINK_PREFIX "%s", link);
	detach(dir, name);
}

/* Not all at once: a connection that is captured and not noted, as sockops does it, is reset. */
void kernel_settled(struct kernel *k)
{
	detach_link(k, true, kernel_link_names[KL_CONNECT4]);
	detach_link(k, true, kernel_link_names[KL_CONNECT6]);
}

int kernel_sweep(struct kernel *k)
{
	char old[PATH_MAX + 8];

	dir_of(k, true, old);
	return is_there(old) ? empty(old) : 0;
}

int kernel_unpin(struct kernel *k)
{
	int r, old;

	if (k->pin_fd < 0)
		return 0;
	r = empty(k->pin_dir);
	old = kernel_sweep(k);
	close(k->pin_fd);
	k->pin_fd = -1;
	return r ? r : old;
}

void kernel_pins_detach(struct kernel *k, const char *link)
{
	for (int old = 0; old < 2; old++)
		detach_link(k, old, link);
}
