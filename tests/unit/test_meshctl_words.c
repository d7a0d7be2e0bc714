/* SPDX-License-Identifier: Apache-2.0 */
/* What meshctl says of matches, splits, faults and breakers; the lists it makes of them; why. */
#include "ctl/meshctl/shapes.h"
#include "ctl/meshctl/why.h"
#include "ctl/meshctl/words.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/quoted.h"

typedef char *words_of(const cJSON *v, char *out, size_t cap);

static void check(words_of *words, const char *quoted, const char *expected)
{
	cJSON *v = quoted_json(quoted);
	char out[WORDS_MAX], small[8];

	assert_string_equal(words(v, out, sizeof(out)), expected);
	words(v, small, sizeof(small)); /* ends in time */
	assert_true(strlen(small) < sizeof(small));
	cJSON_Delete(v);
}

static void a_match_reads_as_a_condition(void **state)
{
	check(words_match, "{}", "everything");
	check(words_match, "null", "everything");
	check(words_match, "{'method':'GET'}", "GET");
	check(words_match, "{'path':{'exact':'/a'}}", "path is /a");
	check(words_match, "{'path':{'template':'/a/{id}'}}", "path is like /a/{id}");
	check(words_match,
	      "{'path':{'prefix':'/api'},'method':'GET','headers':{'x-user':'beta','y':''},"
	      "'query':{'q':'1'}}",
	      "GET, path begins with /api, header x-user is beta, header y is , query q is 1");
	assert_string_equal(words_match(NULL, (char[32]){0}, 32), "everything");
}

static void versions_are_named_once_and_in_their_order(void **state)
{
	check(words_versions, "[]", "");
	check(words_versions, "[{'version':'v1'}]", "v1");
	check(words_versions,
	      "[{'version':'v10'},{'version':'v2'},{'version':'v1'},{'version':'v2'}]",
	      "v1,v2,v10");
}

static void splits_faults_and_mirrors_are_short(void **state)
{
	check(words_split, "{'v1':90,'v2':10}", "v1 90%, v2 10%");
	check(words_split, "{'v10':1,'v2':90,'v1':9}", "v1 9%, v2 90%, v10 1%");
	check(words_split, "{}", "");
	check(words_fault,
	      "{'delay':{'percent':10,'duration':'500ms'},'abort':{'percent':0.5,'status':503}}",
	      "delay 500ms 10%, abort 503 0.5%");
	check(words_fault, "{'abort':{'status':500}}", "abort 500 100%");
	check(words_fault, "{}", "");
	check(words_mirror, "{'version':'v2','percent':10}", "v2 10%");
	check(words_mirror, "null", "");
	check(words_values, "{'try':'1s','attempts':1,'budget':{'percent':20},'on':['502']}",
	      "try 1s, attempts 1");
}

static void a_breaker_tells_since_when_and_for_how_long(void **state)
{
	check(words_breaker, "{'state':'closed'}", "closed");
	check(words_breaker, "{'state':'closed','sinceMs':61000,'forMs':0,'held':false}",
	      "closed since 1m");
	check(words_breaker, "{'state':'open','sinceMs':12000,'forMs':18000}",
	      "open since 12s, 18s left");
	check(words_breaker, "{'state':'open','sinceMs':12000,'forMs':0,'held':true}",
	      "open since 12s, held by hand");
}

static void endpoints_are_counted_by_status_and_version(void **state)
{
	cJSON *e = quoted_json("[{'version':'v1','status':'healthy'},"
			       "{'version':'v1','status':'ejected'},"
			       "{'version':'v2','status':'draining'},"
			       "{'version':'v2','status':'draining'},"
			       "{'version':'v2','status':'unhealthy'}]");
	char out[64];

	assert_int_equal(words_count(e, NULL, NULL), 5);
	assert_int_equal(words_count(e, "v1", NULL), 2);
	assert_int_equal(words_count(e, "v1", "healthy"), 1);
	assert_int_equal(words_count(NULL, NULL, NULL), 0);
	assert_string_equal(words_out(e, out, sizeof(out)), "1 unhealthy, 1 ejected, 2 draining");
	assert_string_equal(words_out(NULL, out, sizeof(out)), "");
	cJSON_Delete(e);
}

