/* SPDX-License-Identifier: Apache-2.0 */
/* The registry: which endpoints of a service get its calls, by split, latency, policy and what is
 * registered by hand. */
#include "tests/unit/registry_rig.h"

static void configure_split(const char *service, const char *a, uint32_t wa, const char *b,
			    uint32_t wb)
{
	struct named_config c;

	memset(&c, 0, sizeof(c));
	strcpy(c.service, service);
	service_config_init(&c.config);
	c.config.split.n = 2;
	assert_int_equal(service_config_version(&c.config, a, &c.config.split.to[0].version), 0);
	assert_int_equal(service_config_version(&c.config, b, &c.config.split.to[1].version), 0);
	c.config.split.to[0].weight = wa;
	c.config.split.to[1].weight = wb;
	assert_int_equal(registry_configure(r, &c, 1, now), 0);
	service_config_done(&c.config);
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
	registry_rebalance(r, now);
	assert_true(share(subset, "fast") > 200);
	writes = k.slot_writes;
	k.latency[0] += k.latency[0] / 20;
	registry_rebalance(r, now);
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
	registry_rebalance(r, now);
	assert_int_equal(registry_configure(r, &c, 1, now), 0);
	flush();
	registry_rebalance(r, now);
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

static const struct mesh_endpoint *named(const char *id)
{
	for (uint32_t i = 0; i < MESH_MAX_ENDPOINTS; i++)
		if (k.endpoints[i].flags & MESH_EP_USED && !strcmp(k.endpoints[i].id, id))
			return &k.endpoints[i];
	fail_msg("no endpoint %s", id);
	return NULL;
}

/* What a process says of itself comes with it, and may change with an exec. */
static void weights_of_workloads_are_their_endpoints_weights(void **state)
{
	struct named_config c = {.service = "s"};
	struct workload_info heavy;
	uint32_t id = workload("s", "heavy", "v1", 0, HOST_NS), subset, gen;

	service_config_init(&c.config);
	c.config.policy = MESH_LB_ROUND_ROBIN;
	assert_int_equal(registry_configure(r, &c, 1, now), 0);
	listens(id, "0.0.0.0", 81);
	listens(workload("s", "usual", "v1", 0, HOST_NS), "0.0.0.0", 82);
	flush();
	subset = k.upstreams[upstream_of("127.0.0.1", 81, HOST_NS)].split[0].subset;
	assert_int_equal(share(subset, "heavy"), 128);
	gen = named("heavy")->gen;
	heavy = *registry_workload(r, id, NULL);
	heavy.weight = 300;
	assert_int_equal(registry_workload_update(r, id, &heavy, now), 0);
	flush();
	assert_int_equal(named("heavy")->weight, 300);
	assert_int_equal(named("heavy")->gen, gen);
	assert_int_equal(share(subset, "heavy"), 192);
	heavy.weight = 0; /* it does not say any more */
	assert_int_equal(registry_workload_update(r, id, &heavy, now), 0);
	flush();
	assert_int_equal(share(subset, "heavy"), 128);
}

static void a_registration_may_change_its_weight_and_stays_the_same_endpoint(void **state)
{
	struct external_info x[2] = {registered("s", "one", "192.0.2.7", 7000),
				     registered("s", "two", "192.0.2.8", 7000)};
	uint32_t subset, gen;

	x[0].weight = 300;
	assert_int_equal(registry_externals(r, x, 2, now), 0);
	flush();
	subset = k.upstreams[upstream_of("192.0.2.7", 7000, 0)].split[0].subset;
	assert_int_equal(share(subset, "one"), 192);
	gen = named("one")->gen;
	x[0].weight = 100;
	x[1].weight = 700;
	assert_int_equal(registry_externals(r, x, 2, now), 0);
	flush();
	assert_int_equal(share(subset, "one"), 32);
	assert_int_equal(named("one")->gen, gen);
	assert_int_equal(registry_externals(r, x, 2, now), 0);
	assert_false(registry_dirty(r)); /* nothing new */
}

static void claim(const char *service, const char *address)
{
	struct named_config c;
	struct config_address a;
	struct addr at;

	memset(&c, 0, sizeof(c));
	memset(&a, 0, sizeof(a));
	strcpy(c.service, service);
	service_config_init(&c.config);
	assert_int_equal(addr_parse(address, &at), 0);
	memcpy(a.ip, at.ip, sizeof(a.ip));
	a.port = at.port;
	assert_int_equal(service_config_put(&c.config, &a, sizeof(a), &c.config.addresses), 0);
	c.config.naddresses = 1;
	assert_int_equal(registry_configure(r, &c, 1, now), 0);
	service_config_done(&c.config);
}

static void an_address_that_is_claimed_leads_to_the_service(void **state)
{
	uint32_t w = workload("backend", "b1", "v1", 0, POD_NS);

	listens(w, "10.0.0.2", 8080);
	claim("backend", "10.200.0.1:80");
	flush();
	assert_string_equal(callees(upstream_of("10.200.0.1", 80, 0)), "b1:8080");
	assert_int_equal(dest("10.200.0.1", 80, 0)->workload, MESH_VIRTUAL);
	claim("backend", "10.200.0.2:80");
	flush();
	assert_null(dest("10.200.0.1", 80, 0));
	assert_non_null(dest("10.200.0.2", 80, 0));
	assert_int_equal(registry_configure(r, NULL, 0, now), 0);
	flush();
	assert_null(dest("10.200.0.2", 80, 0));
	assert_int_equal(k.ndests, 1);
}

static void whoever_has_an_address_keeps_it(void **state)
{
	uint32_t w = workload("database", "d1", "v1", 0, POD_NS);
	struct service_view v;

	workload("backend", "b1", "v1", 0, POD_NS);
	listens(w, "10.0.0.2", 5432);
	flush();
	claim("database", "10.200.0.9:80"); /* its own is no matter */
	flush();
	claim("backend", "10.0.0.2:5432");
	flush();
	assert_string_equal(callees(upstream_of("10.0.0.2", 5432, 0)), "d1:5432");
	assert_true(registry_service(r, k.upstreams[upstream_of("10.0.0.2", 5432, 0)].service, &v));
	assert_int_equal(v.contested, 0);
	for (uint32_t i = 0; registry_service(r, i, &v); i++)
		assert_int_equal(v.contested, !strcmp(v.name, "backend"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		story(a_split_makes_a_subset_per_version_and_its_end_one_for_all),
		story(the_weight_of_a_version_that_nobody_serves_goes_to_the_others),
		story(names_reach_the_workers_before_connections_do),
		story(slots_follow_latency_only_when_it_moves_and_only_where_it_counts),
		story(round_robin_shares_evenly_whatever_the_latencies),
		story(what_is_registered_by_hand_joins_the_service_and_leaves_with_the_list),
		story(what_is_registered_and_discovered_counts_once),
		story(weights_of_workloads_are_their_endpoints_weights),
		story(a_registration_may_change_its_weight_and_stays_the_same_endpoint),
		story(an_address_that_is_claimed_leads_to_the_service),
		story(whoever_has_an_address_keeps_it),
	};

	return cmocka_run_group_tests_name("registry services", tests, NULL, NULL);
}
