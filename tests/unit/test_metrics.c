/* SPDX-License-Identifier: Apache-2.0 */
/* What /metrics and the access log say about requests, and that nobody can break their lines. */
#include "agent/telemetry/accesslog.h"
#include "agent/telemetry/admin.h"
#include "agent/telemetry/metrics.h"
#include "lib/record.h"
#include "lib/json.h"

#include <mesh/bulkhead.h>

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct metrics *m;
static struct buf text;

static int make(void **state)
{
	buf_init(&text, 64u << 20);
	return metrics_new(&m);
}

static int drop(void **state)
{
	metrics_free(&m);
	buf_done(&text);
	return 0;
}

static void request(const char *source, const char *destination, uint32_t code, uint64_t ns,
		    uint32_t tries)
{
	metrics_request(m,
			&(struct metrics_request){.source = source,
						  .destination = destination,
						  .version = "v1",
						  .code = code,
						  .cause = code ? CAUSE_NONE : CAUSE_CONNECT_FAILED,
						  .duration_ns = ns,
						  .bytes_in = 3,
						  .bytes_out = 5,
						  .tries = tries});
}

static void has_line(const char *line)
{
	size_t n = strlen(line);

	buf_reset(&text);
	metrics_write(m, &text, false);
	assert_false(text.failed);
	for (const char *p = text.data; p && *p; p = strchr(p, '\n') + 1)
		if (!strncmp(p, line, n) && p[n] == '\n')
			return;
	fail_msg("no line: %s", line);
}

static void requests_are_counted_by_who_called_whom_and_how_it_ended(void **state)
{
	request("a", "b", 200, 1000, 1);
	request("a", "b", 200, 1000, 1);
	request("a", "b", 503, 1000, 3);
	request("a", "b", 0, 1000, 2);
	request("c", "b", 200, 1000, 2);
	has_line("mesh_requests_total{source=\"a\",destination=\"b\",version=\"v1\",code=\"200\","
		 "cause=\"\"} 2");
	has_line("mesh_requests_total{source=\"a\",destination=\"b\",version=\"v1\",code=\"0\","
		 "cause=\"connect-failed\"} 1");
	has_line("mesh_request_bytes_total{source=\"a\",destination=\"b\"} 12");
	has_line("mesh_response_bytes_total{source=\"a\",destination=\"b\"} 20");
	has_line("mesh_retries_total{destination=\"b\",result=\"success\"} 1");
	has_line("mesh_retries_total{destination=\"b\",result=\"failure\"} 3");
	has_line("http_requests_total{service=\"b\"} 5");
	has_line("http_errors_total{service=\"b\"} 2");
}

static void refusals_and_faults_are_counted_by_destination(void **state)
{
	struct metrics_request q = {"a", "b", "v1", .code = 503, .cause = CAUSE_BULKHEAD_FULL};

	q.bulkhead = MESH_BULKHEAD_SOURCE;
	metrics_request(m, &q);
	q.source = "c";
	metrics_request(m, &q);
	q.bulkhead = MESH_BULKHEAD_PENDING;
	q.flags = RECORD_DELAYED | RECORD_NO_BUDGET;
	metrics_request(m, &q);
	metrics_tunnel(m, "a", "b", MESH_BULKHEAD_PENDING, 1);
	metrics_tunnel(m, "a", "b", 0, 1);
	q.bulkhead = 200; /* a worker's word */
	q.flags = RECORD_ABORTED;
	metrics_request(m, &q);
	has_line("mesh_bulkhead_rejected_total{destination=\"b\",reason=\"source\"} 2");
	has_line("mesh_bulkhead_rejected_total{destination=\"b\",reason=\"pending\"} 2");
	has_line("mesh_bulkhead_rejected_total{destination=\"b\",reason=\"requests\"} 0");
	has_line("mesh_faults_injected_total{destination=\"b\",kind=\"delay\"} 1");
	has_line("mesh_faults_injected_total{destination=\"b\",kind=\"abort\"} 1");
	has_line("mesh_retries_total{destination=\"b\",result=\"budget\"} 1");
}

