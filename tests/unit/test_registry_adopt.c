/* SPDX-License-Identifier: Apache-2.0 */
/* A registry that takes over from one that has died: whoever goes by the arrays must not notice. */
#include "agent/registry/impl.h"
#include "tests/unit/registry_rig.h"

struct who {
	uint64_t cgroup;
	const char *service, *instance, *version;
	uint64_t netns;
	uint16_t port;
};

static const struct who everybody[] = {
	{2001, "backend", "b1", "v1", POD_NS, 8080},  {2002, "backend", "b2", "v2", POD_NS, 8081},
	{2003, "database", "d1", "v1", POD_NS, 5432}, {2004, "client", "c1", "v1", POD_NS, 0},
	{2005, "frontend", "f1", "v1", POD_NS, 80},
};
#define EVERYBODY (sizeof(everybody) / sizeof(everybody[0]))

static void begin(const struct who *w)
{
	struct workload_info info;
	uint32_t id;

	memset(&info, 0, sizeof(info));
	info.cgroup = w->cgroup;
	info.netns = w->netns;
	strcpy(info.service, w->service);
	strcpy(info.instance, w->instance);
	strcpy(info.version, w->version);
	assert_int_equal(registry_workload_add(r, &info, now, &id), 0);
	if (w->port)
		listens(id, "0.0.0.0", w->port);
}

static void split(const char *first, const char *second)
{
	static struct named_config c;

	service_config_done(&c.config);
	strcpy(c.service, "backend");
	service_config_init(&c.config);
	c.config.split.n = 2;
	assert_int_equal(service_config_version(&c.config, first, &c.config.split.to[0].version),
			 0);
	assert_int_equal(service_config_version(&c.config, second, &c.config.split.to[1].version),
			 0);
	c.config.split.to[0].weight = c.config.split.to[1].weight = SNAP_ALL / 2;
	assert_int_equal(registry_configure(r, &c, 1, now), 0);
}

static void external(const char *id, const char *ip)
{
	struct external_info x = {.service = "legacy", .version = "v1", .port = 9000};

	strcpy(x.id, id);
	assert_int_equal(addr_parse_ip(ip, x.ip), 0);
	assert_int_equal(registry_externals(r, &x, 1, now), 0);
}

/* What the arrays and maps hold, into a registry that has never seen it. */
static void take_over(void)
{
	static struct mesh_names names[MESH_MAX_SERVICES];
	static bool named[MESH_MAX_SERVICES];
	struct registry_sink sink = r->sink;

	for (uint32_t i = 0; i < MESH_MAX_SERVICES; i++)
		named[i] = registry_names(r, i, &names[i]);
	registry_free(&r);
	assert_int_equal(registry_new(&sink, HOST_NS, &r), 0);
	address(HOST_NS, NULL, NULL);
	address(POD_NS, "10.0.0.2", "fd00::2");
	for (uint32_t i = 0; i < MESH_MAX_SERVICES; i++)
		if (named[i])
			registry_adopt_service(r, i, &names[i], now);
	for (uint32_t i = 0; i < MESH_MAX_UPSTREAMS; i++) {
		k.upstreams[i].seq = k.upstreams[i].nsplit ? 2 : 0;
		registry_adopt_upstream(r, i, &k.upstreams[i], now);
		k.upstreams[i].seq = 0;
	}
	for (uint32_t i = 0; i < MESH_MAX_ENDPOINTS; i++) {
		k.endpoints[i].seq = k.endpoints[i].gen ? 2 : 0;
		registry_adopt_endpoint(r, i, &k.endpoints[i], now);
		k.endpoints[i].seq = 0;
	}
	for (uint32_t i = 0; i < k.nworkloads; i++)
		registry_adopt_workload(r, k.workloads[i].cgroup, &k.workloads[i].w, now);
	for (uint32_t i = 0; i < k.ndests; i++)
		registry_adopt_dest(r, &k.dests[i].key);
}

static void settle(void)
{
	registry_adopted(r, now);
	flush();
}

