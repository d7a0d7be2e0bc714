/* SPDX-License-Identifier: Apache-2.0 */
/* Runs helper programs for netns.c. Files in memory stand for the three streams: no pipe can fill
 * up and block. */
#include "ctl/meshctl/spawn.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static int memory_file(const char *content)
{
	int fd = memfd_create("meshctl", MFD_CLOEXEC);
	size_t len = content ? strlen(content) : 0;

	if (fd < 0)
		return -errno;
	if (len && (write(fd, content, len) != (ssize_t)len || lseek(fd, 0, SEEK_SET))) {
		close(fd);
		return -EIO;
	}
	return fd;
}

static char *content_of(int fd)
{
	off_t end = lseek(fd, 0, SEEK_END);
	size_t len = end < 0 ? 0 : (size_t)end;
	char *text;
	ssize_t n;

	if (len > SPAWN_TEXT_MAX)
		len = SPAWN_TEXT_MAX;
	text = malloc(len + 1);
	if (!text)
		return NULL;
	n = pread(fd, text, len, 0);
	text[n > 0 ? n : 0] = '\0';
	return text;
}

static int start(const char *const argv[], const int fds[3], pid_t *pid)
{
	static const char *const dirs[] = {"/usr/sbin/", "/sbin/"};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none;
	char path[256];
	int rc;

	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attr);
	sigemptyset(&none);
	posix_spawnattr_setsigmask(&attr, &none);
	/* An own process group: Ctrl-C must not stop the helper that is tidying up. */
	posix_spawnattr_setpgroup(&attr, 0);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
	for (int i = 0; i < 3; i++)
		posix_spawn_file_actions_adddup2(&actions, fds[i], i);
	rc = posix_spawnp(pid, argv[0], &actions, &attr, (char *const *)argv, environ);
	for (size_t i = 0; rc == ENOENT && i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		strcpy(path, dirs[i]);
		strncat(path, argv[0], sizeof(path) - strlen(path) - 1);
		rc = posix_spawn(pid, path, &actions, &attr, (char *const *)argv, environ);
	}
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	return -rc;
}

static int reap(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int spawn_run(const char *const argv[], const char *input, struct spawn_result *r)
{
	int fds[3] = {-1, -1, -1}, rc = 0;
	pid_t pid;

	*r = (struct spawn_result){0};
	for (int i = 0; i < 3 && !rc; i++) {
		fds[i] = memory_file(i ? NULL : input);
		rc = fds[i] < 0 ? fds[i] : 0;
	}
	if (!rc)
		rc = start(argv, fds, &pid);
	if (!rc) {
		rc = reap(pid);
		r->status = rc;
		rc = rc < 0 ? rc : 0;
	}
	if (!rc) {
		r->out = content_of(fds[1]);
		r->err = content_of(fds[2]);
		if (!r->out || !r->err)
			rc = -ENOMEM;
	}
	for (int i = 0; i < 3; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	if (rc)
		spawn_result_done(r);
	return rc;
}

void spawn_result_done(struct spawn_result *r)
{
	free(r->out);
	free(r->err);
	r->out = r->err = NULL;
}
