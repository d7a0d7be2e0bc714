/* SPDX-License-Identifier: Apache-2.0 */
/* The supervisor's model of services, against a sink that keeps what it is given, as the kernel's
 * maps would. */
#include "agent/registry/ids.h"
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
} k;

static struct registry *r;
static uint64_t now;
static uint64_t next_cookie;

/* --- the sink: what it is told must make sense to a reader at that very moment --- */

static int sink_services(void *arg)
{
	k.snapshots++;
	return 0;
}

static void sink_swept(void *arg, uint64_t cookie)
{
	k.swept++;
}

static void sink_endpoint(void *arg, uint32_t id, const struct mesh_endpoint *ep, bool fresh)
{
	if (fresh)
		k.latency[id] = 0;
	k.endpoints[id] = *ep;
}

static void sink_upstream(void *arg, uint32_t id, const struct mesh_upstream *up, bool fresh)
{
	assert_true(k.snapshots > 0);
	for (uint32_t i = 0; i < up->nsplit; i++)
		assert_int_equal(k.slots[up->split[i].subset].n, MESH_SLOTS);
	if (up->nsplit)
		assert_int_equal(up->split[up->nsplit - 1].upto, 65536);
	k.upstreams[id] = *up;
}

static void sink_slots(void *arg, uint32_t subset, uint32_t n, uint32_t nendpoints,
		       const uint16_t *ep)
{
	k.slot_writes++;
	k.slots[subset].n = n;
	k.slots[subset].nendpoints = nendpoints;
	if (n)
		memcpy(k.slots[subset].ep, ep, sizeof(k.slots[subset].ep));
	for (uint32_t i = 0; i < n; i++)
		assert_true(k.endpoints[ep[i]].flags & MESH_EP_USED);
}

static int sink_dest(void *arg, const struct mesh_dest_key *key, const struct mesh_dest *dest)
{
	uint32_t i = 0;

	while (i < k.ndests && memcmp(&k.dests[i].key, key, sizeof(*key)))
		i++;
	if (!dest) {
		assert_true(i < k.ndests);
		k.dests[i] = k.dests[--k.ndests];
		return 0;
	}
	assert_true(k.upstreams[dest->upstream].nsplit > 0); /* arrays before dests */
	if (i == k.ndests && k.ndests == k.max_dests)
		return -E2BIG;
	k.dests[i].key = *key;
	k.dests[i].dest = *dest;
	k.ndests += i == k.ndests;
	return 0;
}

static int sink_workload(void *arg, uint64_t cgroup, const struct mesh_workload *w)
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

static uint64_t sink_latency(void *arg, uint32_t endpoint)
{
	return k.latency[endpoint];
}

/* --- arranging and looking --- */

static void address(uint64_t netns, const char *a, const char *b)
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

static int make(void **state)
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

static int drop(void **state)
{
	registry_free(&r);
	return 0;
}

static uint32_t workload(const char *service, const char *instance, const char *version,
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

static uint64_t listens(uint32_t w, const char *ip, uint16_t port)
{
	struct listen_info l = {.cookie = next_cookie++, .port = port};

	assert_int_equal(addr_parse_ip(ip, l.ip), 0);
	assert_int_equal(registry_listen(r, w, &l), 0);
	return l.cookie;
}

static void flush(void)
{
	assert_int_equal(registry_flush(r, now), 0);
	assert_false(registry_dirty(r));
}

static const struct mesh_dest *dest(const char *ip, uint16_t port, uint64_t netns)
{
	struct mesh_dest_key key = {.port = htons(port), .netns = netns};

	assert_int_equal(addr_parse_ip(ip, key.ip), 0);
	for (uint32_t i = 0; i < k.ndests; i++)
		if (!memcmp(&k.dests[i].key, &key, sizeof(key)))
			return &k.dests[i].dest;
	return NULL;
}

static uint32_t upstream_of(const char *ip, uint16_t port, uint64_t netns)
{
	const struct mesh_dest *d = dest(ip, port, netns);

	assert_non_null(d);
	return d->upstream;
}

/* "id:port id:port", sorted: who can be called through the upstream, by its slot tables. */
static const char *callees(uint32_t upstream)
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

static const char *endpoint_address(const char *id)
{
	static char text[ADDR_TEXT_MAX];

	for (uint32_t i = 0; i < MESH_MAX_ENDPOINTS; i++)
		if (k.endpoints[i].flags & MESH_EP_USED && !strcmp(k.endpoints[i].id, id))
			return addr_format_ip(k.endpoints[i].ip, text);
	return "none";
}

static uint32_t used_endpoints(void)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < MESH_MAX_ENDPOINTS; i++)
		n += k.endpoints[i].flags & MESH_EP_USED;
	return n;
}

