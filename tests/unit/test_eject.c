/* SPDX-License-Identifier: Apache-2.0 */
/* Ejection: who is out, how many at most, how they come back, and commands given by hand. */
#include "tests/unit/registry_rig.h"

#include "agent/health/eject.h"
#include "lib/buf.h"
#include "agent/health/outlier.h"

#include <mesh/ewma.h>

static struct mesh_ep_stat eps[MESH_MAX_ENDPOINTS];
static struct mesh_svc_stat svcs[MESH_MAX_SERVICES];
static struct eject e;
static const struct mesh_breaker_policy contract = {.error_pm = 5000,
						    .min_requests = 10,
						    .window_ms = 10000,
						    .open_ms = 30000,
						    .half_open = 1,
						    .consecutive = 5,
						    .max_ejected = 50,
						    .probe_ms = 15000};

static int start(void **state)
{
	memset(eps, 0, sizeof(eps));
	memset(svcs, 0, sizeof(svcs));
	if (make(state))
		return -1;
	eject_init(&e, r, eps, svcs);
	return 0;
}

#define tale(fn) cmocka_unit_test_setup_teardown(fn, start, drop)

static uint64_t ms(void)
{
	return now / 1000000;
}

/* As a worker counts a try. */
static void tries(const char *name, uint32_t n, bool failed)
{
	struct mesh_ep_stat *st = &eps[id_of(name)];
	uint32_t turn = mesh_window_turn(10000, ms());

	while (n--) {
		__u64 *w = &st->window[mesh_window_index(turn)];

		*w = mesh_window_add(*w, turn, failed);
		st->consecutive = failed ? st->consecutive + 1 : 0;
	}
}

static bool beat(void)
{
	bool changed = eject_beat(&e, now);

	if (registry_dirty(r))
		flush();
	return changed;
}

static uint32_t state_of(const char *name)
{
	return mesh_breaker_state(eps[id_of(name)].breaker);
}

static uint32_t status_of(const char *name)
{
	struct endpoint_view v;

	assert_true(registry_endpoint(r, id_of(name), &v));
	return v.status;
}

static void probe(const char *name, bool failed)
{
	__u64 *word = &eps[id_of(name)].breaker;
	struct mesh_breaker_step step = mesh_breaker_admit(*word, &contract, ms());

	assert_int_equal(step.verdict, MESH_PROBE);
	*word = mesh_breaker_probed(step.word, &contract, step.lease, failed, ms());
	tries(name, 1, failed);
}

static void one_that_fails_is_ejected_and_the_others_are_called(void **state)
{
	uint32_t up = service_of(3);

	tries("a", 4, true);
	tries("b", 100, false);
	assert_false(beat());
	assert_string_equal(callees(up), "a:81 b:82 c:83");
	tries("a", 1, true); /* five in a row */
	assert_true(beat());
	assert_int_equal(state_of("a"), MESH_OPEN);
	assert_string_equal(callees(up), "b:82 c:83");
	assert_false(beat());
}

static void half_of_ten_within_the_window_is_enough(void **state)
{
	service_of(2);
	tries("a", 4, true);
	tries("a", 1, false);
	tries("a", 1, true);
	tries("a", 3, false);
	beat();
	assert_int_equal(state_of("a"), MESH_CLOSED); /* nine */
	tries("a", 1, false);
	beat();
	assert_int_equal(state_of("a"), MESH_OPEN);
}

static void what_is_older_than_the_window_does_not_count(void **state)
{
	service_of(2);
	tries("a", 4, true);
	tries("a", 1, false);
	now += 20 * S;
	tries("a", 4, true);
	tries("a", 6, false);
	beat();
	assert_int_equal(state_of("a"), MESH_CLOSED);
}

static void no_more_than_half_and_the_worst_first(void **state)
{
	uint32_t up = service_of(5);

	tries("a", 5, true); /* of 10: a half */
	tries("a", 5, false);
	tries("b", 10, true);
	tries("c", 10, false); /* of 30: two thirds */
	tries("c", 20, true);
	tries("d", 100, true);
	tries("d", 1, false);
	beat();
	assert_string_equal(callees(up), "a:81 c:83 e:85");
	tries("c", 100, true);
	beat();
	assert_int_equal(state_of("c"), MESH_CLOSED); /* two of five are the half */
}

static void the_only_one_is_never_ejected(void **state)
{
	service_of(1);
	tries("a", 100, true);
	assert_false(beat());
	assert_int_equal(state_of("a"), MESH_CLOSED);
}

static void ports_are_groups_of_their_own(void **state)
{
	uint32_t w = workload("s", "a", "v1", 81, HOST_NS);

	listens(w, "0.0.0.0", 81);
	listens(w, "0.0.0.0", 9000);
	flush();
	for (uint32_t i = 0; i < MESH_MAX_ENDPOINTS; i++)
		if (k.endpoints[i].flags & MESH_EP_USED)
			eps[i].consecutive = 50;
	assert_false(beat()); /* each is the only one that serves its port */
}

