/* SPDX-License-Identifier: Apache-2.0 */
/* See coverage.h. */
#include "agent/coverage/coverage.h"

#include <stdlib.h>
#include <string.h>

void coverage_done(struct coverage *c)
{
	for (uint32_t i = 0; i < MESH_MAX_WORKLOADS; i++)
		coverage_forget(c, i);
	free(c->services);
	memset(c, 0, sizeof(*c));
}

const char *coverage_reason_name(uint32_t reason)
{
	static const char *const names[COVERAGE_REASONS] = {
		[MESH_COV_NOBODY - MESH_COV_ESCAPES] = "no-worker",
		[MESH_COV_DEVICE - MESH_COV_ESCAPES] = "device",
		[MESH_COV_STORAGE - MESH_COV_ESCAPES] = "memory",
		[MESH_COV_PROTOCOL - MESH_COV_ESCAPES] = "mptcp",
		[COVERAGE_UNSEEN] = "unseen",
	};

	return names[reason];
}

struct coverage_row *coverage_row(struct coverage *c, uint32_t workload, uint64_t cgroup)
{
	struct coverage_row *row = c->row[workload];

	if (!row)
		row = c->row[workload] = calloc(1, sizeof(*row));
	if (!row) {
		c->lost++;
		return NULL;
	}
	if (row->cgroup != cgroup)
		memset(row, 0, sizeof(*row));
	row->cgroup = cgroup;
	return row;
}

/* Only where there is one: pages nobody has used stay unused. */
void coverage_forget(struct coverage *c, uint32_t workload)
{
	if (!c->row[workload])
		return;
	free(c->row[workload]);
	c->row[workload] = NULL;
}

/* --- what the kernel has counted --- */

static struct coverage_service *add_service(struct coverage *c, const char *name)
{
	struct coverage_service *v;

	if (c->nservices == MESH_MAX_SERVICES)
		return NULL;
	v = realloc(c->services, (c->nservices + 1) * sizeof(*v));
	if (!v)
		return NULL;
	c->services = v;
	v += c->nservices++;
	memset(v, 0, sizeof(*v));
	strncpy(v->name, name, sizeof(v->name) - 1);
	return v;
}

static struct coverage_service *service_of(struct coverage *c, struct coverage_row *row,
					   const char *name)
{
	if (row->service < c->nservices && !strcmp(c->services[row->service].name, name))
		return &c->services[row->service];
	for (row->service = 0; row->service < c->nservices; row->service++)
		if (!strcmp(c->services[row->service].name, name))
			return &c->services[row->service];
	return add_service(c, name);
}

void coverage_look(struct coverage *c)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < c->nservices; i++)
		memset(c->services[i].open, 0, sizeof(c->services[i].open));
	for (uint32_t i = 0; i < c->nstrangers; i++)
		if (c->strangers[i].open || c->strangers[i].found)
			c->strangers[kept++] = c->strangers[i];
	c->nstrangers = kept;
}

void coverage_counted(struct coverage *c, struct coverage_row *row, const char *service,
		      const struct mesh_coverage *now, uint64_t now_ns)
{
	struct coverage_service *sum = service_of(c, row, service);

	if (!sum)
		c->lost++;
	for (uint32_t way = 0; way < MESH_COV_WAYS; way++) {
		/* it begins anew when the kernel's entry was made again */
		uint64_t more =
			now->n[way] >= row->n[way] ? now->n[way] - row->n[way] : now->n[way];

		row->n[way] = now->n[way];
		if (sum)
			sum->n[way] += more;
		if (more && way >= MESH_COV_ESCAPES)
			row->escaped_ns[way - MESH_COV_ESCAPES] = now_ns;
	}
	for (uint32_t i = 0; sum && i < COVERAGE_REASONS; i++)
		sum->open[i] += row->open[i];
}

/* --- strangers --- */

static struct coverage_stranger *stranger_of(struct coverage *c, uint64_t cgroup)
{
	for (uint32_t i = 0; i < c->nstrangers; i++)
		if (c->strangers[i].cgroup == cgroup)
			return &c->strangers[i];
	return NULL;
}

/* A place for another one: that of the one who has been silent for longest, if he has been so for
 * longer than this one. */
static struct coverage_stranger *make_room(struct coverage *c, uint64_t last_ns)
{
	struct coverage_stranger *oldest = &c->strangers[0];

	if (c->nstrangers < COVERAGE_STRANGERS)
		return &c->strangers[c->nstrangers++];
	for (uint32_t i = 1; i < c->nstrangers; i++)
		if (c->strangers[i].last_ns < oldest->last_ns)
			oldest = &c->strangers[i];
	return !oldest->open && !oldest->found && oldest->last_ns < last_ns ? oldest : NULL;
}

void coverage_stranger(struct coverage *c, uint64_t cgroup, const struct mesh_stranger *s,
		       uint64_t now_ns)
{
	struct coverage_stranger *row = stranger_of(c, cgroup);

	if (!row && s->last_ns + COVERAGE_FRESH_NS < now_ns)
		return;
	if (!row) {
		row = make_room(c, s->last_ns);
		if (!row)
			return;
		memset(row, 0, sizeof(*row));
	}
	row->cgroup = cgroup;
	row->n = s->n;
	row->last_ns = s->last_ns;
	row->upstream = s->upstream;
}

/* --- rounds --- */

void coverage_round_begin(struct coverage *c)
{
	for (uint32_t i = 0; i < MESH_MAX_WORKLOADS; i++)
		if (c->row[i])
			memset(c->row[i]->found, 0, sizeof(c->row[i]->found));
	for (uint32_t i = 0; i < c->nstrangers; i++)
		c->strangers[i].found = 0;
}

void coverage_found(struct coverage_row *row, uint32_t reason, uint32_t upstream)
{
	row->found[reason]++;
	row->upstream[reason] = upstream;
}

void coverage_found_stranger(struct coverage *c, uint64_t cgroup, uint32_t upstream)
{
	struct coverage_stranger *row = stranger_of(c, cgroup);

	if (!row) {
		row = make_room(c, 0);
		if (!row)
			return;
		*row = (struct coverage_stranger){.cgroup = cgroup};
	}
	row->upstream = upstream;
	row->found++;
}

void coverage_round_end(struct coverage *c, uint64_t now_ns)
{
	for (uint32_t i = 0; i < MESH_MAX_WORKLOADS; i++) {
		struct coverage_row *row = c->row[i];

		if (!row)
			continue;
		memcpy(row->open, row->found, sizeof(row->open));
		if (row->open[COVERAGE_UNSEEN])
			row->escaped_ns[COVERAGE_UNSEEN] = now_ns;
	}
	for (uint32_t i = 0; i < c->nstrangers; i++) {
		c->strangers[i].open = c->strangers[i].found;
		c->strangers[i].found = 0;
	}
	c->rounds++;
}

/* --- questions --- */

/* Of those that nobody has seen only what exists is known: when they are closed they are over. */
bool coverage_escapes(const struct coverage_row *row, uint32_t reason, uint64_t now_ns)
{
	if (row->open[reason])
		return true;
	return reason != COVERAGE_UNSEEN && row->escaped_ns[reason] &&
	       now_ns - row->escaped_ns[reason] < COVERAGE_FRESH_NS;
}

bool coverage_escapes_any(const struct coverage_row *row, uint64_t now_ns)
{
	for (uint32_t i = 0; i < COVERAGE_REASONS; i++)
		if (coverage_escapes(row, i, now_ns))
			return true;
	return false;
}
