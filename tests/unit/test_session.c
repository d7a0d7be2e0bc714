/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's conversation with meshd: it takes what is new, once, and keeps what may outlive it.
 */
#include "agent/control/session.h"
#include "lib/clock.h"
#include "tests/unit/meshd_dir.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/socket.h>
/* after the types that it needs */
#include <cmocka.h>

#define CONNS 16

/* A meshd that answers `text` to whoever has not its serial, and lets the others wait. */
static struct conn {
	struct watch watch;
	char in[4096];
	size_t len;
} conns[CONNS], *held; /* held: the one that waits */
static struct watch listener;
static struct loop loop;
static struct test_dir dir;
static struct session *session;
static char control[64], text[2048], serial[64], watched[256]; /* the last watch's line */
static int questions, nconns;

/* what the session gave us */
static int configured;
static size_t faults, drains, hands, services;
static int tapped, taps;
static uint64_t tap_serial;

static void configure(void *arg, const struct configuration *c)
{
	configured++;
	faults = c->nfaults;
	drains = c->ndrains;
	hands = c->nhands;
	services = c->nservices;
}

static void take_taps(void *arg, const cJSON *list, uint64_t number)
{
	tapped++;
	taps = cJSON_GetArraySize(list);
	tap_serial = number;
}

static char *state(void *arg)
{
	return strdup("{\"endpoints\":[]}");
}

static void conn_answer(struct conn *c, const char *body)
{
	char out[4096];
	int n = snprintf(out, sizeof(out),
			 "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
			 strlen(body), body);

	assert_int_equal(send(c->watch.fd, out, (size_t)n, MSG_NOSIGNAL), n);
	loop_del(&loop, &c->watch);
	shutdown(c->watch.fd, SHUT_WR);
}

static void conn_question(struct conn *c)
{
	char want[80];

	if (strncmp(c->in, "GET /api/watch", 14)) {
		conn_answer(c, "{\"success\":true}");
		return;
	}
	questions++;
	snprintf(watched, sizeof(watched), "%.*s", (int)strcspn(c->in, "\r"), c->in);
	snprintf(want, sizeof(want), "&serial=%s&", serial);
	held = strstr(watched, want) ? c : NULL;
	if (!held)
		conn_answer(c, text);
}

static void on_conn(struct watch *w, uint32_t events)
{
	struct conn *c = (struct conn *)w;
	const char *end, *length;
	ssize_t n = recv(w->fd, c->in + c->len, sizeof(c->in) - 1 - c->len, 0);

	if (n <= 0) {
		loop_del(&loop, w);
		return;
	}
	c->len += (size_t)n;
	c->in[c->len] = '\0';
	end = strstr(c->in, "\r\n\r\n");
	length = strstr(c->in, "Content-Length: ");
	if (end &&
	    c->len >= (size_t)(end + 4 - c->in) + (length ? strtoul(length + 16, NULL, 10) : 0))
		conn_question(c);
}

static void on_listener(struct watch *w, uint32_t events)
{
	struct conn *c = &conns[nconns];
	int fd = accept4(w->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	assert_true(fd >= 0 && nconns < CONNS);
	nconns++;
	assert_int_equal(loop_add(&loop, &c->watch, fd, EPOLLIN, on_conn), 0);
}

static int setup(void **unused)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(in);

	test_dir_make(&dir);
	nconns = questions = configured = tapped = 0;
	memset(conns, 0, sizeof(conns));
	assert_int_equal(loop_init(&loop), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&in, len), 0);
	assert_int_equal(listen(fd, 16), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
	snprintf(control, sizeof(control), "http://127.0.0.1:%u", ntohs(in.sin_port));
	return loop_add(&loop, &listener, fd, EPOLLIN, on_listener);
}

static int teardown(void **unused)
{
	session_free(&session);
	for (int i = 0; i < nconns; i++) {
		loop_del(&loop, &conns[i].watch);
		close(conns[i].watch.fd);
	}
	loop_del(&loop, &listener);
	close(listener.fd);
	loop_done(&loop);
	test_dir_remove(&dir);
	return 0;
}

static void start(void)
{
	struct session_config cfg = {.control = control, .node = "n1", .run_dir = dir.path};
	struct session_ops ops = {.configure = configure, .state = state, .taps = take_taps};

	assert_int_equal(session_new(&loop, &cfg, &ops, &session), 0);
}

static void await_questions(int n)
{
	uint64_t end = clock_mono_ns() + 10000000000ULL;

	while (questions < n) {
		assert_int_equal(loop_once(&loop, 10), 0);
		if (clock_mono_ns() > end)
			fail_msg("%d questions of %d", questions, n);
	}
}