static void the_histogram_is_cumulative_and_its_bounds_belong_to_the_lower_bucket(void **state)
{
	request("a", "b", 200, 1000000, 1);
	request("a", "b", 200, 1000001, 1);
	request("a", "b", 200, 60000000000, 1);
	has_line("mesh_request_duration_seconds_bucket{source=\"a\",destination=\"b\",le=\"0."
		 "0005\"} 0");
	has_line("mesh_request_duration_seconds_bucket{source=\"a\",destination=\"b\",le=\"0.001\"}"
		 " 1");
	has_line("mesh_request_duration_seconds_bucket{source=\"a\",destination=\"b\",le=\"0."
		 "0025\"} 2");
	has_line("mesh_request_duration_seconds_bucket{source=\"a\",destination=\"b\",le=\"10.0\"} "
		 "2");
	has_line("mesh_request_duration_seconds_bucket{source=\"a\",destination=\"b\",le=\"+Inf\"} "
		 "3");
	has_line("mesh_request_duration_seconds_count{source=\"a\",destination=\"b\"} 3");
	has_line("mesh_request_duration_seconds_sum{source=\"a\",destination=\"b\"} 60.002000001");
}

static void connections_are_counted_by_how_they_ended(void **state)
{
	struct metrics_connection c = {.source = "a",
				       .destination = "b",
				       .connect_ns = 200000,
				       .bytes_out = 100,
				       .bytes_in = 7};

	metrics_connection(m, &c);
	c.connect_ns = 0;
	c.error = ECONNREFUSED;
	metrics_connection(m, &c);
	c.error = ETIMEDOUT;
	metrics_connection(m, &c);
	c.source = c.destination = "";
	c.error = ENETUNREACH;
	metrics_connection(m, &c);
	has_line("mesh_tcp_sent_bytes_total{source=\"a\",destination=\"b\"} 300");
	has_line("mesh_tcp_received_bytes_total{source=\"a\",destination=\"b\"} 21");
	has_line("mesh_tcp_connections_total{source=\"a\",destination=\"b\",outcome=\"closed\"} 1");
	has_line(
		"mesh_tcp_connections_total{source=\"a\",destination=\"b\",outcome=\"refused\"} 1");
	has_line(
		"mesh_tcp_connections_total{source=\"a\",destination=\"b\",outcome=\"timeout\"} 1");
	has_line("mesh_tcp_connect_duration_seconds_bucket{source=\"a\",destination=\"b\",le=\"0."
		 "00025\"} 1");
	has_line("mesh_tcp_connect_duration_seconds_count{source=\"a\",destination=\"b\"} 1");
	has_line("mesh_tcp_connections_total{source=\"unknown\",destination=\"none\",outcome="
		 "\"failed\"} 1");
}

static void refused_connections_are_counted_by_reason(void **state)
{
	metrics_refused(m, "a", "b", "breaker-open", 20);
	metrics_refused(m, "a", "b", "bulkhead-full", 3);
	metrics_refused(m, "", "b", "no-endpoint", 1);
	has_line("mesh_tcp_connections_total{source=\"a\",destination=\"b\",outcome=\"breaker-"
		 "open\"} 20");
	has_line("mesh_tcp_connections_total{source=\"a\",destination=\"b\",outcome=\"bulkhead-"
		 "full\"} 3");
	has_line("mesh_tcp_connections_total{source=\"unknown\",destination=\"b\",outcome=\"no-"
		 "endpoint\"} 1");
	has_line("mesh_bulkhead_rejected_total{destination=\"b\",reason=\"connections\"} 3");
}

static void quantiles_lie_between_the_bounds(void **state)
{
	for (int i = 0; i < 98; i++)
		request("a", "b", 200, 4000000, 1);
	for (int i = 0; i < 2; i++)
		request(i ? "a" : "c", "b", 200, 600000000000, 1);
	/* 98 of 100 are in (2.5 ms, 5 ms] */
	has_line("http_request_duration_ms{service=\"b\",quantile=\"0.5\"} 3.776");
	has_line("http_request_duration_ms{service=\"b\",quantile=\"0.95\"} 4.923");
	has_line("http_request_duration_ms{service=\"b\",quantile=\"0.99\"} 10000.000");
}

