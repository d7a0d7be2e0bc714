/* SPDX-License-Identifier: Apache-2.0 */
/* Which endpoint the requests of a session meet, and which those that have none. */
#include "lib/clock.h"
#include "proxy_rig.h"

#define SESSIONS 24

static int set_up(void **state)
{
	struct rig *rig = rig_start();

	for (unsigned i = 0; i < RIG_ORIGINS; i++)
		rig->endpoints[i].hash = 1000 + i;
	rig_use(rig, RIG_ORIGINS);
	*state = rig;
	return 0;
}

static void by_header(struct rig *rig)
{
	rig->snapshot->service.sticky.header = rig_text(rig, "x-user");
}

static void by_cookie(struct rig *rig)
{
	rig->snapshot->service.sticky.cookie = rig_text(rig, "mesh");
}

static int ask(struct rig *rig, const char *field)
{
	int c = rig_connect(rig->gateway_port);
	char request[256];

	snprintf(request, sizeof(request), "GET /svc/ HTTP/1.1\r\nHost: h\r\n%s\r\n", field);
	rig_send(c, request);
	return c;
}

/* Which origin is asked next, and its connection. */
static unsigned asked(struct rig *rig, int *o)
{
	struct pollfd p[RIG_ORIGINS];

	for (unsigned i = 0; i < RIG_ORIGINS; i++)
		p[i] = (struct pollfd){.fd = rig->origin[i], .events = POLLIN};
	assert_int_equal(poll(p, RIG_ORIGINS, RIG_WAIT_MS), 1);
	for (unsigned i = 0; i < RIG_ORIGINS; i++)
		if (p[i].revents) {
			*o = rig_accept(rig, i);
			return i;
		}
	fail();
	return 0;
}