/* --- stories --- */

static void a_server_on_one_address_becomes_one_endpoint_and_one_destination(void **state)
{
	uint32_t w = workload("backend", "b1", "v1", 0, POD_NS);

	listens(w, "10.0.0.2", 8080);
	flush();
	assert_int_equal(k.ndests, 1);
	assert_string_equal(callees(upstream_of("10.0.0.2", 8080, 0)), "b1:8080");
	assert_int_equal(dest("10.0.0.2", 8080, 0)->workload, w);
	assert_int_equal(k.nworkloads, 1);
	assert_int_equal(k.workloads[0].w.id, w);
	assert_int_equal(k.workloads[0].w.netns, POD_NS);
}

static void a_wildcard_listener_is_reachable_at_every_address_of_its_namespace(void **state)
{
	uint32_t w = workload("backend", "b1", "v1", 0, POD_NS);

	listens(w, "::", 80);
	flush();
	assert_non_null(dest("10.0.0.2", 80, 0));
	assert_non_null(dest("fd00::2", 80, 0));
	assert_non_null(dest("127.0.0.1", 80, POD_NS));
	assert_non_null(dest("::1", 80, POD_NS));
	assert_int_equal(k.ndests, 4);
	assert_string_equal(endpoint_address("b1"), "10.0.0.2");
}

static void a_v4_wildcard_serves_no_v6_and_a_v6only_one_no_v4(void **state)
{
	struct listen_info l = {.cookie = 900, .port = 81, .v6only = true};
	uint32_t w = workload("backend", "b1", "v1", 0, POD_NS);

	listens(w, "0.0.0.0", 80);
	assert_int_equal(registry_listen(r, w, &l), 0);
	flush();
	assert_non_null(dest("10.0.0.2", 80, 0));
	assert_null(dest("fd00::2", 80, 0));
	assert_null(dest("::1", 80, POD_NS));
	assert_non_null(dest("fd00::2", 81, 0));
	assert_null(dest("10.0.0.2", 81, 0));
	assert_null(dest("127.0.0.1", 81, POD_NS));
}

static void new_addresses_become_destinations_and_old_ones_go(void **state)
{
	uint32_t w = workload("backend", "b1", "v1", 0, OTHER_NS);

	listens(w, "0.0.0.0", 80);
	flush();
	assert_string_equal(endpoint_address("b1"), "127.0.0.1");
	assert_int_equal(k.ndests, 1);
	address(OTHER_NS, "10.0.0.3", NULL);
	flush();
	assert_string_equal(endpoint_address("b1"), "10.0.0.3");
	assert_non_null(dest("10.0.0.3", 80, 0));
	address(OTHER_NS, "10.0.0.4", NULL);
	flush();
	assert_null(dest("10.0.0.3", 80, 0));
	assert_non_null(dest("10.0.0.4", 80, 0));
	assert_int_equal(k.ndests, 2);
}

static void what_listens_on_loopback_only_is_marked_and_keyed_by_its_namespace(void **state)
{
	uint32_t a = workload("a", "a1", "v1", 0, POD_NS),
		 b = workload("b", "b1", "v1", 0, OTHER_NS);

	listens(a, "127.0.0.1", 80);
	listens(b, "127.0.0.1", 80);
	flush();
	assert_int_not_equal(upstream_of("127.0.0.1", 80, POD_NS),
			     upstream_of("127.0.0.1", 80, OTHER_NS));
	assert_null(dest("127.0.0.1", 80, 0));
	for (uint32_t i = 0; i < 2; i++) {
		assert_true(k.endpoints[i].flags & MESH_EP_LOOPBACK);
		assert_int_equal(k.endpoints[i].netns,
				 k.endpoints[i].workload == a ? POD_NS : OTHER_NS);
	}
}

