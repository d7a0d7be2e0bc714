/* SPDX-License-Identifier: Apache-2.0 */
/* Who gets slots: healthy, ejected, probed, draining, held; panic; slow start. */
#include "tests/unit/registry_rig.h"

#include "lib/hash.h"

#include <mesh/slots.h>

static void set(const char *name, uint32_t mask, uint32_t status)
{
	registry_endpoint_status(r, id_of(name), mask, status, now);
	if (registry_dirty(r))
		flush();
}

static uint32_t slots_of(uint32_t up, const char *name)
{
	const struct mesh_slots *t = &k.slots[k.upstreams[up].split[0].subset];
	uint32_t n = 0, id = id_of(name);

	for (uint32_t i = 0; t->n && i < MESH_SLOTS; i++)
		n += t->ep[i] == id;
	return n;
}

static void configure_with(void (*change)(struct service_config *c))
{
	struct named_config c;

	memset(&c, 0, sizeof(c));
	strcpy(c.service, "s");
	service_config_init(&c.config);
	change(&c.config);
	assert_int_equal(registry_configure(r, &c, 1, now), 0);
	flush();
}

static void who_is_ill_gets_no_slots_and_says_so(void **state)
{
	uint32_t up = service_of(3);

	set("a", ENDPOINT_UNHEALTHY, ENDPOINT_UNHEALTHY);
	assert_string_equal(callees(up), "b:82 c:83");
	assert_true(k.endpoints[id_of("a")].flags & MESH_EP_UNHEALTHY);
	set("a", ENDPOINT_UNHEALTHY, 0);
	assert_string_equal(callees(up), "a:81 b:82 c:83");
	assert_false(k.endpoints[id_of("a")].flags & MESH_EP_UNHEALTHY);
	set("b", ENDPOINT_EJECTED, ENDPOINT_EJECTED);
	assert_string_equal(callees(up), "a:81 c:83");
	set("c", ENDPOINT_DRAINING, ENDPOINT_DRAINING);
	assert_true(k.endpoints[id_of("c")].flags & MESH_EP_DRAINING);
	assert_string_equal(callees(up), "a:81");
}

static void one_source_of_a_status_does_not_touch_that_of_another(void **state)
{
	struct endpoint_view v;
	uint32_t up = service_of(3);

	set("a", ENDPOINT_UNHEALTHY, ENDPOINT_UNHEALTHY);
	set("a", ENDPOINT_EJECTED | ENDPOINT_PROBING, ENDPOINT_EJECTED);
	set("a", ENDPOINT_EJECTED | ENDPOINT_PROBING, ENDPOINT_EJECTED | ENDPOINT_PROBING);
	assert_string_equal(callees(up), "b:82 c:83"); /* no probes while it is ill, too */
	set("a", ENDPOINT_UNHEALTHY, 0);
	assert_true(registry_endpoint(r, id_of("a"), &v));
	assert_int_equal(v.status, ENDPOINT_EJECTED | ENDPOINT_PROBING);
	assert_int_equal(v.netns, HOST_NS);
}

static void a_status_that_does_not_change_writes_nothing(void **state)
{
	uint32_t writes;

	service_of(2);
	set("a", ENDPOINT_UNHEALTHY, ENDPOINT_UNHEALTHY);
	writes = k.slot_writes;
	set("a", ENDPOINT_UNHEALTHY, ENDPOINT_UNHEALTHY);
	registry_endpoint_status(r, MESH_MAX_ENDPOINTS, 1, 1, now);
	registry_endpoint_status(r, 4000, 1, 1, now);
	assert_false(registry_dirty(r));
	assert_int_equal(k.slot_writes, writes);
}

