/* SPDX-License-Identifier: Apache-2.0 */
/* Who gets how many requests. */
#include "tests/e2e/harness.h"

#define INSTANCES 3

static void start_three(const char *service, const char *const delays[INSTANCES],
			struct instance *i[INSTANCES])
{
	for (int k = 0; k < INSTANCES; k++) {
		char id[64], cmd[64];

		snprintf(id, sizeof(id), "%s-%d", service, k);
		snprintf(cmd, sizeof(cmd), "origin --port 8000 --delay %s", delays[k]);
		i[k] = instance_start(service, id, "--netns", cmd);
	}
	for (int k = 0; k < INSTANCES; k++)
		instance_ready(i[k]);
}

/* n requests one after the other over one connection; counts who answered. */
static void count_answers(struct client *c, int n, struct instance *const i[INSTANCES],
			  int got[INSTANCES])
{
	memset(got, 0, INSTANCES * sizeof(*got));
	for (int k = 0; k < n; k++) {
		assert_int_equal(get(c, "/"), 200);
		for (int m = 0; m < INSTANCES; m++)
			got[m] += !strcmp(header(c, "x-instance-id"), i[m]->id);
	}
	printf("of %d: %d, %d, %d\n", n, got[0], got[1], got[2]);
}

static void p2c_prefers_the_fast_and_keeps_trying_the_slow(void **state)
{
	static const char *const delays[] = {"10", "50", "100"};
	struct instance *i[INSTANCES];
	int got[INSTANCES];

	start_three("weighted", delays, i);
	count_answers(call(caller_start("client", "--netns"), i[2]->address), 1000, i, got);
	assert_true(got[0] > 500);
	assert_in_range(got[1], 1, 299);
	assert_in_range(got[2], 1, 199);
}

/* Has each a third of n, give or take? */
static bool is_even(const int got[INSTANCES], int n, int give)
{
	for (int k = 0; k < INSTANCES; k++)
		if (abs(got[k] - n / INSTANCES) > give)
			return false;
	return true;
}

static void the_policy_can_be_changed_while_it_runs(void **state)
{
	static const char *const delays[] = {"0", "0", "20"};
	struct instance *i[INSTANCES];
	struct client *c;
	int got[INSTANCES];

	start_three("policy", delays, i);
	c = call(caller_start("client", "--netns"), i[0]->address);
	assert_int_equal(sh("meshctl lb set policy round-robin")->status, 0);
	eventually(3000, (count_answers(c, 30, i, got), is_even(got, 30, 2)));
	for (int k = 0; k < 5; k++) { /* by chance it would not stay so even */
		count_answers(c, 30, i, got);
		assert_true(is_even(got, 30, 2));
	}
	assert_int_equal(sh("meshctl lb set policy random")->status, 0);
	eventually(10000, (count_answers(c, 30, i, got), !is_even(got, 30, 2)));
	count_answers(c, 60, i, got);
	assert_true(got[2] > 0);
	assert_int_equal(sh("meshctl lb set policy p2c")->status, 0);
	eventually(5000, (count_answers(c, 60, i, got), got[2] < 12));
}

/* Which endpoint's address was called makes no difference: calls are to the service. */
static void a_dead_endpoint_gets_nothing(void **state)
{
	static const char *const delays[] = {"0", "0", "0"};
	struct instance *i[INSTANCES];
	struct caller *who = caller_start("client", "--netns");
	struct client *c;
	int got[INSTANCES];

	start_three("mortal", delays, i);
	c = call(who, i[0]->address);
	/* who was slow by chance gets little for a while */
	eventually(5000, (count_answers(c, 60, i, got), got[0] && got[1] && got[2]));
	instance_kill(i[1]);
	count_answers(c, 60, i, got);
	assert_int_equal(got[1], 0);
	assert_int_equal(got[0] + got[2], 60);
	eventually(2000, !registered("mortal", "mortal-1"));
	assert_int_equal(get(call(who, i[2]->address), "/"), 200);
}

static void a_new_endpoint_is_used(void **state)
{
	struct instance *a =
		instance_ready(instance_start("grow", "g0", "--netns", "origin --port 8000"));
	struct client *c = call(caller_start("client", "--netns"), a->address);

	assert_int_equal(get(c, "/"), 200);
	assert_string_equal(header(c, "x-instance-id"), "g0");
	instance_ready(instance_start("grow", "g1", "--netns", "origin --port 9000"));
	eventually(3000, get(c, "/") == 200 && !strcmp(header(c, "x-instance-id"), "g1"));
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(p2c_prefers_the_fast_and_keeps_trying_the_slow),
		STORY(the_policy_can_be_changed_while_it_runs),
		STORY(a_dead_endpoint_gets_nothing),
		STORY(a_new_endpoint_is_used),
	};

	return RUN(stories);
}
