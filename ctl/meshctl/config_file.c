/* SPDX-License-Identifier: Apache-2.0 */
/* Reads files for apply and diff. What the keys mean is meshd's to judge. */
#include "ctl/meshctl/config_file.h"
#include "lib/buf.h"
#include "lib/json.h"
#include "lib/name.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ERROR_MAX 512

static void position(const char *text, size_t at, unsigned *line, unsigned *column)
{
	*line = *column = 1;
	for (size_t i = 0; i < at; i++) {
		++*column;
		if (text[i] == '\n') {
			++*line;
			*column = 1;
		}
	}
}

static int check_items(const char *path, const cJSON *list, char *error)
{
	unsigned n = 0;
	const cJSON *item, *other;

	cJSON_ArrayForEach (item, list) {
		const char *name = json_str(item, "service", "");

		n++;
		if (!name_valid(name)) {
			snprintf(error, ERROR_MAX,
				 "%s: object %u has no valid \"service\" (the service's name)",
				 path, n);
			return -EINVAL;
		}
		for (other = list->child; other != item; other = other->next) {
			if (!strcmp(json_str(other, "service", ""), name)) {
				snprintf(error, ERROR_MAX, "%s: %s is there twice", path, name);
				return -EINVAL;
			}
		}
	}
	if (n)
		return 0;
	snprintf(error, ERROR_MAX, "%s: the list is empty", path);
	return -EINVAL;
}

int config_file_parse(const char *path, const char *text, size_t len, cJSON **out, char *error)
{
	size_t where = 0;
	cJSON *doc = json_parse(text, len, &where), *list;
	unsigned line, column;
	int rc;

	if (!doc) {
		position(text, where < len ? where : len, &line, &column);
		snprintf(error, ERROR_MAX, "%s:%u:%u: this is not JSON", path, line, column);
		return -EINVAL;
	}
	list = doc;
	if (!cJSON_IsArray(doc)) {
		list = cJSON_CreateArray();
		if (!list || !cJSON_AddItemToArray(list, doc)) {
			cJSON_Delete(list);
			cJSON_Delete(doc);
			snprintf(error, ERROR_MAX, "%s: out of memory", path);
			return -ENOMEM;
		}
	}
	rc = check_items(path, list, error);
	if (rc)
		cJSON_Delete(list);
	else
		*out = list;
	return rc;
}

static int read_all(int fd, struct buf *b)
{
	char chunk[16384];
	ssize_t n;

	while ((n = read(fd, chunk, sizeof(chunk))) > 0)
		buf_add(b, chunk, n);
	if (n < 0)
		return -errno;
	return b->failed ? -EFBIG : 0;
}

int config_file_load(const char *path, cJSON **out, char *error)
{
	bool standard = !strcmp(path, "-");
	int fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC), rc;
	struct buf b;

	if (fd < 0) {
		rc = -errno;
		snprintf(error, ERROR_MAX, "cannot read %s: %s", path, strerror(-rc));
		return rc;
	}
	buf_init(&b, CONFIG_FILE_MAX);
	rc = read_all(fd, &b);
	if (rc)
		snprintf(error, ERROR_MAX, "cannot read %s: %s", path, strerror(-rc));
	else
		rc = config_file_parse(standard ? "stdin" : path, b.data ? b.data : "", b.len, out,
				       error);
	if (!standard)
		close(fd);
	buf_done(&b);
	return rc;
}
