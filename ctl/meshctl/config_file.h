/* SPDX-License-Identifier: Apache-2.0 */
/* A file of service configuration: one object or a list of objects (JSON). */
#ifndef CTL_MESHCTL_CONFIG_FILE_H
#define CTL_MESHCTL_CONFIG_FILE_H

#include <cjson/cJSON.h>
#include <stddef.h>

#define CONFIG_FILE_MAX (4u << 20)

/* Reads `path` ("-": stdin). *out: a list of at least one object, each with a valid "service", none
 * twice; the caller deletes it. 0, or -errno and a sentence in error[512] that names the file and,
 * for bad JSON, line and column. */
int config_file_load(const char *path, cJSON **out, char *error);
/* The same for a text that is already there. */
int config_file_parse(const char *path, const char *text, size_t len, cJSON **out, char *error);

#endif
