/* SPDX-License-Identifier: Apache-2.0 */
/* What an exported span looks like: against a receiver that takes nothing but the exact form. */
#include "ctl/meshd/otlp/encode.h"
#include "tests/unit/otlp_rig.h"

/* The i-th span of the first request's first resource. */
static const cJSON *span_at(int i)
{
	return at(spans_of(0, 0), i);
}

/* The value of an attribute as JSON text: {"stringValue":"GET"} is "GET", with its quotes. */
static const char *attribute(const cJSON *of, const char *key)
{
	static char text[8192];
	const cJSON *a;

	cJSON_ArrayForEach (a, cJSON_GetObjectItem(of, "attributes"))
		if (!strcmp(json_str(a, "key", ""), key)) {
			cJSON_PrintPreallocated(cJSON_GetObjectItem(a, "value")->child, text,
						sizeof(text), 0);
			return text;
		}
	return NULL;
}

static void assert_attribute(const cJSON *of, const char *key, const char *want)
{
	const char *v = attribute(of, key);

	if (!v || !want)
		assert_ptr_equal(v, want);
	else
		assert_string_equal(v, want);
}

static const char whole_span[] =
	"{'id':'00f067aa0ba902b7','parentId':'53ce929d0e0e4736','traceId':"
	"'4BF92f3577b34da6a3ce929d0e0e4736',"
	"'service':'backend','source':'frontend','operation':'GET /items','method':'GET',"
	"'path':'/items?q=1&r=%20','host':'backend:8080','startTime':1763868000123.456,"
	"'duration':12.345,'statusCode':503,'error':true,'cause':'breaker-open',"
	"'instance':'backend-1','version':'v1','node':'host1','requestId':'r-1','bytesIn':10,"
	"'bytesOut':5120000000,'head':11.9,'upstream':11.2,'kind':'request','sampled':true,"
	"'tries':2,'aliases':['order-17'],"
	"'events':[{'name':'try','time':0.102,'duration':11.2,'endpoint':'backend-1','statusCode':"
	"502,'cause':'','reused':true},{'name':'try','time':11.5,'duration':0.5,'endpoint':"
	"'backend-2','statusCode':0,'cause':'connect-failed','reused':false}]}";

static void a_hop_is_a_span_of_the_callee(void **state)
{
	const cJSON *s, *resource;

	START(takes);
	offer(whole_span);
	settle();
	assert_all_right();
	assert_non_null(strstr(receiver.got[0].head, "POST /v1/traces HTTP/1.1\r\n"));
	assert_non_null(strstr(receiver.got[0].head, "Content-Type: application/json\r\n"));
	assert_non_null(strstr(receiver.got[0].head, "Content-Encoding: gzip\r\n"));
	s = span_at(0);
	assert_string_equal(json_str(s, "traceId", ""), "4bf92f3577b34da6a3ce929d0e0e4736");
	assert_string_equal(json_str(s, "spanId", ""), "00f067aa0ba902b7");
	assert_string_equal(json_str(s, "parentSpanId", ""), "53ce929d0e0e4736");
	assert_string_equal(json_str(s, "name", ""), "GET");
	assert_int_equal(json_num(s, "kind", 0), 2);
	assert_int_equal(json_num(s, "flags", 0), 0x301);
	assert_string_equal(json_str(s, "startTimeUnixNano", ""), "1763868000123456000");
	assert_string_equal(json_str(s, "endTimeUnixNano", ""), "1763868000135801000");
	assert_int_equal(json_num(cJSON_GetObjectItem(s, "status"), "code", 0), 2);
	assert_string_equal(json_str(cJSON_GetObjectItem(s, "status"), "message", ""),
			    "breaker-open");
	resource = cJSON_GetObjectItem(
		at(cJSON_GetObjectItem(receiver.got[0].body, "resourceSpans"), 0), "resource");
	assert_attribute(resource, "service.name", "\"backend\"");
	assert_attribute(resource, "service.version", "\"v1\"");
	assert_attribute(resource, "service.instance.id", "\"backend-1\"");
	assert_attribute(resource, "host.name", "\"host1\"");
	stop();
}

