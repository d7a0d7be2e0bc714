/* SPDX-License-Identifier: Apache-2.0 */
/* The supervisor's glue around health: orders from meshd, what meshd and /metrics are told, and
 * explanations. Against the registry's rig, without a kernel and without workers. */
#include "tests/unit/registry_rig.h"

#include "agent/supervisor.h"
#include "lib/clock.h"
#include "lib/json.h"

#include <unistd.h>

static struct mesh_ep_stat eps[MESH_MAX_ENDPOINTS];
static struct mesh_svc_stat svcs[MESH_MAX_SERVICES];
static struct mesh_edge edges[MESH_MAX_EDGES];
static const struct kernel_arrays arrays = {.ep_stats = eps, .svc_stats = svcs, .edges = edges};
static struct supervisor s;
static struct hand_info hands[4];
static struct drain_info drains[4];
static struct configuration conf;

/* As supervisor_publish.c does it. */
static void fresh(uint32_t id)
{
	health_fresh(&s, id);
}

static const struct agent_config cfg = {.node = "n1"};

static int start(void **state)
{
	memset(eps, 0, sizeof(eps));
	memset(svcs, 0, sizeof(svcs));
	memset(&s, 0, sizeof(s));
	memset(&conf, 0, sizeof(conf));
	memset(hands, 0, sizeof(hands));
	memset(drains, 0, sizeof(drains));
	strcpy(conf.epoch, "e1");
	conf.hands = hands;
	conf.drains = drains;
	if (make(state) || loop_init(&s.loop))
		return -1;
	k.at_fresh = fresh;
	s.registry = r;
	s.arrays = &arrays;
	s.own_netns = HOST_NS;
	s.cfg = &cfg;
	return telemetry_start(&s) || health_start(&s) ? -1 : 0;
}

static int end(void **state)
{
	health_stop(&s);
	telemetry_stop(&s);
	loop_done(&s.loop);
	return drop(state);
}

#define tale(fn) cmocka_unit_test_setup_teardown(fn, start, end)

/* As supervisor.c does it. */
static void round_of(void)
{
	s.loop.now_ns = now;
	health_beat(&s);
	assert_int_equal(registry_flush(r, now), 0);
	health_sync(&s);
	flush();
}

static const char *status_of(const char *name)
{
	struct endpoint_view v;

	assert_true(registry_endpoint(r, id_of(name), &v));
	return endpoint_status_name(v.status);
}

static uint64_t two_endpoints(void)
{
	uint64_t cookie = listens(workload("s", "a", "v1", 0, HOST_NS), "0.0.0.0", 81);

	listens(workload("s", "b", "v1", 0, HOST_NS), "0.0.0.0", 82);
	round_of();
	return cookie;
}

static void order(size_t i, uint64_t serial, const char *endpoint, uint8_t action)
{
	hands[i].serial = serial;
	strcpy(hands[i].service, "s");
	strcpy(hands[i].endpoint, endpoint);
	hands[i].action = action;
	conf.nhands = i + 1;
}

static void drained_endpoints_stay_so_under_their_name_until_that_ends(void **state)
{
	uint64_t cookie = two_endpoints();

	strcpy(drains[0].service, "s");
	strcpy(drains[0].endpoint, "b");
	strcpy(drains[1].service, "s");
	strcpy(drains[1].endpoint, "a");
	conf.ndrains = 2;
	health_orders(&s, &conf);
	round_of();
	assert_string_equal(status_of("a"), "draining");
	assert_string_equal(status_of("b"), "draining");
	registry_unlisten(r, cookie);
	round_of();
	listens(workload("s", "a", "v1", 0, HOST_NS), "0.0.0.0", 83);
	round_of();
	assert_string_equal(status_of("a"), "draining");
	conf.ndrains = 1;
	health_orders(&s, &conf);
	round_of();
	assert_string_equal(status_of("a"), "healthy");
	assert_string_equal(status_of("b"), "draining");
}