static void the_lowest_port_is_primary_unless_one_is_declared(void **state)
{
	uint32_t a = workload("a", "a1", "v1", 0, HOST_NS),
		 b = workload("b", "b1", "v1", 9000, HOST_NS);
	struct endpoint_view e;

	listens(a, "0.0.0.0", 8081);
	listens(a, "0.0.0.0", 8080);
	listens(b, "0.0.0.0", 7000);
	flush();
	for (uint32_t i = 0; registry_endpoint(r, i, &e); i++)
		assert_int_equal(e.primary, !strcmp(e.id, "a1") && e.port == 8080);
	listens(b, "0.0.0.0", 9000);
	flush();
	for (uint32_t i = 0; registry_endpoint(r, i, &e); i++)
		if (!strcmp(e.id, "b1"))
			assert_int_equal(e.primary, e.port == 9000);
}

static void
calls_to_a_primary_port_reach_the_primary_ports_of_all_and_others_the_same_port(void **state)
{
	uint32_t one = workload("s", "one", "v1", 0, HOST_NS),
		 two = workload("s", "two", "v1", 8002, HOST_NS);
	uint32_t primary, admin;

	listens(one, "0.0.0.0", 8001);
	listens(one, "0.0.0.0", 9901);
	listens(two, "0.0.0.0", 8002);
	listens(two, "10.0.0.9", 9901);
	flush();
	primary = upstream_of("127.0.0.1", 8001, HOST_NS);
	assert_int_equal(upstream_of("127.0.0.1", 8002, HOST_NS), primary);
	assert_string_equal(callees(primary), "one:8001 two:8002");
	admin = upstream_of("127.0.0.1", 9901, HOST_NS);
	assert_int_not_equal(admin, primary);
	assert_int_equal(upstream_of("10.0.0.9", 9901, 0), admin);
	assert_string_equal(callees(admin), "one:9901 two:9901");
}

static void sockets_that_share_a_port_are_one_endpoint_until_the_last_goes(void **state)
{
	uint32_t w = workload("s", "one", "v1", 0, HOST_NS);
	uint64_t first = listens(w, "0.0.0.0", 80), second = listens(w, "0.0.0.0", 80);

	flush();
	assert_int_equal(used_endpoints(), 1);
	assert_true(registry_unlisten(r, first));
	flush();
	assert_int_equal(used_endpoints(), 1);
	assert_int_equal(k.ndests, 1);
	assert_true(registry_unlisten(r, second));
	flush();
	assert_int_equal(used_endpoints(), 0);
	assert_int_equal(k.ndests, 0);
	assert_false(registry_unlisten(r, second));
}

static void two_workloads_on_one_address_leave_the_destination_to_nobody_in_particular(void **state)
{
	uint32_t one = workload("s", "one", "v1", 0, HOST_NS),
		 two = workload("s", "two", "v1", 0, HOST_NS);
	uint64_t cookie = listens(one, "0.0.0.0", 80);

	listens(two, "0.0.0.0", 80);
	flush();
	assert_int_equal(dest("127.0.0.1", 80, HOST_NS)->workload, MESH_NONE);
	registry_unlisten(r, cookie);
	flush();
	assert_int_equal(dest("127.0.0.1", 80, HOST_NS)->workload, two);
}

static void the_end_of_a_workload_takes_everything_of_it_away(void **state)
{
	uint32_t w = workload("s", "one", "v1", 0, POD_NS),
		 caller = workload("c", "caller", "v1", 0, POD_NS);
	uint32_t up;

	listens(w, "0.0.0.0", 80);
	listens(w, "::", 81);
	flush();
	up = upstream_of("10.0.0.2", 80, 0);
	registry_workload_remove(r, w, now);
	flush();
	assert_int_equal(k.ndests, 0);
	assert_int_equal(used_endpoints(), 0);
	assert_int_equal(k.nworkloads, 1);
	assert_int_equal(k.workloads[0].w.id, caller);
	assert_int_equal(k.upstreams[up].nsplit, 0);
}

static void a_service_that_comes_back_has_its_ids_again_and_its_endpoint_a_new_one(void **state)
{
	uint32_t w = workload("s", "one", "v1", 0, POD_NS), up, service, ep;

	listens(w, "10.0.0.2", 80);
	flush();
	up = upstream_of("10.0.0.2", 80, 0);
	service = k.upstreams[up].service;
	ep = k.slots[k.upstreams[up].split[0].subset].ep[0];
	registry_workload_remove(r, w, now);
	flush();
	workload("in between", "x", "v1", 0, POD_NS);
	w = workload("s", "one", "v1", 0, POD_NS);
	listens(w, "10.0.0.2", 80);
	flush();
	assert_int_equal(upstream_of("10.0.0.2", 80, 0), up);
	assert_int_equal(k.upstreams[up].service, service);
	assert_int_not_equal(k.slots[k.upstreams[up].split[0].subset].ep[0], ep);
}