static void attributes_are_those_of_the_conventions(void **state)
{
	static const char *const want[][2] = {
		{"http.request.method", "\"GET\""},
		{"url.path", "\"/items\""},
		{"url.query", "\"q=1&r=%20\""},
		{"url.scheme", "\"http\""},
		{"server.address", "\"backend\""},
		{"server.port", "\"8080\""},
		{"http.response.status_code", "\"503\""},
		{"client.address", "\"frontend\""},
		{"network.protocol.name", "\"http\""},
		{"error.type", "\"breaker-open\""},
		{"mesh.source", "\"frontend\""},
		{"mesh.cause", "\"breaker-open\""},
		{"mesh.request_id", "\"r-1\""},
		{"mesh.tries", "\"2\""},
		{"mesh.bytes_in", "\"10\""},
		{"mesh.bytes_out", "\"5120000000\""},
		{"mesh.head_ms", "11.9"},
		{"mesh.upstream_ms", "11.2"},
		{"mesh.trace_aliases", "{\"values\":[{\"stringValue\":\"order-17\"}]}"},
	};
	const cJSON *e;

	START(takes);
	offer(whole_span);
	settle();
	assert_all_right();
	for (size_t i = 0; i < sizeof(want) / sizeof(*want); i++)
		assert_attribute(span_at(0), want[i][0], want[i][1]);
	e = at(cJSON_GetObjectItem(span_at(0), "events"), 1);
	assert_string_equal(json_str(e, "name", ""), "try");
	assert_string_equal(json_str(e, "timeUnixNano", ""), "1763868000134956000");
	assert_attribute(e, "mesh.endpoint", "\"backend-2\"");
	assert_attribute(e, "mesh.cause", "\"connect-failed\"");
	assert_attribute(e, "mesh.duration_ms", "0.5");
	assert_attribute(e, "mesh.connection_reused", "false");
	assert_attribute(e, "http.response.status_code", NULL);
	stop();
}

/* What a request does not say has no attribute, and what the conventions do not know has theirs. */
static void attributes_fit_any_request(void **state)
{
	static const struct {
		const char *method, *host, *source, *want[6];
	} cases[] = {
		{"PURGE",
		 "[fd00:201::7]:81",
		 "unknown",
		 {"\"_OTHER\"", "\"PURGE\"", "\"fd00:201::7\"", "\"81\"", NULL, "HTTP"}},
		{"GET",
		 "fd00:201::7",
		 "none",
		 {"\"GET\"", NULL, "\"fd00:201::7\"", NULL, NULL, "GET"}},
		{"QUERY",
		 "",
		 "gateway",
		 {"\"QUERY\"", NULL, "\"s\"", NULL, "\"gateway\"", "QUERY"}},
	};
	static const char *const keys[] = {"http.request.method", "http.request.method_original",
					   "server.address", "server.port", "client.address"};
	const size_t n = sizeof(cases) / sizeof(*cases);
	char text[300];

	START(takes);
	for (size_t i = 0; i < n; i++) {
		snprintf(text, sizeof(text),
			 "{'id':'%zu','traceId':'x','service':'s','method':'%s','path':'/','host':"
			 "'%s','source':'%s','startTime':%zu,'duration':1,'kind':'request',"
			 "'statusCode':200,'error':false}",
			 i, cases[i].method, cases[i].host, cases[i].source, i);
		offer(text);
	}
	settle();
	assert_all_right();
	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; k < sizeof(keys) / sizeof(*keys); k++)
			assert_attribute(span_at((int)i), keys[k], cases[i].want[k]);
		assert_string_equal(json_str(span_at((int)i), "name", ""), cases[i].want[5]);
	}
	stop();
}

