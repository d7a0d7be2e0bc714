/* SPDX-License-Identifier: Apache-2.0 */
/* All that the kernel counts as open is given back exactly once, however a socket ends. */
#include "tests/bpf/tcp_rig.h"

#include <pthread.h>

#ifndef MSG_FASTOPEN
#define MSG_FASTOPEN 0x20000000
#endif

static void socket_that_connects_again_counts_once(void **state)
{
	struct sockaddr_storage ss;
	struct sockaddr none = {.sa_family = AF_UNSPEC};
	socklen_t len = address(ASKED, ASKED_P, false, &ss);
	int fd, accepted[2];

	serve_one();
	stop_serving(0);
	enter("/app");
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(connect(fd, (struct sockaddr *)&ss, len), -1);
		assert_int_equal(open_at(0), 0);
	}
	serve_again(0);
	ok(connect(fd, (struct sockaddr *)&ss, len));
	assert_int_equal(open_at(0), 1);
	assert_int_equal(connect(fd, (struct sockaddr *)&ss, len), -1);
	assert_int_equal(errno, EISCONN);
	assert_int_equal(open_at(0), 1);
	who_has(&accepted[0]);
	ok(connect(fd, &none, sizeof(none)));
	assert_int_equal(open_at(0), 0);
	ok(connect(fd, (struct sockaddr *)&ss, len));
	assert_int_equal(open_at(0), 1);
	assert_int_equal(open_in_all(), 1);
	who_has(&accepted[1]);
	close(fd);
	close(accepted[0]);
	close(accepted[1]);
}

static void set_ports(uint16_t from, uint16_t to)
{
	FILE *f = fopen("/proc/sys/net/ipv4/ip_local_port_range", "we");

	assert_non_null(f);
	fprintf(f, "%u %u", from, to);
	ok(fclose(f));
}

/* The kernel reports the end of a connect() that had no SYN when the socket has had one before. */
static void socket_that_fails_before_its_syn_takes_nothing_back(void **state)
{
	struct sockaddr_storage ss;
	struct sockaddr none = {.sa_family = AF_UNSPEC};
	socklen_t len = address(ASKED, ASKED_P, false, &ss);
	int fd[2], accepted[2];

	serve_one();
	enter("/app");
	for (int i = 0; i < 2; i++) {
		fd[i] = dial(ASKED);
		who_has(&accepted[i]);
	}
	ok(connect(fd[0], &none, sizeof(none)));
	assert_int_equal(open_at(0), 1);
	set_ports(local_port(fd[1]), local_port(fd[1]));
	assert_int_equal(connect(fd[0], (struct sockaddr *)&ss, len), -1);
	assert_int_equal(errno, EADDRNOTAVAIL);
	set_ports(32768, 60999);
	assert_int_equal(open_at(0), 1);
	assert_int_equal(open_in_all(), 1);
	for (int i = 0; i < 2; i++) {
		close(fd[i]);
		close(accepted[i]);
	}
}

static void fast_open_counts_like_any_other(void **state)
{
	struct sockaddr_storage ss;
	socklen_t len = address(ASKED, ASKED_P, false, &ss);
	int fd, accepted;
	char back[3];

	serve_one();
	enter("/app");
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(sendto(fd, "abc", 3, MSG_FASTOPEN, (struct sockaddr *)&ss, len), 3);
	assert_int_equal(open_at(0), 1);
	who_has(&accepted);
	assert_int_equal(read(accepted, back, 3), 3);
	close(fd);
	close(accepted);
	eventually(!open_at(0));
	/* put off until there is data, which never comes */
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ok(setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &(int){1}, sizeof(int)));
	connect(fd, (struct sockaddr *)&ss, len);
	close(fd);
	eventually(!open_at(0));
}

static void half_closed_connection_counts_to_its_end(void **state)
{
	int fd, accepted;
	char c;

	serve_one();
	enter("/app");
	fd = dial(ASKED);
	who_has(&accepted);
	ok(shutdown(fd, SHUT_WR));
	assert_int_equal(read(accepted, &c, 1), 0);
	assert_int_equal(open_at(0), 1);
	close(accepted);
	assert_int_equal(read(fd, &c, 1), 0);
	close(fd);
	eventually(!open_at(0));
	assert_tally(endpoint_tally(0), 1, 0);
}

static void index_of_another_endpoint_is_left_alone(void **state)
{
	int fd[2], accepted[2];

	serve_one();
	enter("/app");
	fd[0] = dial(ASKED);
	who_has(&accepted[0]);
	/* as the supervisor gives it to another */
	arrays->ep_inflight[0].worker[MESH_KERNEL_WORKER] = 0;
	arrays->endpoints[0].gen = 2;
	fd[1] = dial(ASKED);
	who_has(&accepted[1]);
	assert_int_equal(open_at(0), 1);
	reset(accepted[0]);
	close(fd[0]);
	eventually(open_in_all() == 1);
	assert_int_equal(open_at(0), 1);
	assert_int_equal(in_a_row(0), 0);
	close(fd[1]);
	close(accepted[1]);
}

#define THREADS 4
#define ROUNDS	400

static void *churn(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;

	for (int i = 0; i < ROUNDS; i++) {
		int how = rand_r(&seed) % 4, error, fd;

		if (how == 0) {
			fd = dial_nonblocking(&error);
		} else {
			fd = dial(ASKED);
			if (fd < 0)
				continue;
		}
		if (how == 1)
			reset(fd);
		else
			close(fd);
	}
	return NULL;
}

/* One accepts and closes, one resets, one refuses; callers of all manners at once. */
static void nothing_is_left_after_a_storm(void **state)
{
	pthread_t t[THREADS];

	rig.service.max_connections = 50;
	put_service();
	serve_three();
	stop_serving(2);
	enter("/app");
	for (int i = 0; i < THREADS; i++)
		ok(pthread_create(&t[i], NULL, churn, (void *)(uintptr_t)(i + 1)));
	for (int joined = 0; joined < THREADS;) {
		struct pollfd p[2] = {{.fd = rig.server[0], .events = POLLIN},
				      {.fd = rig.server[1], .events = POLLIN}};
		int fd;

		if (pthread_tryjoin_np(t[joined], NULL) == 0)
			joined++;
		if (poll(p, 2, 10) < 1)
			continue;
		for (int i = 0; i < 2; i++)
			if (p[i].revents && (fd = accept(p[i].fd, NULL, NULL)) >= 0) {
				if (i)
					reset(fd);
				else
					close(fd);
			}
	}
	assert_true(endpoint_tally(2).failed > 10);
	for (int i = 0; i < 2; i++)
		for (int fd; (fd = accept_within(rig.server[i], 0)) >= 0;)
			close(fd);
	/* teardown looks at the gauges */
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(socket_that_connects_again_counts_once),
		T(socket_that_fails_before_its_syn_takes_nothing_back),
		T(fast_open_counts_like_any_other),
		T(half_closed_connection_counts_to_its_end),
		T(index_of_another_endpoint_is_left_alone),
		T(nothing_is_left_after_a_storm),
	};

	return cmocka_run_group_tests_name("tcp open", tests, group_setup, fixture_teardown);
}
