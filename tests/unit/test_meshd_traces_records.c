/* SPDX-License-Identifier: Apache-2.0 */
/* Spans that come as records: a part of them is listed at once, and all of them are found, by
 * whatever they were. */
#include "ctl/meshd/otlp/otlp.h"
#include "ctl/meshd/traces/recorder.h"
#include "tests/unit/traces_records_rig.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* --- what is found ----------------------------------------------------------------------- */

static void below_the_budget_all_is_listed(void **state)
{
	SEND(.trace = "order-17", .id = 1, .service = "backend", .took_us = 2000);
	SEND(.trace = "order-17", .id = 2, .parent = 1, .service = "cache");
	assert_int_equal(counts().stored, 2);
	assert_int_equal(counts().listed, 2);
	assert_int_equal(counts().traces, 1);
	assert_int_equal(spans_of("order-17"), 2);
	assert_int_equal(LISTED(.service = "cache"), 1);
	assert_int_equal(LISTED(.min_us = 2000), 1);
	assert_int_equal(LISTED(.min_us = 2001), 0);
	assert_int_equal(counts().listed, 2);
}

static void beyond_the_budget_all_is_found(void **state)
{
	struct rec like = {.service = "backend"};

	send_many("t", 0, 3000, like);
	assert_int_equal(counts().stored, 3000);
	assert_int_equal(counts().recorded, 3000);
	assert_int_equal(counts().listed, TRACES_FIRST_BURST);
	assert_int_equal(spans_of("t2999"), 1);
	assert_int_equal(spans_of("t1500"), 1);
	assert_int_equal(spans_of("t1500"), 1);
	assert_int_equal(counts().listed, TRACES_FIRST_BURST + 2);
	assert_int_equal(spans_of("t3000"), -1);
	assert_int_equal(LISTED(.limit = 1000), 1000);
	assert_int_equal(counts().failed, 0);
	assert_int_equal(counts().duplicates, 0);
}

/* So many tokens a second as there are. */
static void the_budget_comes_back_with_time(void **state)
{
	struct rec one = {.trace = "later", .id = 1, .start_us = now_us()};

	send_many("t", 0, 1500, (struct rec){0});
	assert_int_equal(counts().listed, TRACES_FIRST_BURST);
	assert_int_equal(send_at(2000, &one, 1), 0);
	assert_int_equal(counts().listed, TRACES_FIRST_BURST + 1);
}

static void it_is_found_by_what_it_was(void **state)
{
	send_many("fill", 0, TRACES_FIRST_BURST + 1, (struct rec){0});
	use_up_quiet();
	SEND(.trace = "a", .id = 1, .service = "cache", .source = "shop", .took_us = 500000);
	SEND(.trace = "b", .id = 2, .service = "cache", .took_us = 100);
	SEND(.trace = "c", .id = 3, .service = "rare", .start_us = 1700000000000000ull);
	assert_int_equal(counts().listed, TRACES_FIRST_BURST + TRACES_QUIET_BURST);
	assert_int_equal(LISTED(.service = "cache", .min_us = 400000), 1);
	assert_int_equal(counts().listed, TRACES_FIRST_BURST + TRACES_QUIET_BURST + 1);
	assert_int_equal(LISTED(.service = "cache", .source = "shop"), 1);
	assert_int_equal(counts().listed, TRACES_FIRST_BURST + TRACES_QUIET_BURST + 1);
	assert_int_equal(LISTED(.service = "cache"), 2);
	assert_int_equal(LISTED(.until_ms = 1700000000001), 1);
	assert_int_equal(LISTED(.service = "rare"), 1);
	assert_int_equal(LISTED(.service = "none"), 0);
	assert_int_equal(counts().listed, TRACES_FIRST_BURST + TRACES_QUIET_BURST + 3);
}