static void configure_split(const char *service, const char *a, uint32_t wa, const char *b,
			    uint32_t wb)
{
	struct named_config c;

	memset(&c, 0, sizeof(c));
	strcpy(c.service, service);
	service_config_init(&c.config);
	c.config.nsplit = 2;
	strcpy(c.config.split[0].version, a);
	strcpy(c.config.split[1].version, b);
	c.config.split[0].weight = wa;
	c.config.split[1].weight = wb;
	assert_int_equal(registry_configure(r, &c, 1, now), 0);
}

static void a_split_makes_a_subset_per_version_and_its_end_one_for_all(void **state)
{
	uint32_t up;

	listens(workload("s", "one", "v1", 0, HOST_NS), "0.0.0.0", 81);
	listens(workload("s", "two", "v2", 0, HOST_NS), "0.0.0.0", 82);
	configure_split("s", "v1", 90, "v2", 10);
	flush();
	up = upstream_of("127.0.0.1", 81, HOST_NS);
	assert_int_equal(k.upstreams[up].nsplit, 2);
	assert_int_equal(k.upstreams[up].split[0].upto, 58982);
	assert_string_equal(k.endpoints[k.slots[k.upstreams[up].split[0].subset].ep[0]].id, "one");
	assert_string_equal(k.endpoints[k.slots[k.upstreams[up].split[1].subset].ep[0]].id, "two");
	assert_int_equal(registry_configure(r, NULL, 0, now), 0);
	flush();
	assert_int_equal(k.upstreams[up].nsplit, 1);
	assert_string_equal(callees(up), "one:81 two:82");
}

static void the_weight_of_a_version_that_nobody_serves_goes_to_the_others(void **state)
{
	uint32_t two, up;
	uint64_t cookie;

	listens(workload("s", "one", "v1", 0, HOST_NS), "0.0.0.0", 81);
	two = workload("s", "two", "v2", 0, HOST_NS);
	cookie = listens(two, "0.0.0.0", 82);
	configure_split("s", "v1", 50, "v2", 50);
	flush();
	up = upstream_of("127.0.0.1", 81, HOST_NS);
	assert_int_equal(k.upstreams[up].nsplit, 2);
	registry_unlisten(r, cookie);
	flush();
	assert_int_equal(k.upstreams[up].nsplit, 1);
	assert_string_equal(callees(up), "one:81");
	listens(two, "0.0.0.0", 82);
	flush();
	assert_int_equal(k.upstreams[up].nsplit, 2);
}

static void names_reach_the_workers_before_connections_do(void **state)
{
	uint32_t before;

	listens(workload("s", "one", "v1", 0, HOST_NS), "0.0.0.0", 81);
	flush(); /* the sink asserts the order of each step */
	before = k.snapshots;
	listens(workload("s", "two", "v1", 0, HOST_NS), "0.0.0.0", 82);
	flush();
	assert_int_equal(k.snapshots, before); /* nothing new to say */
	listens(workload("t", "one", "v1", 0, HOST_NS), "0.0.0.0", 83);
	flush();
	assert_true(k.snapshots > before);
}

static uint32_t share(uint32_t subset, const char *id)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < MESH_SLOTS; i++)
		n += !strcmp(k.endpoints[k.slots[subset].ep[i]].id, id);
	return n;
}

static void slots_follow_latency_only_when_it_moves_and_only_where_it_counts(void **state)
{
	uint32_t up, subset, writes;

	listens(workload("s", "fast", "v1", 0, HOST_NS), "0.0.0.0", 81);
	listens(workload("s", "slow", "v1", 0, HOST_NS), "0.0.0.0", 82);
	flush();
	up = upstream_of("127.0.0.1", 81, HOST_NS);
	subset = k.upstreams[up].split[0].subset;
	assert_int_equal(share(subset, "fast"), 128);
	for (uint32_t i = 0; i < 2; i++)
		k.latency[i] = !strcmp(k.endpoints[i].id, "fast") ? 10000000 : 100000000;
	registry_rebalance(r);
	assert_true(share(subset, "fast") > 200);
	writes = k.slot_writes;
	k.latency[0] += k.latency[0] / 20;
	registry_rebalance(r);
	assert_int_equal(k.slot_writes, writes);
}