static const char configs[] =
	"{'revision':9,'services':["
	"{'service':'a','revision':1,'config':{'service':'a','split':{'v1':90,'v2':10},'routes':["
	"{'name':'beta','match':{'method':'GET'},'split':{'v2':100}},"
	"{'fault':{'delay':{'percent':10,'duration':'1s'}}}]}},"
	"{'service':'b','revision':2,'config':{'service':'b','protocol':'http'}},"
	"{'service':'c','revision':3,'config':{'service':'c','split':{'v1':100}}}]}";

static void assert_json(cJSON *v, const char *quoted)
{
	cJSON *expected = quoted_json(quoted);
	char *a = json_canonical(v), *b = json_canonical(expected);

	assert_string_equal(a, b);
	free(a);
	free(b);
	cJSON_Delete(expected);
	cJSON_Delete(v);
}

static void routes_are_listed_in_order_with_the_default_last(void **state)
{
	cJSON *v = quoted_json(configs);

	assert_json(shape_routes(v, NULL),
		    "{'routes':[{'service':'a','index':1,'name':'beta','match':{'method':'GET'},"
		    "'split':{'v2':100}},"
		    "{'service':'a','index':2,'fault':{'delay':{'percent':10,'duration':'1s'}}},"
		    "{'service':'a','index':3,'default':true,'split':{'v1':90,'v2':10}},"
		    "{'service':'c','index':1,'default':true,'split':{'v1':100}}]}");
	assert_json(shape_routes(v, "c"), "{'routes':[{'service':'c','index':1,'default':true,"
					  "'split':{'v1':100}}]}");
	assert_json(shape_routes(v, "b"), "{'routes':[]}");
	cJSON_Delete(v);
}

static void faults_by_hand_and_of_routes_are_one_list(void **state)
{
	cJSON *v = quoted_json(configs);
	cJSON *f = quoted_json("{'faults':[{'service':'b','abort':{'percent':5,'status':503,"
			       "'leftMs':900},'leftMs':900}]}");

	assert_json(shape_faults(f, v, NULL),
		    "{'faults':[{'service':'b','abort':{'percent':5,'status':503,'leftMs':900},"
		    "'leftMs':900},"
		    "{'service':'a','route':'#2','delay':{'percent':10,'duration':'1s'}}]}");
	assert_json(shape_faults(f, v, "b"),
		    "{'faults':[{'service':'b','abort':{'percent':5,'status':503,'leftMs':900},"
		    "'leftMs':900}]}");
	assert_json(shape_faults(f, v, "c"), "{'faults':[]}");
	cJSON_Delete(v);
	cJSON_Delete(f);
}

static void members_come_by_name_and_no_more_than_fit(void **state)
{
	cJSON *v = quoted_json("{'c':1,'a':2,'b':3}");
	const cJSON *out[3];

	assert_int_equal(words_sorted(v, out, 3), 3);
	assert_string_equal(out[0]->string, "a");
	assert_string_equal(out[2]->string, "c");
	assert_int_equal(words_sorted(v, out, 2), 2);
	assert_int_equal(words_sorted(NULL, out, 3), 0);
	cJSON_Delete(v);
}

static char *why(const char *quoted, bool wide)
{
	cJSON *v = quoted_json(quoted);
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(f);
	assert_int_equal(why_print(v, f, false, wide), 0);
	fclose(f);
	cJSON_Delete(v);
	return text;
}

