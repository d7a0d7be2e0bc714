/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The supervisor's model of services, against a sink that keeps what it is given, as the kernel's
 * maps would. Header only, for tests/unit/test_registry*.c.
 */
#ifndef TESTS_REGISTRY_RIG_H
#define TESTS_REGISTRY_RIG_H

#include "agent/registry/registry.h"
#include "lib/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define HOST_NS	 1
#define POD_NS	 2
#define OTHER_NS 3
#define S	 1000000000ULL

static struct {
	struct mesh_endpoint endpoints[MESH_MAX_ENDPOINTS];
	struct mesh_upstream upstreams[MESH_MAX_UPSTREAMS];
	struct mesh_slots slots[MESH_MAX_SUBSETS];
	uint64_t latency[MESH_MAX_ENDPOINTS];
	struct {
		struct mesh_dest_key key;
		struct mesh_dest dest;
	} dests[256];
	uint32_t ndests, max_dests;
	struct {
		uint64_t cgroup;
		struct mesh_workload w;
	} workloads[64];
	uint32_t nworkloads, snapshots, slot_writes, swept;
	void (*at_snapshot)(void); /* NULL: nobody looks */
	void (*at_fresh)(uint32_t endpoint);
} k;

static struct registry *r;
static uint64_t now;
static uint64_t next_cookie;

/* --- the sink: what it is told must make sense to a reader at that very moment --- */

static inline int sink_services(void *arg)
{
	k.snapshots++;
	if (k.at_snapshot)
		k.at_snapshot();
	return 0;
}

static inline void sink_swept(void *arg, uint64_t cookie)
{
	k.swept++;
}

static inline void sink_endpoint(void *arg, uint32_t id, const struct mesh_endpoint *ep, bool fresh)
{
	if (fresh)
		k.latency[id] = 0;
	if (fresh && k.at_fresh)
		k.at_fresh(id);
	k.endpoints[id] = *ep;
}

static inline void sink_upstream(void *arg, uint32_t id, const struct mesh_upstream *up, bool fresh)
{
	for (uint32_t i = 0; i < up->nsplit; i++)
		if (up->split[i].subset != MESH_NONE)
			assert_in_range(k.slots[up->split[i].subset].n, 1, MESH_SLOTS);
	if (up->nsplit)
		assert_int_equal(up->split[up->nsplit - 1].upto, 65536);
	k.upstreams[id] = *up;
}

static inline void sink_slots(void *arg, uint32_t subset, const struct mesh_slots *table)
{
	k.slot_writes++;
	k.slots[subset] = *table;
	for (uint32_t i = 0; i < table->n; i++)
		assert_true(k.endpoints[table->ep[i]].flags & MESH_EP_USED);
}

static inline int sink_dest(void *arg, const struct mesh_dest_key *key,
			    const struct mesh_dest *dest)
{
	uint32_t i = 0;

	while (i < k.ndests && memcmp(&k.dests[i].key, key, sizeof(*key)))
		i++;
	if (!dest) {
		assert_true(i < k.ndests);
		k.dests[i] = k.dests[--k.ndests];
		return 0;
	}
	if (dest->workload != MESH_VIRTUAL) /* arrays before dests */
		assert_true(k.upstreams[dest->upstream].nsplit > 0);
	assert_true(k.snapshots > 0); /* and names */
	if (i == k.ndests && k.ndests == k.max_dests)
		return -E2BIG;
	k.dests[i].key = *key;
	k.dests[i].dest = *dest;
	k.ndests += i == k.ndests;
	return 0;
}

static inline int sink_workload(void *arg, uint64_t cgroup, const struct mesh_workload *w)
{
	uint32_t i = 0;

	while (i < k.nworkloads && k.workloads[i].cgroup != cgroup)
		i++;
	if (!w) {
		if (i < k.nworkloads)
			k.workloads[i] = k.workloads[--k.nworkloads];
		return 0;
	}
	k.workloads[i].cgroup = cgroup;
	k.workloads[i].w = *w;
	k.nworkloads += i == k.nworkloads;
	return 0;
}

static inline uint64_t sink_latency(void *arg, uint32_t endpoint)
{
	return k.latency[endpoint];
}

/* --- arranging and looking --- */

static inline void address(uint64_t netns, const char *a, const char *b)
{
	uint8_t ip[4][16];
	uint32_t n = 0;

	assert_int_equal(addr_parse_ip("127.0.0.1", ip[n++]), 0);
	assert_int_equal(addr_parse_ip("::1", ip[n++]), 0);
	if (a)
		assert_int_equal(addr_parse_ip(a, ip[n++]), 0);
	if (b)
		assert_int_equal(addr_parse_ip(b, ip[n++]), 0);
	assert_int_equal(registry_addresses(r, netns, ip, n), 0);
}