static void a_code_or_cause_that_cannot_be_is_none(void **state)
{
	struct metrics_request r = {"a", "b", "v1", .code = 65535, .cause = CAUSE_MAX};

	for (uint32_t i = 0; i < 60000; i++) {
		r.code = 1000 + i;
		metrics_request(m, &r);
	}
	has_line("mesh_requests_total{source=\"a\",destination=\"b\",version=\"v1\",code=\"0\","
		 "cause="
		 "\"\"} 60000");
	has_line("mesh_metrics_overflow_total 0");
}

static uint64_t overflow(void)
{
	static const char name[] = "\nmesh_metrics_overflow_total ";
	const char *at;

	buf_reset(&text);
	metrics_write(m, &text, false);
	at = strstr(text.data, name);
	assert_non_null(at);
	return strtoull(at + sizeof(name) - 1, NULL, 10);
}

/* As without a place: each code and cause for itself, and what has no room is counted as that. */
static void a_place_counts_what_its_names_do(void **state)
{
	struct metrics_place place = {0}, late = {0};
	uint64_t before, each;
	struct metrics_request r = {"a", "b", "v1", .place = &place};
	char name[16];

	for (int i = 0; i < 300; i++) {
		r.code = i % 3 ? 200 + (uint32_t)(i % 2) * 4 : 503;
		r.cause = i % 2 ? CAUSE_BREAKER_OPEN : CAUSE_NONE;
		metrics_request(m, &r);
	}
	has_line("mesh_requests_total{source=\"a\",destination=\"b\",version=\"v1\",code=\"200\","
		 "cause=\"\"} 100");
	has_line("mesh_requests_total{source=\"a\",destination=\"b\",version=\"v1\",code=\"503\","
		 "cause=\"breaker-open\"} 50");
	has_line("mesh_requests_total{source=\"a\",destination=\"b\",version=\"v1\",code=\"503\","
		 "cause=\"\"} 50");
	for (int i = 0; i < METRICS_SERIES; i++) {
		snprintf(name, sizeof(name), "c%d", i);
		request(name, "b", 200, 1, 1);
	}
	before = overflow();
	request("late", "b", 200, 1, 1);
	each = overflow() - before;
	assert_true(each);
	r = (struct metrics_request){"late", "b", "v1", .code = 200, .place = &late};
	for (int i = 0; i < 3; i++)
		metrics_request(m, &r);
	assert_int_equal(overflow(), before + 4 * each);
}

static void a_label_cannot_leave_its_quotes(void **state)
{
	exposition_label(&text, "x", "a\"b\\c\nd");
	assert_string_equal(text.data, "x=\"a\\\"b\\\\c\\nd\"");
}

static void what_does_not_fit_is_counted_under_other(void **state)
{
	char name[32];
	uint32_t more = 100;

	for (uint32_t i = 0; i < METRICS_SERIES + more; i++) {
		snprintf(name, sizeof(name), "d%u", i);
		request("a", name, 200, 1000, 1);
	}
	has_line("mesh_requests_total{source=\"other\",destination=\"other\",version=\"\",code="
		 "\"200\",cause=\"\"} 100");
	has_line("mesh_request_bytes_total{source=\"other\",destination=\"other\"} 6444");
}

/* A service may be called as what does not fit is, and has no more room than others. */
static void a_service_called_other_is_bounded_too(void **state)
{
	uint32_t series = 0, pairs = 0;
	char name[32];

	for (uint32_t i = 0; i < METRICS_SERIES + 100; i++) {
		snprintf(name, sizeof(name), "d%u", i);
		request("other", name, 200, 1000, 1);
		request("other", "other", 100 + i % 500, 1000, 1);
	}
	metrics_write(m, &text, false);
	assert_false(text.failed);
	for (const char *p = text.data; p && *p; p = strchr(p, '\n') + 1) {
		series += !strncmp(p, "mesh_requests_total{", 20);
		pairs += !strncmp(p, "mesh_request_bytes_total{", 25);
	}
	assert_in_range(series, METRICS_SERIES, METRICS_SERIES + 10);
	assert_in_range(pairs, METRICS_PAIRS, METRICS_PAIRS + 1);
}