/* Whoever serves a 404 has made no error; whoever gets one has. */
static void errors_are_those_of_opentelemetry(void **state)
{
	static const struct {
		const char *kind;
		int status, code;
	} cases[] = {{"request", 200, 0}, {"request", 404, 0}, {"request", 499, 0},
		     {"request", 500, 2}, {"request", 0, 2},   {"client", 404, 2},
		     {"client", 302, 0},  {"server", 400, 0}};
	const size_t n = sizeof(cases) / sizeof(*cases);
	char text[300], type[16];

	START(takes);
	for (size_t i = 0; i < n; i++) {
		snprintf(text, sizeof(text),
			 "{'id':'%zu','traceId':'x','service':'s','method':'GET','path':'/"
			 "','startTime'"
			 ":%zu,'duration':1,'kind':'%s','statusCode':%d,'error':%s}",
			 i, i, cases[i].kind, cases[i].status,
			 cases[i].status >= 400 || !cases[i].status ? "true" : "false");
		offer(text);
	}
	settle();
	assert_all_right();
	for (size_t i = 0; i < n; i++) {
		const cJSON *s = span_at((int)i), *status = cJSON_GetObjectItem(s, "status");

		assert_int_equal(json_num(status, "code", 0), cases[i].code);
		snprintf(type, sizeof(type), cases[i].status ? "\"%d\"" : "\"_OTHER\"",
			 cases[i].status);
		assert_attribute(s, "error.type", cases[i].code ? type : NULL);
	}
	stop();
}

