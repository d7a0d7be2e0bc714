/* SPDX-License-Identifier: Apache-2.0 */
/* What was looked up once of a record's ids: never the names of who had an id before. */
#include "agent/registry/ids.h"
#include "agent/supervisor.h"
#include "tests/unit/registry_rig.h"

static struct supervisor s;

static int setup(void **state)
{
	if (make(state))
		return -1;
	memset(&s, 0, sizeof(s));
	s.registry = r;
	s.telemetry.parties = calloc(PARTIES_KEPT, sizeof(struct parties));
	return s.telemetry.parties ? 0 : -1;
}

static int teardown(void **state)
{
	free(s.telemetry.parties);
	return drop(state);
}

#define tale(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

/* What was found by names before belongs to the same ones now. */
static void assert_places(struct parties *p)
{
	static char seen[PARTIES_KEPT][4 * MESH_ID_MAX];
	char *of = seen[p - s.telemetry.parties], now_are[sizeof(*seen)];

	snprintf(now_are, sizeof(now_are), "%s %s %s %d", p->names.caller, p->names.callee,
		 p->names.version, p->key.kind);
	if (p->metrics.pair)
		assert_string_equal(now_are, of);
	p->metrics.pair = (void *)p; /* as who counted something */
	strcpy(of, now_are);
}

/* As a look at the registry says it now. */
static void assert_true_now(const struct parties_key *key)
{
	const char *id = "", *version = "", *caller = registry_caller_name(r, key->caller),
		   *callee = registry_service_name(r, key->service);
	struct parties *p = parties_of(&s, key);
	struct service_view v;

	registry_endpoint_names(r, key->endpoint, key->gen, &id, &version);
	assert_string_equal(p->names.caller, *caller	    ? caller
					     : key->gateway ? "gateway"
							    : "unknown");
	assert_string_equal(p->names.callee, *callee ? callee : "none");
	assert_string_equal(p->names.endpoint, id);
	assert_string_equal(p->names.version, version);
	assert_int_equal(p->tcp,
			 registry_service(r, key->service, &v) && v.protocol == MESH_PROTO_TCP);
	assert_int_equal(p->own, !strncmp(p->names.callee, "mesh-check-", 11));
	assert_places(p);
}

static void who_is_known_is_looked_up_once(void **state)
{
	struct parties_key key = {.caller = workload("a", "a-1", "v1", 0, HOST_NS),
				  .kind = RECORD_REQUEST};
	struct parties *p;

	key.endpoint = key.service = MESH_NONE;
	p = parties_of(&s, &key);
	assert_string_equal(p->names.caller, "a");
	assert_string_equal(p->names.callee, "none");
	p->metrics.pair = (void *)&key; /* who looks up again begins anew */
	registry_rebalance(r, now);
	assert_ptr_equal(parties_of(&s, &key)->metrics.pair, &key);
	key.gateway = RECORD_GATEWAY;
	assert_null(parties_of(&s, &key)->metrics.pair);
}

static void an_id_that_is_given_to_another_has_its_names(void **state)
{
	struct parties_key key = {.service = 0, .kind = RECORD_REQUEST};
	char name[32];

	key.caller = key.endpoint = MESH_NONE;
	for (int i = 0; i < MESH_MAX_SERVICES; i++) {
		snprintf(name, sizeof(name), "s%d", i);
		registry_workload_remove(r, workload(name, "x", "v1", 0, POD_NS), now);
		flush();
	}
	assert_string_equal(parties_of(&s, &key)->names.callee, "s0");
	now += IDS_QUARANTINE_NS;
	workload("mesh-check-1", "x", "v1", 0, POD_NS);
	assert_string_equal(parties_of(&s, &key)->names.callee, "mesh-check-1");
	assert_true(parties_of(&s, &key)->own);
}

/* --- any history --- */

#define MOST 6

static struct {
	uint32_t id;
	bool on, listens;
} live[MOST];

static struct workload_info info(unsigned *seed, int i)
{
	static const char *const names[] = {"a", "b", "mesh-check-c", "d"};
	struct workload_info w = {.netns = i % 2 ? POD_NS : HOST_NS};

	w.cgroup = 500 + (uint64_t)i;
	w.protocol = rand_r(seed) % 2 ? MESH_PROTO_TCP : MESH_PROTO_HTTP;
	strcpy(w.service, names[rand_r(seed) % 4]);
	snprintf(w.instance, sizeof(w.instance), "i%d", rand_r(seed) % 3);
	snprintf(w.version, sizeof(w.version), "v%d", rand_r(seed) % 2);
	return w;
}

static void change(unsigned *seed)
{
	int i = rand_r(seed) % MOST;
	struct workload_info w = info(seed, i);

	now += S / 10;
	if (!live[i].on) {
		assert_int_equal(registry_workload_add(r, &w, now, &live[i].id), 0);
		live[i].on = true;
	} else if (rand_r(seed) % 8 == 0) {
		registry_workload_remove(r, live[i].id, now);
		live[i].on = live[i].listens = false;
	} else if (!live[i].listens) {
		listens(live[i].id, "0.0.0.0", (uint16_t)(1000 + i));
		live[i].listens = true;
	} else {
		registry_workload_update(r, live[i].id, &w, now);
	}
	if (rand_r(seed) % 2)
		assert_int_equal(registry_flush(r, now), 0);
}

static void register_some(unsigned *seed)
{
	struct external_info x = {.port = 7000};

	strcpy(x.service, rand_r(seed) % 2 ? "a" : "e");
	strcpy(x.id, "far");
	snprintf(x.version, sizeof(x.version), "v%d", rand_r(seed) % 2);
	assert_int_equal(addr_parse_ip("192.0.2.7", x.ip), 0);
	assert_int_equal(registry_externals(r, &x, rand_r(seed) % 2, now), 0);
}

/* Everybody who is there, was just now, or may be next. */
static void look(void)
{
	struct parties_key key = {.kind = RECORD_REQUEST};
	uint32_t last = 0;

	while (last + 1 < MESH_MAX_ENDPOINTS && k.endpoints[last].gen)
		last++;
	for (int i = 0; i < MOST; i++) {
		key.caller = live[i].id;
		key.service = (uint32_t)i;
		key.endpoint = last > (uint32_t)i ? last - (uint32_t)i : MESH_NONE;
		key.gen = last > (uint32_t)i ? k.endpoints[key.endpoint].gen : 0;
		assert_true_now(&key);
		key.caller = key.service = MESH_NONE;
		assert_true_now(&key);
		key.gen = 1;
		assert_true_now(&key);
	}
}

static void after_any_change_names_are_what_they_are_now(void **state)
{
	unsigned seed = 3;

	memset(live, 0, sizeof(live));
	for (int step = 0; step < 4000; step++) {
		if (rand_r(&seed) % 10 == 0)
			register_some(&seed);
		else
			change(&seed);
		look();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		tale(who_is_known_is_looked_up_once),
		tale(an_id_that_is_given_to_another_has_its_names),
		tale(after_any_change_names_are_what_they_are_now),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
