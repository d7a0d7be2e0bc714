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
	size_t blocks;			       /* bytes of what lies behind configurations */
	size_t text;			       /* bytes of all names with their NULs */
	size_t services, behind, by_name, strings, size;
};

static int by_text(const void *a, const void *b)
{
	return strcmp(((const struct named *)a)->name, ((const struct named *)b)->name);
}

/* Blocks hold routes, which hold 64-bit words. */
static size_t aligned(size_t n)
{
	return (n + 7) & ~(size_t)7;
}

static void plan(const struct registry *r, struct layout *l)
{
	struct service_view v;
	uint32_t size, skip;

	memset(l, 0, sizeof(*l));
	for (uint32_t i = 0; i < MESH_MAX_SERVICES; i++) {
		if (!registry_service(r, i, &v))
			continue;
		l->nservices = i + 1;
		l->text += strlen(v.name) + 1;
		service_config_block(v.config, &size, &skip);
		l->blocks += aligned(size - skip);
		if (v.callable)
			l->names[l->nnames++] = (struct named){i, v.name};
	}
	if (l->nnames)
		qsort(l->names, l->nnames, sizeof(*l->names), by_text);
	l->services = aligned(sizeof(struct snapshot));
	l->behind = l->services + l->nservices * sizeof(struct snap_service);
	l->by_name = l->behind + l->blocks;
	l->strings = l->by_name + l->nnames * sizeof(uint32_t);
	l->size = l->strings + l->text;
}

/* A configuration's block on its way into the snapshot: what moves are its offsets, by as much as
 * it moved itself, and what becomes numbers are its positions of versions. */
struct move {
	char *block; /* the snapshot */
	uint32_t by;
	const uint8_t *numbers;
};

static void move_offset(const struct move *m, uint32_t *offset)
{
	if (*offset)
		*offset += m->by;
}

static void move_pairs(const struct move *m, uint32_t n, uint32_t *offset)
{
	struct snap_pair *pair;

	if (!n)
		return;
	move_offset(m, offset);
	pair = (struct snap_pair *)(m->block + *offset);
	for (uint32_t i = 0; i < n; i++) {
		move_offset(m, &pair[i].name);
		move_offset(m, &pair[i].value);
	}
}

static void move_route(const struct move *m, struct snap_route *r)
{
	move_offset(m, &r->name);
	move_offset(m, &r->match.path);
	move_offset(m, &r->match.method);
	move_pairs(m, r->match.nheaders, &r->match.headers);
	move_pairs(m, r->match.nqueries, &r->match.queries);
	for (uint32_t i = 0; i < r->split.n; i++)
		r->split.to[i].version = m->numbers[r->split.to[i].version];
	if (r->mirror_share)
		r->mirror_version = m->numbers[r->mirror_version];
	if (!r->mirror_version) /* everybody is no version to mirror to */
		r->mirror_share = 0;
}

static void fill_service(char *block, struct snap_service *out, const struct service_view *v,
			 size_t *at)
{
	const struct service_config *c = v->config;
	uint32_t size, skip;
	const char *behind = service_config_block(c, &size, &skip);
	struct move m = {.block = block, .by = (uint32_t)*at - skip, .numbers = v->numbers};
	struct snap_route *routes;

	out->upstream = v->upstream;
	out->protocol = v->protocol;
	out->policy = c->policy;
	out->fail_closed = c->fail_closed;
	out->fallback = c->fallback;
	out->sampling = c->sampling;
	out->timeouts = c->timeouts;
	out->retry = c->retry;
	out->budget = c->budget;
	out->breaker = c->breaker;
	out->bulkhead = c->bulkhead;
	out->sticky = c->sticky;
	if (v->fault)
		out->fault = *v->fault;
	if (!behind)
		return;
	memcpy(block + *at, behind + skip, size - skip);
	*at += aligned(size - skip);
	move_offset(&m, &out->sticky.header);
	move_offset(&m, &out->sticky.cookie);
	out->nroutes = c->nroutes;
	out->routes = c->routes;
	move_offset(&m, &out->routes);
	routes = (struct snap_route *)(block + out->routes);
	for (uint32_t i = 0; i < out->nroutes; i++)
		move_route(&m, &routes[i]);
}

static void fill(char *block, const struct layout *l, const struct snapshot_input *in)
{
	struct snapshot *s = (struct snapshot *)block;
	struct snap_service *services = (struct snap_service *)(block + l->services);
	uint32_t *by_name = (uint32_t *)(block + l->by_name), at = (uint32_t)l->strings;
	size_t behind = l->behind;
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
		services[i].name = at;
		fill_service(block, &services[i], &v, &behind);
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
	if (l.size > SNAPSHOT_MAX)
		return -E2BIG;
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
