/* SPDX-License-Identifier: Apache-2.0 */
/* What bounds meshd's memory as a whole: answers that nobody reads, JSON of many values. */
#include "tests/unit/meshd_stream.h"

#include <sys/un.h>

#define READERS	   40 /* who ask and do not read */
#define SPANS	   500
#define SPAN_BYTES 6000
#define WAIT_MS	   10000

static int post(const char *path, const struct buf *b)
{
	return call_full(&(struct http_call){.method = "POST",
					     .base = local,
					     .path = path,
					     .body = b->data,
					     .body_len = b->len,
					     .timeout_ms = WAIT_MS});
}

/* A trace of some 3 MB. */
static void store_large_trace(void)
{
	static char pad[SPAN_BYTES];
	struct buf b;

	memset(pad, 'x', sizeof(pad) - 1);
	buf_init(&b, 4 << 20);
	for (int i = 0; i < SPANS; i++)
		buf_printf(&b,
			   "%s{\"traceId\":\"large\",\"id\":\"%d\",\"service\":\"s\",\"operation\":"
			   "\"o\",\"startTime\":1,\"duration\":1,\"attributes\":{\"pad\":\"%s\"}}",
			   i ? "," : "[", i, pad);
	buf_char(&b, ']');
	assert_false(b.failed);
	assert_int_equal(post("/api/spans", &b), 200);
	buf_done(&b);
}