static void first_life(void)
{
	for (size_t i = 0; i < EVERYBODY; i++)
		begin(&everybody[i]);
	split("v1", "v2");
	external("x1", "10.9.9.9");
	flush();
}

static int by_key(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(k.dests[0]));
}

static void sort_dests(void)
{
	qsort(k.dests, k.ndests, sizeof(k.dests[0]), by_key);
}

static uint32_t endpoint_id(const char *id)
{
	uint32_t i = 0;

	while (i < MESH_MAX_ENDPOINTS &&
	       !(k.endpoints[i].flags & MESH_EP_USED && !strcmp(k.endpoints[i].id, id)))
		i++;
	return i;
}

static void nobody_is_fresh(uint32_t endpoint)
{
	fail_msg("endpoint %u begins anew", endpoint);
}

static void what_is_still_there_keeps_every_id_and_value(void **state)
{
	static __typeof__(k) before;

	first_life();
	sort_dests();
	memcpy(&before, &k, sizeof(k));
	take_over();
	k.at_fresh = nobody_is_fresh;
	external("x1", "10.9.9.9");
	split("v2", "v1"); /* numbers are remembered, whatever the order */
	for (size_t i = EVERYBODY; i-- > 0;)
		begin(&everybody[i]);
	settle();
	sort_dests();
	assert_memory_equal(k.endpoints, before.endpoints, sizeof(k.endpoints));
	assert_memory_equal(k.dests, before.dests, sizeof(k.dests));
	assert_int_equal(k.ndests, before.ndests);
	assert_int_equal(k.nworkloads, before.nworkloads);
	assert_memory_equal(k.workloads, before.workloads, sizeof(k.workloads));
	for (uint32_t i = 0; i < MESH_MAX_UPSTREAMS; i++)
		assert_memory_equal(k.upstreams[i].version, before.upstreams[i].version,
				    sizeof(k.upstreams[i].version));
	assert_memory_equal(k.slots, before.slots, sizeof(k.slots));
}

static void nothing_is_written_before_all_is_known(void **state)
{
	uint32_t writes, dests;

	first_life();
	take_over();
	writes = k.slot_writes;
	dests = k.ndests;
	begin(&everybody[0]);
	assert_true(registry_dirty(r));
	assert_int_equal(k.slot_writes, writes);
	assert_int_equal(k.ndests, dests);
}

static void what_is_gone_is_taken_back(void **state)
{
	uint32_t gone, upstream;

	first_life();
	gone = endpoint_id("d1");
	upstream = upstream_of("10.0.0.2", 5432, 0);
	take_over();
	split("v1", "v2");
	for (size_t i = 0; i < EVERYBODY; i++)
		if (everybody[i].cgroup != 2003 && everybody[i].cgroup != 2004)
			begin(&everybody[i]);
	settle();
	assert_int_equal(k.endpoints[gone].flags, 0);
	assert_int_equal(k.upstreams[upstream].nsplit, 0);
	assert_null(dest("10.0.0.2", 5432, 0));
	assert_null(dest("10.9.9.9", 9000, 0));
	assert_int_equal(k.nworkloads, EVERYBODY - 2);
	assert_string_equal(callees(upstream_of("10.0.0.2", 8080, 0)), "b1:8080 b2:8081");
}

/* What old workers have recorded is read before its callers are found again, some of which have
 * ended. */
static void who_called_has_a_name_from_the_beginning(void **state)
{
	struct mesh_workload gone = {0};

	first_life();
	for (uint32_t i = 0; i < k.nworkloads; i++)
		if (k.workloads[i].cgroup == everybody[2].cgroup)
			gone = k.workloads[i].w;
	take_over();
	for (uint32_t i = 0; i < k.nworkloads; i++)
		assert_string_equal(registry_caller_name(r, k.workloads[i].w.id),
				    registry_service_name(r, k.workloads[i].w.service));
	assert_string_equal(registry_caller_name(r, gone.id), everybody[2].service);
	settle();
	assert_string_equal(registry_caller_name(r, gone.id), everybody[2].service);
}