static void every_cause_has_a_meaning(void **state)
{
	static const char *const causes[] = {
		"breaker-open",	    "no-endpoint",    "no-healthy-endpoint", "no-route",
		"bulkhead-full",    "connect-failed", "connect-timeout",     "try-timeout",
		"request-timeout",  "upstream-reset", "upstream-protocol",   "bad-request",
		"header-too-large", "body-too-large", "retry-budget",	     "fault-injected",
		"draining",	    "denied"};

	for (size_t i = 0; i < sizeof(causes) / sizeof(causes[0]); i++)
		assert_non_null(why_meaning(causes[i]));
	assert_null(why_meaning("something-new"));
}

static void an_answer_is_explained(void **state)
{
	char *text = why(
		"{'id':'r-1','traceId':'t-1','time':'2026-11-22T15:20:32.123Z','service':'backend',"
		"'source':'frontend','route':'beta','cause':'breaker-open','status':503,'tries':1,"
		"'durationMs':0.42,'node':'host1',"
		"'breaker':{'state':'open','sinceMs':12000,'forMs':18000,'requests':20,"
		"'failures':16,'opened':2},'budget':{'tokens':9.5},"
		"'bulkhead':{'requests':3,'connections':2,'pending':0,'fromSource':1},"
		"'endpoints':[{'id':'b-1','address':'10.0.0.1:80','version':'v1','status':'ejected'"
		","
		"'latencyMs':12.4,'inFlight':3,'costMs':49.6,'ejectedMs':5000,'tried':false},"
		"{'id':'b-2','address':'10.0.0.2:80','version':'v1','status':'healthy','inFlight':"
		"0,"
		"'costMs':0,'tried':true,'result':'503'}]}",
		false);

	assert_string_equal(
		text,
		"Request   r-1  trace t-1\n"
		"When      2026-11-22T15:20:32.123Z  on host1\n"
		"Call      frontend -> backend  route beta\n"
		"Answer    503 breaker-open  after 0.42 ms, 1 try\n"
		"          The circuit breaker of the service was open: too many requests before "
		"had failed, so this one was refused at once.\n"
		"\n"
		"At that moment\n"
		"Breaker   open since 12s, 18s left; 20 requests in its window, 16 failed; opened "
		"2 times so far\n"
		"Budget    9.5 retries left\n"
		"Bulkhead  3 requests under way (1 of this caller), 2 connections, 0 waiting\n"
		"\n"
		"Endpoints considered\n"
		"ENDPOINT  STATUS   EJECTED  LATENCY-MS  IN-FLIGHT  COST-MS  TRIED  RESULT\n"
		"b-1       ejected  5s       12          3          50       -      -\n"
		"b-2       healthy  -        -           0          0        yes    503\n");
	free(text);
}

static void what_a_record_leaves_out_is_left_out(void **state)
{
	char *text = why("{'id':'r','cause':'something-new','status':599}", true);

	assert_string_equal(text, "Request   r\n"
				  "When      ?\n"
				  "Call      (unknown caller) -> (no service)\n"
				  "Answer    599 something-new  after 0 ms, 0 tries\n"
				  "\n"
				  "No endpoint was considered.\n");
	free(text);
	free(why("{'id':1,'endpoints':[1,null,{}],'breaker':7,'budget':[]}", true));
	free(why("[]", false));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_match_reads_as_a_condition),
		cmocka_unit_test(versions_are_named_once_and_in_their_order),
		cmocka_unit_test(splits_faults_and_mirrors_are_short),
		cmocka_unit_test(a_breaker_tells_since_when_and_for_how_long),
		cmocka_unit_test(endpoints_are_counted_by_status_and_version),
		cmocka_unit_test(routes_are_listed_in_order_with_the_default_last),
		cmocka_unit_test(faults_by_hand_and_of_routes_are_one_list),
		cmocka_unit_test(members_come_by_name_and_no_more_than_fit),
		cmocka_unit_test(every_cause_has_a_meaning),
		cmocka_unit_test(an_answer_is_explained),
		cmocka_unit_test(what_a_record_leaves_out_is_left_out),
	};

	return cmocka_run_group_tests_name("meshctl words", tests, NULL, NULL);
}