static int connect_unix(void)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(un.sun_path, sizeof(un.sun_path), "%.100s", local + 5);
	assert_int_equal(connect(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	return fd;
}

/* Asks, and reads no more than the head of the answer. */
static int status_of(int fd, const char *request)
{
	int status = 0;
	char head[16];

	assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
	assert_int_equal(recv(fd, head, sizeof(head) - 1, MSG_WAITALL), sizeof(head) - 1);
	head[sizeof(head) - 1] = '\0';
	assert_int_equal(sscanf(head, "HTTP/1.1 %d", &status), 1);
	return status;
}

static int ask(int *fd)
{
	*fd = connect_unix();
	return status_of(*fd, "GET /api/traces/large HTTP/1.1\r\nHost: localhost\r\n\r\n");
}

static void answers_that_nobody_reads_are_bounded_together(void **state)
{
	uint64_t end = clock_mono_ns() + WAIT_MS * 1000000ull;
	int fd[READERS], given = 0, busy = 0;

	store_large_trace();
	for (int i = 0; i < READERS; i++) {
		int status = ask(&fd[i]);

		given += status == 200;
		busy += status == 503;
	}
	assert_int_equal(given + busy, READERS);
	assert_in_range(given, (32 << 20) / (SPANS * (SPAN_BYTES + 300)),
			(32 << 20) / (SPANS * SPAN_BYTES) + 1);
	assert_int_equal(call("GET", "/api/traces/large", NULL), 503);
	assert_body("try again");
	assert_int_equal(call("GET", "/health", NULL), 200);
	assert_int_equal(call("GET", "/api/traces?limit=1", NULL), 200);
	for (int i = 0; i < READERS; i++)
		close(fd[i]);
	while (call("GET", "/api/traces/large", NULL) != 200)
		assert_true(clock_mono_ns() < end);
	assert_true(answer.len > SPANS * SPAN_BYTES);
}

/* A list of so many values, itself one of them; as the gate counts. */
static void add_list(struct buf *b, int values)
{
	buf_str(b, "[0");
	for (int i = 2; i < values - 1; i++)
		buf_str(b, ",0");
	buf_char(b, ']');
}

static void json_of_very_many_values_is_refused(void **state)
{
	struct buf b;

	for (int more = 0; more < 2; more++) {
		buf_init(&b, 8 << 20);
		add_list(&b, JSON_VALUES_MAX + 1 + more);
		assert_int_equal(post("/api/spans", &b), 400);
		/* the last one that is taken fails for what it says, not for how much */
		assert_int_equal(!!strstr(answer.body, "too many values"), more);
		buf_done(&b);
	}
}

static void add_series(struct buf *b, int i, int buckets)
{
	buf_printf(b,
		   "%s{\"source\":\"caller-%d\",\"destination\":\"callee-%d\",\"protocol\":"
		   "\"http\",\"version\":\"v1\",\"outcome\":\"ok\",\"requests\":413,\"errors\":"
		   "0,\"sumUs\":123456,\"bytesIn\":1000,\"bytesOut\":1000,\"histogram\":[0,1",
		   i ? "," : "", i, i);
	for (int k = 1; k < buckets; k++)
		buf_printf(b, ",%d,1", k);
	buf_str(b, "]}");
}

static void add_batch(struct buf *b, int seq, int nseries, int buckets, int spans)
{
	buf_printf(b, "{\"node\":\"n\",\"epoch\":\"e\",\"seq\":%d,\"time\":%llu,\"series\":[", seq,
		   (unsigned long long)clock_wall_ms());
	for (int i = 0; i < nseries; i++)
		add_series(b, i, buckets);
	buf_str(b, "],\"spans\":[");
	for (int i = 0; i < spans; i++)
		buf_printf(
			b,
			"%s{\"id\":\"%016x\",\"parentId\":null,\"traceId\":\"%032x\","
			"\"service\":\"backend\",\"source\":\"frontend\",\"operation\":\"GET "
			"/items\",\"method\":\"GET\",\"path\":\"/items/%d\",\"host\":\"backend\","
			"\"startTime\":1764000000000.125,\"duration\":12.5,\"statusCode\":200,"
			"\"error\":false,\"cause\":null,\"instance\":\"b1\",\"version\":\"v1\","
			"\"requestId\":\"%032x\",\"bytesIn\":100,\"bytesOut\":2000,\"head\":11.5,"
			"\"upstream\":11.25,\"sampled\":false}",
			i ? "," : "", i + 1, i + 1, i, i);
	buf_str(b, "]}");
	assert_false(b->failed);
}

/* The densest that an agent has: 4 MiB of histograms; and the most that is taken, of spans. */
static void batches_of_agents_pass_however_large(void **state)
{
	struct buf b;

	buf_init(&b, 8 << 20);
	add_batch(&b, 1, 1400, 413, 0);
	assert_in_range(b.len, 3 << 20, 5 << 20);
	assert_int_equal(post("/api/telemetry", &b), 200);
	buf_reset(&b);
	add_batch(&b, 2, 4096, 2, 15000);
	assert_in_range(b.len, 7 << 20, 8 << 20);
	assert_int_equal(post("/api/telemetry", &b), 200);
	buf_reset(&b);
	add_batch(&b, 5, 1, 2, 0);
	assert_int_equal(post("/api/telemetry", &b), 200);
	buf_done(&b);
	assert_int_equal(call("GET", "/metrics", NULL), 200);
	assert_body("\nmesh_telemetry_missing_total{node='n'} 2\n");
	assert_body("\nmesh_telemetry_shifted_total 0\n");
	assert_body("\nmesh_telemetry_discarded_total 0\n");
	assert_body("\nmesh_telemetry_store_failures_total 0\n");
	assert_body("\nmesh_traces_unwanted_total 0\n");
}

/* Who has no more than an address to connect to holds little of meshd's memory. */
static void a_connection_over_tcp_has_less_memory(void **state)
{
	static char pad[24000], request[sizeof(pad) + 100];
	int fds[2] = {connect_tcp(), connect_unix()};

	memset(pad, 'x', sizeof(pad) - 1);
	snprintf(request, sizeof(request),
		 "GET /health HTTP/1.1\r\nHost: localhost\r\nX: %s\r\n\r\n", pad);
	assert_int_equal(status_of(fds[0], request), 431);
	assert_int_equal(status_of(fds[1], request), 200);
	close(fds[0]);
	close(fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(answers_that_nobody_reads_are_bounded_together),
		TEST(json_of_very_many_values_is_refused),
		TEST(batches_of_agents_pass_however_large),
		TEST(a_connection_over_tcp_has_less_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