static void an_ejected_one_whose_wait_is_over_gets_a_few(void **state)
{
	static const uint8_t policies[] = {MESH_LB_P2C, MESH_LB_LEAST_REQUEST, MESH_LB_RANDOM};
	uint32_t up = service_of(3);

	for (size_t i = 0; i < sizeof(policies); i++) {
		struct named_config c;

		memset(&c, 0, sizeof(c));
		strcpy(c.service, "s");
		service_config_init(&c.config);
		c.config.policy = policies[i];
		assert_int_equal(registry_configure(r, &c, 1, now), 0);
		flush();
		k.latency[id_of("a")] = 1; /* of all the best, before it failed */
		k.latency[id_of("b")] = k.latency[id_of("c")] = 50000000;
		set("a", ENDPOINT_EJECTED | ENDPOINT_PROBING, ENDPOINT_EJECTED | ENDPOINT_PROBING);
		assert_int_equal(slots_of(up, "a"), MESH_SLOTS_FLOOR);
		assert_true(slots_of(up, "b") > 100 && slots_of(up, "c") > 100);
		set("a", ENDPOINT_EJECTED | ENDPOINT_PROBING, 0);
	}
}

static void round_robin(struct service_config *c)
{
	c->policy = MESH_LB_ROUND_ROBIN;
}

static void round_robin_passes_a_probed_one_every_twenty_turns(void **state)
{
	const struct mesh_slots *t;
	uint32_t up = service_of(3);

	configure_with(round_robin);
	t = &k.slots[k.upstreams[up].split[0].subset];
	set("a", ENDPOINT_EJECTED | ENDPOINT_PROBING, ENDPOINT_EJECTED | ENDPOINT_PROBING);
	assert_int_equal(t->n, 252);
	assert_true(slots_of(up, "a") >= 12 && slots_of(up, "a") <= 13);
}

static void panic_when_fewer_than_half_are_well(void **state)
{
	uint32_t up = service_of(4);

	set("a", ENDPOINT_UNHEALTHY, ENDPOINT_UNHEALTHY);
	set("b", ENDPOINT_EJECTED, ENDPOINT_EJECTED);
	assert_string_equal(callees(up), "c:83 d:84"); /* half is enough */
	set("c", ENDPOINT_UNHEALTHY, ENDPOINT_UNHEALTHY);
	assert_string_equal(callees(up), "a:81 b:82 c:83 d:84");
	assert_int_equal(slots_of(up, "a"), 64);
	set("c", ENDPOINT_UNHEALTHY, 0);
	assert_string_equal(callees(up), "c:83 d:84");
}

static void the_only_one_is_called_however_ill_it_is(void **state)
{
	uint32_t up = service_of(1);

	set("a", ENDPOINT_UNHEALTHY, ENDPOINT_UNHEALTHY);
	assert_string_equal(callees(up), "a:81");
}

static void what_a_person_asked_for_is_no_reason_for_panic_and_not_undone_by_it(void **state)
{
	uint32_t up = service_of(4);

	set("a", ENDPOINT_DRAINING, ENDPOINT_DRAINING);
	set("b", ENDPOINT_EJECTED | ENDPOINT_HELD, ENDPOINT_EJECTED | ENDPOINT_HELD);
	set("c", ENDPOINT_UNHEALTHY, ENDPOINT_UNHEALTHY);
	assert_string_equal(callees(up), "d:84");
	set("d", ENDPOINT_UNHEALTHY, ENDPOINT_UNHEALTHY);
	assert_string_equal(callees(up), "c:83 d:84");
}

static void when_all_are_drained_nobody_is_called(void **state)
{
	uint32_t up = service_of(1);

	set("a", ENDPOINT_DRAINING, ENDPOINT_DRAINING);
	assert_int_equal(k.slots[k.upstreams[up].split[0].subset].n, 0);
	set("a", ENDPOINT_DRAINING, 0);
	assert_string_equal(callees(up), "a:81");
}

static void ten_seconds(struct service_config *c)
{
	c->slow_start_ms = 10000;
}