static void a_command_is_carried_out_once(void **state)
{
	two_endpoints();
	order(0, 5, "a", MESH_HAND_OPEN);
	health_orders(&s, &conf);
	assert_true(eps[id_of("a")].breaker & MESH_BREAKER_HELD);
	eps[id_of("a")].breaker = 0; /* somebody else's doing */
	health_orders(&s, &conf);
	round_of();
	assert_int_equal(eps[id_of("a")].breaker, 0);
	order(1, 6, "", MESH_HAND_OPEN);
	health_orders(&s, &conf);
	assert_int_equal(eps[id_of("a")].breaker, 0);
	assert_int_equal(mesh_breaker_state(svcs[0].breaker), MESH_OPEN);
	strcpy(conf.epoch, "e2"); /* another store counts anew */
	conf.nhands = 0;
	order(0, 1, "", MESH_HAND_RESET);
	health_orders(&s, &conf);
	assert_int_equal(svcs[0].breaker, 0);
}

static void a_command_waits_for_who_it_is_for(void **state)
{
	order(0, 1, "", MESH_HAND_OPEN);
	order(1, 2, "a", MESH_HAND_OPEN);
	health_orders(&s, &conf);
	two_endpoints();
	round_of();
	assert_int_equal(mesh_breaker_state(svcs[0].breaker), MESH_OPEN);
	assert_string_equal(status_of("a"), "ejected");
	assert_string_equal(status_of("b"), "healthy");
}

/* Configuration and orders come together, and the registry gives an endpoint its place in the
 * arrays only after both. */
static void a_registered_endpoint_is_held_from_its_first_moment(void **state)
{
	struct external_info x;

	memset(&x, 0, sizeof(x));
	strcpy(x.service, "s");
	strcpy(x.id, "f1");
	strcpy(x.version, "v1");
	assert_int_equal(addr_parse_ip("127.0.0.1", x.ip), 0);
	x.port = 1;
	order(0, 1, "f1", MESH_HAND_OPEN);
	for (int i = 0; i < 2; i++) { /* again: it was registered anew */
		assert_int_equal(registry_externals(r, &x, 1, now), 0);
		health_orders(&s, &conf);
		round_of();
		assert_true(eps[id_of("f1")].breaker & MESH_BREAKER_HELD);
		round_of();
		assert_string_equal(status_of("f1"), "ejected");
		assert_int_equal(registry_externals(r, NULL, 0, now), 0);
		health_orders(&s, &conf);
		round_of();
	}
}

static void registered_endpoints_are_checked_by_tcp_and_others_as_configured(void **state)
{
	struct external_info x;
	struct checks_counts n;
	struct named_config c;
	uint64_t end_ns = clock_mono_ns() + 20 * S;

	memset(&x, 0, sizeof(x));
	strcpy(x.service, "far");
	strcpy(x.id, "f1");
	strcpy(x.version, "v1");
	assert_int_equal(addr_parse_ip("127.0.0.1", x.ip), 0);
	x.port = 1; /* nobody listens there */
	memset(&c, 0, sizeof(c));
	strcpy(c.service, "far");
	service_config_init(&c.config);
	c.config.health.interval_ms = 50;
	assert_int_equal(registry_configure(r, &c, 1, now), 0);
	assert_int_equal(registry_externals(r, &x, 1, now), 0);
	two_endpoints();
	checks_counts(s.health.checks, &n);
	assert_int_equal(n.targets, 1);
	while (strcmp(status_of("f1"), "unhealthy")) {
		assert_true(clock_mono_ns() < end_ns);
		assert_int_equal(loop_once(&s.loop, 10), 0);
	}
	round_of();
	assert_true(k.endpoints[id_of("f1")].flags & MESH_EP_UNHEALTHY);
	c.config.health.type = HEALTH_NONE;
	assert_int_equal(registry_configure(r, &c, 1, now), 0);
	round_of();
	assert_string_equal(status_of("f1"), "healthy");
	checks_counts(s.health.checks, &n);
	assert_int_equal(n.targets, 0);
}

static const char *text_of(struct buf *b)
{
	assert_false(b->failed);
	return b->data;
}