static void after_the_wait_there_are_probes_and_a_good_one_brings_it_back(void **state)
{
	uint32_t up = service_of(2);

	eps[id_of("a")].ewma = mesh_ewma_update(0, 3000000000, now, 1);
	tries("a", 50, true);
	beat();
	now += 29 * S;
	assert_false(beat());
	assert_int_equal(status_of("a"), ENDPOINT_EJECTED);
	now += S;
	beat();
	assert_int_equal(status_of("a"), ENDPOINT_EJECTED | ENDPOINT_PROBING);
	assert_int_equal(eps[id_of("a")].ewma, 0);
	assert_string_equal(callees(up), "a:81 b:82");
	eps[id_of("a")].ewma = 7; /* measured by the probe: not to be lost again */
	beat();
	assert_int_equal(eps[id_of("a")].ewma, 7);
	probe("a", false);
	assert_true(beat());
	assert_int_equal(status_of("a"), 0);
	assert_int_equal(eps[id_of("a")].consecutive, 0);
	assert_false(beat());
	assert_int_equal(state_of("a"), MESH_CLOSED);
}

static void a_bad_probe_means_a_longer_wait(void **state)
{
	struct breaker_view v;

	service_of(2);
	tries("a", 50, true);
	beat();
	now += 30 * S;
	beat();
	probe("a", true);
	beat();
	assert_int_equal(status_of("a"), ENDPOINT_EJECTED);
	assert_true(eject_endpoint_view(&e, id_of("a"), now, &v));
	assert_int_equal(v.state, MESH_OPEN);
	assert_int_equal(v.level, 1);
	assert_int_equal(v.for_ms, 60000);
	assert_int_equal(v.opened, 2);
	now += 59 * S;
	beat();
	assert_int_equal(status_of("a"), ENDPOINT_EJECTED);
	now += S;
	beat();
	assert_int_equal(status_of("a"), ENDPOINT_EJECTED | ENDPOINT_PROBING);
}

/* What came out and was not seen open counts from the start when its old failures are in the
 * window. */
static void old_failures_are_not_held_against_who_came_back(void **state)
{
	struct mesh_breaker_step step;

	service_of(2);
	tries("a", 50, true);
	beat();
	now += 30 * S;
	beat();
	tries("a", 20, true); /* late ones, from before */
	step = mesh_breaker_admit(eps[id_of("a")].breaker, &contract, ms());
	eps[id_of("a")].breaker = mesh_breaker_probed(step.word, &contract, step.lease, 0, ms());
	beat();
	assert_int_equal(state_of("a"), MESH_CLOSED);
	beat();
	assert_int_equal(state_of("a"), MESH_CLOSED);
}

static void by_hand_endpoints_are_out_whatever_the_share_and_stay_out(void **state)
{
	uint32_t up = service_of(3);

	assert_int_equal(eject_hand(&e, "s", "a", MESH_HAND_OPEN, now), 0);
	assert_int_equal(eject_hand(&e, "s", "b", MESH_HAND_OPEN, now), 0);
	flush();
	assert_string_equal(callees(up), "c:83");
	now += 3600 * S;
	tries("c", 100, true);
	beat();
	assert_string_equal(callees(up), "c:83");
	assert_int_equal(eject_hand(&e, "s", "a", MESH_HAND_RESET, now), 0);
	assert_int_equal(eject_hand(&e, "s", "b", MESH_HAND_CLOSE, now), 0);
	flush();
	tries("b", 100, true);
	beat();
	assert_int_equal(state_of("b"), MESH_CLOSED); /* held */
	assert_int_equal(eject_hand(&e, "s", "nobody", MESH_HAND_OPEN, now), -ENOENT);
	assert_int_equal(eject_hand(&e, "none", NULL, MESH_HAND_OPEN, now), -ENOENT);
}

static void a_service_is_opened_by_hand_and_counted(void **state)
{
	struct breaker_view v;

	service_of(1);
	beat();
	assert_int_equal(eject_hand(&e, "s", NULL, MESH_HAND_OPEN, now), 0);
	now += 5 * S;
	assert_true(eject_service_view(&e, 0, now, &v));
	assert_int_equal(v.state, MESH_OPEN);
	assert_true(v.held);
	assert_int_equal(v.since_ms, 5000);
	assert_int_equal(v.for_ms, 0);
	assert_int_equal(v.opened, 1);
	assert_int_equal(eject_hand(&e, "s", NULL, MESH_HAND_OPEN, now), 0);
	assert_int_equal(svcs[0].went[MESH_OPEN], 1);
	svcs[0].window[0] = 5;
	assert_int_equal(eject_hand(&e, "s", NULL, MESH_HAND_RESET, now), 0);
	assert_int_equal(svcs[0].breaker, 0);
	assert_int_equal(svcs[0].window[0], 0);
	assert_int_equal(svcs[0].went[MESH_CLOSED], 1);
	assert_false(eject_service_view(&e, 9, now, &v));
}

