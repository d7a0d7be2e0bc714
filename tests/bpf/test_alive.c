/* SPDX-License-Identifier: Apache-2.0 */
/* Endpoints that end while nobody of ours looks: the kernel itself takes their bit away, and gives
 * away nobody else's. */
#include "tests/bpf/fixture.h"

#include <mesh/alive.h>

#define EP  3
#define GEN 8

static struct mesh_endpoint *endpoint(void)
{
	return &kernel_arrays(fx.k)->endpoints[EP];
}

/* As the supervisor does it. */
static void stand(int fd, uint32_t gen)
{
	uint32_t was, was_gen;

	endpoint()->flags = mesh_alive_more(endpoint()->flags);
	ok(kernel_listener_stand(fx.k, cookie_of(fd, SO_COOKIE), EP, gen, &was, &was_gen));
	assert_int_equal(was, MESH_NONE);
}

static bool alive(void)
{
	return __atomic_load_n(&endpoint()->flags, __ATOMIC_RELAXED) & MESH_EP_ALIVE;
}

static int before(void **state)
{
	memset(endpoint(), 0, sizeof(*endpoint()));
	endpoint()->gen = GEN;
	endpoint()->flags = MESH_EP_USED;
	return test_setup(state);
}

static int listen_in_server(void)
{
	int fd;

	enter("/server");
	fd = listen_on("127.0.0.1", 0, false);
	enter(NULL);
	return fd;
}

static void the_end_of_its_socket_is_the_end_of_an_endpoint(void **state)
{
	int fd = listen_in_server();

	stand(fd, GEN);
	assert_true(alive());
	close(fd);
	assert_false(alive());
	assert_int_equal(endpoint()->flags, MESH_EP_USED);
}

static void the_last_of_several_sockets_decides(void **state)
{
	int a = listen_in_server(), b = listen_in_server();

	stand(a, GEN);
	stand(b, GEN);
	close(a);
	assert_true(alive());
	close(b);
	assert_false(alive());
}

static void a_process_that_is_killed_is_not_alive(void **state)
{
	uint32_t was, was_gen;
	int pair[2], status;
	uint64_t cookie;
	pid_t pid;

	ok(pipe(pair));
	pid = fork();
	if (!pid) {
		int fd = listen_in_server();

		cookie = cookie_of(fd, SO_COOKIE);
		_exit(write(pair[1], &cookie, sizeof(cookie)) == sizeof(cookie) ? pause() : 1);
	}
	assert_int_equal(read(pair[0], &cookie, sizeof(cookie)), sizeof(cookie));
	endpoint()->flags = mesh_alive_more(endpoint()->flags);
	ok(kernel_listener_stand(fx.k, cookie, EP, GEN, &was, &was_gen));
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	assert_false(alive());
	close(pair[0]);
	close(pair[1]);
}

/* The index has come to mean somebody else, who is not concerned. */
static void the_end_of_an_earlier_endpoint_changes_nothing(void **state)
{
	int old = listen_in_server(), now = listen_in_server();

	stand(old, GEN);
	endpoint()->gen = GEN + 1;
	endpoint()->flags = MESH_EP_USED;
	stand(now, GEN + 1);
	close(old);
	assert_true(alive());
	close(now);
	assert_false(alive());
}

static void a_socket_that_nobody_stands_on_changes_nothing(void **state)
{
	int fd = listen_in_server();

	endpoint()->flags = MESH_EP_USED | MESH_EP_ALIVE;
	close(fd);
	assert_true(alive());
}

static void who_is_told_twice_hears_that_nothing_changed(void **state)
{
	int fd = listen_in_server();
	uint64_t cookie = cookie_of(fd, SO_COOKIE);
	uint32_t was, was_gen;

	stand(fd, GEN);
	assert_int_equal(kernel_listener_stand(fx.k, cookie, EP, GEN, &was, &was_gen), -EALREADY);
	ok(kernel_listener_stand(fx.k, cookie, EP + 1, GEN, &was, &was_gen));
	assert_int_equal(was, EP);
	assert_int_equal(was_gen, GEN);
	close(fd);
	assert_int_equal(kernel_listener_stand(fx.k, cookie, EP, GEN, &was, &was_gen), -ENOENT);
	assert_true(alive()); /* whoever moved it away takes it from the count */
}

/* Sockets come and go on all CPUs while the supervisor rewrites the other flags: the count is exact
 * in the end. */
static void the_count_survives_whoever_writes_at_the_same_time(void **state)
{
	int fd[64], status;
	pid_t pid;

	for (int i = 0; i < 64; i++) {
		fd[i] = listen_in_server();
		stand(fd[i], GEN);
	}
	pid = fork();
	if (!pid) { /* its copies keep half of them */
		for (int i = 0; i < 32; i++)
			close(fd[i]);
		pause();
	}
	for (int i = 0; i < 64; i++) {
		__u32 *flags = &endpoint()->flags, old = __atomic_load_n(flags, __ATOMIC_RELAXED);

		close(fd[i]);
		while (!__atomic_compare_exchange_n(
			flags, &old,
			mesh_alive_write(old, MESH_EP_USED | (i & 1 ? MESH_EP_UNHEALTHY : 0) |
						      64 * MESH_ALIVE_ONE),
			false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			;
		if (i == 48)
			kill(pid, SIGKILL);
	}
	waitpid(pid, &status, 0);
	assert_false(alive());
	assert_int_equal(mesh_alive_sockets(endpoint()->flags), 0);
}

static void words(void **state)
{
	const __u32 one = MESH_ALIVE_ONE, up = MESH_EP_ALIVE, ill = MESH_EP_UNHEALTHY;

	assert_int_equal(mesh_alive_more(0), one | up);
	assert_int_equal(mesh_alive_less(2 * one | up), one | up);
	assert_int_equal(mesh_alive_less(one | up | ill), ill);
	assert_int_equal(mesh_alive_less(ill), ill);
	assert_int_equal(mesh_alive_more(MESH_ALIVE_LOW << 16 | up), MESH_ALIVE_LOW << 16 | up);
	/* the supervisor knows two sockets and sets a flag: what the kernel has counted stays */
	assert_int_equal(mesh_alive_write(one | up, 2 * one | ill | up), one | up | ill);
	assert_int_equal(mesh_alive_write(ill, 2 * one | up), 0);
	/* it knows fewer than were counted: they have gone */
	assert_int_equal(mesh_alive_write(3 * one | up, one), one | up);
	assert_int_equal(mesh_alive_write(3 * one | up, 0), 0);
	assert_int_equal(mesh_alive_write(0, MESH_EP_EXTERNAL | up), MESH_EP_EXTERNAL | up);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words),
		cmocka_unit_test_setup(the_end_of_its_socket_is_the_end_of_an_endpoint, before),
		cmocka_unit_test_setup(the_last_of_several_sockets_decides, before),
		cmocka_unit_test_setup(a_process_that_is_killed_is_not_alive, before),
		cmocka_unit_test_setup(the_end_of_an_earlier_endpoint_changes_nothing, before),
		cmocka_unit_test_setup(a_socket_that_nobody_stands_on_changes_nothing, before),
		cmocka_unit_test_setup(who_is_told_twice_hears_that_nothing_changed, before),
		cmocka_unit_test_setup(the_count_survives_whoever_writes_at_the_same_time, before),
	};

	return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