static void breakers_are_told_as_json_and_as_metrics(void **state)
{
	const cJSON *first, *second;
	struct buf b;
	cJSON *v;

	two_endpoints();
	eps[id_of("a")].consecutive = 5;
	round_of();
	now += 4 * S;
	round_of();
	buf_init(&b, 1 << 20);
	breakers_json(&s, &b);
	v = json_parse(text_of(&b), b.len, NULL);
	assert_int_equal(cJSON_GetArraySize(v), 2);
	first = cJSON_GetArrayItem(v, 0);
	second = cJSON_GetArrayItem(v, 1);
	assert_true(cJSON_IsNull(cJSON_GetObjectItem(first, "endpoint")));
	assert_string_equal(json_str(first, "state", ""), "closed");
	assert_string_equal(json_str(second, "endpoint", ""), "a");
	assert_string_equal(json_str(second, "state", ""), "open");
	assert_true(json_num(second, "sinceMs", 0) == 4000);
	assert_true(json_num(second, "forMs", 0) == 26000);
	assert_true(json_num(second, "opened", 0) == 1);
	cJSON_Delete(v);
	buf_done(&b);
	buf_init(&b, 0); /* as if there were no memory */
	breakers_json(&s, &b);
	assert_true(b.failed);
	buf_init(&b, 1 << 20);
	svcs[0].went[MESH_OPEN] = 3;
	breakers_metrics(&s, &b);
	assert_non_null(strstr(text_of(&b), "mesh_circuit_breaker_state{destination=\"s\","
					    "endpoint=\"\"} 0\n"));
	assert_non_null(strstr(b.data, "mesh_circuit_breaker_state{destination=\"s\","
				       "endpoint=\"a\"} 2\n"));
	assert_non_null(strstr(b.data, "mesh_circuit_breaker_transitions_total{destination=\"s\","
				       "to=\"open\"} 3\n"));
	buf_done(&b);
}

/* These words are the workers' to write, and meshd refuses all that an agent says when one number
 * of it is above 2^53: its endpoints would be gone. */
static void what_a_worker_that_lies_has_counted_is_told_in_form(void **state)
{
	const cJSON *breaker, *v;
	struct buf b;
	cJSON *all;

	two_endpoints();
	memset(svcs, 0xff, sizeof(svcs));
	memset(eps, 0xff, sizeof(eps));
	buf_init(&b, 1 << 20);
	breakers_json(&s, &b);
	all = json_parse(text_of(&b), b.len, NULL);
	assert_int_equal(cJSON_GetArraySize(all), 3);
	cJSON_ArrayForEach (breaker, all)
		cJSON_ArrayForEach (v, breaker)
			if (cJSON_IsNumber(v) && v->valuedouble > 9007199254740992.0)
				fail_msg("%s is %.0f", v->string, v->valuedouble);
	cJSON_Delete(all);
	buf_done(&b);
}

static void what_is_held_is_told_though_nobody_listens(void **state)
{
	uint64_t cookie = listens(workload("s", "a", "v1", 0, HOST_NS), "0.0.0.0", 81);
	struct buf b;

	round_of();
	registry_unlisten(r, cookie);
	round_of();
	buf_init(&b, 1 << 20);
	breakers_json(&s, &b);
	assert_string_equal(text_of(&b), "[]");
	order(0, 1, "", MESH_HAND_OPEN);
	health_orders(&s, &conf);
	buf_reset(&b);
	breakers_json(&s, &b);
	assert_non_null(strstr(text_of(&b), "\"endpoint\":null,\"state\":\"open\",\"held\":true"));
	buf_done(&b);
}

static struct {
	struct record_why w;
	struct why_candidate c[2];
	char text[64];
} rec;