static void round_robin_shares_evenly_whatever_the_latencies(void **state)
{
	struct named_config c;
	uint32_t up;

	memset(&c, 0, sizeof(c));
	strcpy(c.service, "s");
	service_config_init(&c.config);
	c.config.policy = MESH_LB_ROUND_ROBIN;
	listens(workload("s", "fast", "v1", 0, HOST_NS), "0.0.0.0", 81);
	listens(workload("s", "slow", "v1", 0, HOST_NS), "0.0.0.0", 82);
	flush();
	k.latency[0] = 1000000;
	k.latency[1] = 900000000;
	registry_rebalance(r);
	assert_int_equal(registry_configure(r, &c, 1, now), 0);
	flush();
	registry_rebalance(r);
	up = upstream_of("127.0.0.1", 81, HOST_NS);
	assert_int_equal(k.upstreams[up].policy, MESH_LB_ROUND_ROBIN);
	assert_int_equal(share(k.upstreams[up].split[0].subset, "fast"), 128);
}

static struct external_info registered(const char *service, const char *id, const char *ip,
				       uint16_t port)
{
	struct external_info x;

	memset(&x, 0, sizeof(x));
	strcpy(x.service, service);
	strcpy(x.id, id);
	strcpy(x.version, "v1");
	assert_int_equal(addr_parse_ip(ip, x.ip), 0);
	x.port = port;
	return x;
}

static void what_is_registered_by_hand_joins_the_service_and_leaves_with_the_list(void **state)
{
	struct external_info x = registered("s", "far", "192.0.2.7", 7000);
	uint32_t up;

	listens(workload("s", "near", "v1", 0, HOST_NS), "0.0.0.0", 81);
	assert_int_equal(registry_externals(r, &x, 1, now), 0);
	flush();
	up = upstream_of("127.0.0.1", 81, HOST_NS);
	assert_int_equal(upstream_of("192.0.2.7", 7000, 0), up);
	assert_int_equal(dest("192.0.2.7", 7000, 0)->workload, MESH_NONE);
	assert_string_equal(callees(up), "far:7000 near:81");
	assert_int_equal(registry_externals(r, &x, 1, now), 0);
	flush();
	assert_int_equal(used_endpoints(), 2);
	assert_int_equal(registry_externals(r, NULL, 0, now), 0);
	flush();
	assert_null(dest("192.0.2.7", 7000, 0));
	assert_string_equal(callees(up), "near:81");
}

static void what_is_registered_and_discovered_counts_once(void **state)
{
	struct external_info x[2] = {registered("s", "again", "10.0.0.2", 80),
				     registered("s", "local", "127.0.0.1", 81)};

	listens(workload("s", "pod", "v1", 0, POD_NS), "0.0.0.0", 80);
	listens(workload("s", "host", "v1", 0, HOST_NS), "0.0.0.0", 81);
	assert_int_equal(registry_externals(r, x, 2, now), 0);
	flush();
	assert_string_equal(callees(upstream_of("10.0.0.2", 80, 0)), "host:81 pod:80");
}

static void a_change_of_namespace_moves_the_endpoint(void **state)
{
	struct workload_info w;
	uint32_t id = workload("s", "one", "v1", 0, HOST_NS);

	listens(id, "0.0.0.0", 80);
	flush();
	w = *registry_workload(r, id, NULL);
	w.netns = POD_NS;
	assert_int_equal(registry_workload_update(r, id, &w, now), 0);
	flush();
	assert_string_equal(endpoint_address("one"), "10.0.0.2");
	assert_null(dest("127.0.0.1", 80, HOST_NS));
	assert_non_null(dest("127.0.0.1", 80, POD_NS));
	assert_int_equal(k.workloads[0].w.netns, POD_NS);
}

static void a_change_of_name_moves_the_workload_to_the_other_service(void **state)
{
	struct workload_info w;
	uint32_t id = workload("s", "one", "v1", 0, POD_NS), up;

	listens(id, "0.0.0.0", 80);
	flush();
	up = upstream_of("10.0.0.2", 80, 0);
	w = *registry_workload(r, id, NULL);
	strcpy(w.service, "t");
	strcpy(w.version, "v2");
	assert_int_equal(registry_workload_update(r, id, &w, now), 0);
	flush();
	assert_int_not_equal(upstream_of("10.0.0.2", 80, 0), up);
	assert_int_equal(k.upstreams[up].nsplit, 0);
	assert_int_equal(used_endpoints(), 1);
}

