/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's way to a meshd that answers late, with errors, twice or not at all: what records said
 * arrives there once, and what could not is counted. */
#include "agent/supervisor.h"
#include "agent/supervisor_telemetry_impl.h"
#include "lib/clock.h"
#include "lib/series_limits.h"
#include "tests/unit/meshd_dir.h"
#include "tests/unit/registry_rig.h"

#include <fcntl.h>
/* after the types that it needs */
#include "tests/unit/said.h"
#include "tests/unit/telemetry_meshd.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* --- the agent --- */

static struct supervisor s;
static struct agent_config cfg;
static struct test_dir dir;
static uint32_t caller, service;

static void configure(void *arg, const struct configuration *c)
{
}

static char *state_text(void *arg)
{
	return strdup("{}");
}

static void agent_start(void)
{
	struct session_config sc = {.control = meshd.control, .node = "n1", .run_dir = dir.path};
	struct session_ops ops = {
		.arg = &s, .configure = configure, .state = state_text, .taps = telemetry_taps};

	memset(&s, 0, sizeof(s));
	cfg = (struct agent_config){.node = "n1", .trace_slow_ns = TELEMETRY_SLOW_NS};
	s.cfg = &cfg;
	s.registry = r;
	assert_int_equal(loop_init(&s.loop), 0);
	s.loop.now_ns = clock_mono_ns();
	assert_int_equal(telemetry_start(&s), 0);
	assert_int_equal(metrics_new(&s.metrics), 0);
	assert_int_equal(session_new(&s.loop, &sc, &ops, &s.session), 0);
}

static void agent_stop(void)
{
	session_free(&s.session);
	telemetry_stop(&s);
	metrics_free(&s.metrics);
	loop_done(&s.loop);
}

static int setup(void **state)
{
	struct mesh_names n;

	if (make(state))
		return -1;
	test_dir_make(&dir);
	caller = workload("client", "c-1", "v1", 0, HOST_NS);
	listens(workload("backend", "backend-1", "v1", 0, HOST_NS), "0.0.0.0", 81);
	assert_int_equal(registry_flush(r, now), 0);
	for (service = 0; !registry_names(r, service, &n) || strcmp(n.service, "backend");)
		assert_true(++service < MESH_MAX_SERVICES);
	meshd_start();
	agent_start();
	return 0;
}

static int teardown(void **state)
{
	agent_stop();
	meshd_stop();
	test_dir_remove(&dir);
	return drop(state);
}

#define tale(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

/* A round as supervisor.c makes it. */
static void beat(void)
{
	assert_int_equal(loop_once(&s.loop, 5), 0);
	telemetry_beat(&s);
}

