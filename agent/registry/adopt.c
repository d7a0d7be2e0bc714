/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a registry before this one has left in the arrays and maps, taken up again. Services come
 * back as those that nobody holds, upstreams as those whose endpoints are gone: both wait for who
 * comes. Endpoints and workloads are kept by what identifies them. See registry.h.
 */
#include "agent/registry/impl.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool is_string(const char *s, size_t size)
{
	return memchr(s, 0, size) != NULL;
}

static bool is_known(const struct registry *r, uint32_t service)
{
	return service < MESH_MAX_SERVICES && r->services[service].used;
}

static bool names_make_sense(const struct registry *r, const struct mesh_names *n)
{
	if (!*n->service || !is_string(n->service, sizeof(n->service)))
		return false;
	for (uint32_t i = 0; i < MESH_VERSIONS - 1; i++)
		if (!is_string(n->version[i], sizeof(n->version[i])))
			return false;
	for (uint32_t i = 0; i < r->service_ids.fresh; i++)
		if (r->services[i].used && !strcmp(r->services[i].name, n->service))
			return false;
	return true;
}

/* Numbers in use are those up to the last one that has a name. */
static int adopt_versions(struct service *s, const struct mesh_names *n, uint64_t now_ns)
{
	uint32_t count = MESH_VERSIONS - 1;

	while (count && !*n->version[count - 1])
		count--;
	s->versions = calloc(count + 1, sizeof(*s->versions));
	if (!s->versions)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++) {
		strcpy(s->versions[i].name, n->version[i]);
		s->versions[i].dropped_ns = now_ns;
	}
	s->nversions = count;
	return 0;
}

void registry_adopt_service(struct registry *r, uint32_t id, const struct mesh_names *n,
			    uint64_t now_ns)
{
	struct service *s;

	r->adopting = true;
	if (!names_make_sense(r, n) || ids_adopt(&r->service_ids, id, now_ns))
		return;
	s = &r->services[id];
	memset(s, 0, sizeof(*s));
	r->renamed++;
	ids_free(&r->service_ids, id, now_ns);
	if (adopt_versions(s, n, now_ns))
		return;
	strcpy(s->name, n->service);
	s->used = s->idle = s->dirty = true;
	s->workloads = s->externals = s->upstreams = s->primary = MESH_NONE;
	service_config_init(&s->config);
}

static void adopt_subset(struct registry *r, uint32_t upstream, uint32_t id, const char *version,
			 uint64_t now_ns)
{
	struct upstream *u = &r->upstreams[upstream];
	struct subset *s;

	if (ids_adopt(&r->subset_ids, id, now_ns)) /* one that stands for several numbers, too */
		return;
	s = &r->subsets[id];
	memset(s, 0, sizeof(*s));
	s->used = s->dirty = true;
	s->upstream = upstream;
	strcpy(s->version, version);
	r->nsubsets_named += *version != 0;
	u->subsets[u->nsubsets++] = id;
}

static bool has_upstream(const struct registry *r, const struct service *s, uint16_t port)
{
	uint32_t id = s->upstreams;

	while (id != MESH_NONE && r->upstreams[id].port != port)
		id = r->upstreams[id].next;
	return id != MESH_NONE;
}

void registry_adopt_upstream(struct registry *r, uint32_t id, const struct mesh_upstream *image,
			     uint64_t now_ns)
{
	uint16_t port = image->primary ? 0 : ntohs(image->port);
	struct upstream *u;
	struct service *s;

	if (!image->seq || !is_known(r, image->service) || image->protocol > MESH_PROTO_TCP)
		return;
	s = &r->services[image->service];
	if ((!image->primary && !port) || has_upstream(r, s, port) ||
	    ids_adopt(&r->upstream_ids, id, now_ns))
		return;
	u = &r->upstreams[id];
	memset(u, 0, sizeof(*u));
	u->used = u->dirty = true;
	u->port = port;
	u->image = *image;
	u->image.seq = 0;
	u->next = s->upstreams;
	s->upstreams = id;
	s->protocol = image->protocol;
	if (!port)
		s->primary = id;
	for (uint32_t v = 0; v <= s->nversions; v++)
		if (image->version[v] < MESH_MAX_SUBSETS)
			adopt_subset(r, id, image->version[v], v ? s->versions[v - 1].name : "",
				     now_ns);
}