static void a_newcomer_starts_with_a_tenth_and_grows(void **state)
{
	uint32_t up, last, grew = 0;

	service_of(2);
	configure_with(ten_seconds);
	now += 60 * S;
	listens(workload("s", "new", "v1", 0, HOST_NS), "0.0.0.0", 90);
	flush();
	up = upstream_of("127.0.0.1", 81, HOST_NS);
	last = slots_of(up, "new");
	assert_int_equal(last, 12); /* 256 * 10 / 210 */
	for (int i = 0; i < 100; i++) {
		uint32_t n;

		now += S / 10;
		registry_rebalance(r, now);
		n = slots_of(up, "new");
		assert_true(n >= last);
		grew += n > last;
		last = n;
	}
	assert_true(grew > 20);
	assert_int_equal(last, 85);
	grew = k.slot_writes;
	registry_rebalance(r, now + S);
	assert_int_equal(k.slot_writes, grew); /* it is over */
}

static void who_comes_back_starts_slowly_too(void **state)
{
	uint32_t up = service_of(2);

	configure_with(ten_seconds);
	now += 60 * S;
	set("a", ENDPOINT_EJECTED, ENDPOINT_EJECTED);
	now += 30 * S;
	set("a", ENDPOINT_EJECTED, 0);
	assert_true(slots_of(up, "a") < 30);
	now += 5 * S;
	registry_rebalance(r, now);
	assert_true(slots_of(up, "a") > 80 && slots_of(up, "a") < 100); /* 55 to 100 */
}

static void an_endpoint_has_the_hash_of_its_name_and_a_weight(void **state)
{
	service_of(1);
	assert_int_equal(k.endpoints[id_of("a")].hash, (uint32_t)hash64("a", 1));
	assert_int_equal(k.endpoints[id_of("a")].weight, 100);
}

/* --- the tables themselves --- */

static void slots_of_those_that_get_the_least(void **state)
{
	__u16 out[MESH_SLOTS];
	struct mesh_slot_input in[3] = {{.ep = 0, .weight = 100, .least = 1},
					{.ep = 1, .weight = 100, .least = 1},
					{.ep = 2, .weight = 100, .least = 1}};
	uint32_t turn, n[3];

	assert_int_equal(mesh_slots_build(in, 3, out), 3); /* nobody to take the rest: all alike */
	assert_int_equal(out[85], 0);
	assert_int_equal(out[86], 1);
	for (uint32_t seed = 1; seed < 2000; seed++) {
		uint64_t x = seed * 0x9e3779b97f4a7c15ULL;

		for (int i = 0; i < 3; i++, x = x * 6364136223846793005ULL + 1) {
			in[i].weight = (__u16)(x >> 33) % 1001;
			in[i].least = x >> 50 & 1;
			in[i].latency_ns = x >> 60 ? x >> 20 : 0;
		}
		memset(n, 0, sizeof(n));
		if (mesh_slots_build(in, 3, out))
			for (int i = 0; i < MESH_SLOTS; i++)
				n[out[i]]++;
		for (int i = 0; i < 3; i++)
			assert_int_equal(n[i] > 0, in[i].weight > 0);
		if (mesh_slots_rotate(in, 3, out, &turn))
			assert_true(turn > 0 && turn <= MESH_SLOTS);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		story(who_is_ill_gets_no_slots_and_says_so),
		story(one_source_of_a_status_does_not_touch_that_of_another),
		story(a_status_that_does_not_change_writes_nothing),
		story(an_ejected_one_whose_wait_is_over_gets_a_few),
		story(round_robin_passes_a_probed_one_every_twenty_turns),
		story(panic_when_fewer_than_half_are_well),
		story(the_only_one_is_called_however_ill_it_is),
		story(what_a_person_asked_for_is_no_reason_for_panic_and_not_undone_by_it),
		story(when_all_are_drained_nobody_is_called),
		story(a_newcomer_starts_with_a_tenth_and_grows),
		story(who_comes_back_starts_slowly_too),
		story(an_endpoint_has_the_hash_of_its_name_and_a_weight),
		cmocka_unit_test(slots_of_those_that_get_the_least),
	};

	return cmocka_run_group_tests_name("registry status", tests, NULL, NULL);
}