static void its_log_is_found(void **state)
{
	struct traces_filter f = {.error = -1, .until_ms = INT64_MAX, .limit = 10, .trace = "a"};
	struct buf b;

	send_many("fill", 0, TRACES_FIRST_BURST + 1, (struct rec){0});
	SEND(.trace = "a", .id = 1, .service = "cache", .path = "/found");
	assert_int_equal(traces_logs(store, &f, &b), 0);
	assert_non_null(strstr(b.data, "\"path\":\"/found\""));
	buf_done(&b);
	SEND(.trace = "b", .id = 2, .service = "rare", .path = "/too");
	f.trace = NULL;
	f.service = "rare";
	assert_int_equal(traces_logs(store, &f, &b), 0);
	assert_non_null(strstr(b.data, "\"path\":\"/too\""));
	buf_done(&b);
}

static void a_storm_of_errors_is_bounded_and_found(void **state)
{
	send_many("e", 0, 3000, (struct rec){.status = 503, .service = "backend"});
	assert_int_equal(counts().listed, TRACES_URGENT_BURST);
	SEND(.trace = "fine", .id = 9);
	assert_int_equal(counts().listed, TRACES_URGENT_BURST + 1);
	send_many("fill", 0, TRACES_FIRST_BURST - 1, (struct rec){0});
	use_up_quiet();
	SEND(.trace = "another", .id = 9, .status = 503, .service = "rare");
	assert_int_equal(counts().listed,
			 TRACES_URGENT_BURST + TRACES_FIRST_BURST + TRACES_QUIET_BURST);
	assert_int_equal(WITH_ERROR(.service = "rare"), 1);
	assert_int_equal(spans_of("e2500"), 1);
	assert_int_equal(WITH_ERROR(), TRACES_LIST_MAX);
}

/* What came before the error comes with it, and what comes after it. */
static void a_trace_is_listed_as_a_whole(void **state)
{
	send_many("fill", 0, TRACES_FIRST_BURST + 1, (struct rec){0});
	SEND(.trace = "t", .id = 1);
	SEND(.trace = "t", .id = 2, .unsampled = true);
	assert_int_equal(counts().listed, TRACES_FIRST_BURST);
	SEND(.trace = "t", .id = 3, .status = 500);
	assert_int_equal(counts().listed, TRACES_FIRST_BURST + 3);
	SEND(.trace = "t", .id = 4);
	assert_int_equal(counts().listed, TRACES_FIRST_BURST + 4);
	assert_int_equal(spans_of("t"), 4);
}

/* Applications' spans and those of older agents join in. */
static void a_span_of_another_kind_lists_it_too(void **state)
{
	send_many("fill", 0, TRACES_FIRST_BURST + 1, (struct rec){0});
	SEND(.trace = "t", .id = 1);
	assert_int_equal(TAKE(.trace = "t", .id = "own"), 0);
	assert_int_equal(counts().listed, TRACES_FIRST_BURST + 2);
	assert_int_equal(spans_of("t"), 2);
}

static void what_nobody_sampled_waits_for_a_reason(void **state)
{
	cJSON *want = cJSON_CreateArray();

	SEND(.trace = "t", .id = 1, .unsampled = true);
	assert_int_equal(counts().stored, 0);
	assert_int_equal(spans_of("t"), -1);
	assert_int_equal(LISTED(), 0);
	SEND(.trace = "t", .id = 2, .unsampled = true, .status = 500);
	assert_int_equal(spans_of("t"), 2);
	assert_int_equal(counts().stored, 2);
	traces_want(store, "m", want);
	assert_int_equal(cJSON_GetArraySize(want), 1);
	cJSON_Delete(want);
	SEND(.trace = "t", .id = 3, .unsampled = true);
	assert_int_equal(spans_of("t"), 3);
}

static void it_is_found_by_its_other_names(void **state)
{
	send_many("fill", 0, TRACES_FIRST_BURST + 1, (struct rec){0});
	SEND(.trace = "t", .id = 1, .alias = "first,second");
	SEND(.trace = "t", .id = 2);
	assert_int_equal(counts().listed, TRACES_FIRST_BURST);
	assert_int_equal(spans_of("second"), 2);
	assert_int_equal(spans_of("first"), 2);
	assert_int_equal(spans_of("t"), 2);
	assert_int_equal(spans_of("third"), -1);
}