static void says(const char *ser, const char *orders)
{
	strcpy(serial, ser);
	snprintf(text, sizeof(text),
		 "{\"revision\":5,\"serial\":%s,\"epoch\":\"e1\",\"services\":[{\"service\":"
		 "\"web\"}],"
		 "\"endpoints\":[],%s}",
		 ser, orders);
}

static void assert_kept(const char *part, bool yes)
{
	char path[128], kept[4096];
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "%s/config.json", dir.path);
	f = fopen(path, "re");
	assert_non_null(f);
	n = fread(kept, 1, sizeof(kept) - 1, f);
	fclose(f);
	kept[n] = '\0';
	if (!strstr(kept, part) == yes)
		fail_msg("%s is %s in %s", part, yes ? "not" : "still", kept);
}

static const char all_orders[] =
	"\"faults\":[{\"service\":\"web\",\"abort\":{\"percent\":100,\"status\":503},\"leftMs\":"
	"5000}],"
	"\"drains\":[{\"service\":\"web\",\"endpoint\":\"web-1\"}],"
	"\"hands\":[{\"serial\":1000000007,\"service\":\"web\",\"action\":\"open\"}]";

static void orders_are_taken_when_the_serial_moves_on(void **unused)
{
	says("1000000001", "\"faults\":[],\"drains\":[],\"hands\":[]");
	start();
	await_questions(2);
	assert_int_equal(configured, 1);
	assert_non_null(strstr(watched, "revision=5&serial=1000000001&node=n1&epoch=e1"));

	/* meshd wakes who waits: the revision is the same, the serial is not */
	says("1000000007", all_orders);
	conn_answer(held, text);
	await_questions(3);
	assert_int_equal(configured, 2);
	assert_int_equal(faults, 1);
	assert_int_equal(drains, 1);
	assert_int_equal(hands, 1);

	/* after 30 s the same comes again: nothing to do */
	conn_answer(held, text);
	await_questions(4);
	assert_int_equal(configured, 2);
}

static void what_is_kept_on_disk_has_no_faults_and_no_hands(void **unused)
{
	says("1000000007", all_orders);
	start();
	await_questions(2);
	assert_int_equal(configured, 1);
	assert_kept("\"service\":\"web\"", true);
	assert_kept("\"drains\":[{", true);
	assert_kept("faults", false);
	assert_kept("hands", false);
	assert_kept("serial", false);

	/* a new agent starts with what is kept, and asks for the rest */
	session_free(&session);
	questions = configured = 0;
	strcpy(serial, "0");
	start();
	assert_int_equal(configured, 1);
	assert_int_equal(services, 1);
	assert_int_equal(faults, 0);
	assert_int_equal(hands, 0);
	assert_int_equal(drains, 1);
	await_questions(1);
	assert_non_null(strstr(watched, "revision=5&serial=0&"));
}

/* Whoever opens a tap is not to wait for the configuration to be taken anew, or to be kept. */
static void taps_are_heard_of_at_once_and_not_kept(void **unused)
{
	says("1000000007", "\"faults\":[],\"taps\":[],\"tapSerial\":3000000001");
	start();
	await_questions(2);
	assert_int_equal(tapped, 1);
	assert_int_equal(taps, 0);
	assert_non_null(strstr(watched, "&taps=3000000001 "));

	says("1000000007", "\"faults\":[],\"taps\":[{\"tap\":3000000002,\"error\":false,"
			   "\"minMs\":0}],\"tapSerial\":3000000002");
	conn_answer(held, text);
	await_questions(3);
	assert_int_equal(tapped, 2);
	assert_int_equal(taps, 1);
	assert_int_equal(tap_serial, 3000000002);
	assert_int_equal(configured, 1);
	assert_non_null(strstr(watched, "&taps=3000000002 "));
	assert_kept("tap", false);

	/* the same again, and one that knows of no taps in its place */
	conn_answer(held, text);
	await_questions(4);
	assert_int_equal(tapped, 2);
	says("1000000007", "\"faults\":[]");
	conn_answer(held, text);
	await_questions(5);
	assert_int_equal(tapped, 3);
	assert_int_equal(taps, 0);
	assert_null(strstr(watched, "taps="));
}

#define STORY(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORY(orders_are_taken_when_the_serial_moves_on),
		STORY(what_is_kept_on_disk_has_no_faults_and_no_hands),
		STORY(taps_are_heard_of_at_once_and_not_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
