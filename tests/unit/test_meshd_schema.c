/* SPDX-License-Identifier: Apache-2.0 */
/* What a configuration may be: every key with a good and a bad value, and where the error points.
 */
#include "ctl/meshd/config.h"
#include "lib/json.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after the types that it needs */
#include <cmocka.h>

#include "tests/unit/quoted.h"

struct config_case {
	const char *json; /* single quotes stand for double ones */
	const char *path; /* of the error; NULL: it is valid */
};

/* The members behind "service". */
static const struct config_case cases[] = {
	{"", NULL},
	{"'protocol':'auto'", NULL},
	{"'protocol':'http'", NULL},
	{"'protocol':'tcp'", NULL},
	{"'protocol':'HTTP'", "protocol"},
	{"'protocol':1", "protocol"},
	{"'protocol':null", "protocol"},
	{"'loadBalancer':{'policy':'p2c'}", NULL},
	{"'loadBalancer':{'policy':'least-request'}", NULL},
	{"'loadBalancer':{'policy':'round-robin'}", NULL},
	{"'loadBalancer':{'policy':'random'}", NULL},
	{"'loadBalancer':{'policy':'best'}", "loadBalancer.policy"},
	{"'loadBalancer':{'polcy':'p2c'}", "loadBalancer.polcy"},
	{"'loadBalancer':{'slowStart':'30s'}", NULL},
	{"'loadBalancer':{'slowStart':'0s'}", NULL},
	{"'loadBalancer':{'slowStart':'61m'}", "loadBalancer.slowStart"},
	{"'loadBalancer':{'slowStart':30}", "loadBalancer.slowStart"},
	{"'fallback':'split'", NULL},
	{"'fallback':'none'", NULL},
	{"'fallback':'all'", "fallback"},
	{"'loadBalancer':'p2c'", "loadBalancer"},
	{"'loadbalancer':{}", "loadbalancer"},
	{"'split':{'v1':90,'v2':10}", NULL},
	{"'split':{'v1':100}", NULL},
	{"'split':{'v1':100,'v2':0}", NULL},
	{"'split':{}", "split"},
	{"'split':{'v1':90,'v2':11}", "split"},
	{"'split':{'v1':90.5,'v2':9.5}", NULL},
	{"'split':{'v1':33.3,'v2':33.3,'v3':33.4}", NULL},
	{"'split':{'v1':99.9,'v2':0.2}", "split"},
	{"'split':{'v1':110,'v2':-10}", "split.v1"},
	{"'split':{'v 1':100}", "split.v 1"},
	{"'split':{'v1':50,'v1':50}", "split.v1"},
	{"'split':{'v1':'100'}", "split.v1"},
	{"'split':{'a':20,'b':10,'c':10,'d':10,'e':10,'f':10,'g':10,'h':10,'i':10}", "split"},
	{"'routes':[]", NULL},
	{"'routes':{}", "routes"},
	{"'routes':[1]", "routes[0]"},
	{"'routes':[{}]", NULL},
	{"'routes':[{'name':'a'},{'name':'b'}]", NULL},
	{"'routes':[{'name':'a'},{'name':'b'},{'name':'a'}]", "routes[2].name"},
	{"'routes':[{'name':''}]", "routes[0].name"},
	{"'routes':[{'name':'a\\u009bm'}]", "routes[0].name"},
	{"'routes':[{'nam':'x'}]", "routes[0].nam"},
	{"'routes':[{'match':{'path':{'prefix':'/a'}}}]", NULL},
	{"'routes':[{'match':{'path':{'exact':'/a/b'}}}]", NULL},
	{"'routes':[{'match':{'path':{'prefix':'a'}}}]", "routes[0].match.path.prefix"},
	{"'routes':[{'match':{'path':{'prefix':'/a?b'}}}]", "routes[0].match.path.prefix"},
	{"'routes':[{'match':{'path':{'prefix':'/','exact':'/'}}}]", "routes[0].match.path"},
	{"'routes':[{'match':{'path':{}}}]", "routes[0].match.path"},
	{"'routes':[{'match':{'path':{'regex':'x'}}}]", "routes[0].match.path.regex"},
	{"'routes':[{'match':{'path':{'template':'/users/{id}/x'}}}]", NULL},
	{"'routes':[{'match':{'path':{'template':'/files/**'}}}]", NULL},
	{"'routes':[{'match':{'path':{'template':'/**'}}}]", NULL},
	{"'routes':[{'match':{'path':{'template':'/{a.b}/{c-d}/'}}}]", NULL},
	{"'routes':[{'match':{'path':{'template':'/**/x'}}}]", "routes[0].match.path.template"},
	{"'routes':[{'match':{'path':{'template':'/a*'}}}]", "routes[0].match.path.template"},
	{"'routes':[{'match':{'path':{'template':'/*'}}}]", "routes[0].match.path.template"},
	{"'routes':[{'match':{'path':{'template':'/{}'}}}]", "routes[0].match.path.template"},
	{"'routes':[{'match':{'path':{'template':'/{a'}}}]", "routes[0].match.path.template"},
	{"'routes':[{'match':{'path':{'template':'/x{a}'}}}]", "routes[0].match.path.template"},
	{"'routes':[{'match':{'path':{'template':'/{a b}'}}}]", "routes[0].match.path.template"},
	{"'routes':[{'match':{'path':{'template':'users/{id}'}}}]",
	 "routes[0].match.path.template"},
	{"'routes':[{'match':{'path':{'template':'/a','prefix':'/a'}}}]", "routes[0].match.path"},
	{"'routes':[{'match':{'query':{'v':'2','empty':''}}}]", NULL},
	{"'routes':[{'match':{'query':{}}}]", "routes[0].match.query"},
	{"'routes':[{'match':{'query':{'':'2'}}}]", "routes[0].match.query."},
	{"'routes':[{'match':{'query':{'v':2}}}]", "routes[0].match.query.v"},
	{"'routes':[{'fallback':'none'}]", NULL},
	{"'routes':[{'fallback':true}]", "routes[0].fallback"},
	{"'routes':[{'match':{'method':'GET'}}]", NULL},
	{"'routes':[{'match':{'method':'get'}}]", "routes[0].match.method"},
	{"'routes':[{'match':{'headers':{'x-user-group':'beta'}}}]", NULL},
	{"'routes':[{'match':{'headers':{'x user':'beta'}}}]", "routes[0].match.headers.x user"},
	{"'routes':[{'match':{'headers':{'x':'a\\nb'}}}]", "routes[0].match.headers.x"},
	{"'routes':[{'match':{'headers':{'x':1}}}]", "routes[0].match.headers.x"},
	{"'routes':[{'match':{'headers':{}}}]", "routes[0].match.headers"},
	{"'routes':[{'split':{'v2':100}}]", NULL},
	{"'routes':[{},{'split':{'v2':99}}]", "routes[1].split"},
	{"'routes':[{'timeouts':{'request':'2s','try':'500ms'}}]", NULL},
	{"'routes':[{'timeouts':{'request':'2'}}]", "routes[0].timeouts.request"},
	{"'routes':[{'retry':{'attempts':10}}]", NULL},
	{"'routes':[{'retry':{'attempts':11}}]", "routes[0].retry.attempts"},
	{"'routes':[{'retry':{'budget':{}}}]", "routes[0].retry.budget"},
	{"'routes':[{'mirror':{'version':'v2','percent':0.5}}]", NULL},
	{"'routes':[{'mirror':{'percent':10}}]", "routes[0].mirror.version"},
	{"'routes':[{'mirror':{'version':'v2','percent':101}}]", "routes[0].mirror.percent"},
	{"'routes':[{'fault':{'delay':{'duration':'500ms','percent':10}}}]", NULL},
	{"'routes':[{'fault':{'delay':{'percent':10}}}]", "routes[0].fault.delay.duration"},
	{"'routes':[{'fault':{'delay':{'duration':'1h'}}}]", "routes[0].fault.delay.duration"},
	{"'routes':[{'fault':{'delay':{'duration':'1s','percent':-1}}}]",
	 "routes[0].fault.delay.percent"},
	{"'routes':[{'fault':{'abort':{'status':503,'percent':5}}}]", NULL},
	{"'routes':[{'fault':{'abort':{'percent':5}}}]", "routes[0].fault.abort.status"},
	{"'routes':[{'fault':{'abort':{'status':600}}}]", "routes[0].fault.abort.status"},
	{"'routes':[{'fault':{'abort':{'status':503,'percent':'5'}}}]",
	 "routes[0].fault.abort.percent"},
	{"'timeouts':{'connect':'1s','try':'3s','request':'15s','idle':'60s'}", NULL},
	{"'timeouts':{'try':'0s','request':'0s','idle':'0s'}", NULL},
	{"'timeouts':{'connect':'0s'}", "timeouts.connect"},
	{"'timeouts':{'connect':1000}", "timeouts.connect"},
	{"'timeouts':{'try':'3'}", "timeouts.try"},
	{"'timeouts':{'request':'25h'}", "timeouts.request"},
	{"'timeouts':{'idle':'-1s'}", "timeouts.idle"},
	{"'timeouts':{'total':'1s'}", "timeouts.total"},
	{"'retry':{'attempts':0}", NULL},
	{"'retry':{'attempts':-1}", "retry.attempts"},
	{"'retry':{'attempts':1.5}", "retry.attempts"},
	{"'retry':{'attempts':1e999}", "retry.attempts"},
	{"'retry':{'on':['connect-failed','connect-timeout','try-timeout','upstream-reset','"
	 "upstream-protocol','429']}",
	 NULL},
	{"'retry':{'on':[]}", NULL},
	{"'retry':{'on':['502','5xx']}", "retry.on[1]"},
	{"'retry':{'on':[502]}", "retry.on[0]"},
	{"'retry':{'on':['200']}", "retry.on[0]"},
	{"'retry':{'methods':['GET','POST']}", NULL},
	{"'retry':{'methods':['GET','po st']}", "retry.methods[1]"},
	{"'retry':{'methods':['PROPFIND']}", "retry.methods[0]"},
	{"'retry':{'backoff':'25ms','maxBackoff':'250ms'}", NULL},
	{"'retry':{'backoff':'25ms','maxBackoff':'20ms'}", "retry.maxBackoff"},
	{"'retry':{'backoff':'2m'}", "retry.backoff"},
	{"'retry':{'maxBackoff':'x'}", "retry.maxBackoff"},
	{"'retry':{'budget':{'percent':20,'minPerSecond':10}}", NULL},
	{"'retry':{'budget':{'percent':200}}", "retry.budget.percent"},
	{"'retry':{'budget':{'minPerSecond':-1}}", "retry.budget.minPerSecond"},
	{"'retry':{'budget':20}", "retry.budget"},
	{"'circuitBreaker':{'errorPercent':50,'minRequests':10,'window':'10s','openFor':'30s','"
	 "halfOpenRequests':1,"
	 "'consecutiveErrors':5,'maxEjectedPercent':50}",
	 NULL},
	{"'circuitBreaker':{'errorPercent':0}", "circuitBreaker.errorPercent"},
	{"'circuitBreaker':{'minRequests':0}", "circuitBreaker.minRequests"},
	{"'circuitBreaker':{'window':'10ms'}", "circuitBreaker.window"},
	{"'circuitBreaker':{'openFor':'2h'}", "circuitBreaker.openFor"},
	{"'circuitBreaker':{'halfOpenRequests':0}", "circuitBreaker.halfOpenRequests"},
	{"'circuitBreaker':{'consecutiveErrors':0}", NULL},
	{"'circuitBreaker':{'consecutiveErrors':1001}", "circuitBreaker.consecutiveErrors"},
	{"'circuitBreaker':{'maxEjectedPercent':101}", "circuitBreaker.maxEjectedPercent"},
	{"'bulkhead':{'maxConnections':1,'maxRequests':1,'maxPending':0,'maxRequestsPerSource':1}",
	 NULL},
	{"'bulkhead':{'maxConnections':0}", "bulkhead.maxConnections"},
	{"'bulkhead':{'maxRequests':0}", "bulkhead.maxRequests"},
	{"'bulkhead':{'maxPending':-1}", "bulkhead.maxPending"},
	{"'bulkhead':{'maxRequestsPerSource':'many'}", "bulkhead.maxRequestsPerSource"},
	{"'healthCheck':{'type':'http','path':'/"
	 "health','interval':'2s','timeout':'1s','unhealthyAfter':3,'healthyAfter':2}",
	 NULL},
	{"'healthCheck':{'type':'tcp'}", NULL},
	{"'healthCheck':{'type':'none'}", NULL},
	{"'healthCheck':{'type':'grpc'}", "healthCheck.type"},
	{"'healthCheck':{'type':'tcp','path':'/x'}", "healthCheck.path"},
	{"'healthCheck':{'path':'x'}", "healthCheck.path"},
	{"'healthCheck':{'interval':'1ms'}", "healthCheck.interval"},
	{"'healthCheck':{'timeout':'3s'}", "healthCheck.timeout"},
	{"'healthCheck':{'unhealthyAfter':0}", "healthCheck.unhealthyAfter"},
	{"'healthCheck':{'healthyAfter':0}", "healthCheck.healthyAfter"},
	{"'sticky':{'header':'x-user-id'}", NULL},
	{"'sticky':{'cookie':'session'}", NULL},
	{"'sticky':{'cookie':'a b'}", "sticky.cookie"},
	{"'sticky':{'cookie':'a=b'}", "sticky.cookie"},
	{"'sticky':{'header':'x','cookie':'y'}", "sticky"},
	{"'sticky':{}", "sticky"},
	{"'sticky':{'header':'x:y'}", "sticky.header"},
	{"'accelerate':'on'", NULL},
	{"'accelerate':true", "accelerate"},
	{"'failClosed':true", NULL},
	{"'failClosed':'yes'", "failClosed"},
	{"'addresses':[]", NULL},
	{"'addresses':['10.0.0.1:80','[fd00::1]:80','10.0.0.1:81']", NULL},
	{"'addresses':'10.0.0.1:80'", "addresses"},
	{"'addresses':['10.0.0.1:80',80]", "addresses[1]"},
	{"'addresses':['10.0.0.1']", "addresses[0]"},
	{"'addresses':[':80']", "addresses[0]"},
	{"'addresses':['80']", "addresses[0]"},
	{"'addresses':['0.0.0.0:80']", "addresses[0]"},
	{"'addresses':['127.0.0.1:80']", "addresses[0]"},
	{"'addresses':['[::1]:80']", "addresses[0]"},
	{"'addresses':['10.0.0.1:0']", "addresses[0]"},
	{"'addresses':['backend:80']", "addresses[0]"},
	{"'addresses':['10.0.0.1:80','[::ffff:10.0.0.1]:80']", "addresses"},
	{"'addresses':['10.0.0.1:1','10.0.0.1:2','10.0.0.1:3','10.0.0.1:4','10.0.0.1:5',"
	 "'10.0.0.1:6','10.0.0.1:7','10.0.0.1:8','10.0.0.1:9','10.0.0.1:10','10.0.0.1:11',"
	 "'10.0.0.1:12','10.0.0.1:13','10.0.0.1:14','10.0.0.1:15','10.0.0.1:16','10.0.0.1:17']",
	 "addresses"},
	{"'tracing':{'sampling':0.25}", NULL},
	{"'tracing':{'sampling':1.5}", "tracing.sampling"},
	{"'unknown':1", "unknown"},
	{"'service':'twice'", "service"},
};

