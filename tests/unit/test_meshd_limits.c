/* SPDX-License-Identifier: Apache-2.0 */
/* What bounds meshd's memory as a whole: answers that nobody reads. */
#include "tests/unit/meshd_rig.h"

#include <sys/un.h>

#define READERS	   40 /* who ask and do not read */
#define SPANS	   500
#define SPAN_BYTES 6000
#define WAIT_MS	   10000

/* A trace of some 3 MB. */
static void store_large_trace(void)
{
	static char pad[SPAN_BYTES];
	struct http_call c = {
		.method = "POST", .base = local, .path = "/api/spans", .timeout_ms = WAIT_MS};
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
	c.body = b.data;
	c.body_len = b.len;
	assert_int_equal(call_full(&c), 200);
	buf_done(&b);
}

/* Asks, and reads no more than the head of the answer: its status. */
static int ask(int *fd)
{
	static const char request[] = "GET /api/traces/large HTTP/1.1\r\nHost: localhost\r\n\r\n";
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int status = 0;
	char head[16];

	*fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(un.sun_path, sizeof(un.sun_path), "%.100s", local + 5);
	assert_int_equal(connect(*fd, (struct sockaddr *)&un, sizeof(un)), 0);
	assert_int_equal(send(*fd, request, sizeof(request) - 1, MSG_NOSIGNAL),
			 sizeof(request) - 1);
	assert_int_equal(recv(*fd, head, sizeof(head) - 1, MSG_WAITALL), sizeof(head) - 1);
	head[sizeof(head) - 1] = '\0';
	assert_int_equal(sscanf(head, "HTTP/1.1 %d", &status), 1);
	return status;
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(answers_that_nobody_reads_are_bounded_together),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
