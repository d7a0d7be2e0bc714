/* SPDX-License-Identifier: Apache-2.0 */
/* OTLP/HTTP with JSON into meshd: the forms that proto3's JSON allows, what is refused and how, and
 * packed bodies. */
#include "ctl/meshd/traces/post.h"
#include "ctl/meshd/traces/span.h"
#include "tests/unit/meshd_rig.h"

#include <sys/un.h>
#include <zlib.h>

#define TRACE "5b8efff798038103d269b633813fc60c"

static cJSON *parsed;

static const cJSON *first_span(const char *trace)
{
	char path[128];

	snprintf(path, sizeof(path), "/api/traces/%s", trace);
	assert_int_equal(call("GET", path, NULL), 200);
	cJSON_Delete(parsed);
	parsed = json_parse(answer.body, answer.len, NULL);
	return cJSON_GetObjectItem(parsed, "spans")->child;
}

static int teardown_all(void **state)
{
	cJSON_Delete(parsed);
	parsed = NULL;
	return teardown(state);
}

/* With headers of one's own; the answer's text, head and all, is in `answer`. */
static int post_with(const char *path, const char *headers, const void *body, size_t len)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), status = 0;
	char head[512], text[2048];
	ssize_t n, at = 0;

	snprintf(un.sun_path, sizeof(un.sun_path), "%.100s", local + 5);
	assert_int_equal(connect(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	snprintf(head, sizeof(head),
		 "POST %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s\r\n"
		 "Content-Length: %zu\r\n\r\n",
		 path, headers, len);
	assert_int_equal(send(fd, head, strlen(head), MSG_NOSIGNAL), strlen(head));
	assert_int_equal(send(fd, body, len, MSG_NOSIGNAL), len);
	while ((n = read(fd, text + at, sizeof(text) - 1 - (size_t)at)) > 0)
		at += n;
	close(fd);
	text[at] = '\0';
	assert_int_equal(sscanf(text, "HTTP/1.1 %d", &status), 1);
	http_answer_done(&answer);
	answer.body = strdup(text);
	return status;
}

/* The specification's own example, a little longer. */
static void the_form_of_the_specification_is_taken(void **state)
{
	const cJSON *s, *a;

	assert_int_equal(
		call("POST", "/v1/traces",
		     "{'resourceSpans':[{'resource':{'attributes':[{'key':'service.name','value':{"
		     "'stringValue':'my.service'}},{'key':'service.version','value':{'stringValue':"
		     "'v2'}}]},'scopeSpans':[{'scope':{'name':'my.library','version':'1.0.0',"
		     "'attributes':[]},'spans':[{'traceId':'5B8EFFF798038103D269B633813FC60C',"
		     "'spanId':'EEE19B7EC3C1B174','parentSpanId':'EEE19B7EC3C1B173','name':"
		     "'I am a server span','startTimeUnixNano':'1544712660000123456',"
		     "'endTimeUnixNano':'1544712661000123456','kind':2,'flags':257,'unheardOf':{},"
		     "'attributes':[{'key':'http.request.method','value':{'stringValue':'GET'}},"
		     "{'key':'http.response.status_code','value':{'intValue':'503'}},{'key':'f',"
		     "'value':{'doubleValue':0.5}},{'key':'b','value':{'boolValue':true}},{'key':'"
		     "l',"
		     "'value':{'arrayValue':{'values':[{'stringValue':'x'},{'intValue':'7'},{'"
		     "arrayValue':{'values':[{'boolValue':true}]}}]}}}],'events':[{"
		     "'timeUnixNano':'1544712660500123456','name':'half','attributes':[]}],"
		     "'status':{}}]}]}]}"),
		200);
	assert_string_equal(answer.body, "{}");
	s = first_span(TRACE);
	assert_string_equal(json_str(s, "id", ""), "eee19b7ec3c1b174");
	assert_string_equal(json_str(s, "remoteParentId", ""), "eee19b7ec3c1b173");
	assert_string_equal(json_str(s, "service", ""), "my.service");
	assert_string_equal(json_str(s, "version", ""), "v2");
	assert_string_equal(json_str(s, "kind", ""), "server");
	assert_string_equal(json_str(s, "method", ""), "GET");
	assert_int_equal(json_num(s, "statusCode", 0), 503);
	assert_true(json_bool(s, "error", 0));
	assert_float_equal(json_num(s, "startTime", 0), 1544712660000.123, 0.0005);
	assert_float_equal(json_num(s, "duration", 0), 1000, 0.001);
	a = cJSON_GetObjectItem(s, "attributes");
	assert_float_equal(json_num(a, "f", 0), 0.5, 0);
	assert_true(json_bool(a, "b", 0));
	assert_body("'l':['x',7,[true]]");
	a = cJSON_GetObjectItem(s, "events")->child;
	assert_string_equal(json_str(a, "name", ""), "half");
	assert_float_equal(json_num(a, "time", 0), 500, 0.001);
}

/* Names as in the .proto files, numbers for 64-bit integers, names for enums, null for nothing. */
static void every_form_of_proto3_is_taken(void **state)
{
	const cJSON *s;

	assert_int_equal(
		call("POST", "/v1/traces",
		     "{'resource_spans':[{'resource':null,'scope_spans':[{'spans':[{'trace_id':"
		     "'" TRACE "','span_id':'eee19b7ec3c1b174','parent_span_id':'','name':'n',"
		     "'start_time_unix_nano':1544712660000000000,'end_time_unix_nano':"
		     "1544712660250000000,'kind':'SPAN_KIND_CLIENT','status':{'code':"
		     "'STATUS_CODE_ERROR','message':'it broke'},'attributes':null}]}]}]}"),
		200);
	s = first_span(TRACE);
	assert_true(cJSON_IsNull(cJSON_GetObjectItem(s, "parentId")));
	assert_null(cJSON_GetObjectItem(s, "remoteParentId"));
	assert_string_equal(json_str(s, "service", ""), "unknown_service");
	assert_string_equal(json_str(s, "kind", ""), "client");
	assert_string_equal(json_str(s, "cause", ""), "it broke");
	assert_true(json_bool(s, "error", 0));
	assert_float_equal(json_num(s, "duration", 0), 250, 0.001);
}

#define SPANS(more)                                                                                \
	"{'resourceSpans':[{'resource':{'attributes':[{'key':'service.name','value':{"             \
	"'stringValue':'shop / basket'}}]},'scopeSpans':[{'spans':[" more "]}]}]}"
#define GOOD                                                                                       \
	"{'traceId':'" TRACE "','spanId':'eee19b7ec3c1b174','name':'n','startTimeUnixNano':'1',"   \
	"'endTimeUnixNano':'2'}"

static void bad_spans_are_counted_and_the_rest_is_taken(void **state)
{
	static const char *const bad[] = {
		"{'traceId':'W47/95gDgQPSabYzgT/GDA==','spanId':'eee19b7ec3c1b174',"
		"'startTimeUnixNano':'1'}",
		"{'traceId':'00000000000000000000000000000000','spanId':'xyz',"
		"'startTimeUnixNano':'1'}",
		"{'traceId':'" TRACE "','spanId':'eee19b7ec3c1b174','parentSpanId':'1',"
		"'startTimeUnixNano':'1'}",
		"{'traceId':'" TRACE "','spanId':'eee19b7ec3c1b174'}",
		"{'traceId':'" TRACE "','spanId':'eee19b7ec3c1b174','startTimeUnixNano':'1e9'}",
		"{'traceId':'" TRACE "','spanId':'eee19b7ec3c1b174','startTimeUnixNano':-1}",
		"{'traceId':'" TRACE "','spanId':'eee19b7ec3c1b174','startTimeUnixNano':"
		"'99999999999999999999'}",
		"{'traceId':1,'spanId':2}",
		"17",
	};
	char body[2048];

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		snprintf(body, sizeof(body), SPANS("%s," GOOD), bad[i]);
		assert_int_equal(call("POST", "/v1/traces", body), 200);
		assert_body("{'partialSuccess':{'rejectedSpans':'1','errorMessage':'");
	}
	assert_int_equal(call("GET", "/metrics", NULL), 200);
	assert_body("mesh_spans_received_total{result='invalid'} 9");
	assert_body("mesh_spans_dropped_total 9");
	assert_string_equal(json_str(first_span(TRACE), "service", ""), "shop---basket");
}