static void every_key_is_checked(void **state)
{
	char text[1024];

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const struct config_case *c = &cases[i];
		struct schema_error e;
		cJSON *v;
		int r;

		snprintf(text, sizeof(text), "{'service':'s'%s%s}", *c->json ? "," : "", c->json);
		v = quoted_json(text);
		r = config_check(v, &e);
		if (r != (c->path ? -22 : 0) || strcmp(e.path, c->path ? c->path : ""))
			fail_msg("%s: got %d at '%s' (%s), want '%s'", c->json, r, e.path, e.text,
				 c->path ? c->path : "valid");
		if (c->path && !e.text[0])
			fail_msg("%s: no reason is given", c->json);
		cJSON_Delete(v);
	}
}

static void the_service_is_required_and_has_a_name(void **state)
{
	static const struct config_case whole[] = {
		{"{}", "service"},
		{"[]", ""},
		{"'backend'", ""},
		{"{'service':1}", "service"},
		{"{'service':''}", "service"},
		{"{'service':'-a'}", "service"},
		{"{'service':'a/b'}", "service"},
		{"{'service':'Web_1.test'}", NULL},
		{"{'service':'a23456789012345678901234567890123456789012345678901234567890123'}",
		 NULL},
		{"{'service':'a234567890123456789012345678901234567890123456789012345678901234'}",
		 "service"},
	};

	for (size_t i = 0; i < sizeof(whole) / sizeof(*whole); i++) {
		struct schema_error e;
		cJSON *v = quoted_json(whole[i].json);
		int r = config_check(v, &e);

		if (r != (whole[i].path ? -22 : 0) ||
		    strcmp(e.path, whole[i].path ? whole[i].path : ""))
			fail_msg("%s: got %d at '%s'", whole[i].json, r, e.path);
		cJSON_Delete(v);
	}
}