/* The supervisor does other work between them; together they are what is written at once. */
static void assert_parts_are_short(void)
{
	struct metrics_text *t = metrics_text_new(m, true);
	size_t at = 0;
	struct buf part;
	bool more;

	assert_non_null(t);
	do {
		buf_init(&part, ADMIN_PART_MAX);
		more = metrics_text_part(t, &part);
		assert_false(part.failed);
		assert_in_range(part.len, 0, ADMIN_PART_MAX / 4);
		assert_in_range(part.len, 0, text.len - at);
		assert_memory_equal(part.len ? part.data : "", text.data + at, part.len);
		at += part.len;
		buf_done(&part);
	} while (more);
	assert_int_equal(at, text.len);
	metrics_text_free(&t);
	metrics_text_free(&t);
}

/* All pairs that are kept, with the longest names, in every bucket, with exemplars. */
static void the_fullest_metrics_can_be_served(void **state)
{
	static const uint8_t trace_id[16] = {1};
	struct metrics_request r = {.code = 503,
				    .cause = CAUSE_NO_HEALTHY_ENDPOINT,
				    .trace_id = trace_id,
				    .time_ms = 1763868000123};
	struct metrics_connection c = {.bytes_in = 1};
	char source[64], destination[64];

	r.source = r.version = c.source = source;
	r.destination = c.destination = destination;
	for (unsigned i = 0; i < METRICS_PAIRS; i++) {
		snprintf(source, sizeof(source), "%063u", i % 50);
		snprintf(destination, sizeof(destination), "%063u", i);
		for (unsigned k = 0; k < 18; k++) {
			r.duration_ns = c.connect_ns = 50000ull << k;
			r.code = k & 1 ? 503 : 504;
			metrics_request(m, &r);
			metrics_connection(m, &c);
		}
	}
	metrics_write(m, &text, true);
	assert_false(text.failed);
	assert_in_range(text.len, 16u << 20, 32u << 20);
	assert_parts_are_short();
}

static void traced(uint32_t code, uint64_t ns, const uint8_t *trace_id, uint64_t time_ms)
{
	metrics_request(m, &(struct metrics_request){.source = "a",
						     .destination = "b",
						     .version = "v1",
						     .code = code,
						     .duration_ns = ns,
						     .tries = 1,
						     .trace_id = trace_id,
						     .time_ms = time_ms});
}

static void a_bucket_and_an_error_name_the_last_trace_that_they_counted(void **state)
{
	static const uint8_t first[16] = {1}, second[16] = {[15] = 0xab}, third[16] = {3};

	traced(200, 300000, first, 1000);
	traced(200, 400000, second, 2005);
	traced(200, 450000, NULL, 3000);
	traced(503, 2000000000, third, 4000);
	buf_reset(&text);
	metrics_write(m, &text, true);
	assert_non_null(strstr(text.data, "le=\"0.00025\"} 0\n"));
	assert_non_null(strstr(text.data, "le=\"0.0005\"} 3 # "
					  "{trace_id=\"000000000000000000000000000000ab\"} 0.0004 "
					  "2.005\n"));
	assert_non_null(strstr(text.data, "le=\"1.0\"} 3\n"));
	assert_non_null(strstr(text.data, "le=\"2.5\"} 4 # "
					  "{trace_id=\"03000000000000000000000000000000\"} 2 "
					  "4.000\n"));
	assert_non_null(strstr(text.data, "le=\"+Inf\"} 4\n"));
	assert_non_null(strstr(text.data, "code=\"200\",cause=\"\"} 3\n"));
	assert_non_null(strstr(text.data, "code=\"503\",cause=\"\"} 1 # "
					  "{trace_id=\"03000000000000000000000000000000\"} 1 "
					  "4.000\n"));
	buf_reset(&text);
	metrics_write(m, &text, false);
	assert_null(strstr(text.data, "trace_id"));
}