/* The kernel's word on connections to it is read before it is known again whose they are. */
static void a_service_speaks_what_it_spoke(void **state)
{
	struct named_config c;
	struct service_view v;
	uint32_t id;

	first_life();
	memset(&c, 0, sizeof(c));
	strcpy(c.service, everybody[2].service);
	service_config_init(&c.config);
	c.config.protocol = MESH_PROTO_TCP;
	assert_int_equal(registry_configure(r, &c, 1, now), 0);
	flush();
	id = k.upstreams[upstream_of("10.0.0.2", everybody[2].port, 0)].service;
	take_over();
	assert_true(registry_service(r, id, &v));
	assert_string_equal(v.name, everybody[2].service);
	assert_int_equal(v.protocol, MESH_PROTO_TCP);
	service_config_done(&c.config);
}

static void who_is_new_takes_nobodys_place(void **state)
{
	static const struct who late = {3000, "late", "l1", "v1", POD_NS, 7000};
	uint32_t old[MESH_MAX_ENDPOINTS], n = 0;

	first_life();
	for (uint32_t i = 0; i < MESH_MAX_ENDPOINTS; i++)
		if (k.endpoints[i].flags & MESH_EP_USED)
			old[n++] = i;
	take_over();
	begin(&late);
	for (size_t i = 0; i < EVERYBODY; i++)
		begin(&everybody[i]);
	settle();
	for (uint32_t i = 0; i < n; i++)
		assert_int_not_equal(endpoint_id("l1"), old[i]);
	assert_string_equal(callees(upstream_of("10.0.0.2", 7000, 0)), "l1:7000");
	assert_string_equal(callees(upstream_of("10.0.0.2", 80, 0)), "f1:80");
}

static void the_same_name_elsewhere_is_somebody_else(void **state)
{
	struct who moved = everybody[2];
	uint32_t before;

	first_life();
	before = endpoint_id("d1");
	take_over();
	address(OTHER_NS, "10.0.0.3", NULL);
	moved.netns = OTHER_NS;
	begin(&moved);
	settle();
	assert_int_not_equal(endpoint_id("d1"), before);
	assert_string_equal(endpoint_address("d1"), "10.0.0.3");
}

static void what_makes_no_sense_is_left_out(void **state)
{
	struct mesh_endpoint e = {.seq = 3, .gen = 7, .flags = MESH_EP_USED, .service = 5000};
	struct mesh_upstream u = {.seq = 3, .service = MESH_NONE};
	struct mesh_workload w = {.id = MESH_NONE}, nameless = {.id = 5, .service = 5000};
	struct mesh_names n;

	memset(&n, 'x', sizeof(n));
	registry_adopt_service(r, 3, &n, now);
	registry_adopt_upstream(r, 1, &u, now);
	registry_adopt_endpoint(r, 2, &e, now);
	e.flags |= MESH_EP_ALIVE;
	registry_adopt_endpoint(r, MESH_MAX_ENDPOINTS, &e, now);
	registry_adopt_workload(r, 4711, &w, now);
	registry_adopt_workload(r, 4712, &nameless, now);
	assert_string_equal(registry_caller_name(r, 5), "");
	begin(&everybody[0]);
	settle();
	assert_int_equal(used_endpoints(), 1);
	assert_int_equal(k.nworkloads, 1);
	assert_string_equal(callees(upstream_of("10.0.0.2", 8080, 0)), "b1:8080");
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		story(what_is_still_there_keeps_every_id_and_value),
		story(nothing_is_written_before_all_is_known),
		story(what_is_gone_is_taken_back),
		story(who_called_has_a_name_from_the_beginning),
		story(a_service_speaks_what_it_spoke),
		story(who_is_new_takes_nobodys_place),
		story(the_same_name_elsewhere_is_somebody_else),
		story(what_makes_no_sense_is_left_out),
	};

	return cmocka_run_group_tests(stories, NULL, NULL);
}