static void a_trace_of_any_length_has_its_limit(void **state)
{
	static struct rec all[3000];

	for (size_t i = 0; i < 3000; i++)
		all[i] = (struct rec){.trace = "long", .id = i + 1, .start_us = now_us()};
	for (size_t i = 0; i < 3000; i += 500)
		assert_int_equal(send_at(1000, all + i, 500), 0);
	for (int i = 0; i < 100; i++)
		(void)spans_of("long");
	assert_int_equal(spans_of("long"), TRACES_SPANS_MAX);
	assert_int_equal(counts().listed, TRACES_SPANS_MAX);
	assert_int_equal(counts().stored, 3000);
}

static uint64_t received(void)
{
	struct traces_counts c = counts();

	return c.stored + c.duplicates + c.invalid + c.undecided + c.too_many + c.failed;
}

static void each_span_is_counted_once(void **state)
{
	uint64_t stored = 0;

	for (unsigned i = 0; i < 9; i++) { /* of one trace, and some twice */
		struct rec all[500];

		for (unsigned k = 0; k < 500; k++)
			all[k] = (struct rec){.trace = "t", .id = i * 400 + k + 1};
		assert_int_equal(send_at(1000 + i * 100, all, 500), 0);
		assert_true(counts().stored >= stored);
		stored = counts().stored;
	}
	assert_int_equal(received(), 4500);
	assert_int_equal(spans_of("t"), TRACES_SPANS_MAX);
	assert_int_equal(received(), 4500);
	assert_true(counts().stored >= stored);
}

/* After a crash the agents send again what is recorded already. */
static void what_is_listed_again_is_not_counted_again(void **state)
{
	uint64_t n;

	send_many("t", 0, 3000, (struct rec){0});
	traces_free(&store);
	store_start(0, 0);
	n = received();
	send_many("t", 0, 3000, (struct rec){0});
	n += 3000;
	assert_int_equal(received(), n);
	(void)LISTED(.limit = 1000);
	for (unsigned i = 0; i < 3000; i += 10) {
		char trace[16];

		snprintf(trace, sizeof(trace), "t%u", i);
		assert_int_equal(spans_of(trace), 1);
	}
	assert_int_equal(received(), n);
}

static void queries_of_before_are_taken_out_when_it_is_listed(void **state)
{
	struct traces_options o = {.dir = home.path, .strip_queries = true};
	struct buf b;

	send_many("t", 0, 1500, (struct rec){.path = "/items?secret=1"});
	traces_free(&store);
	assert_int_equal(traces_new(&o, &store), 0);
	assert_int_equal(traces_show(store, "t1499", &b), 0);
	buf_char(&b, '\0');
	assert_non_null(strstr(b.data, "\"path\":\"/items\""));
	assert_null(strstr(b.data, "secret"));
	buf_done(&b);
}

/* All that are kept, listed or not; what nobody sampled once it is. */
static void what_is_kept_is_exported_once(void **state)
{
	struct otlp_config c = {.endpoint = "http://127.0.0.1:1", .batch_ms = 60000};
	struct traces_options o = {.dir = home.path, .turn_ms = 60000};
	struct otlp_stats n;
	char why[128];

	traces_free(&store);
	assert_int_equal(otlp_new(&c, &o.otlp, why, sizeof(why)), 0);
	assert_int_equal(traces_new(&o, &store), 0);
	send_many("t", 0, 200, (struct rec){0});
	SEND(.trace = "t", .id = 1, .unsampled = true);
	otlp_count(o.otlp, &n);
	assert_int_equal(n.queued, 200);
	SEND(.trace = "t", .id = 2, .unsampled = true, .status = 500);
	assert_int_equal(spans_of("t"), 2);
	otlp_count(o.otlp, &n);
	assert_int_equal(n.queued, 202);
	assert_int_equal(n.dropped, 0);
	traces_free(&store);
	otlp_free(&o.otlp);
}