static void the_access_log_is_one_json_object_a_line_whatever_a_client_sends(void **state)
{
	static const char method[] = "GET", path[] = "/\"\n{\"x\":\xff\x01", host[] = "h",
			  rid[] = "id-1";
	char file[] = "/tmp/mesh-accesslog-XXXXXX", line[2048], *end;
	struct {
		struct record r;
		char text[64];
	} rec = {.r = {.kind = RECORD_REQUEST,
		       .status = 200,
		       .tries = 2,
		       .duration_ns = 1234567,
		       .cause = CAUSE_RETRY_BUDGET}};
	struct accesslog_names names = {"front", "back", "b-1", "v1"};
	struct accesslog *log;
	cJSON *v;
	FILE *f;
	int fd = mkstemp(file);

	assert_true(fd >= 0);
	close(fd);
	rec.r.method_len = sizeof(method) - 1;
	rec.r.path_len = sizeof(path) - 1;
	rec.r.host_len = sizeof(host) - 1;
	rec.r.request_id_len = sizeof(rid) - 1;
	snprintf((char *)(&rec.r + 1), sizeof(rec.text), "%s%s%s%s", method, path, host, rid);
	assert_int_equal(accesslog_new(file, &log), 0);
	accesslog_write(log, &rec.r, &names, 1763868000123999999ULL);
	rec.r.kind = RECORD_TUNNEL;
	rec.r.flags = RECORD_CLIENT_GONE | RECORD_TRACED;
	rec.r.trace_id[15] = 0xab;
	rec.r.span_id[0] = 0xcd;
	accesslog_write(log, &rec.r, &names, 1763868000123999999ULL);
	accesslog_flush(log);
	assert_int_equal(accesslog_lost(log), 0);
	accesslog_free(&log);
	f = fopen(file, "re");
	assert_non_null(f);
	for (int i = 0; i < 2; i++) {
		assert_non_null(fgets(line, sizeof(line), f));
		end = strchr(line, '\n');
		assert_non_null(end);
		v = json_parse(line, (size_t)(end - line), NULL);
		assert_non_null(v);
		assert_string_equal(json_str(v, "time", ""), "2025-11-23T03:20:00.123Z");
		assert_string_equal(json_str(v, "kind", ""), i ? "tunnel" : "request");
		assert_int_equal(json_bool(v, "clientGone", -1), i);
		if (i) {
			assert_string_equal(json_str(v, "traceId", ""),
					    "000000000000000000000000000000ab");
			assert_string_equal(json_str(v, "spanId", ""), "cd00000000000000");
			assert_true(cJSON_IsNull(cJSON_GetObjectItem(v, "parentSpanId")));
			assert_int_equal(json_bool(v, "sampled", -1), 0);
		} else {
			assert_null(cJSON_GetObjectItem(v, "traceId"));
		}
		assert_string_equal(json_str(v, "caller", ""), "front");
		assert_string_equal(json_str(v, "callee", ""), "back");
		assert_string_equal(json_str(v, "endpoint", ""), "b-1");
		assert_string_equal(json_str(v, "version", ""), "v1");
		assert_string_equal(json_str(v, "method", ""), "GET");
		assert_string_equal(json_str(v, "host", ""), "h");
		assert_true(json_num(v, "status", 0) == 200 && json_num(v, "tries", 0) == 2);
		assert_string_equal(json_str(v, "path", ""), "/\"\n{\"x\":\xef\xbf\xbd\x01");
		assert_string_equal(json_str(v, "requestId", ""), "id-1");
		assert_string_equal(json_str(v, "cause", ""), "retry-budget");
		assert_true(json_num(v, "duration", 0) > 1.23 && json_num(v, "duration", 0) < 1.24);
		cJSON_Delete(v);
	}
	assert_null(fgets(line, sizeof(line), f));
	fclose(f);
	unlink(file);
}

/* Whole lines in what is in the pipe, which is emptied. */
static int whole_lines(int fd, char *part, size_t *have)
{
	static char bytes[65536];
	int lines = 0;
	ssize_t n;

	while ((n = read(fd, bytes, sizeof(bytes))) > 0)
		for (ssize_t i = 0; i < n; i++) {
			assert_true(*have < 2048);
			part[(*have)++] = bytes[i];
			if (bytes[i] != '\n')
				continue;
			assert_true(part[0] == '{' && part[*have - 2] == '}');
			*have = 0;
			lines++;
		}
	return lines;
}