static void a_command_for_a_service_whose_id_was_another_s_stays(void **state)
{
	service_of(1);
	beat();
	strcpy(e.known[0].name, "other"); /* its id was reused */
	svcs[0].breaker = mesh_breaker_word(MESH_HALF_OPEN, 0, 0, 0, ms());
	assert_int_equal(eject_hand(&e, "s", NULL, MESH_HAND_OPEN, now), 0);
	beat();
	assert_int_equal(svcs[0].breaker, mesh_breaker_hand(MESH_HAND_OPEN, ms()));
}

static void note_service(void *arg, uint32_t service, uint32_t from, uint32_t to)
{
	struct buf *b = arg;

	buf_printf(b, "%u:%s>%s ", service, breaker_state_name(from), breaker_state_name(to));
}

static void a_breaker_that_workers_moved_is_news_once(void **state)
{
	struct buf told;

	service_of(1);
	beat();
	assert_false(beat());
	buf_init(&told, 4096);
	e.service_moved = note_service;
	e.arg = &told;
	svcs[0].breaker = mesh_breaker_word(MESH_OPEN, 0, 0, 0, ms());
	assert_true(beat());
	assert_false(beat());
	svcs[0].breaker = 0;
	assert_true(beat());
	buf_char(&told, 0);
	assert_string_equal(told.data, "0:closed>open 0:open>closed ");
	buf_done(&told);
}

static void another_policy_begins_with_empty_windows(void **state)
{
	struct named_config c;

	service_of(2);
	tries("a", 4, true);
	svcs[0].window[2] = 77;
	beat();
	memset(&c, 0, sizeof(c));
	strcpy(c.service, "s");
	service_config_init(&c.config);
	c.config.breaker.window_ms = 60000;
	assert_int_equal(registry_configure(r, &c, 1, now), 0);
	flush();
	beat();
	assert_int_equal(svcs[0].window[2], 0);
	assert_int_equal(eps[id_of("a")].consecutive, 0);
	for (int i = 0; i < MESH_WINDOW; i++)
		assert_int_equal(eps[id_of("a")].window[i], 0);
	svcs[0].window[2] = 78;
	beat();
	assert_int_equal(svcs[0].window[2], 78);
}

static void an_index_that_is_used_again_brings_no_history(void **state)
{
	struct breaker_view v;

	service_of(2);
	tries("a", 50, true);
	beat();
	e.seen[id_of("a")].gen--; /* as if all this had been about the one before */
	eps[id_of("a")] = (struct mesh_ep_stat){0};
	beat();
	assert_true(eject_endpoint_view(&e, id_of("a"), now, &v));
	assert_int_equal(v.opened, 0);
	assert_int_equal(status_of("a"), 0);
}

static void judge_never_takes_all_and_never_overflows(void **state)
{
	struct mesh_breaker_policy p = contract;
	struct outlier v[64];

	for (uint32_t seed = 1; seed < 4000; seed++) {
		uint64_t x = seed * 0x9e3779b97f4a7c15ULL;
		uint32_t n = x >> 58, before = 0, after = 0;

		p.max_ejected = (uint32_t)(x >> 20) % 101;
		for (uint32_t i = 0; i < n; i++) {
			x = x * 6364136223846793005ULL + 1442695040888963407ULL;
			v[i] = (struct outlier){.id = i,
						.tally = {x >> 44, x >> 60 ? x >> 45 : 0},
						.consecutive = x >> 40 & 7};
			if (x >> 56 & 1)
				v[i].word = mesh_breaker_word(MESH_OPEN, 0, 0, 0, 5);
			before += v[i].word != 0;
		}
		outlier_judge(v, n, &p, 1000000);
		for (uint32_t i = 0; i < n; i++) {
			after += mesh_breaker_state(v[i].next) != MESH_CLOSED;
			if (v[i].word)
				assert_int_equal(v[i].next, v[i].word);
		}
		assert_true(after >= before);
		if (after > before)
			assert_true(after * 100 <= n * p.max_ejected && after < n);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		tale(one_that_fails_is_ejected_and_the_others_are_called),
		tale(half_of_ten_within_the_window_is_enough),
		tale(what_is_older_than_the_window_does_not_count),
		tale(no_more_than_half_and_the_worst_first),
		tale(the_only_one_is_never_ejected),
		tale(ports_are_groups_of_their_own),
		tale(after_the_wait_there_are_probes_and_a_good_one_brings_it_back),
		tale(a_bad_probe_means_a_longer_wait),
		tale(old_failures_are_not_held_against_who_came_back),
		tale(by_hand_endpoints_are_out_whatever_the_share_and_stay_out),
		tale(a_service_is_opened_by_hand_and_counted),
		tale(a_command_for_a_service_whose_id_was_another_s_stays),
		tale(a_breaker_that_workers_moved_is_news_once),
		tale(another_policy_begins_with_empty_windows),
		tale(an_index_that_is_used_again_brings_no_history),
		cmocka_unit_test(judge_never_takes_all_and_never_overflows),
	};

	return cmocka_run_group_tests_name("eject", tests, NULL, NULL);
}