static void whatever_a_client_sends_stays_in_form(void **state)
{
	char path[9000];
	cJSON *span = quoted_json("{'id':'span id?','traceId':'t','startTime':1,'duration':1}");

	START(takes);
	otlp_offer(otlp, span); /* no id that could be one */
	cJSON_ReplaceItemInObject(span, "id", cJSON_CreateString("0000000000000000"));
	cJSON_AddStringToObject(span, "parentId", "my-span");
	cJSON_AddStringToObject(span, "method", "BR\"EW\n");
	memset(path, 'a', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	memcpy(path, "/\x01\x7f\xff\xc3\"\\", 7);
	cJSON_AddStringToObject(span, "path", path);
	cJSON_AddStringToObject(span, "host", "[::1]:99999");
	cJSON_AddStringToObject(span, "cause", "\xc3(\"");
	cJSON_AddNumberToObject(span, "statusCode", -7);
	cJSON_AddNumberToObject(span, "tries", 1e300);
	cJSON_AddNumberToObject(span, "head", (double)NAN);
	cJSON_AddStringToObject(span, "upstream", "12");
	cJSON_AddItemToObject(span, "aliases", quoted_json("[1,{},'a']"));
	cJSON_AddItemToObject(span, "events",
			      quoted_json("[1,{'time':-1e300},{'name':7,'time':5}]"));
	otlp_offer(otlp, span);
	for (int i = 0; i < 4; i++) { /* times that are none */
		static const double bad[] = {-1, 1e19, (double)NAN, (double)INFINITY};

		cJSON_ReplaceItemInObject(span, "startTime", cJSON_CreateNumber(bad[i]));
		otlp_offer(otlp, span);
	}
	cJSON_Delete(span);
	settle();
	assert_int_equal(stats().exported, 1);
	assert_int_equal(stats().dropped, 5);
	assert_all_right();
	assert_attribute(span_at(0), "http.request.method", "\"_OTHER\"");
	assert_attribute(span_at(0), "server.address", "\"::1\"");
	assert_attribute(span_at(0), "server.port", NULL);
	assert_string_equal(json_str(span_at(0), "name", ""), "HTTP");
	stop();
}

static void spans_of_applications_are_what_they_say(void **state)
{
	static const char *const kinds[] = {"",	      "internal", "server",
					    "client", "producer", "consumer"};
	char text[160];

	START(takes);
	offer("{'id':'a1','traceId':'t','service':'s','operation':'load "
	      "items','startTime':5,'duration':"
	      "1,'error':true}");
	offer("{'id':'a2','traceId':'t','service':'s','operation':'send','kind':'producer','"
	      "startTime':5,"
	      "'duration':0,'error':false}");
	for (int i = 1; i <= 5; i++) {
		snprintf(text, sizeof(text),
			 "{'id':'b%d','traceId':'t','service':'s','operation':'x','kind':'%s',"
			 "'startTime':%d,'duration':0,'error':false}",
			 i, kinds[i], 5 + i);
		offer(text);
	}
	settle();
	assert_all_right();
	for (int i = 1; i <= 5; i++)
		assert_int_equal(json_num(span_at(1 + i), "kind", 0), i);
	assert_string_equal(json_str(span_at(0), "name", ""), "load items");
	assert_int_equal(json_num(span_at(0), "kind", 0), 1);
	assert_int_equal(json_num(cJSON_GetObjectItem(span_at(0), "status"), "code", 0), 2);
	assert_int_equal(json_num(span_at(1), "kind", 0), 4);
	assert_attribute(span_at(1), "url.scheme", NULL);
	assert_null(cJSON_GetObjectItem(span_at(1), "status"));
	stop();
}

static int attributes_of_its_own(int n)
{
	static char text[32768];
	int len = snprintf(text, sizeof(text),
			   "{'id':'a1','traceId':'t','service':'s','operation':'x','kind':"
			   "'internal','startTime':5,'duration':1,'attributes':{");
	const cJSON *a;
	int found = 0;

	for (int i = 0; i < n; i++)
		len += snprintf(text + len, sizeof(text) - (size_t)len, "%s'own.%d':1",
				i ? "," : "", i);
	snprintf(text + len, sizeof(text) - (size_t)len, "}}");
	START(takes);
	offer(text);
	settle();
	assert_all_right();
	cJSON_ArrayForEach (a, cJSON_GetObjectItem(span_at(0), "attributes"))
		found += !strncmp(json_str(a, "key", ""), "own.", 4);
	stop();
	return found;
}

/* 500 spans with 1,100 of them, a body of 4 MiB, took a second: each was looked for among all
 * before it. */
static void a_span_has_128_attributes_of_its_own_at_most(void **state)
{
	assert_int_equal(attributes_of_its_own(128), 128);
	assert_int_equal(attributes_of_its_own(129), 128);
	assert_int_equal(attributes_of_its_own(1100), 128);
}

static void attributes_of_applications_go_along(void **state)
{
	START(takes);
	offer("{'id':'a1','traceId':'t','service':'s','operation':'GET /','method':'GET','kind':"
	      "'server','startTime':5,'duration':1,'statusCode':200,'attributes':{"
	      "'http.request.method':'GET','http.response.status_code':200,'a-b':true,'f':0.5,"
	      "'list':['x','y'],'deep':{'a':1},'nothing':null,"
	      "'mixed':[1,0.5,true,null,{'a':1},['z']],'n':-7},'events':[{'name':'exception'"
	      ","
	      "'time':0.5,'attributes':{'exception.type':'Oops'}}]}");
	settle();
	assert_all_right(); /* the same attribute twice would be wrong */
	assert_attribute(span_at(0), "http.request.method", "\"GET\"");
	assert_attribute(span_at(0), "http.response.status_code", "\"200\"");
	assert_attribute(span_at(0), "a-b", "true");
	assert_attribute(span_at(0), "f", "0.5");
	assert_attribute(span_at(0), "n", "\"-7\"");
	assert_attribute(span_at(0), "deep", NULL);
	assert_attribute(span_at(0), "list",
			 "{\"values\":[{\"stringValue\":\"x\"},{\"stringValue\":\"y\"}]}");
	assert_attribute(
		span_at(0), "mixed",
		"{\"values\":[{\"intValue\":\"1\"},{\"doubleValue\":0.5},{\"boolValue\":true},"
		"{\"arrayValue\":{\"values\":[{\"stringValue\":\"z\"}]}}]}");
	assert_attribute(at(cJSON_GetObjectItem(span_at(0), "events"), 0), "exception.type",
			 "\"Oops\"");
	stop();
}

static uint64_t seed;

static unsigned any(unsigned below)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(seed >> 33) % below;
}