/* One call must not hold up all that meshd does: what is left is not exported. */
static void a_call_has_its_time(void **state)
{
	struct otlp_config c = {.endpoint = "http://127.0.0.1:1", .batch_ms = 60000};
	struct traces_options o = {.dir = home.path, .turn_ms = 2};
	struct otlp_stats n;
	char why[128];

	traces_free(&store);
	assert_int_equal(otlp_new(&c, &o.otlp, why, sizeof(why)), 0);
	assert_int_equal(traces_new(&o, &store), 0);
	send_many("t", 0, 500, (struct rec){0});
	assert_int_equal(counts().stored, 500);
	otlp_count(o.otlp, &n);
	assert_in_range(n.dropped, 1, 500);
	assert_int_equal(n.queued + n.dropped, 500);
	assert_int_equal(LISTED(), 500);
	traces_free(&store);
	otlp_free(&o.otlp);
}

/* One has so much that nothing is left for the other. */
static void a_quiet_service_is_not_starved(void **state)
{
	static struct rec all[1001];

	send_many("fill", 0, TRACES_FIRST_BURST, (struct rec){0});
	for (size_t i = 0; i < 1000; i++)
		all[i] = (struct rec){.trace = "t", .id = i + 1, .start_us = now_us()};
	for (size_t i = 0; i < 1000; i++)
		all[i].service = "backend";
	all[1000] = (struct rec){.trace = "rare", .id = 1, .service = "rare", .start_us = now_us()};
	assert_int_equal(send_at(1001, all + 900, 101), 0);
	assert_int_equal(counts().listed, TRACES_FIRST_BURST + 1);
	assert_int_equal(send_at(1002, all + 1000, 1), 0); /* it is listed already */
	assert_int_equal(counts().listed, TRACES_FIRST_BURST + 1);
}

/* Who asks again and again does not make the file over. */
static void asking_lists_so_much_and_no_more(void **state)
{
	static const char *const services[] = {"a", "b", "c", "d"};
	uint64_t began = clock_mono_ns(), most;

	send_many("fill", 0, TRACES_FIRST_BURST, (struct rec){0});
	for (int i = 0; i < 4; i++)
		send_many(services[i], 0, 1000, (struct rec){.service = services[i]});
	for (int i = 0; i < 100; i++)
		(void)listed((struct traces_filter){.error = -1, .service = services[i / 25]},
			     NULL);
	most = TRACES_DEMAND_BURST + (clock_mono_ns() - began) / 1000000 * TRACES_DEMAND / 1000 + 1;
	assert_in_range(counts().listed, TRACES_FIRST_BURST + 1000, TRACES_FIRST_BURST + 4 + most);
}

/* --- files ------------------------------------------------------------------------------- */

static void it_is_found_after_a_restart(void **state)
{
	send_many("t", 0, 1500, (struct rec){0});
	restart();
	assert_int_equal(spans_of("t0"), 1);
	assert_int_equal(spans_of("t1499"), 1);
	assert_int_equal(counts().listed, 1);
	assert_int_equal(counts().duplicates, 0);
}

static void it_survives_kill(void **state)
{
	pid_t child;
	int status;

	traces_free(&store);
	child = fork();
	if (!child) {
		store_start(0, 0);
		send_many("t", 0, 1500, (struct rec){0});
		raise(SIGKILL);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
	store_start(0, 0);
	assert_int_equal(spans_of("t0"), 1);
	assert_int_equal(spans_of("t1499"), 1);
	assert_int_equal(LISTED(.limit = 1000), 1000);
	assert_int_equal(counts().duplicates, 0);
}

static void with_another_database_all_is_listed_anew(void **state)
{
	SEND(.trace = "t", .id = 1);
	traces_free(&store);
	test_dir_write(&home, "traces.db", NULL);
	store_start(0, 0);
	assert_int_equal(spans_of("t"), 1);
}

static void without_a_recorder_the_budget_is_all(void **state)
{
	char path[128];

	traces_free(&store);
	snprintf(path, sizeof(path), "%s/" RECORDER_FILE, home.path);
	unlink(path);
	assert_int_equal(symlink("/dev/null", path), 0);
	store_start(0, 0);
	send_many("t", 0, 1500, (struct rec){0});
	assert_non_null(strstr(traces_error(store), RECORDER_FILE));
	assert_int_equal(counts().stored, TRACES_DIRECT);
	assert_int_equal(counts().failed, 1500 - TRACES_DIRECT);
	unlink(path);
	traces_sweep(store, 100000);
	assert_null(traces_error(store));
	SEND(.trace = "later", .id = 1);
	assert_int_equal(counts().recorded, 1);
}

/* Nothing can be written beyond so many bytes of a file. */
static void limit_files(rlim_t bytes)
{
	struct rlimit l;

	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &l), 0);
	l.rlim_cur = bytes < l.rlim_max ? bytes : l.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &l), 0);
}