#define await(cond)                                                                                \
	do {                                                                                       \
		uint64_t end_ = clock_mono_ns() + 10 * S;                                          \
		while (!(cond)) {                                                                  \
			if (clock_mono_ns() > end_)                                                \
				fail_msg("not within 10 s: %s", #cond);                            \
			beat();                                                                    \
		}                                                                                  \
	} while (0)

struct whole {
	struct record r;
	char text[64];
};

static struct whole request(uint16_t status, uint16_t flags, uint32_t trace)
{
	struct whole w = {.r = {.size = sizeof(w),
				.kind = RECORD_REQUEST,
				.flags = flags,
				.duration_ns = 5000000,
				.start_ns = clock_mono_ns(),
				.caller = caller,
				.service = service,
				.upstream = MESH_NONE,
				.endpoint = MESH_NONE,
				.status = status,
				.method_len = 3,
				.path_len = 1}};

	memcpy(w.r.trace_id, &trace, sizeof(trace));
	memcpy(w.r.trace_id + 12, &trace, sizeof(trace));
	memcpy(w.text, "GET/", 4);
	return w;
}

static void record(uint16_t status, uint16_t flags, uint32_t trace)
{
	struct whole w = request(status, flags, trace);

	supervisor_record(&w.r, &s);
}

/* --- tales --- */

static void a_sampled_span_is_there_in_half_a_second(void **state)
{
	unsigned soon = 0;
	cJSON *v;

	beat();
	for (uint32_t i = 0; i < 5; i++) {
		uint64_t began = clock_mono_ns();

		record(200, RECORD_TRACED | RECORD_SAMPLED, 1);
		await(meshd_has(spans) == i + 1);
		soon += clock_mono_ns() - began < S / 2;
	}
	assert_true(soon > 2); /* now and then the machine has something else to do */
	v = json_parse(meshd.last_span, strlen(meshd.last_span), NULL);
	assert_string_equal(json_str(v, "service", ""), "backend");
	assert_string_equal(json_str(v, "source", ""), "client");
	assert_string_equal(json_str(v, "operation", ""), "GET /");
	assert_string_equal(json_str(v, "node", ""), "n1");
	assert_true(json_num(v, "startTime", 0) + 10000 > (double)clock_wall_ms());
	cJSON_Delete(v);
	await(meshd_has(requests) == 5);
}

/* What it takes it says in its answers. */
static void spans_go_as_records_to_a_meshd_that_takes_them(void **state)
{
	record(200, RECORD_TRACED | RECORD_SAMPLED, 1);
	await(meshd_has(spans) == 1);
	assert_int_equal(meshd_has(records), 0); /* we did not know */
	await(!outbox_waiting(s.telemetry.outbox));
	record(200, RECORD_TRACED | RECORD_SAMPLED, 2);
	record(503, RECORD_TRACED, 3);
	await(meshd_has(spans) == 3);
	assert_int_equal(meshd_has(records), 2);
	assert_int_equal(meshd_has(unsampled), 1);
	await(meshd_has(requests) == 3);
}

static void spans_go_as_json_to_one_that_does_not(void **state)
{
	static const int layouts[] = {0, RECORD_LAYOUT + 1};
	uint64_t made = 0;

	for (size_t i = 0; i < COUNT(layouts); i++) {
		meshd.layout = layouts[i];
		for (int n = 0; n < 3; n++) {
			record(200, RECORD_TRACED | RECORD_SAMPLED, (uint32_t)made++);
			await(meshd_has(spans) == made);
			await(!outbox_waiting(s.telemetry.outbox));
		}
	}
	assert_int_equal(meshd_has(records), 0);
}

/* The records of one batch are lost, and counted; nothing else is. */
static void an_older_meshd_in_place_of_another_gets_json_again(void **state)
{
	record(200, RECORD_TRACED | RECORD_SAMPLED, 1);
	await(meshd_has(spans) == 1);
	await(!outbox_waiting(s.telemetry.outbox));
	said_begin();
	meshd.layout = 0;
	record(200, RECORD_TRACED | RECORD_SAMPLED, 2);
	await(outbox_counts(s.telemetry.outbox)->dropped[OUTBOX_SPANS] == 1);
	said_end("answers 400 to our telemetry, whose records of spans are dropped: no\n");
	record(200, RECORD_TRACED | RECORD_SAMPLED, 3);
	await(meshd_has(spans) == 2 && meshd_has(requests) == 3);
	assert_int_equal(meshd_has(records), 0);
	assert_int_equal(meshd_has(lost_spans), 1);
	assert_int_equal(outbox_counts(s.telemetry.outbox)->dropped[OUTBOX_SERIES], 0);
}

/* Far more than a body holds waits for nothing but the answer before it. */
static void very_many_spans_all_arrive(void **state)
{
	const uint64_t many = 30000; /* of 200 bytes and more each: 6 MiB */

	record(200, RECORD_TRACED | RECORD_SAMPLED, 1);
	await(meshd_has(spans) == 1);
	await(!outbox_waiting(s.telemetry.outbox));
	for (uint64_t i = 1; i < many; i++)
		record(200, RECORD_TRACED | RECORD_SAMPLED, (uint32_t)i);
	await(meshd_has(spans) >= many);
	assert_int_equal(meshd_has(spans), many);
	assert_int_equal(meshd_has(records), many - 1);
	await(!outbox_waiting(s.telemetry.outbox));
	assert_int_equal(outbox_counts(s.telemetry.outbox)->sent[OUTBOX_SPANS], many);
}

/* Whatever it does in between, at the end it has counted each request once. */
static void what_meshd_does_loses_nothing_and_doubles_nothing(void **state)
{
	static const int moods[] = {TAKES, LOSES_ANSWERS, FAILS, IS_LATE, HANGS_UP,
				    TAKES, LOSES_ANSWERS, FAILS, TAKES};
	uint64_t made = 0;

	for (size_t i = 0; i < COUNT(moods); i++) {
		uint64_t end = clock_mono_ns() + 3 * S / 10;

		meshd.mood = moods[i];
		while (clock_mono_ns() < end) {
			record(made % 3 ? 200 : 503, RECORD_TRACED | RECORD_SAMPLED,
			       (uint32_t)made);
			made++;
			beat();
		}
	}
	meshd.mood = TAKES;
	await(meshd_has(requests) >= made && meshd_has(spans) >= made);
	assert_int_equal(meshd_has(requests), made);
	assert_int_equal(meshd_has(spans), made);
	assert_true(meshd_has(duplicates) > 0);
	await(!outbox_waiting(s.telemetry.outbox));
	assert_int_equal(outbox_counts(s.telemetry.outbox)->dropped[OUTBOX_SPANS], 0);
	assert_int_equal(outbox_counts(s.telemetry.outbox)->sent[OUTBOX_SPANS], made);
}

static void assert_dropped(const char *reason, uint64_t n)
{
	char line[80];
	struct buf b;

	snprintf(line, sizeof(line), "\nmesh_spans_dropped_total{reason=\"%s\"} %llu\n", reason,
		 (unsigned long long)n);
	buf_init(&b, 1 << 20);
	telemetry_metrics(&s, &b);
	assert_false(b.failed);
	assert_non_null(strstr(b.data, line));
	buf_done(&b);
}

static void what_meshd_refuses_is_counted_and_holds_nothing_up(void **state)
{
	meshd.mood = REFUSES;
	record(200, RECORD_TRACED | RECORD_SAMPLED, 1);
	record(200, RECORD_TRACED | RECORD_SAMPLED, 2);
	await(outbox_counts(s.telemetry.outbox)->dropped[OUTBOX_SPANS] == 2);
	await(outbox_counts(s.telemetry.outbox)->dropped[OUTBOX_SERIES] == 1);
	meshd.mood = TAKES;
	record(200, RECORD_TRACED | RECORD_SAMPLED, 3);
	await(meshd_has(spans) == 1 && meshd_has(requests) == 1);
	assert_int_equal(meshd_has(lost_spans), 2);
	s.workers.unsampled = 7; /* as --trace-limit says: nothing is lost */
	assert_dropped("lost", 2);
	assert_dropped("limit", 7);
}

/* Seconds add up while meshd is away: few batches for all of it. */
static void series_wait_for_meshd_by_second(void **state)
{
	uint64_t end = clock_mono_ns() + 5 * S / 2, made = 0;

	meshd.mood = HANGS_UP;
	while (clock_mono_ns() < end) {
		record(200, 0, 0);
		made++;
		beat();
	}
	meshd.mood = TAKES;
	await(meshd_has(requests) == made);
	assert_in_range(meshd_has(series), 3, 6);
	assert_true(meshd_has(last_time) + 3000 > clock_wall_ms());
}

static void who_is_not_sampled_is_sent_when_it_matters(void **state)
{
	struct whole slow = request(200, RECORD_TRACED, 3);

	record(200, RECORD_TRACED, 1); /* is not */
	record(404, RECORD_TRACED, 1);
	record(503, 0, 0); /* has no trace */
	record(503, RECORD_TRACED, 2);
	record(0, RECORD_TRACED, 2);
	slow.r.duration_ns = TELEMETRY_SLOW_NS + 1;
	supervisor_record(&slow.r, &s);
	slow.r.status = 101; /* a stream may last: it began at once */
	supervisor_record(&slow.r, &s);
	await(meshd_has(requests) == 7);
	assert_int_equal(meshd_has(spans), 3);
	assert_int_equal(meshd_has(unsampled), 3);
}

static void meshd_may_want_the_rest_of_a_trace(void **state)
{
	for (int i = 0; i < 5; i++)
		record(200, RECORD_TRACED, 77);
	record(200, RECORD_TRACED, 78);
	await(meshd_has(requests) == 6);
	assert_int_equal(meshd_has(spans), 0);
	/* it speaks when it is spoken to: a trace in the tail is reason enough */
	meshd_answers(",\"want\":[\"4d00000000000000000000004d000000\",\"a b\",7]");
	await(meshd_has(spans) == 5);
	record(200, RECORD_TRACED, 77); /* the end of that trace */
	record(200, RECORD_TRACED, 78);
	await(meshd_has(spans) == 6);
	await(meshd_has(requests) == 8);
	assert_int_equal(meshd_has(spans), 6);
}

static void a_storm_of_errors_is_bounded(void **state)
{
	uint64_t dropped;

	for (uint32_t i = 0; i < 3 * TELEMETRY_KEPT_A_SECOND; i++)
		record(503, RECORD_TRACED, i);
	await(meshd_has(requests) == 3 * TELEMETRY_KEPT_A_SECOND);
	await(!outbox_waiting(s.telemetry.outbox));
	dropped = outbox_counts(s.telemetry.outbox)->dropped[OUTBOX_SPANS];
	assert_in_range(dropped, TELEMETRY_KEPT_A_SECOND - 1, 2 * TELEMETRY_KEPT_A_SECOND);
	assert_int_equal(meshd_has(spans), 3 * TELEMETRY_KEPT_A_SECOND - dropped);
}

static void a_tap_sees_everybody_who_fits(void **state)
{
	meshd_answers(
		",\"taps\":[{\"tap\":3,\"service\":\"backend\"},{\"tap\":4,\"service\":\"x\"}]");
	record(200, 0, 0);
	await(s.telemetry.taps.n == 2);
	for (int i = 0; i < 10; i++)
		record(200, 0, 0);
	await(meshd_has(tapped) == 10);
	for (int i = 0; i < 2 * TAPS_A_SECOND; i++)
		record(200, 0, 0);
	await(meshd_has(tapped) + meshd_has(lost_taps) == 10 + 2 * TAPS_A_SECOND);
	assert_in_range(meshd_has(lost_taps), 1, TAPS_A_SECOND + 10);
	assert_int_equal(meshd_has(spans), 0);
	meshd_answers(",\"taps\":[]");
	await(s.telemetry.taps.n == 0);
}

/* Nothing goes on: meshd is asked whether somebody still watches. */
static void while_a_tap_is_open_meshd_is_asked_every_second(void **state)
{
	uint64_t batches, began = clock_mono_ns();

	meshd_answers(",\"taps\":[{\"tap\":3}]");
	record(200, 0, 0);
	await(s.telemetry.taps.n == 1);
	batches = meshd_has(batches);
	await(meshd_has(batches) >= batches + 2);
	assert_in_range(clock_mono_ns() - began, S, 5 * S);
	meshd_answers(",\"taps\":[]");
	await(s.telemetry.taps.n == 0);
}

static void the_last_of_it_goes_before_we_do(void **state)
{
	char epoch[sizeof(s.epoch)];

	beat();
	for (int i = 0; i < 100; i++)
		record(200, RECORD_TRACED | RECORD_SAMPLED, 1);
	telemetry_last(&s);
	assert_int_equal(meshd_has(requests), 100);
	assert_int_equal(meshd_has(spans), 100);
	memcpy(epoch, s.epoch, sizeof(epoch));
	agent_stop();
	agent_start();
	assert_string_not_equal(epoch, s.epoch);
	record(200, 0, 0);
	telemetry_last(&s);
	assert_int_equal(meshd_has(requests), 101);
}

/* The one on its way may have been counted already. */
static void the_last_of_it_goes_again_when_its_answer_is_late(void **state)
{
	meshd.mood = IS_LATE;
	record(200, RECORD_TRACED | RECORD_SAMPLED, 1);
	await(meshd_has(batches) == 1);
	record(200, RECORD_TRACED | RECORD_SAMPLED, 2);
	telemetry_last(&s);
	assert_int_equal(meshd_has(requests), 2);
	assert_int_equal(meshd_has(spans), 2);
}

static void the_last_of_it_does_not_wait_for_a_meshd_that_is_away(void **state)
{
	uint64_t began = clock_mono_ns();

	int p[2], err = dup(STDERR_FILENO);
	char said[4096];
	ssize_t n;

	meshd.mood = HANGS_UP;
	for (uint32_t i = 0; i < 3; i++)
		record(200, RECORD_TRACED | RECORD_SAMPLED, i);
	assert_int_equal(pipe2(p, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(dup2(p[1], STDERR_FILENO), STDERR_FILENO);
	telemetry_last(&s);
	assert_int_equal(dup2(err, STDERR_FILENO), STDERR_FILENO);
	assert_true(clock_mono_ns() - began < 2 * S);
	n = read(p[0], said, sizeof(said) - 1);
	assert_true(n > 0);
	said[n] = 0;
	/* how much that was */
	assert_non_null(strstr(said, ": 1 series, 3 spans, 0 tapped, 0 whys are lost"));
	close(err);
	close(p[0]);
	close(p[1]);
}

static void connections_that_the_kernel_balanced_are_series(void **state)
{
	struct mesh_event e = {.kind = MESH_EV_CLOSE,
			       .upstream = MESH_NONE,
			       .workload = caller,
			       .connect_ns = 1000000};

	telemetry_connection(&s,
			     &e); /* of a service that is not known to be TCP: its requests count */
	telemetry_refused(&s, caller, service, 7);
	await(meshd_has(requests) == 7);
	assert_int_equal(meshd_has(series), 1);
}

/* Of what found no room in its ring the numbers come all the same; of services that do not fit the
 * table, as "other". */
static void what_was_only_counted_is_in_series_and_metrics(void **state)
{
	const struct tally_sum sum = {.caller = caller,
				      .service = service,
				      .status = 503,
				      .flags = RECORD_NO_BUDGET,
				      .n = 40,
				      .duration_ns = 2000000,
				      .retries = 3},
			       other = {.caller = MESH_NONE,
					.service = MESH_NONE,
					.status = 200,
					.other = true,
					.n = 2};
	struct buf out;

	buf_init(&out, 1 << 20);
	supervisor_counted(&sum, &s);
	supervisor_counted(&other, &s);
	metrics_write(s.metrics, &out, false);
	assert_non_null(strstr(out.data, "code=\"503\",cause=\"\"} 40\n"));
	assert_non_null(strstr(out.data, "source=\"other\",destination=\"other\",version=\"\","
					 "code=\"200\",cause=\"\"} 2\n"));
	buf_done(&out);
	await(meshd_has(requests) == 42);
	assert_int_equal(meshd_has(series), 2);
}

/* A worker that somebody else has taken over writes what it likes. What meshd gets has the right
 * form, or it would refuse the others' numbers with it. */
static void fill(struct ring *ring, uint64_t round)
{
	uint32_t size = (uint32_t)sizeof(struct record) + 256 + 8 * (uint32_t)(round % 8);
	struct record *rec = ring_reserve(ring, size);
	uint8_t *bytes = (uint8_t *)rec;

	assert_non_null(rec);
	for (uint32_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)(round % 3 ? rand() : 0xff);
	rec->size = size;
	rec->kind = round % 5 ? RECORD_REQUEST : RECORD_TUNNEL;
	rec->ntries = (uint8_t)(round % 3);
	rec->method_len = rec->path_len = rec->host_len = rec->request_id_len = 20;
	rec->trace_len = rec->alias_len = rec->parent_len = 40;
	rec->caller = round % 2 ? caller : rec->caller;
	rec->service = round % 2 ? service : rec->service;
	ring_commit(ring, size);
}

static void assert_whole(const cJSON *v, const char *key, double most)
{
	double d = json_num(v, key, -1);

	if (!(d >= 0 && d <= most))
		fail_msg("%s is %.0f, above %.0f", key, d, most);
}

static void assert_in_form(const char *body)
{
	static const char *const sums[] = {"requests", "errors", "sumUs", "bytesIn", "bytesOut"};
	cJSON *b = json_parse(body, strlen(body), NULL);
	const cJSON *v;

	assert_non_null(b);
	cJSON_ArrayForEach (v, cJSON_GetObjectItem(b, "series"))
		for (size_t i = 0; i < COUNT(sums); i++)
			assert_whole(v, sums[i], i < 2 ? SERIES_COUNT_MAX : SERIES_AMOUNT_MAX);
	cJSON_ArrayForEach (v, cJSON_GetObjectItem(b, "spans")) {
		assert_in_range(json_num(v, "statusCode", -1), 0, 999);
		assert_whole(v, "bytesIn", JSON_WHOLE_MAX);
		assert_whole(v, "duration", JSON_WHOLE_MAX);
		assert_non_null(cJSON_GetObjectItem(v, "traceId"));
	}
	cJSON_Delete(b);
}

static void assert_batch_in_form(struct outbox *box)
{
	const struct iovec *body;
	size_t n = outbox_batch(box, 0, UINT64_MAX, &body);
	struct record_batch_view v;

	assert_true(n > 0);
	assert_in_form(body->iov_base);
	for (size_t i = 1; i < n; i++)
		assert_int_equal(record_batch_check(body[i].iov_base, body[i].iov_len, &v), 0);
}

static void a_worker_that_lies_spoils_only_its_own_numbers(void **state)
{
	struct ring *ring = calloc(1, RING_DATA + RING_SIZE);
	struct outbox *o = s.telemetry.outbox;
	uint64_t corrupt = 0, n = 0;

	assert_non_null(ring);
	ring_init(ring);
	for (uint64_t round = 0; round < 20000; round++) {
		fill(ring, round);
		n += ring_drain(ring, 10, supervisor_record, &s, &corrupt);
		s.loop.now_ns += 1000000;
		if (round % 1000)
			continue;
		telemetry_turn(&s);
		outbox_meshd_takes(o, round % 2000);
		while (outbox_waiting(o)) {
			assert_batch_in_form(o);
			outbox_answered(o, outbox_seq(o), OUTBOX_TAKEN);
		}
	}
	assert_true(n == 20000 && !corrupt);
	memset(ring_tally(ring), 0xff, RING_TALLY_SIZE);
	assert_true(tally_take(ring_tally(ring), supervisor_counted, &s));
	telemetry_turn(&s);
	assert_batch_in_form(o);
	free(ring);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		tale(a_sampled_span_is_there_in_half_a_second),
		tale(spans_go_as_records_to_a_meshd_that_takes_them),
		tale(spans_go_as_json_to_one_that_does_not),
		tale(an_older_meshd_in_place_of_another_gets_json_again),
		tale(very_many_spans_all_arrive),
		tale(what_meshd_does_loses_nothing_and_doubles_nothing),
		tale(what_meshd_refuses_is_counted_and_holds_nothing_up),
		tale(series_wait_for_meshd_by_second),
		tale(who_is_not_sampled_is_sent_when_it_matters),
		tale(meshd_may_want_the_rest_of_a_trace),
		tale(a_storm_of_errors_is_bounded),
		tale(a_tap_sees_everybody_who_fits),
		tale(while_a_tap_is_open_meshd_is_asked_every_second),
		tale(the_last_of_it_goes_before_we_do),
		tale(the_last_of_it_goes_again_when_its_answer_is_late),
		tale(the_last_of_it_does_not_wait_for_a_meshd_that_is_away),
		tale(what_was_only_counted_is_in_series_and_metrics),
		tale(a_worker_that_lies_spoils_only_its_own_numbers),
		tale(connections_that_the_kernel_balanced_are_series),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