/* It is lost as a whole, and the next one is not. */
static void a_line_that_has_no_room_costs_no_other(void **state)
{
	static char endless[300 << 10];
	struct accesslog_names names = {"front", "back", "b-1", "v1"}, huge = names;
	char file[] = "/tmp/mesh-accesslog-XXXXXX", lines[4096], *middle;
	struct record r = {.kind = RECORD_REQUEST, .status = 200};
	struct accesslog *log;
	ssize_t n;
	int fd = mkstemp(file);

	assert_true(fd >= 0);
	memset(endless, 'x', sizeof(endless) - 1);
	huge.endpoint = endless;
	assert_int_equal(accesslog_new(file, &log), 0);
	accesslog_write(log, &r, &names, 0);
	accesslog_write(log, &r, &huge, 0);
	accesslog_write(log, &r, &names, 0);
	assert_int_equal(accesslog_lost(log), 1);
	accesslog_free(&log);
	n = read(fd, lines, sizeof(lines) - 1);
	assert_true(n > 0);
	lines[n] = '\0';
	middle = strchr(lines, '\n');
	assert_non_null(middle);
	assert_int_equal(middle + 1 - lines, n / 2);
	assert_memory_equal(lines, middle + 1, (size_t)(n / 2));
	close(fd);
	unlink(file);
}

/* The agent's heart must not wait for who reads its output. */
static void a_log_that_nobody_reads_loses_whole_lines_and_waits_for_nobody(void **state)
{
	struct accesslog_names names = {"front", "back", "b-1", "v1"};
	struct record r = {.kind = RECORD_TUNNEL};
	int p[2], out = dup(STDOUT_FILENO), lines, lost;
	struct accesslog *log;
	size_t have = 0;
	char part[2048];

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	assert_int_equal(fcntl(p[0], F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(accesslog_new("-", &log), 0);
	fflush(stdout);
	assert_int_equal(dup2(p[1], STDOUT_FILENO), STDOUT_FILENO);
	alarm(20);
	for (int i = 0; i < 3000; i++) {
		accesslog_write(log, &r, &names, 0);
		accesslog_flush(log);
	}
	lines = whole_lines(p[0], part, &have);
	for (int i = 0; i < 20; i++) {
		accesslog_flush(log);
		lines += whole_lines(p[0], part, &have);
	}
	lost = (int)accesslog_lost(log);
	accesslog_free(&log);
	dup2(out, STDOUT_FILENO);
	alarm(0);
	assert_true(lost > 0);
	assert_int_equal(lines + lost, 3000);
	assert_int_equal(have, 0);
	close(out);
	close(p[0]);
	close(p[1]);
}

static void a_log_that_is_off_is_none(void **state)
{
	struct accesslog *log;

	assert_int_equal(accesslog_new("off", &log), 0);
	assert_null(log);
	accesslog_flush(log);
	accesslog_free(&log);
	assert_true(accesslog_new("/nonexistent/dir/log", &log) < 0);
}

#define story(fn) cmocka_unit_test_setup_teardown(fn, make, drop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		story(requests_are_counted_by_who_called_whom_and_how_it_ended),
		story(refusals_and_faults_are_counted_by_destination),
		story(the_histogram_is_cumulative_and_its_bounds_belong_to_the_lower_bucket),
		story(connections_are_counted_by_how_they_ended),
		story(refused_connections_are_counted_by_reason),
		story(quantiles_lie_between_the_bounds),
		story(a_code_or_cause_that_cannot_be_is_none),
		story(a_place_counts_what_its_names_do),
		story(a_label_cannot_leave_its_quotes),
		story(what_does_not_fit_is_counted_under_other),
		story(a_service_called_other_is_bounded_too),
		story(the_fullest_metrics_can_be_served),
		story(a_bucket_and_an_error_name_the_last_trace_that_they_counted),
		cmocka_unit_test(the_access_log_is_one_json_object_a_line_whatever_a_client_sends),
		cmocka_unit_test(a_line_that_has_no_room_costs_no_other),
		cmocka_unit_test(a_log_that_nobody_reads_loses_whole_lines_and_waits_for_nobody),
		cmocka_unit_test(a_log_that_is_off_is_none),
	};

	return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}
