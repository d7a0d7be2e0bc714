/* SPDX-License-Identifier: Apache-2.0 */
/* See compile.h. Runs in the supervisor; ids of services are those of the registry, so they never
 * move. */
#include "agent/control/compile.h"

#include "agent/control/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct named {
	uint32_t id;
	const char *name;
};

struct layout {
	uint32_t nservices, nnames;
	struct named names[MESH_MAX_SERVICES]; /* callable ones, sorted */
	size_t text;			       /* bytes of all names with their NULs */
	size_t services, by_name, strings, size;
};

static int by_text(const void *a, const void *b)
{
	return strcmp(((const struct named *)a)->name, ((const struct named *)b)->name);
}

static void plan(const struct registry *r, struct layout *l)
{
	struct service_view v;

	memset(l, 0, sizeof(*l));
	for (uint32_t i = 0; i < MESH_MAX_SERVICES; i++) {
		if (!registry_service(r, i, &v))
			continue;
		l->nservices = i + 1;
		l->text += strlen(v.name) + 1;
		if (v.callable)
			l->names[l->nnames++] = (struct named){i, v.name};
	}
	if (l->nnames)
		qsort(l->names, l->nnames, sizeof(*l->names), by_text);
	l->services = sizeof(struct snapshot);
	l->by_name = l->services + l->nservices * sizeof(struct snap_service);
	l->strings = l->by_name + l->nnames * sizeof(uint32_t);
	l->size = l->strings + l->text;
}

static void fill_service(struct snap_service *out, const struct service_view *v, uint32_t name)
{
	*out = (struct snap_service){.name = name,
				     .upstream = v->upstream,
				     .protocol = v->protocol,
				     .policy = v->config->policy,
				     .timeouts = {v->config->connect_ms, v->config->try_ms,
						  v->config->request_ms, v->config->idle_ms}};
}

static void fill(char *block, const struct layout *l, const struct snapshot_input *in)
{
	struct snapshot *s = (struct snapshot *)block;
	struct snap_service *services = (struct snap_service *)(block + l->services);
	uint32_t *by_name = (uint32_t *)(block + l->by_name), at = (uint32_t)l->strings;
	struct service_view v;

	*s = (struct snapshot){.magic = SNAPSHOT_MAGIC,
			       .format = SNAPSHOT_FORMAT,
			       .generation = in->generation,
			       .revision = in->revision,
			       .size = (uint32_t)l->size,
			       .nservices = l->nservices,
			       .services = (uint32_t)l->services,
			       .nnames = l->nnames,
			       .by_name = (uint32_t)l->by_name,
			       .gateway_default = MESH_NONE};
	for (uint32_t i = 0; i < l->nservices; i++) {
		if (!registry_service(in->registry, i, &v))
			continue;
		fill_service(&services[i], &v, at);
		if (in->gateway_default && v.callable && !strcmp(v.name, in->gateway_default))
			s->gateway_default = i;
		strcpy(block + at, v.name);
		at += (uint32_t)strlen(v.name) + 1;
	}
	for (uint32_t i = 0; i < l->nnames; i++)
		by_name[i] = l->names[i].id;
}

static int seal(int fd)
{
	return fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0
		       ? -errno
		       : 0;
}

static int write_all(int fd, const char *p, size_t n)
{
	while (n) {
		ssize_t w = write(fd, p, n);

		if (w < 0 && errno != EINTR)
			return -errno;
		p += w > 0 ? w : 0;
		n -= w > 0 ? (size_t)w : 0;
	}
	return 0;
}

int snapshot_compile(const struct snapshot_input *in, uint64_t *size)
{
	struct layout l;
	char *block;
	int fd, err;

	plan(in->registry, &l);
	block = calloc(1, l.size);
	if (!block)
		return -ENOMEM;
	fill(block, &l, in);
	err = snapshot_check(block, l.size);
	fd = err ? -1 : memfd_create("mesh-snapshot", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (!err && fd < 0)
		err = -errno;
	if (!err)
		err = write_all(fd, block, l.size);
	if (!err)
		err = seal(fd);
	free(block);
	if (err) {
		if (fd >= 0)
			close(fd);
		return err;
	}
	*size = l.size;
	return fd;
}
