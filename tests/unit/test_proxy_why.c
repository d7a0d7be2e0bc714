/* SPDX-License-Identifier: Apache-2.0 */
/* What is written down beside the record of a request that the mesh answered itself. */
#include "proxy_rig.h"

#include <mesh/breaker.h>

static const struct record_why *why_of(const struct rig *rig)
{
	return (const struct record_why *)rig_record(rig, true);
}

static const struct why_candidate *candidate(const struct record_why *w, uint32_t endpoint)
{
	for (uint16_t i = 0; i < w->ncandidates; i++)
		if (why_candidates(w)[i].endpoint == endpoint)
			return &why_candidates(w)[i];
	fail_msg("endpoint %u is not among %u", endpoint, w->ncandidates);
	return NULL;
}

static int set_up(void **state)
{
	struct rig *rig = rig_start();

	for (unsigned i = 0; i < RIG_ORIGINS; i++)
		rig->endpoints[i].port = htons(rig->origin_port[i]);
	rig->upstreams[0].port = rig->endpoints[0].port;
	*state = rig;
	return 0;
}

static void who_was_tried_and_what_came_of_it(void **state)
{
	struct rig *rig = *state;
	const struct record_why *w;
	int c;

	rig_use(rig, 2);
	for (int i = 0; i < 2; i++) {
		close(rig->origin[i]); /* refuses */
		rig->origin[i] = -1;
	}
	rig->shared.ep_inflight[0].worker[0] = 4;
	rig->shared.svc_stats[0].budget = 77;
	rig_route(rig, "/");
	strcpy(rig->snapshot->text + 100, "beta");
	rig->snapshot->route[0].name = offsetof(typeof(*rig->snapshot), text) + 100;
	c = rig_connect(rig->gateway_port);
	rig_send(c, "GET /svc/a HTTP/1.1\r\nHost: h\r\nX-Request-Id: abc\r\n\r\n");
	expect_refusal(c, "503", "connect-failed");
	w = why_of(rig);
	assert_int_equal(w->status, 503);
	assert_int_equal(w->cause, CAUSE_CONNECT_FAILED);
	assert_int_equal(w->service, 0);
	assert_int_equal(w->caller, MESH_NONE);
	assert_int_equal(w->flags & (RECORD_LOCAL | RECORD_GATEWAY), RECORD_LOCAL | RECORD_GATEWAY);
	assert_int_equal(w->ncandidates, 2);
	assert_int_equal(w->tries, candidate(w, 0)->tried + candidate(w, 1)->tried);
	assert_true(w->tries);
	for (uint32_t i = 0; i < 2; i++)
		if (candidate(w, i)->tried)
			assert_int_equal(candidate(w, i)->cause, CAUSE_CONNECT_FAILED);
	assert_int_equal(candidate(w, 0)->gen, 1);
	assert_int_equal(candidate(w, 0)->in_flight, 4);
	/* its failures count as requests under way */
	assert_int_equal(candidate(w, 0)->cost,
			 candidate(w, 0)->latency_ns
				 ? candidate(w, 0)->latency_ns * (5 + candidate(w, 0)->tried)
				 : 5000000000ULL);
	assert_int_equal(w->request_id_len, 3);
	assert_int_equal(w->route_len, 4);
	assert_int_equal(w->trace_id_len, 32);
	assert_memory_equal(why_text(w), "abc", 3);
	assert_memory_equal(why_text(w) + 35, "beta", 4);
	assert_int_equal(w->size % 8, 0);
	close(c);
}

static void who_is_out_is_named_too(void **state)
{
	struct rig *rig = *state;
	const struct record_why *w;
	int c;

	for (unsigned i = 0; i < RIG_ORIGINS; i++)
		rig->endpoints[i].port = rig->upstreams[0].port;
	rig_use(rig, 1);
	rig->endpoints[0].flags |= MESH_EP_DRAINING;
	rig->endpoints[1].flags |= MESH_EP_UNHEALTHY;
	rig->shared.ep_stats[2].breaker = mesh_breaker_hand(MESH_HAND_OPEN, 1);
	rig->endpoints[10] = rig->endpoints[2];
	rig->endpoints[10].port = htons(1); /* another port of the service */
	rig->shared.svc_inflight[0].worker[0].pending = 3;
	c = rig_connect(rig->gateway_port);
	rig_send(c, GET);
	expect_refusal(c, "503", "no-healthy-endpoint");
	w = why_of(rig);
	assert_int_equal(w->ncandidates, 3);
	assert_true(candidate(w, 0)->flags & MESH_EP_DRAINING);
	assert_true(candidate(w, 1)->flags & MESH_EP_UNHEALTHY);
	assert_int_equal(candidate(w, 1)->cost, 0);
	assert_int_equal(candidate(w, 2)->breaker, rig->shared.ep_stats[2].breaker);
	assert_int_equal(w->tries, 0);
	assert_int_equal(w->pending, 3);
	assert_int_equal(w->route_len, 0);
	close(c);
}

