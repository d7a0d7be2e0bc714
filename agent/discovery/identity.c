/* SPDX-License-Identifier: Apache-2.0 */
/* See identity.h. */
#include "agent/discovery/identity.h"

#include "lib/name.h"
#include "lib/utf8.h"
#include "lib/weight.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ENVIRON_MAX (256u << 10)

static bool take_name(const char *s, size_t len, char out[MESH_NAME_MAX])
{
	if (!name_valid_bytes(s, len))
		return false;
	memcpy(out, s, len);
	out[len] = 0;
	return true;
}

/* The component before `end`; *start is set to its beginning. */
static bool component_before(const char *path, const char *end, const char **start)
{
	const char *p = end;

	while (p > path && p[-1] != '/')
		p--;
	*start = p;
	return p < end;
}

bool identity_from_path(const char *path, struct identity *out)
{
	const char *end = path + strlen(path), *instance, *service, *mesh;

	if (!component_before(path, end, &instance) || instance - path < 2)
		return false;
	if (!component_before(path, instance - 1, &service) || service - path < 2)
		return false;
	if (!component_before(path, service - 1, &mesh))
		return false;
	if (service - 1 - mesh != 4 || memcmp(mesh, "mesh", 4))
		return false;
	return take_name(service, (size_t)(instance - 1 - service), out->service) &&
	       take_name(instance, (size_t)(end - instance), out->instance);
}

static uint8_t protocol_from(const char *s)
{
	return !strcmp(s, "http")  ? MESH_PROTO_HTTP
	       : !strcmp(s, "tcp") ? MESH_PROTO_TCP
				   : MESH_PROTO_AUTO;
}

static uint16_t port_from(const char *s)
{
	char *end;
	unsigned long v = strtoul(s, &end, 10);

	return *s >= '0' && *s <= '9' && !*end && v <= 65535 ? (uint16_t)v : 0;
}

static void variable(const char *name, size_t name_len, const char *value, struct identity *out)
{
#define IS(x) (name_len == sizeof(x) - 1 && !memcmp(name, x, sizeof(x) - 1))
	if (IS("MESH_SERVICE"))
		take_name(value, strlen(value), out->service);
	else if (IS("MESH_INSTANCE"))
		take_name(value, strlen(value), out->instance);
	else if (IS("MESH_VERSION"))
		take_name(value, strlen(value), out->version);
	else if (IS("MESH_PROTOCOL"))
		out->protocol = protocol_from(value);
	else if (IS("MESH_PORT"))
		out->port = port_from(value);
	else if (IS("MESH_WEIGHT"))
		out->weight = weight_parse(value);
#undef IS
}

bool identity_from_environ(const char *env, size_t len, struct identity *out)
{
	const char *end = env + len;

	while (env < end) {
		const char *stop = memchr(env, 0, (size_t)(end - env)), *eq;

		if (!stop)
			break; /* cut off: what it says may be half */
		eq = memchr(env, '=', (size_t)(stop - env));
		if (eq && !strncmp(env, "MESH_", 5))
			variable(env, (size_t)(eq - env), eq + 1, out);
		env = stop + 1;
	}
	return *out->service != 0;
}

bool identity_read_environ(int pid, struct identity *out)
{
	char path[64], *buf;
	size_t len = 0;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/environ", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	buf = malloc(ENVIRON_MAX);
	while (buf && len < ENVIRON_MAX && (n = read(fd, buf + len, ENVIRON_MAX - len)) > 0)
		len += (size_t)n;
	close(fd);
	if (buf)
		identity_from_environ(buf, len, out);
	free(buf);
	return *out->service != 0;
}

bool identity_merge(const struct identity *path, const struct identity *env, int pid,
		    struct identity *out)
{
	bool same = *path->service && !strcmp(path->service, env->service);

	if (!*path->service && !*env->service)
		return false;
	memset(out, 0, sizeof(*out));
	if (same || !*path->service)
		*out = *env;
	if (*path->service) {
		strcpy(out->service, path->service);
		strcpy(out->instance, path->instance);
	}
	if (!*out->instance)
		snprintf(out->instance, sizeof(out->instance), "%.52s-%d", out->service, pid);
	if (!*out->version)
		strcpy(out->version, "v1");
	return true;
}

void identity_path_text(const char *path, char *out, size_t cap)
{
	const unsigned char *p = (const unsigned char *)out;
	size_t len = strnlen(path, cap - 1), n;

	memcpy(out, path, len);
	out[len] = 0;
	for (size_t i = 0; i < len; i += n ? n : 1) {
		n = utf8_len(p + i, len - i);
		if (!n || p[i] < 0x20 || p[i] == 0x7f || utf8_is_c1(p + i, n))
			memset(out + i, '?', n ? n : 1);
	}
}
