/* SPDX-License-Identifier: Apache-2.0 */
/* The registry: who listens where, what that makes of endpoints and destinations, what goes again,
 * and what happens when a table is full. */
#include "agent/registry/ids.h"
#include "tests/unit/registry_rig.h"

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

static void a_socket_counts_only_on_an_address_that_its_namespace_has(void **state)
{
	uint32_t w = workload("thief", "t1", "v1", 0, POD_NS);
	struct endpoint_view e;

	listens(w, "203.0.113.5", 80); /* IP_FREEBIND */
	listens(w, "0.0.0.0", 81);
	flush();
	assert_null(dest("203.0.113.5", 80, 0));
	assert_int_equal(used_endpoints(), 1);
	assert_true(registry_endpoint(r, 0, &e) && e.port == 81 && e.primary);
	address(POD_NS, "203.0.113.5", NULL);
	flush();
	assert_non_null(dest("203.0.113.5", 80, 0));
	assert_int_equal(used_endpoints(), 2);
}

static void an_address_of_ours_is_nobody_elses(void **state)
{
	uint32_t w = workload("thief", "t1", "v1", 0, POD_NS);

	address(POD_NS, "10.0.0.1", "10.0.0.2");
	listens(w, "0.0.0.0", 80);
	listens(w, "10.0.0.1", 81);
	flush();
	assert_string_equal(endpoint_address("t1"), "10.0.0.1");
	address(HOST_NS, "10.0.0.1", NULL); /* we have it now: it leads to us */
	flush();
	assert_string_equal(endpoint_address("t1"), "10.0.0.2");
	assert_null(dest("10.0.0.1", 80, 0));
	assert_null(dest("10.0.0.1", 81, 0));
	assert_int_equal(used_endpoints(), 1);
	assert_memory_equal(k.workloads[0].w.ip + 12, "\x0a\x00\x00\x02", 4);
	address(HOST_NS, NULL, NULL);
	flush();
	assert_string_equal(endpoint_address("t1"), "10.0.0.1");
	assert_non_null(dest("10.0.0.1", 81, 0));
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

	address(HOST_NS, "10.0.0.9", NULL);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		story(a_server_on_one_address_becomes_one_endpoint_and_one_destination),
		story(a_wildcard_listener_is_reachable_at_every_address_of_its_namespace),
		story(a_v4_wildcard_serves_no_v6_and_a_v6only_one_no_v4),
		story(new_addresses_become_destinations_and_old_ones_go),
		story(what_listens_on_loopback_only_is_marked_and_keyed_by_its_namespace),
		story(a_socket_counts_only_on_an_address_that_its_namespace_has),
		story(an_address_of_ours_is_nobody_elses),
		story(the_lowest_port_is_primary_unless_one_is_declared),
		story(calls_to_a_primary_port_reach_the_primary_ports_of_all_and_others_the_same_port),
		story(sockets_that_share_a_port_are_one_endpoint_until_the_last_goes),
		story(two_workloads_on_one_address_leave_the_destination_to_nobody_in_particular),
		story(the_end_of_a_workload_takes_everything_of_it_away),
		story(a_service_that_comes_back_has_its_ids_again_and_its_endpoint_a_new_one),
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