static void what_has_no_route_has_no_candidates(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port);

	rig_send(c, "GET /nobody HTTP/1.1\r\nHost: h\r\n\r\n");
	expect_refusal(c, "404", "no-route");
	assert_int_equal(why_of(rig)->ncandidates, 0);
	assert_int_equal(why_of(rig)->service, MESH_NONE);
	assert_int_equal(why_of(rig)->request_id_len, 32);
	close(c);
}

static void an_injected_fault_is_explained(void **state)
{
	struct rig *rig = *state;
	int c;

	rig->snapshot->service.fault =
		(struct snap_fault){.abort_share = SNAP_ALL, .abort_status = 503};
	c = rig_connect(rig->gateway_port);
	rig_send(c, GET);
	expect_refusal(c, "503", "fault-injected");
	assert_true(why_of(rig)->flags & RECORD_ABORTED);
	close(c);
}

static void an_endpoints_answer_needs_no_explanation(void **state)
{
	struct rig *rig = *state;
	int c = rig_connect(rig->gateway_port), o = get_accepted(rig, c);
	const struct record *r;

	expect_served(o, c);
	r = rig_first_record(rig);
	assert_int_equal(r->kind, RECORD_REQUEST);
	assert_int_equal(rig->ring->head, r->size);
	close(o);
	close(c);
}

/* Explanations leave room for the records of requests. */
static void a_flood_of_refusals_loses_no_record(void **state)
{
	struct rig *rig = *state;
	uint32_t requests = 0, whys = 0;
	int c = rig_connect(rig->gateway_port);

	rig->snapshot->service.fault =
		(struct snap_fault){.abort_share = SNAP_ALL, .abort_status = 503};
	for (int i = 0; i < 2500; i++) {
		rig_send(c, GET);
		expect_refusal(c, "503", "fault-injected");
	}
	close(c);
	for (uint64_t at = 0; at < rig->ring->head;) {
		const struct record *r = (void *)((char *)rig->ring + RING_DATA + at);

		requests += r->kind == RECORD_REQUEST;
		whys += r->kind == RECORD_WHY;
		at += r->size;
	}
	assert_int_equal(rig->ring->lost, 0);
	assert_true(requests >= 2499); /* the last one may not be written yet */
	assert_in_range(whys, 1, 2499);
}

/* The supervisor is behind: records of requests come first. */
static void at_a_half_full_ring_nothing_is_explained_and_that_is_counted(void **state)
{
	struct rig *rig = *state;
	int c;

	rig_use(rig, 0);
	rig->ring->tail = rig->ring->head - (RING_SIZE / 2 + 8);
	c = rig_connect(rig->gateway_port);
	for (int i = 0; i < 3; i++) {
		rig_send(c, GET);
		rig_read_until(c, "}\n", text, sizeof(text));
	}
	close(c);
	assert_memory_equal(text, "HTTP/1.1 503", 12);
	assert_int_equal(rig->ring->whys_skipped, 3);
	assert_int_equal(rig->ring->lost, 0);
}

int main(void)
{
#define story(fn) cmocka_unit_test_setup_teardown(fn, set_up, stop)
	const struct CMUnitTest tests[] = {
		story(who_was_tried_and_what_came_of_it),
		story(at_a_half_full_ring_nothing_is_explained_and_that_is_counted),
		story(who_is_out_is_named_too),
		story(what_has_no_route_has_no_candidates),
		story(an_injected_fault_is_explained),
		story(an_endpoints_answer_needs_no_explanation),
		story(a_flood_of_refusals_loses_no_record),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