static void a_socket_is_gone_when_two_scans_in_a_row_miss_it(void **state)
{
	uint32_t w = workload("s", "one", "v1", 0, HOST_NS);
	uint64_t seen[2] = {listens(w, "0.0.0.0", 80), listens(w, "0.0.0.0", 81)};

	flush();
	registry_sweep(r, HOST_NS, seen, 1);
	assert_true(registry_listens(r, seen[1]));
	registry_sweep(r, HOST_NS, seen, 2);
	registry_sweep(r, HOST_NS, seen, 1);
	assert_true(registry_listens(r, seen[1]));
	registry_sweep(r, POD_NS, NULL, 0);
	registry_sweep(r, HOST_NS, seen, 1);
	assert_false(registry_listens(r, seen[1]));
	assert_true(registry_listens(r, seen[0]));
}

static void one_workload_cannot_take_the_places_of_all_others(void **state)
{
	uint32_t greedy = workload("g", "g", "v1", 0, POD_NS),
		 w = workload("s", "s", "v1", 0, POD_NS);
	struct listen_info l = {.cookie = 1 << 20};
	struct registry_usage u;

	k.max_dests = 256;
	assert_int_equal(addr_parse_ip("10.0.0.2", l.ip), 0);
	for (uint32_t i = 0; i < REGISTRY_SOCKETS_MAX; i++, l.cookie++) {
		l.port = (uint16_t)(1000 + i % 200);
		assert_int_equal(registry_listen(r, greedy, &l), 0);
	}
	assert_int_equal(registry_listen(r, greedy, &l), -ENOSPC);
	registry_usage(r, &u);
	assert_int_equal(u.full, 1);
	listens(w, "10.0.0.2", 80);
	flush();
	assert_non_null(dest("10.0.0.2", 80, 0));
	registry_unlisten(r, l.cookie - 1);
	assert_int_equal(registry_listen(r, greedy, &l), 0);
}

static void a_full_map_is_said_and_tried_again(void **state)
{
	uint32_t w = workload("s", "one", "v1", 0, POD_NS);
	uint64_t cookie = listens(w, "10.0.0.2", 80);

	k.max_dests = 1;
	flush();
	listens(w, "10.0.0.2", 81);
	assert_int_equal(registry_flush(r, now), -E2BIG);
	assert_true(registry_dirty(r));
	registry_unlisten(r, cookie);
	flush();
	assert_non_null(dest("10.0.0.2", 81, 0));
}

static void ids_rest_before_they_are_used_again_oldest_first(void **state)
{
	struct ids s;
	uint32_t id;

	assert_int_equal(ids_init(&s, 3), 0);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(ids_alloc(&s, now, &id), 0);
		assert_int_equal(id, i);
	}
	ids_free(&s, 2, now);
	ids_free(&s, 0, now + S);
	assert_int_equal(ids_alloc(&s, now + IDS_QUARANTINE_NS - 1, &id), -ENOSPC);
	assert_int_equal(ids_alloc(&s, now + IDS_QUARANTINE_NS, &id), 0);
	assert_int_equal(id, 2);
	assert_int_equal(ids_alloc(&s, now + IDS_QUARANTINE_NS, &id), -ENOSPC);
	assert_int_equal(ids_revive(&s, 0), 0);
	assert_int_equal(ids_revive(&s, 0), -ENOENT);
	assert_int_equal(s.used, 3);
	ids_done(&s);
}

static void a_table_that_is_full_of_services_gives_the_oldest_place_to_a_new_one(void **state)
{
	char name[32];
	uint32_t w;
	struct workload_info info;

	for (int i = 0; i < MESH_MAX_SERVICES; i++) {
		snprintf(name, sizeof(name), "s%d", i);
		w = workload(name, "x", "v1", 0, POD_NS);
		if (i == 0)
			listens(w, "10.0.0.2", 80);
		flush();
		registry_workload_remove(r, w, now);
		flush();
	}
	memset(&info, 0, sizeof(info));
	strcpy(info.service, "new");
	assert_int_equal(registry_workload_add(r, &info, now, &w), -ENOSPC);
	now += IDS_QUARANTINE_NS;
	w = workload("new", "x", "v1", 0, POD_NS);
	listens(w, "10.0.0.2", 80);
	flush();
	assert_string_equal(registry_service_name(r, 0), "new");
	assert_string_equal(callees(upstream_of("10.0.0.2", 80, 0)), "x:80");
}