void registry_adopt_endpoint(struct registry *r, uint32_t id, const struct mesh_endpoint *image,
			     uint64_t now_ns)
{
	bool known = image->flags & MESH_EP_USED && is_known(r, image->service) && image->port &&
		     is_string(image->id, sizeof(image->id)) &&
		     is_string(image->version, sizeof(image->version));
	struct endpoint *e;

	if (!image->seq || ids_adopt(&r->endpoint_ids, id, now_ns))
		return;
	e = &r->endpoints[id];
	memset(e, 0, sizeof(*e));
	r->renamed++;
	e->image = *image;
	e->image.seq = 0;
	e->port = ntohs(image->port);
	e->adopted = known;
	if (!known)
		endpoint_drop(r, id, now_ns);
}

void registry_adopt_workload(struct registry *r, uint64_t cgroup, const struct mesh_workload *m,
			     uint64_t now_ns)
{
	struct workload *w;

	r->adopting = true;
	if (ids_adopt(&r->workload_ids, m->id, now_ns)) {
		cgroup_gone(r, cgroup);
		return;
	}
	w = &r->workloads[m->id];
	memset(w, 0, sizeof(*w));
	r->renamed++;
	w->adopted = true;
	w->info.cgroup = cgroup;
	if (is_known(r, m->service)) /* who reads of it may come before whoever finds it again */
		strcpy(w->info.service, r->services[m->service].name);
}

/* A new entry without a holder is one that the next flush removes. */
void registry_adopt_dest(struct registry *r, const struct mesh_dest_key *key)
{
	struct dest_entry *e;

	if (!dest_entry_get(r, key, &e))
		e->written = true;
}

static bool is_same(const struct endpoint *e, uint64_t netns, const struct external_info *x)
{
	const struct mesh_endpoint *m = &e->image;

	if (!x)
		return !(m->flags & MESH_EP_EXTERNAL) && m->netns == netns;
	return m->flags & MESH_EP_EXTERNAL && !strcmp(m->version, x->version) &&
	       !memcmp(m->ip, x->ip, 16);
}

uint32_t endpoint_recall(struct registry *r, uint32_t service, uint32_t port, const char *id,
			 uint64_t netns, const struct external_info *x)
{
	for (uint32_t i = 0; r->adopting && i < r->endpoint_ids.fresh; i++) {
		const struct endpoint *e = &r->endpoints[i];

		if (e->adopted && e->image.service == service && e->port == port &&
		    !strcmp(e->image.id, id) && is_same(e, netns, x))
			return i;
	}
	return MESH_NONE;
}

uint32_t workload_recall(struct registry *r, uint64_t cgroup)
{
	for (uint32_t i = 0; r->adopting && i < r->workload_ids.fresh; i++)
		if (r->workloads[i].adopted && r->workloads[i].info.cgroup == cgroup)
			return i;
	return MESH_NONE;
}

/* Endpoints of workloads are found again by the recomputation that comes first. */
static int recompute_all(struct registry *r, uint64_t now_ns)
{
	int error = 0;

	for (uint32_t i = 0; i < r->service_ids.fresh; i++)
		if (r->services[i].used) {
			int err = service_recompute(r, i, now_ns);

			r->services[i].dirty = err != 0;
			error = error ? error : err;
		}
	return error;
}

void registry_adopted(struct registry *r, uint64_t now_ns)
{
	if (!r->adopting)
		return;
	recompute_all(r, now_ns); /* what fails is tried again by the flush */
	r->adopting = false;
	for (uint32_t i = 0; i < r->endpoint_ids.fresh; i++)
		if (r->endpoints[i].adopted) {
			r->endpoints[i].adopted = false;
			endpoint_drop(r, i, now_ns);
		}
	for (uint32_t i = 0; i < r->workload_ids.fresh; i++)
		if (r->workloads[i].adopted) {
			r->workloads[i].adopted = false;
			workload_forget(r, i, now_ns);
		}
	r->dirty = r->services_dirty = true;
}

bool registry_names(const struct registry *r, uint32_t id, struct mesh_names *n)
{
	const struct service *s = id < MESH_MAX_SERVICES ? &r->services[id] : NULL;

	if (!s || !s->used)
		return false;
	memset(n, 0, sizeof(*n));
	strcpy(n->service, s->name);
	for (uint32_t i = 0; i < s->nversions; i++)
		strcpy(n->version[i], s->versions[i].name);
	return true;
}