static cJSON *some_json(unsigned depth)
{
	static const char *const texts[] = {
		"",	    "x",	"\"",
		"\xff\xfe", "\x01\n",	"00f067aa0ba902b7",
		"GET",	    "request",	"client",
		"/a?b#c",   "[::1]:80", ":",
		"]",	    "503",	"4bf92f3577b34da6a3ce929d0e0e4736",
		"a b",	    "?"};
	static const double numbers[] = {0,
					 -1,
					 1,
					 0.5,
					 404,
					 500,
					 1e15,
					 1e300,
					 -1e300,
					 1763868000123.456,
					 9007199254740993.0,
					 (double)NAN,
					 (double)INFINITY};
	cJSON *list;

	switch (any(depth ? 5 : 3)) {
	case 0:
		return cJSON_CreateString(texts[any(sizeof(texts) / sizeof(*texts))]);
	case 1:
		return cJSON_CreateNumber(numbers[any(sizeof(numbers) / sizeof(*numbers))]);
	case 2:
		return any(2) ? cJSON_CreateBool((int)any(2)) : cJSON_CreateNull();
	case 3:
		list = cJSON_CreateArray();
		for (unsigned n = any(4); n; n--)
			cJSON_AddItemToArray(list, some_json(depth - 1));
		return list;
	}
	list = cJSON_CreateObject();
	for (unsigned n = any(4); n; n--)
		cJSON_AddItemToObject(list, texts[any(17)], some_json(depth - 1));
	return list;
}

/* Ids and a time that are right, mostly, and anything whatever in all else. */
static cJSON *any_span(void)
{
	static const char *const keys[] = {
		"parentId", "remoteParentId", "service",  "source",	"operation", "method",
		"path",	    "host",	      "duration", "statusCode", "error",     "cause",
		"instance", "version",	      "node",	  "requestId",	"bytesIn",   "bytesOut",
		"head",	    "upstream",	      "kind",	  "sampled",	"tries",     "aliases",
		"events",   "attributes",     "route",	  "id",		"startTime"};
	cJSON *v = quoted_json("{'id':'a','traceId':'t','startTime':1763868000123.25}");

	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		if (any(3) || (i + 2 >= sizeof(keys) / sizeof(*keys) && any(8)))
			continue;
		cJSON_DeleteItemFromObjectCaseSensitive(v, keys[i]);
		cJSON_AddItemToObject(v, keys[i], some_json(3));
	}
	return v;
}

static void whatever_a_span_is_its_export_is_right_or_none(void **state)
{
	struct buf b, r, all;
	unsigned exported = 0;

	buf_init(&b, OTLP_SPAN_MAX);
	buf_init(&r, OTLP_SPAN_MAX);
	buf_init(&all, 4 * OTLP_SPAN_MAX);
	for (seed = 1; exported < 3000; seed++) {
		uint64_t from = seed;
		cJSON *span = any_span(), *out;

		buf_reset(&b);
		buf_reset(&r);
		buf_reset(&all);
		otlp_encode_resource(&r, span);
		if (!otlp_encode_span(&b, span)) {
			buf_printf(&all,
				   "{\"resourceSpans\":[{\"resource\":%s,\"scopeSpans\":[{"
				   "\"spans\":[%s]}]}]}",
				   r.data, b.data);
			out = json_parse(all.data, all.len, NULL);
			if (!out || otlp_wrong(out))
				fail_msg("seed %llu: %s: %s", (unsigned long long)from,
					 out ? strict_why : "no JSON", all.data);
			cJSON_Delete(out);
			exported++;
		}
		cJSON_Delete(span);
		seed = from;
	}
	buf_done(&b);
	buf_done(&r);
	buf_done(&all);
}