/* A span of n attributes a0=0, a1=1, ...; returns how many of them are kept. */
static int attributes_kept_of(int n)
{
	char id[17], trace[33];
	struct buf b;

	buf_init(&b, 8 << 20);
	snprintf(id, sizeof(id), "%016x", n);
	buf_printf(&b,
		   "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{\"traceId\":\"%s%s\","
		   "\"spanId\":\"%s\",\"startTimeUnixNano\":\"1\",\"attributes\":[",
		   id, id, id);
	for (int i = 0; i < n; i++)
		buf_printf(&b, "%s{\"key\":\"a%d\",\"value\":{\"intValue\":%d}}", i ? "," : "", i,
			   i);
	buf_str(&b, "]}]}]}]}");
	assert_false(b.failed);
	assert_int_equal(post_with("/v1/traces", "Content-Type: application/json", b.data, b.len),
			 200);
	buf_done(&b);
	snprintf(trace, sizeof(trace), "%s%s", id, id);
	return cJSON_GetArraySize(cJSON_GetObjectItem(first_span(trace), "attributes"));
}

/* 80,000 once took 24 s: each was looked for among all before it. */
static void a_span_has_128_attributes_at_most(void **state)
{
	assert_int_equal(attributes_kept_of(128), 128);
	assert_int_equal(attributes_kept_of(129), 128);
	assert_int_equal(attributes_kept_of(130), 128);
	assert_int_equal(attributes_kept_of(80000), 128);
}