/* One request with that field, answered; which origin it met. The answer's head is in text. */
static unsigned meets(struct rig *rig, const char *field)
{
	int c = ask(rig, field), o;
	unsigned i = asked(rig, &o);

	serve(o, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
	rig_read_until(c, "\r\n\r\n", text, sizeof(text));
	assert_non_null(strstr(text, "200 OK"));
	close(o);
	close(c);
	return i;
}

static unsigned user_meets(struct rig *rig, unsigned user)
{
	char field[64];

	snprintf(field, sizeof(field), "X-User: u%u\r\n", user);
	return meets(rig, field);
}

static void a_session_meets_one_endpoint_and_sessions_meet_all(void **state)
{
	struct rig *rig = *state;
	unsigned met[RIG_ORIGINS] = {0};

	by_header(rig);
	for (unsigned user = 0; user < SESSIONS; user++) {
		unsigned first = user_meets(rig, user);

		met[first]++;
		for (int again = 0; again < 3; again++)
			assert_int_equal(user_meets(rig, user), first);
		assert_null(strstr(text, "set-cookie"));
	}
	for (unsigned i = 0; i < RIG_ORIGINS; i++)
		assert_true(met[i]);
}

static void who_goes_takes_only_its_own_sessions_along(void **state)
{
	struct rig *rig = *state;
	unsigned before[SESSIONS];

	by_header(rig);
	for (unsigned user = 0; user < SESSIONS; user++)
		before[user] = user_meets(rig, user);
	rig->endpoints[1].flags |= MESH_EP_UNHEALTHY;
	for (unsigned user = 0; user < SESSIONS; user++) {
		unsigned now = user_meets(rig, user);

		assert_int_not_equal(now, 1);
		assert_true(before[user] == 1 || now == before[user]);
	}
	rig->endpoints[1].flags &= (uint16_t)~MESH_EP_UNHEALTHY;
	for (unsigned user = 0; user < SESSIONS; user++)
		assert_int_equal(user_meets(rig, user), before[user]);
}

static void who_is_ejected_has_no_sessions(void **state)
{
	struct rig *rig = *state;
	unsigned first;

	by_header(rig);
	first = user_meets(rig, 7);
	rig->shared.ep_stats[first].breaker = mesh_breaker_hand(MESH_HAND_OPEN, 1);
	assert_int_not_equal(user_meets(rig, 7), first);
}

/* The few who are well must not get the sessions of all. */
static void in_panic_sessions_stay_where_they_are(void **state)
{
	struct rig *rig = *state;
	unsigned before[SESSIONS];

	by_header(rig);
	for (unsigned user = 0; user < SESSIONS; user++)
		before[user] = user_meets(rig, user);
	rig->endpoints[1].flags |= MESH_EP_UNHEALTHY;
	rig->shared.ep_stats[2].breaker =
		mesh_breaker_word(MESH_OPEN, 0, 0, 0, clock_mono_ns() / 1000000);
	rig->slots->panic = 1;
	for (unsigned user = 0; user < SESSIONS; user++)
		assert_int_equal(user_meets(rig, user), before[user]);
}

/* One session may not have more than 1.25 times the average, rounded up, at one endpoint. */
static void a_busy_session_is_shared(void **state)
{
	struct rig *rig = *state;
	int c[6], o[6];
	unsigned met[RIG_ORIGINS] = {0};

	by_header(rig);
	for (int i = 0; i < 6; i++) {
		c[i] = ask(rig, "x-user: busy\r\n");
		met[asked(rig, &o[i])]++;
	}
	for (unsigned i = 0; i < RIG_ORIGINS; i++)
		assert_true(met[i] <= 3);
	for (int i = 0; i < 6; i++) {
		expect_served(o[i], c[i]);
		close(o[i]);
		close(c[i]);
	}
}

static void who_names_no_session_meets_all(void **state)
{
	struct rig *rig = *state;
	unsigned met[RIG_ORIGINS] = {0};

	by_header(rig);
	rig->upstreams[0].policy = MESH_LB_ROUND_ROBIN;
	for (int i = 0; i < 3; i++) {
		met[meets(rig, "")]++;
		met[meets(rig, "x-user:\r\n")]++;
	}
	for (unsigned i = 0; i < RIG_ORIGINS; i++)
		assert_int_equal(met[i], 2);
}

static void a_missing_cookie_is_issued_and_holds(void **state)
{
	struct rig *rig = *state;
	char value[17], field[128];
	unsigned first;
	char *at;

	by_cookie(rig);
	for (int i = 0; i < 8; i++) {
		first = meets(rig, "Cookie: other=1\r\n");
		at = strstr(text, "set-cookie: mesh=");
		assert_non_null(at);
		at += strlen("set-cookie: mesh=");
		assert_int_equal(strspn(at, "0123456789abcdef"), 16);
		assert_memory_equal(at + 16, "; Path=/; HttpOnly\r\n", 20);
		memcpy(value, at, 16);
		value[16] = '\0';
		snprintf(field, sizeof(field), "cookie: a=b; mesh=%s\r\n", value);
		assert_int_equal(meets(rig, field), first);
		assert_null(strstr(text, "set-cookie"));
	}
}

static void a_connection_made_early_is_not_for_a_session(void **state)
{
	struct rig *rig = *state;
	unsigned home;
	int c, o, early;

	by_header(rig);
	home = user_meets(rig, 3);
	rig->endpoints[home].flags |=
		MESH_EP_UNHEALTHY; /* not chosen before the session is known */
	rig->shared.up_stats[0].learned = MESH_LEARNED_NOTHING;
	c = rig_connect(rig->capture_port);
	assert_int_not_equal(asked(rig, &early), home);
	rig->endpoints[home].flags &= (uint16_t)~MESH_EP_UNHEALTHY;
	rig_send(c, "GET / HTTP/1.1\r\nHost: h\r\nx-user: u3\r\n\r\n");
	o = rig_accept(rig, home);
	expect_served(o, c);
	close(early);
	close(o);
	close(c);
}

/* Of two drawn the one with fewer requests per weight; weights themselves are in the table. */
static void least_request_knows_weights(void **state)
{
	struct rig *rig = *state;
	int c[9], o[9];
	unsigned met[RIG_ORIGINS] = {0};

	rig_use(rig, 2);
	rig->upstreams[0].policy = MESH_LB_LEAST_REQUEST;
	rig->endpoints[0].weight = 200;
	rig->endpoints[1].weight = 100;
	rig->shared.ep_inflight[0].worker[0] = 150;
	rig->shared.ep_inflight[1].worker[0] = 100;
	for (int i = 0; i < 9; i++) {
		c[i] = ask(rig, "");
		met[asked(rig, &o[i])]++;
	}
	/* 150 of 200 are fewer than 100 of 100: only where both draws are the second one it gets
	 * any */
	assert_true(met[0] > met[1]);
	for (int i = 0; i < 9; i++) {
		expect_served(o[i], c[i]);
		close(o[i]);
		close(c[i]);
	}
}

int main(void)
{
#define story(fn) cmocka_unit_test_setup_teardown(fn, set_up, stop)
	const struct CMUnitTest tests[] = {
		story(a_session_meets_one_endpoint_and_sessions_meet_all),
		story(who_goes_takes_only_its_own_sessions_along),
		story(who_is_ejected_has_no_sessions),
		story(in_panic_sessions_stay_where_they_are),
		story(a_busy_session_is_shared),
		story(who_names_no_session_meets_all),
		story(a_missing_cookie_is_issued_and_holds),
		story(a_connection_made_early_is_not_for_a_session),
		story(least_request_knows_weights),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
