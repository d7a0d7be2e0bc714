/* SPDX-License-Identifier: Apache-2.0 */
/* meshd --trace-query strip: no query string gets as far as the store or a tap. */
#include "tests/unit/meshd_stream.h"

static int setup_stripping(void **state)
{
	rig_strips = true;
	return setup(state);
}

static void assert_nowhere(const char *path, const char *what)
{
	assert_int_equal(call("GET", path, NULL), 200);
	if (strstr(answer.body, what))
		fail_msg("'%s' is in '%s'", what, answer.body);
}

static void query_strings_are_not_kept(void **state)
{
	assert_int_equal(
		call("POST", "/api/telemetry",
		     "{'node':'n','spans':[{'id':'1','traceId':'t','service':'s','operation':"
		     "'GET /items?secret=1','path':'/items?secret=2','startTime':1,'duration':1,"
		     "'sampled':true}],'tapped':[{'path':'/?secret=3'}],'whys':[{'id':'w','path':"
		     "'/items?secret=4'}]}"),
		200);
	assert_int_equal(
		call("POST", "/api/spans",
		     "{'id':'2','traceId':'t','service':'s','operation':'o','startTime':2,"
		     "'duration':1,'path':'/b?secret=5','attributes':{'url.query':'secret=6',"
		     "'url.full':'http://s/b?secret=7','kept':'why?'},'tags':{'http.target':"
		     "'/b?secret=8'}}"),
		200);
	assert_int_equal(
		call("POST", "/v1/traces",
		     "{'resourceSpans':[{'scopeSpans':[{'spans':[{'traceId':"
		     "'00000000000000000000000000000001','spanId':'0000000000000001','name':"
		     "'GET /c?secret=9','startTimeUnixNano':'1','attributes':[{'key':'http.target',"
		     "'value':{'stringValue':'/c?secret=10'}}]}]}]}]}"),
		200);
	assert_nowhere("/api/traces", "secret");
	assert_nowhere("/api/logs", "secret");
	assert_nowhere("/api/traces/00000000000000000000000000000001", "secret");
	assert_nowhere("/api/why/w", "secret");
	assert_nowhere("/api/traces/t", "secret");
	assert_body("'path':'/items'");
	assert_body("'operation':'GET /items'");
	assert_body("'url.full':'http://s/b'");
	assert_body("'kept':'why?'");
}

static void taps_show_no_query_strings(void **state)
{
	int fd = open_stream("");
	char body[512];

	assert_true(stream_has(fd, ": open\n\n", 5000));
	snprintf(body, sizeof(body),
		 "{'node':'n','tapped':[{'tap':%llu,'span':{'service':'s','path':'/t?secret=11',"
		 "'operation':'GET /t?secret=12','attributes':{'url.full':'http://s/t?secret=13'},"
		 "'kept':'all of it?'}}]}",
		 (unsigned long long)tap_id());
	assert_int_equal(call("POST", "/api/telemetry", body), 200);
	assert_true(stream_has(fd, "all of it?", 5000));
	assert_non_null(strstr(stream, "\"path\":\"/t\",\"operation\":\"GET /t\""));
	assert_null(strstr(stream, "secret"));
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(query_strings_are_not_kept, setup_stripping,
						teardown),
		cmocka_unit_test_setup_teardown(taps_show_no_query_strings, setup_stripping,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
