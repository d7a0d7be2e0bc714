/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files of --config: read whole, checked whole, then applied in one transaction; see config.h.
 * Called at start and on SIGHUP.
 */
#include "ctl/meshd/config.h"
#include "lib/json.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct entry {
	struct entry *next;
	char service[64];
	char file[256];
	char *canonical; /* for comparing */
	char *text;	 /* as written; NULL for what was applied before */
	bool wanted;	 /* of an entry that was applied before: still in the files */
};

struct reload {
	struct store *store;
	struct entry *loaded, *before; /* from the files now; from the last time */
	uint64_t time_ms;
	int changed;
	char *why;
	size_t cap;
};

static void entries_free(struct entry *e)
{
	while (e) {
		struct entry *next = e->next;

		free(e->canonical);
		cJSON_free(e->text);
		free(e);
		e = next;
	}
}

static struct entry *entry_find(struct entry *e, const char *service)
{
	while (e && strcmp(e->service, service))
		e = e->next;
	return e;
}

/* Takes over canonical, which may be NULL for want of memory. */
static struct entry *entry_add(struct entry **list, const char *service, const char *file,
			       char *canonical)
{
	struct entry *e = canonical ? calloc(1, sizeof(*e)) : NULL;

	if (!e) {
		free(canonical);
		return NULL;
	}
	snprintf(e->service, sizeof(e->service), "%s", service);
	snprintf(e->file, sizeof(e->file), "%s", file);
	e->canonical = canonical;
	e->next = *list;
	*list = e;
	return e;
}

static int remember(void *arg, const char *service, const char *file, const char *text)
{
	struct reload *rl = arg;

	return entry_add(&rl->before, service, file, strdup(text)) ? 0 : -ENOMEM;
}

/* The content of a regular file, up to CONFIG_FILE_MAX. Caller frees. */
static int file_read(int dir, const char *name, char **out, size_t *len)
{
	int r = 0, fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	char *data = NULL;
	ssize_t n;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		r = -errno;
	else if (!S_ISREG(st.st_mode))
		r = -EINVAL;
	else if (st.st_size > CONFIG_FILE_MAX)
		r = -EFBIG;
	else if (!(data = malloc(CONFIG_FILE_MAX)))
		r = -ENOMEM;
	for (*len = 0; !r && *len < CONFIG_FILE_MAX; *len += (size_t)n) {
		n = read(fd, data + *len, CONFIG_FILE_MAX - *len);
		if (n < 0)
			r = -errno;
		if (n <= 0)
			break;
	}
	close(fd);
	if (r)
		free(data);
	else
		*out = data;
	return r;
}

static int object_add(struct reload *rl, const char *file, const cJSON *v, int index)
{
	struct schema_error e;
	const char *service;
	struct entry *other;
	char at[24] = "";

	if (index >= 0)
		snprintf(at, sizeof(at), "[%d].", index);
	if (config_check(v, &e)) {
		snprintf(rl->why, rl->cap, "%s: %s%s: %s", file, at,
			 e.path[0] ? e.path : "(the value)", e.text);
		return -EINVAL;
	}
	service = json_str(v, "service", "");
	other = entry_find(rl->loaded, service);
	if (other) {
		snprintf(rl->why, rl->cap, "%s: %sservice: \"%s\" is also in %s", file, at, service,
			 other->file);
		return -EINVAL;
	}
	other = entry_add(&rl->loaded, service, file, json_canonical(v));
	if (!other)
		return -ENOMEM;
	other->text = cJSON_PrintUnformatted(v);
	return other->text ? 0 : -ENOMEM;
}

static int file_load(struct reload *rl, int dir, const char *name)
{
	struct schema_error e;
	const cJSON *item;
	char *data = NULL;
	cJSON *v;
	size_t len = 0;
	int r = file_read(dir, name, &data, &len), i = 0;

	if (r) {
		snprintf(rl->why, rl->cap, "%s: %s", name, strerror(-r));
		return r;
	}
	v = strict_parse(data, len, 0, &e);
	free(data);
	if (!v) {
		snprintf(rl->why, rl->cap, "%s: %s", name, e.text);
		return -EINVAL;
	}
	if (cJSON_IsArray(v)) {
		cJSON_ArrayForEach (item, v)
			if (!r)
				r = object_add(rl, name, item, i++);
	} else {
		r = object_add(rl, name, v, -1);
	}
	cJSON_Delete(v);
	return r;
}