/* A receiver that takes everything would prove nothing. */
static void the_receiver_is_strict(void **state)
{
	static const char frame[] =
		"{'resourceSpans':[{'resource':{},'scopeSpans':[{'spans':[%s]}]}]}";
	static const char *const bad[] = {
		"{}",
		"{'traceId':'4bf92f3577b34da6a3ce929d0e0e473','spanId':'00f067aa0ba902b7','name':'"
		"x',"
		"'kind':2,'startTimeUnixNano':'1','endTimeUnixNano':'2'}",
		"{'traceId':'4bf92f3577b34da6a3ce929d0e0e4736','spanId':'0000000000000000','name':'"
		"x',"
		"'kind':2,'startTimeUnixNano':'1','endTimeUnixNano':'2'}",
		"{'traceId':'4bf92f3577b34da6a3ce929d0e0e4736','spanId':'00f067aa0ba902b7','name':'"
		"x',"
		"'kind':'SPAN_KIND_SERVER','startTimeUnixNano':'1','endTimeUnixNano':'2'}",
		"{'traceId':'4bf92f3577b34da6a3ce929d0e0e4736','spanId':'00f067aa0ba902b7','name':'"
		"x',"
		"'kind':2,'startTimeUnixNano':1,'endTimeUnixNano':'2'}",
		"{'traceId':'4bf92f3577b34da6a3ce929d0e0e4736','spanId':'00f067aa0ba902b7','name':'"
		"x',"
		"'kind':2,'startTimeUnixNano':'3','endTimeUnixNano':'2'}",
		"{'traceId':'4bf92f3577b34da6a3ce929d0e0e4736','span_id':'00f067aa0ba902b7','name':"
		"'x',"
		"'kind':2,'startTimeUnixNano':'1','endTimeUnixNano':'2'}",
		"{'traceId':'4bf92f3577b34da6a3ce929d0e0e4736','spanId':'00f067aa0ba902b7','name':'"
		"x',"
		"'kind':2,'startTimeUnixNano':'1','endTimeUnixNano':'2','attributes':[{'key':'a',"
		"'value':{'intValue':5}}]}",
		"{'traceId':'4bf92f3577b34da6a3ce929d0e0e4736','spanId':'00f067aa0ba902b7','name':'"
		"x',"
		"'kind':2,'startTimeUnixNano':'1','endTimeUnixNano':'2','attributes':[{'key':'a',"
		"'value':{'stringValue':'x','boolValue':true}}]}",
		"{'traceId':'4bf92f3577b34da6a3ce929d0e0e4736','spanId':'00f067aa0ba902b7','name':'"
		"x',"
		"'kind':2,'startTimeUnixNano':'1','endTimeUnixNano':'2','status':{'code':3}}",
	};
	char text[1024];
	cJSON *v;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		snprintf(text, sizeof(text), frame, bad[i]);
		v = quoted_json(text);
		assert_non_null(v);
		if (!otlp_wrong(v))
			fail_msg("taken: %s", bad[i]);
		cJSON_Delete(v);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_receiver_is_strict),
		cmocka_unit_test(a_hop_is_a_span_of_the_callee),
		cmocka_unit_test(attributes_are_those_of_the_conventions),
		cmocka_unit_test(attributes_fit_any_request),
		cmocka_unit_test(errors_are_those_of_opentelemetry),
		cmocka_unit_test(whatever_a_client_sends_stays_in_form),
		cmocka_unit_test(spans_of_applications_are_what_they_say),
		cmocka_unit_test(attributes_of_applications_go_along),
		cmocka_unit_test(a_span_has_128_attributes_of_its_own_at_most),
		cmocka_unit_test(whatever_a_span_is_its_export_is_right_or_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