static void a_recorder_that_cannot_write_says_so_until_it_can(void **state)
{
	SEND(.trace = "a", .id = 1);
	assert_null(traces_error(store));
	limit_files(1);
	SEND(.trace = "b", .id = 1, .unsampled = true);
	assert_non_null(strstr(traces_error(store), RECORDER_FILE));
	limit_files(RLIM_INFINITY);
	SEND(.trace = "c", .id = 1, .unsampled = true);
	assert_null(traces_error(store));
}

/* Some of it was counted before that as what there is no room for, or as no span. */
static void what_cannot_be_written_is_counted_once(void **state)
{
	static struct rec all[1200];

	for (size_t i = 0; i < 1200; i++)
		all[i] = (struct rec){.trace = i % 2 ? "a" : "b",
				      .id = i + 1,
				      .untraced = i < 50,
				      .unsampled = i >= 50 && i < 90};
	limit_files(1);
	assert_int_equal(send_at(1000, all, 1200), -EIO);
	limit_files(RLIM_INFINITY);
	assert_int_equal(received(), 1200);
	assert_int_equal(counts().failed, 1200);
}

/* As small as it may be it takes the largest batch. */
static void the_smallest_store_takes_whole_batches(void **state)
{
	static struct rec all[1100];

	traces_free(&store);
	store_start(TRACES_SIZE_MIN, 0);
	for (size_t i = 0; i < 1100; i++)
		all[i] = (struct rec){.trace = "t", .id = i + 1};
	for (size_t i = 0; i < 5; i++)
		assert_int_equal(send_at(1000, all, 1100), 0);
	assert_null(traces_error(store));
	assert_int_equal(counts().recorded, 5500);
	assert_in_range(counts().bytes, 1, TRACES_SIZE_MIN);
}

static void a_file_that_was_removed_begins_anew(void **state)
{
	SEND(.trace = "a", .id = 1);
	test_dir_write(&home, RECORDER_FILE, NULL);
	traces_sweep(store, 2000);
	SEND(.trace = "b", .id = 1);
	restart();
	assert_int_equal(spans_of("b"), 1);
	assert_true(file_size(RECORDER_FILE) > 0);
}

static void what_makes_room_is_counted(void **state)
{
	traces_free(&store);
	store_start(4 << 20, 0);
	send_many("t", 0, 4000, (struct rec){0});
	assert_int_equal(counts().stored, 4000);
	assert_in_range(counts().overwritten, 100, 2000);
	assert_int_equal(spans_of("t3999"), 1);
	assert_in_range(counts().bytes, 1, 4 << 20);
}

static void what_is_too_old_is_not_shown(void **state)
{
	traces_free(&store);
	store_start(0, 1);
	send_many("t", 0, 1100, (struct rec){0});
	usleep(3000); /* it is the wall clock's */
	assert_int_equal(spans_of("t1099"), -1);
	assert_int_equal(counts().listed, TRACES_FIRST_BURST);
	(void)LISTED(.service = "backend");
	assert_int_equal(counts().listed, TRACES_FIRST_BURST);
	traces_sweep(store, 2000);
	traces_free(&store);
	store_start(0, 0);
	assert_int_equal(spans_of("t1099"), -1); /* it is in no file any more */
}

