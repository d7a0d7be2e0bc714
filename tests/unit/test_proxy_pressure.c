/* SPDX-License-Identifier: Apache-2.0 */
/* A worker's memory is for all services: one that hangs leaves the others theirs. */
#include "proxy_rig.h"

#include <sys/resource.h>

#define CALLERS	 6200 /* more than a worker has buffers for new requests */

#define TO_OTHER "GET /other/a HTTP/1.1\r\nHost: h\r\n\r\n"

static int callers[CALLERS], accepted[CALLERS];

/* On both sides of the proxy, and in both processes, with room for what else there is. */
static void want_descriptors(void)
{
	struct rlimit l;

	assert_true(BUFPOOL_NEW < CALLERS);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &l), 0);
	if (l.rlim_max < 2 * CALLERS + 512) {
		print_message("only %llu files may be open, %u are needed\n",
			      (unsigned long long)l.rlim_max, 2 * CALLERS + 512);
		skip();
	}
	l.rlim_cur = l.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &l), 0);
}

static int start_slow(void **state)
{
	struct rig *rig = rig_start();

	/* nothing but the memory bounds them */
	rig->snapshot->service.timeouts = (struct snap_timeouts){.connect = 600000, .idle = 600000};
	*state = rig;
	return 0;
}

static void expect_the_other_served(struct rig *rig)
{
	int c = rig_connect(rig->gateway_port), o;

	rig_send(c, TO_OTHER);
	o = rig_accept(rig, RIG_OTHER);
	expect_served(o, c);
	close(o);
	close(c);
}

static void a_service_that_does_not_answer_holds_up_no_other(void **state)
{
	struct rig *rig = *state;

	want_descriptors();
	for (int i = 0; i < CALLERS; i++) {
		callers[i] = rig_connect(rig->gateway_port);
		accepted[i] = get_accepted(rig, callers[i]);
	}
	expect_the_other_served(rig);
	expect_served(accepted[0], callers[0]);
	expect_served(accepted[CALLERS - 1], callers[CALLERS - 1]);
	for (int i = 0; i < CALLERS; i++) {
		close(callers[i]);
		close(accepted[i]);
	}
}

static void await_clients(const struct rig *rig, uint32_t n)
{
	for (int i = 0; i < RIG_WAIT_MS; i++) {
		if (__atomic_load_n(&rig->inside->nclients, __ATOMIC_RELAXED) >= n)
			return;
		poll(NULL, 0, 1);
	}
	fail_msg("%u callers were expected", n);
}

/* A listening socket that completes no handshake: its queue is full. */
static int hole(in_port_t *port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 0), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	*port = a.sin_port;
	close(rig_connect(ntohs(a.sin_port)));
	return fd;
}

static void a_service_that_cannot_be_reached_holds_up_no_other(void **state)
{
	struct rig *rig = *state;
	int fd = hole(&rig->endpoints[0].port);

	want_descriptors();
	for (int i = 0; i < CALLERS; i++) {
		callers[i] = rig_connect(rig->gateway_port);
		rig_send(callers[i], GET);
		await_clients(rig, (uint32_t)i / 100 * 100); /* the queue holds not many more */
	}
	expect_refusal(callers[CALLERS - 1], "503", "bulkhead-full");
	expect_the_other_served(rig);
	for (int i = 0; i < CALLERS; i++)
		close(callers[i]);
	close(fd);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, start_slow, stop)
	const struct CMUnitTest tests[] = {
		T(a_service_that_does_not_answer_holds_up_no_other),
		T(a_service_that_cannot_be_reached_holds_up_no_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
