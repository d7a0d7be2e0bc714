/* SPDX-License-Identifier: Apache-2.0 */
/* Weights of endpoints, from `meshctl run --weight` and registrations to who is called how often.
 */
#include "tests/e2e/harness.h"

static int weight_of(const char *service, const char *id)
{
	cJSON *v = api("GET", "/api/services", NULL);
	const cJSON *s, *e;

	cJSON_ArrayForEach (s, cJSON_GetObjectItem(v, "services"))
		if (!strcmp(json_str(s, "name", ""), service))
			cJSON_ArrayForEach (e, cJSON_GetObjectItem(s, "endpoints"))
				if (!strcmp(json_str(e, "id", ""), id))
					return (int)json_num(e, "weight", -1);
	return -1;
}

/* How many of n requests the instance answered. */
static int answered_by(struct client *c, int n, const char *id)
{
	int got = 0;

	for (int k = 0; k < n; k++) {
		assert_int_equal(get(c, "/"), 200);
		got += !strcmp(header(c, "x-instance-id"), id);
	}
	return got;
}

static void a_heavier_instance_gets_more_calls(void **state)
{
	struct instance *heavy =
		instance_start("scale", "heavy", "--netns --weight 300", "origin --port 8000");
	struct client *c;

	instance_ready(instance_start("scale", "usual", "--netns", "origin --port 8000"));
	instance_ready(heavy);
	assert_int_equal(weight_of("scale", "heavy"), 300);
	assert_int_equal(weight_of("scale", "usual"), 100);
	assert_non_null(strstr(sh("meshctl get endpoints scale -o wide")->out, "WEIGHT"));
	assert_int_equal(
		sh("meshctl get endpoints scale -o wide | grep heavy | grep -qw 300")->status, 0);
	assert_int_equal(sh("meshctl lb set scale round-robin")->status, 0);
	settled();
	c = call(caller_start("client", "--netns"), heavy->address);
	eventually(3000, abs(answered_by(c, 40, "heavy") - 30) <= 2);
	assert_in_range(answered_by(c, 400, "heavy"), 290, 310);
	assert_int_equal(sh("meshctl lb set scale random")->status, 0);
	settled();
	eventually(3000, answered_by(c, 40, "heavy") != 30);
	assert_in_range(answered_by(c, 1000, "heavy"), 750 - 83, 750 + 83); /* six deviations */
}

static void a_registration_changes_its_weight_while_it_is_called(void **state)
{
	static const char *const form =
		"{\"name\":\"outside\",\"port\":8%d00,\"address\":\"%s\",\"instance\":\"o%d\","
		"\"metadata\":{\"weight\":\"%d\"}}";
	struct instance *i[2];
	struct client *c;
	char body[256];

	for (int k = 0; k < 2; k++) {
		char id[8], cmd[64];

		snprintf(id, sizeof(id), "h%d", k);
		snprintf(cmd, sizeof(cmd), "origin --port 8%d00", k);
		i[k] = instance_ready(instance_start(id, id, "--netns", cmd));
		snprintf(body, sizeof(body), form, k, i[k]->ip, k, k ? 100 : 900);
		assert_non_null(api("POST", "/api/register", body));
		assert_int_equal(api_status, 200);
	}
	eventually(5000, healthy("outside") == 2);
	assert_int_equal(weight_of("outside", "o0"), 900);
	assert_int_equal(sh("meshctl lb set outside round-robin")->status, 0);
	settled();
	c = gateway();
	eventually(5000, get(c, "/outside/") == 200);
	for (int k = 0; k < 100; k++)
		assert_int_equal(get(c, "/outside/"), 200);
	snprintf(body, sizeof(body), form, 0, i[0]->ip, 0, 2000);
	api("POST", "/api/register", body);
	assert_int_equal(api_status, 400);
	snprintf(body, sizeof(body), form, 0, i[0]->ip, 0, 1);
	api("POST", "/api/register", body);
	assert_int_equal(api_status, 200);
	assert_int_equal(weight_of("outside", "o0"), 1);
	eventually(3000, ({
			   long before = origin_stat(i[0], "requests");

			   for (int k = 0; k < 50; k++)
				   assert_int_equal(get(c, "/outside/"), 200);
			   origin_stat(i[0], "requests") - before <= 4;
		   }));
}

static void a_weight_that_makes_no_sense_is_refused(void **state)
{
	static const char *const bad[] = {"0", "1001", "-1", "1.5", "heavy", "''"};

	for (size_t k = 0; k < sizeof(bad) / sizeof(*bad); k++)
		assert_int_equal(sh("meshctl run --service r --weight %s -- true", bad[k])->status,
				 2);
	assert_string_equal(
		sh("meshctl run --service r --weight 7 -- sh -c 'echo $MESH_WEIGHT'")->out, "7\n");
	/* what it runs in turn is somebody else */
	assert_string_equal(sh("meshctl run --service r --weight 7 -- meshctl run --service q -- "
			       "sh -c 'echo \"[$MESH_WEIGHT]\"'")
				    ->out,
			    "[]\n");
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(a_heavier_instance_gets_more_calls),
		STORY(a_registration_changes_its_weight_while_it_is_called),
		STORY(a_weight_that_makes_no_sense_is_refused),
	};

	return RUN(stories);
}