static const char *at(const cJSON *v, const char *a, const char *b)
{
	static char text[256];
	char *printed;

	v = cJSON_GetObjectItemCaseSensitive(v, a);
	v = b ? cJSON_GetObjectItemCaseSensitive(v, b) : v;
	printed = v ? cJSON_PrintUnformatted(v) : NULL;
	snprintf(text, sizeof(text), "%s", printed ? printed : "nothing");
	cJSON_free(printed);
	return text;
}

static void defaults_fill_what_is_missing_and_nothing_else(void **state)
{
	cJSON *v = quoted_json(
		"{'service':'s','timeouts':{'try':'1s'},'routes':[{'retry':{'attempts':1},"
		"'mirror':{'version':'v2'}}],'healthCheck':{}}");
	cJSON *route = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(v, "routes"), 0);
	struct schema_error e;

	assert_int_equal(config_fill(v), 0);
	assert_string_equal(at(v, "timeouts", "try"), "\"1s\"");
	assert_string_equal(at(v, "timeouts", "request"), "\"15s\"");
	assert_string_equal(at(v, "retry", "budget"), "{\"percent\":20,\"minPerSecond\":10}");
	assert_string_equal(at(v, "circuitBreaker", "errorPercent"), "50");
	assert_string_equal(at(v, "split", NULL), "nothing");
	assert_string_equal(at(v, "sticky", NULL), "nothing");
	assert_string_equal(at(v, "fallback", NULL), "\"split\"");
	assert_string_equal(at(v, "loadBalancer", "slowStart"), "\"0s\"");
	assert_string_equal(at(v, "healthCheck", "path"), "\"/health\"");
	/* a route takes from the service what it leaves out */
	assert_string_equal(at(route, "retry", NULL), "{\"attempts\":1}");
	assert_string_equal(at(route, "mirror", "percent"), "100");
	assert_string_equal(at(route, "timeouts", NULL), "nothing");
	assert_string_equal(at(route, "fallback", NULL), "nothing");
	/* what is filled is valid, and stays as it is */
	assert_int_equal(config_check(v, &e), 0);
	cJSON_Delete(v);
}