/* Many random changes; afterwards the maps hold exactly what a fresh look at the sockets says. */
static void after_any_history_the_maps_match_the_sockets(void **state)
{
	struct {
		uint32_t w;
		uint64_t cookie[4];
	} live[8] = {0};
	bool on[8] = {false};
	unsigned seed = 42;

	for (int step = 0; step < 3000; step++) {
		int i = rand_r(&seed) % 8, j = rand_r(&seed) % 4;
		char name[8], inst[8];

		now += S / 10;
		snprintf(name, sizeof(name), "s%d", i % 3);
		snprintf(inst, sizeof(inst), "i%d", i);
		if (!on[i]) {
			live[i].w = workload(name, inst, i % 2 ? "v1" : "v2", 0,
					     i % 2 ? POD_NS : HOST_NS);
			memset(live[i].cookie, 0, sizeof(live[i].cookie));
			on[i] = true;
		} else if (rand_r(&seed) % 10 == 0) {
			registry_workload_remove(r, live[i].w, now);
			on[i] = false;
		} else if (live[i].cookie[j]) {
			registry_unlisten(r, live[i].cookie[j]);
			live[i].cookie[j] = 0;
		} else {
			live[i].cookie[j] =
				listens(live[i].w, "0.0.0.0", (uint16_t)(1000 + 10 * i + j));
		}
		if (rand_r(&seed) % 3 == 0)
			flush();
	}
	flush();
	for (int i = 0; i < 8; i++)
		for (int j = 0; j < 4; j++) {
			bool should = on[i] && live[i].cookie[j];

			assert_int_equal(dest("127.0.0.1", (uint16_t)(1000 + 10 * i + j),
					      i % 2 ? POD_NS : HOST_NS) != NULL,
					 should);
		}
	for (int i = 0; i < 8; i++)
		if (on[i])
			registry_workload_remove(r, live[i].w, now);
	flush();
	assert_int_equal(k.ndests, 0);
	assert_int_equal(used_endpoints(), 0);
	assert_int_equal(k.nworkloads, 0);
}

#define story(fn) cmocka_unit_test_setup_teardown(fn, make, drop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		story(a_server_on_one_address_becomes_one_endpoint_and_one_destination),
		story(a_wildcard_listener_is_reachable_at_every_address_of_its_namespace),
		story(a_v4_wildcard_serves_no_v6_and_a_v6only_one_no_v4),
		story(new_addresses_become_destinations_and_old_ones_go),
		story(what_listens_on_loopback_only_is_marked_and_keyed_by_its_namespace),
		story(the_lowest_port_is_primary_unless_one_is_declared),
		story(calls_to_a_primary_port_reach_the_primary_ports_of_all_and_others_the_same_port),
		story(sockets_that_share_a_port_are_one_endpoint_until_the_last_goes),
		story(two_workloads_on_one_address_leave_the_destination_to_nobody_in_particular),
		story(the_end_of_a_workload_takes_everything_of_it_away),
		story(a_service_that_comes_back_has_its_ids_again_and_its_endpoint_a_new_one),
		story(a_split_makes_a_subset_per_version_and_its_end_one_for_all),
		story(the_weight_of_a_version_that_nobody_serves_goes_to_the_others),
		story(names_reach_the_workers_before_connections_do),
		story(slots_follow_latency_only_when_it_moves_and_only_where_it_counts),
		story(round_robin_shares_evenly_whatever_the_latencies),
		story(what_is_registered_by_hand_joins_the_service_and_leaves_with_the_list),
		story(what_is_registered_and_discovered_counts_once),
		story(a_change_of_namespace_moves_the_endpoint),
		story(a_change_of_name_moves_the_workload_to_the_other_service),
		story(a_socket_is_gone_when_two_scans_in_a_row_miss_it),
		story(one_workload_cannot_take_the_places_of_all_others),
		story(a_full_map_is_said_and_tried_again),
		story(ids_rest_before_they_are_used_again_oldest_first),
		story(a_table_that_is_full_of_services_gives_the_oldest_place_to_a_new_one),
		story(after_any_history_the_maps_match_the_sockets),
	};

	return cmocka_run_group_tests_name("registry", tests, NULL, NULL);
}
