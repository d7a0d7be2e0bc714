/* SPDX-License-Identifier: Apache-2.0 */
/* A directory of its own for a unit test, removed with what is in it. */
#ifndef TEST_MESHD_DIR_H
#define TEST_MESHD_DIR_H

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct test_dir {
	char path[64];
};

static inline void test_dir_make(struct test_dir *d)
{
	strcpy(d->path, "/tmp/meshd-test-XXXXXX");
	if (!mkdtemp(d->path))
		abort();
}

static inline void test_dir_clear(const struct test_dir *d)
{
	DIR *dir = opendir(d->path);
	struct dirent *e;

	if (!dir)
		abort();
	while ((e = readdir(dir)))
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			unlinkat(dirfd(dir), e->d_name, 0);
	closedir(dir);
}

static inline void test_dir_remove(const struct test_dir *d)
{
	test_dir_clear(d);
	rmdir(d->path);
}

/* text NULL removes the file. */
static inline void test_dir_write(const struct test_dir *d, const char *name, const char *text)
{
	char file[512];
	FILE *f;

	snprintf(file, sizeof(file), "%s/%s", d->path, name);
	if (!text) {
		unlink(file);
		return;
	}
	f = fopen(file, "we");
	if (!f || fputs(text, f) < 0 || fclose(f))
		abort();
}

#endif