static const struct record_why *explanation(void)
{
	memset(&rec, 0, sizeof(rec));
	rec.w.size = sizeof(rec);
	rec.w.kind = RECORD_WHY;
	rec.w.cause = CAUSE_CONNECT_FAILED;
	rec.w.status = 503;
	rec.w.tries = 2;
	rec.w.duration_ns = 1500000;
	rec.w.start_ns = clock_mono_ns();
	rec.w.caller = MESH_NONE;
	rec.w.flags = RECORD_GATEWAY;
	rec.w.pending = 7;
	rec.w.ncandidates = 2;
	rec.c[0] = (struct why_candidate){.endpoint = id_of("a"),
					  .gen = k.endpoints[id_of("a")].gen,
					  .latency_ns = 2000000,
					  .cost = 4000000,
					  .in_flight = 1,
					  .tried = 2,
					  .cause = CAUSE_CONNECT_FAILED};
	rec.c[1] = (struct why_candidate){
		.endpoint = 4000, .gen = 9, .flags = MESH_EP_UNHEALTHY, .tried = 1, .status = 502};
	rec.w.request_id_len = 4;
	rec.w.trace_id_len = 3;
	rec.w.route_len = 4;
	strcpy(rec.text, "id\"1abcbeta");
	return &rec.w;
}

static void an_explanation_has_names_and_numbers(void **state)
{
	const cJSON *list, *e;
	struct buf b;
	cJSON *v;

	two_endpoints();
	buf_init(&b, 1 << 20);
	why_json(&s, explanation(), &b);
	v = json_parse(text_of(&b), b.len, NULL);
	assert_non_null(v);
	assert_string_equal(json_str(v, "id", ""), "id\"1");
	assert_string_equal(json_str(v, "traceId", ""), "abc");
	assert_string_equal(json_str(v, "route", ""), "beta");
	assert_string_equal(json_str(v, "service", ""), "s");
	assert_string_equal(json_str(v, "source", ""), "gateway");
	assert_string_equal(json_str(v, "cause", ""), "connect-failed");
	assert_true(json_num(v, "durationMs", 0) == 1.5);
	assert_true(json_num(cJSON_GetObjectItem(v, "bulkhead"), "pending", 0) == 7);
	assert_string_equal(json_str(cJSON_GetObjectItem(v, "breaker"), "state", ""), "closed");
	list = cJSON_GetObjectItem(v, "endpoints");
	assert_int_equal(cJSON_GetArraySize(list), 2);
	e = cJSON_GetArrayItem(list, 0);
	assert_string_equal(json_str(e, "id", ""), "a");
	assert_string_equal(json_str(e, "address", ""), "127.0.0.1:81");
	assert_string_equal(json_str(e, "result", ""), "connect-failed");
	assert_true(json_num(e, "costMs", 0) == 4);
	e = cJSON_GetArrayItem(list, 1);
	assert_string_equal(json_str(e, "id", "?"), "");
	assert_string_equal(json_str(e, "status", ""), "unhealthy");
	assert_string_equal(json_str(e, "result", ""), "502");
	cJSON_Delete(v);
	buf_done(&b);
}

static void explanations_that_nobody_takes_are_bounded(void **state)
{
	struct registry *names = s.registry;

	two_endpoints();
	for (int i = 0; i < OUTBOX_WHYS_MAX + 10; i++)
		why_send(&s, explanation());
	telemetry_push(&s); /* no session: nothing is lost by asking */
	assert_true(outbox_has(s.telemetry.outbox, OUTBOX_WHYS));
	assert_int_equal(outbox_counts(s.telemetry.outbox)->dropped[OUTBOX_WHYS], 10);
	s.registry = NULL; /* when many are refused, no text is made that would be dropped */
	why_send(&s, explanation());
	s.registry = names;
	assert_int_equal(outbox_counts(s.telemetry.outbox)->dropped[OUTBOX_WHYS], 11);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		tale(drained_endpoints_stay_so_under_their_name_until_that_ends),
		tale(a_command_is_carried_out_once),
		tale(a_command_waits_for_who_it_is_for),
		tale(a_registered_endpoint_is_held_from_its_first_moment),
		tale(registered_endpoints_are_checked_by_tcp_and_others_as_configured),
		tale(breakers_are_told_as_json_and_as_metrics),
		tale(what_a_worker_that_lies_has_counted_is_told_in_form),
		tale(what_is_held_is_told_though_nobody_listens),
		tale(an_explanation_has_names_and_numbers),
		tale(explanations_that_nobody_takes_are_bounded),
	};

	return cmocka_run_group_tests_name("supervisor health", tests, NULL, NULL);
}