static int wanted_file(const struct dirent *d)
{
	size_t len = strlen(d->d_name);

	return d->d_name[0] != '.' && len > 5 && !strcmp(d->d_name + len - 5, ".json");
}

static int dir_load(struct reload *rl, const char *path, bool required)
{
	struct dirent **names = NULL;
	int r = 0, n = scandir(path, &names, wanted_file, alphasort);
	int dir = n < 0 ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir < 0) {
		r = errno == ENOENT && !rl->before && !required ? 0 : -errno;
		if (r)
			snprintf(rl->why, rl->cap, "%s: %s", path, strerror(-r));
	} else if (n > CONFIG_FILES_MAX) {
		snprintf(rl->why, rl->cap, "%s: more than %d files", path, CONFIG_FILES_MAX);
		r = -E2BIG;
	}
	for (int i = 0; i < n; i++) {
		if (!r)
			r = file_load(rl, dir, names[i]->d_name);
		free(names[i]);
	}
	free(names);
	if (dir >= 0)
		close(dir);
	return r;
}

/* Is the stored configuration of the service (now, NULL: none) what the entry says? gone: that
 * there is none. */
static int differs(const struct entry *e, bool gone, const char *now, bool *yes)
{
	cJSON *v;
	char *canonical;

	*yes = !gone;
	if (!now)
		return 0;
	*yes = true;
	if (gone)
		return 0;
	v = json_parse(now, strlen(now), NULL);
	canonical = v ? json_canonical(v) : NULL;
	cJSON_Delete(v);
	if (!canonical)
		return -ENOMEM;
	*yes = strcmp(canonical, e->canonical) != 0;
	free(canonical);
	return 0;
}

/* Stores what the entry says (gone: removes it), and remembers that this was done. */
static int change(struct reload *rl, const struct entry *e, bool gone)
{
	char author[sizeof(e->file) + 8], *now = NULL;
	struct store_change c = {.service = e->service,
				 .text = gone ? NULL : e->text,
				 .author = author,
				 .action = "file",
				 .time_ms = rl->time_ms};
	uint64_t revision;
	bool needed;
	int r = store_config_get(rl->store, e->service, &now, &revision);

	if (r == -ENOENT)
		r = 0;
	if (!r)
		r = differs(e, gone, now, &needed);
	snprintf(author, sizeof(author), "file %s", e->file);
	if (!r && needed) {
		r = store_config_change(rl->store, &c, &revision);
		rl->changed++;
	}
	free(now);
	return r ? r : store_file_put(rl->store, e->service, e->file, gone ? NULL : e->canonical);
}

static int differences(struct reload *rl)
{
	struct entry *old, *e;
	int r = 0;

	for (e = rl->loaded; e && !r; e = e->next) {
		old = entry_find(rl->before, e->service);
		if (old)
			old->wanted = true;
		if (!old || strcmp(old->canonical, e->canonical) || strcmp(old->file, e->file))
			r = change(rl, e, false);
	}
	for (old = rl->before; old && !r; old = old->next)
		if (!old->wanted)
			r = change(rl, old, true);
	return r;
}

static int transact(struct reload *rl)
{
	int r = store_begin(rl->store);

	if (!r) {
		r = differences(rl);
		if (r)
			store_rollback(rl->store);
		else
			r = store_commit(rl->store);
	}
	if (r == -ENOSPC)
		snprintf(rl->why, rl->cap, "more configuration than the store takes");
	else if (r)
		snprintf(rl->why, rl->cap, "%s", r == -EIO ? store_error(rl->store) : strerror(-r));
	return r;
}

int config_files_apply(struct store *s, const char *dir, bool required, uint64_t time_ms, char *why,
		       size_t cap)
{
	struct reload rl = {.store = s, .time_ms = time_ms, .why = why, .cap = cap};
	int r;

	snprintf(why, cap, "out of memory");
	r = store_file_each(s, remember, &rl);
	if (!r)
		r = dir_load(&rl, dir, required);
	if (!r)
		r = transact(&rl);
	entries_free(rl.loaded);
	entries_free(rl.before);
	return r ? r : rl.changed;
}