/* What was counted stays so, and what is gone is said to be. */
static void counts_do_not_go_back_with_a_new_file(void **state)
{
	uint64_t gone;

	traces_free(&store);
	store_start(4 << 20, 0);
	send_many("t", 0, 4000, (struct rec){0});
	send_many("u", 0, 1, (struct rec){.unsampled = true});
	gone = counts().overwritten;
	assert_true(gone > 0);
	test_dir_write(&home, RECORDER_FILE, NULL);
	traces_sweep(store, 1000);
	assert_int_equal(counts().overwritten, 4000 - counts().listed);
	assert_int_equal(counts().undecided, 1);
	assert_true(counts().overwritten > gone);
}

static void without_a_directory_nothing_is_kept(void **state)
{
	struct traces_options o = {0};
	struct rec one = {.trace = "t", .id = 1};

	traces_free(&store);
	assert_int_equal(traces_new(&o, &store), 0);
	assert_int_equal(send_at(1000, &one, 1), -EIO);
	assert_int_equal(counts().failed, 1);
}

/* --- at random --------------------------------------------------------------------------- */

#define TRACES 600

static void every_span_is_found_in_its_trace(void **state)
{
	static int spans[TRACES];
	static char names[TRACES][16];
	struct rec all[64];
	uint64_t id = 0;

	memset(spans, 0, sizeof(spans));
	for (int i = 0; i < TRACES; i++)
		snprintf(names[i], sizeof(names[i]), "t%d", i);
	for (int round = 0; round < 150; round++) {
		size_t n = 1 + below(64);

		for (size_t i = 0; i < n; i++) {
			unsigned t = below(TRACES);

			spans[t]++;
			all[i] = (struct rec){.trace = names[t],
					      .id = ++id,
					      .start_us = now_us(),
					      .status = below(50) ? 200 : 500};
		}
		assert_int_equal(send_at(1000, all, n), 0);
		if (!below(30))
			restart();
		if (!below(4))
			(void)spans_of(names[below(TRACES)]);
		if (!below(20))
			(void)listed((struct traces_filter){.error = 1, .limit = 5}, NULL);
	}
	assert_int_equal(LISTED(), TRACES);
	for (int i = 0; i < TRACES; i++)
		assert_int_equal(spans_of(names[i]), spans[i]);
	assert_int_equal(counts().duplicates, 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup_store, teardown_dir)
	const struct CMUnitTest tests[] = {
		T(below_the_budget_all_is_listed),
		T(beyond_the_budget_all_is_found),
		T(the_budget_comes_back_with_time),
		T(it_is_found_by_what_it_was),
		T(its_log_is_found),
		T(a_storm_of_errors_is_bounded_and_found),
		T(a_trace_is_listed_as_a_whole),
		T(a_span_of_another_kind_lists_it_too),
		T(what_nobody_sampled_waits_for_a_reason),
		T(it_is_found_by_its_other_names),
		T(a_trace_of_any_length_has_its_limit),
		T(each_span_is_counted_once),
		T(what_is_listed_again_is_not_counted_again),
		T(queries_of_before_are_taken_out_when_it_is_listed),
		T(what_is_kept_is_exported_once),
		T(a_call_has_its_time),
		T(a_quiet_service_is_not_starved),
		T(asking_lists_so_much_and_no_more),
		T(it_is_found_after_a_restart),
		T(it_survives_kill),
		T(with_another_database_all_is_listed_anew),
		T(without_a_recorder_the_budget_is_all),
		T(a_recorder_that_cannot_write_says_so_until_it_can),
		T(what_cannot_be_written_is_counted_once),
		T(the_smallest_store_takes_whole_batches),
		T(a_file_that_was_removed_begins_anew),
		T(what_makes_room_is_counted),
		T(what_is_too_old_is_not_shown),
		T(counts_do_not_go_back_with_a_new_file),
		T(without_a_directory_nothing_is_kept),
		T(every_span_is_found_in_its_trace),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