static void what_is_dropped_is_not_called_accepted(void **state)
{
	static char pad[SPAN_BODY_MAX + 1], text[3 * SPAN_BODY_MAX];
	static const char *const json = "Content-Type: application/json";

	memset(pad, 'x', sizeof(pad) - 1);
	snprintf(text, sizeof(text),
		 "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{\"traceId\":\"" TRACE
		 "\",\"spanId\":\"eee19b7ec3c1b174\",\"startTimeUnixNano\":\"1\",\"name\":\"%s\"},"
		 "{\"traceId\":\"" TRACE "\",\"spanId\":\"eee19b7ec3c1b175\","
		 "\"startTimeUnixNano\":\"1\"},17]}]}]}",
		 pad);
	assert_int_equal(post_with("/v1/traces", json, text, strlen(text)), 200);
	assert_body("'rejectedSpans':'2'");
	snprintf(text, sizeof(text),
		 "[{\"traceId\":\"t\",\"id\":\"1\",\"service\":\"s\",\"operation\":\"o\","
		 "\"startTime\":"
		 "1,\"duration\":1,\"tags\":{\"pad\":\"%s\"}},{\"traceId\":\"t\",\"id\":\"2\","
		 "\"service\":\"s\",\"operation\":\"o\",\"startTime\":1,\"duration\":1}]",
		 pad);
	assert_int_equal(post_with("/api/spans", json, text, strlen(text)), 200);
	assert_body("'accepted':1,'rejected':1");
}

static void what_is_no_request_is_refused(void **state)
{
	assert_int_equal(post_with("/v1/traces", "Content-Type: application/x-protobuf", "\x0a", 1),
			 415);
	assert_body("http/json");
	assert_int_equal(call("POST", "/v1/traces", "[]"), 400);
	assert_int_equal(call("POST", "/v1/traces", "{'resourceSpans':{}}"), 400);
	assert_body("'field':'resourceSpans'");
	assert_int_equal(call("POST", "/v1/traces", "{'resourceSpans'"), 400);
	assert_int_equal(call("POST", "/v1/traces", "{}"), 200);
	assert_int_equal(call("POST", "/v1/traces",
			      "{'resourceSpans':[1,null,{'scopeSpans':[2,{'spans':3}]}]}"),
			 200);
	assert_int_equal(
		call("POST", "/v1/traces",
		     "{'resourceSpans':[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]"
		     "]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}"),
		400);
}

static int post_packed(const char *path, const char *coding, const void *body, size_t len)
{
	char headers[128];

	snprintf(headers, sizeof(headers), "Content-Type: application/json\r\nContent-Encoding: %s",
		 coding);
	return post_with(path, headers, body, len);
}

/* bits: zlib's, which say the form. */
static size_t pack(int bits, const char *text, size_t len, char *out, size_t cap)
{
	z_stream z = {.next_in = (unsigned char *)text,
		      .avail_in = (unsigned)len,
		      .next_out = (unsigned char *)out,
		      .avail_out = (unsigned)cap};

	assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, bits, 8, Z_DEFAULT_STRATEGY), Z_OK);
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	deflateEnd(&z);
	return z.total_out;
}

static void packed_bodies_are_unpacked_within_limits(void **state)
{
	static char bomb[64 << 20], packed[256 << 10];
	char text[1024] = SPANS(GOOD);
	size_t len = strlen(text), n;

	for (char *p = text; *p; p++)
		if (*p == '\'')
			*p = '"';
	n = pack(15 + 16, text, len, packed, sizeof(packed));
	assert_int_equal(post_packed("/v1/traces", "gzip", packed, n), 200);
	first_span(TRACE);
	assert_int_equal(post_packed("/v1/traces", "gzip", packed, n - 4), 400);
	assert_int_equal(post_packed("/v1/traces", "gzip", text, len), 400);
	assert_int_equal(post_packed("/v1/traces", "br", text, len), 415);
	n = pack(15, "[]", 2, packed, sizeof(packed));
	assert_int_equal(post_packed("/api/spans", "deflate", packed, n), 200);
	memset(bomb, ' ', sizeof(bomb));
	for (size_t i = 1; i < POST_UNZIPPED_MAX - 3; i += 2)
		memcpy(bomb + i, "0,", 2); /* 8 MiB of these were 320 of cJSON */
	bomb[0] = '[';
	memcpy(bomb + POST_UNZIPPED_MAX - 3, "0 ]", 3);
	n = pack(15 + 16, bomb, POST_UNZIPPED_MAX, packed, sizeof(packed));
	assert_true(n < 64 << 10);
	assert_int_equal(post_packed("/api/spans", "gzip", packed, n), 400);
	assert_body("too many values");
	memset(bomb, ' ', sizeof(bomb));
	n = pack(15 + 16, bomb, sizeof(bomb), packed, sizeof(packed));
	assert_int_equal(post_packed("/v1/traces", "gzip", packed, n), 413);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown_all)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(the_form_of_the_specification_is_taken),
		T(every_form_of_proto3_is_taken),
		T(bad_spans_are_counted_and_the_rest_is_taken),
		T(what_is_no_request_is_refused),
		T(packed_bodies_are_unpacked_within_limits),
		T(a_span_has_128_attributes_at_most),
		T(what_is_dropped_is_not_called_accepted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