/* Routes of two versions each, the last one a mirror's: as many versions as there are numbers, or
 * one more. */
static void no_more_versions_are_named_than_there_are_numbers(void **state)
{
	for (int more = 0; more < 2; more++) {
		char text[2048] = "{'service':'s','split':{'v1':100},'routes':[";
		struct schema_error e;
		cJSON *v;

		for (int i = 1; i < 8; i++)
			sprintf(text + strlen(text), "{'split':{'v%d':50,'v%d':50}},", 2 * i - 1,
				2 * i);
		sprintf(text + strlen(text),
			"{'mirror':{'version':'v15'}},{'mirror':{'version':'v%d'}}]}", 15 + more);
		v = quoted_json(text);
		assert_int_equal(config_check(v, &e), more ? -EINVAL : 0);
		if (more)
			assert_string_equal(e.path, "routes");
		cJSON_Delete(v);
	}
}

static void texts_from_outside_pass_a_gate(void **state)
{
	static const struct {
		const char *text;
		size_t len; /* 0: strlen */
		const char *why;
	} bad[] = {
		{"", 0, "empty"},
		{"{", 0, "malformed JSON at byte"},
		{"{} x", 0, "malformed JSON at byte 3"},
		{"\"\xff\"", 0, "byte 1: invalid UTF-8"},
		{"\"\xc0\x80\"", 0, "invalid UTF-8"},	  /* overlong */
		{"\"\xed\xa0\x80\"", 0, "invalid UTF-8"}, /* surrogate */
		{"\"\xe2\x82", 0, "invalid UTF-8"},	  /* cut */
		{"\"\xf4\x90\x80\x80\"", 0, "invalid UTF-8"},
		{"{\"a\":\"x\\u0000y\"}", 0, "u0000"},
		{"{}\0", 3, "NUL"},
		{"\"a\nb\"", 0, "control character"},
		{"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]", 0,
		 "nested too deeply"},
	};
	static const char *const good[] = {
		"{}",
		" {\"a\":\"\\\\u0000\"} ",
		"\"\\\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"",
		"\"\xe2\x82\xac \xf0\x9f\x98\x80\"",
		"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
	};
	struct schema_error e;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		size_t len = bad[i].len ? bad[i].len : strlen(bad[i].text);
		char *exact = malloc(len + 1); /* so that ASan sees a read behind the end */

		memcpy(exact, bad[i].text, len);
		exact = realloc(exact, len ? len : 1);
		if (strict_parse(exact, len, 0, &e) || !strstr(e.text, bad[i].why))
			fail_msg("case %zu: '%s', want '%s'", i, e.text, bad[i].why);
		free(exact);
	}
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		cJSON *v = strict_parse(good[i], strlen(good[i]), 0, &e);

		if (!v)
			fail_msg("%s: %s", good[i], e.text);
		cJSON_Delete(v);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_key_is_checked),
		cmocka_unit_test(the_service_is_required_and_has_a_name),
		cmocka_unit_test(defaults_fill_what_is_missing_and_nothing_else),
		cmocka_unit_test(no_more_versions_are_named_than_there_are_numbers),
		cmocka_unit_test(texts_from_outside_pass_a_gate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