static inline int make(void **state)
{
	const struct registry_sink sink = {.services = sink_services,
					   .swept = sink_swept,
					   .endpoint = sink_endpoint,
					   .upstream = sink_upstream,
					   .slots = sink_slots,
					   .dest = sink_dest,
					   .workload = sink_workload,
					   .latency = sink_latency};

	memset(&k, 0, sizeof(k));
	k.max_dests = 256;
	now = 100 * S;
	next_cookie = 1;
	if (registry_new(&sink, HOST_NS, &r))
		return -1;
	address(HOST_NS, NULL, NULL);
	address(POD_NS, "10.0.0.2", "fd00::2");
	return 0;
}

static inline int drop(void **state)
{
	registry_free(&r);
	return 0;
}

static inline uint32_t workload(const char *service, const char *instance, const char *version,
				uint16_t port, uint64_t netns)
{
	static uint64_t cgroup = 1000;
	struct workload_info w;
	uint32_t id;

	memset(&w, 0, sizeof(w));
	w.cgroup = ++cgroup;
	w.netns = netns;
	w.port = port;
	strcpy(w.service, service);
	strcpy(w.instance, instance);
	strcpy(w.version, version);
	assert_int_equal(registry_workload_add(r, &w, now, &id), 0);
	return id;
}

static inline uint64_t listens(uint32_t w, const char *ip, uint16_t port)
{
	struct listen_info l = {.cookie = next_cookie++, .port = port};

	assert_int_equal(addr_parse_ip(ip, l.ip), 0);
	assert_int_equal(registry_listen(r, w, &l), 0);
	return l.cookie;
}

static inline void flush(void)
{
	assert_int_equal(registry_flush(r, now), 0);
	assert_false(registry_dirty(r));
}

static inline const struct mesh_dest *dest(const char *ip, uint16_t port, uint64_t netns)
{
	struct mesh_dest_key key = {.port = htons(port), .netns = netns};

	assert_int_equal(addr_parse_ip(ip, key.ip), 0);
	for (uint32_t i = 0; i < k.ndests; i++)
		if (!memcmp(&k.dests[i].key, &key, sizeof(key)))
			return &k.dests[i].dest;
	return NULL;
}

static inline uint32_t upstream_of(const char *ip, uint16_t port, uint64_t netns)
{
	const struct mesh_dest *d = dest(ip, port, netns);

	assert_non_null(d);
	return d->upstream;
}

/* "id:port id:port", sorted: who can be called through the upstream, by its slot tables. */
static inline const char *callees(uint32_t upstream)
{
	static char text[1024];
	const struct mesh_upstream *u = &k.upstreams[upstream];
	char words[32][80];
	uint32_t n = 0;

	for (uint32_t i = 0; i < u->nsplit; i++)
		for (uint32_t j = 0; j < MESH_SLOTS; j++) {
			const struct mesh_endpoint *e =
				&k.endpoints[k.slots[u->split[i].subset].ep[j]];
			char word[80];
			uint32_t w = 0;

			snprintf(word, sizeof(word), "%s:%u", e->id, ntohs(e->port));
			while (w < n && strcmp(words[w], word))
				w++;
			if (w == n)
				strcpy(words[n++], word);
		}
	if (n)
		qsort(words, n, sizeof(*words), (int (*)(const void *, const void *))strcmp);
	*text = 0;
	for (uint32_t w = 0; w < n; w++)
		sprintf(text + strlen(text), "%s%s", w ? " " : "", words[w]);
	return text;
}

static inline const char *endpoint_address(const char *id)
{
	static char text[ADDR_TEXT_MAX];

	for (uint32_t i = 0; i < MESH_MAX_ENDPOINTS; i++)
		if (k.endpoints[i].flags & MESH_EP_USED && !strcmp(k.endpoints[i].id, id))
			return addr_format_ip(k.endpoints[i].ip, text);
	return "none";
}

static inline uint32_t used_endpoints(void)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < MESH_MAX_ENDPOINTS; i++)
		n += k.endpoints[i].flags & MESH_EP_USED;
	return n;
}

#define story(fn) cmocka_unit_test_setup_teardown(fn, make, drop)

static inline uint32_t id_of(const char *name)
{
	for (uint32_t i = 0; i < MESH_MAX_ENDPOINTS; i++)
		if (k.endpoints[i].flags & MESH_EP_USED && !strcmp(k.endpoints[i].id, name))
			return i;
	fail_msg("no endpoint %s", name);
	return 0;
}

/* Endpoints a, b, ... on ports 81, 82, ...; the upstream of all. */
static inline uint32_t service_of(uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		char name[2] = {(char)('a' + i), 0};

		listens(workload("s", name, "v1", 0, HOST_NS), "0.0.0.0", (uint16_t)(81 + i));
	}
	flush();
	return upstream_of("127.0.0.1", 81, HOST_NS);
}

#endif
