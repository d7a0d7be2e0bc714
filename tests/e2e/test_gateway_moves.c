/* SPDX-License-Identifier: Apache-2.0 */
/* The gateway's address changes from one agent to the next, while callers connect to what both have
 * in common: none of them is refused. And one that cannot be had stops nothing else. */
#include "tests/e2e/harness.h"

#include "lib/addr.h"

#include <sys/socket.h>

static struct instance *web;
static struct load *load;

/* Each request by a connection of its own. */
static void open_load(void)
{
	web = instance_ready(instance_start("web", "web-1", "--netns", "origin --port 8000"));
	load = load_start(NULL, "--to " GATEWAY_ADDRESS
				" --path /web/ --rate 400 --connections 8 --fresh");
	eventually(5000, metric("mesh_requests_total", "source=\"gateway\"", NULL) > 50);
}

static void close_load(void)
{
	size_t all, good;

	load_end(load);
	all = load_count(load, 0, UINT64_MAX);
	good = load_ok(load, 0, UINT64_MAX);
	printf("%zu requests, %zu failed\n", all, all - good);
	for (size_t i = 0; i < load->n; i++)
		if (load->shots[i].status != 200)
			printf("  after %lu us: %d %s\n", load->shots[i].took_us,
			       load->shots[i].status, load->shots[i].cause);
	assert_int_equal(good, all);
	assert_true(all > 100);
}

enum how { CONNECT, LISTEN, LISTEN_TOO };

static int try_address(const char *text, enum how how)
{
	struct sockaddr_storage ss;
	struct addr a;
	socklen_t len;
	int fd, r, share = how == LISTEN_TOO;

	assert_int_equal(addr_parse(text, &a), 0);
	len = addr_to_sockaddr(&a, &ss);
	fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &share, sizeof(share)), 0);
	r = how == CONNECT ? connect(fd, (struct sockaddr *)&ss, len)
			   : bind(fd, (struct sockaddr *)&ss, len) || listen(fd, 1);
	if (!r)
		return fd;
	r = -errno;
	close(fd);
	return r;
}

static bool refuses(const char *address)
{
	int fd = try_address(address, CONNECT);

	if (fd >= 0)
		close(fd);
	return fd == -ECONNREFUSED;
}

static bool serves(const char *address)
{
	struct client *c;
	bool ok;

	if (refuses(address))
		return false;
	c = call_directly(address);
	ok = get(c, "/web/") == 200;
	hang_up(c);
	return ok;
}

enum way { UPGRADE, RESTART, CRASH };

static void succeed(enum way way, const char *gateway)
{
	long from = agent_log_size();
	char flags[128];

	snprintf(flags, sizeof(flags), "%s--gateway %s", way == UPGRADE ? "--upgrade " : "",
		 gateway);
	if (way == UPGRADE) {
		pid_t before = agent_succeed(flags);

		reap(&before, 0);
		agent_wait();
	} else {
		if (way == RESTART)
			agent_stop(SIGUSR2);
		else
			agent_orphan();
		agent_start(flags);
	}
	eventually(START_MS, agent_logged(from, "of before drain"));
	assert_true(serves(GATEWAY_ADDRESS));
	/* the port is shared for the move only: nobody of the same user takes calls away */
	assert_int_equal(try_address(gateway, LISTEN_TOO), -EADDRINUSE);
	assert_int_equal(try_address(GATEWAY_ADDRESS, LISTEN_TOO), -EADDRINUSE);
}

static void no_connection_is_refused_when_the_address_changes(void **state)
{
	open_load();
	for (int i = 0; i < 3; i++) {
		enum way way = i == 0 ? UPGRADE : i == 1 ? RESTART : CRASH;

		assert_true(refuses("127.0.0.2:8080"));
		succeed(way, "0.0.0.0:8080");
		assert_true(serves("127.0.0.2:8080"));
		assert_true(refuses("[::1]:8080"));
		succeed(way, "[::]:8080");
		assert_true(serves("[::1]:8080"));
		succeed(way, "0.0.0.0:8080"); /* and with all that was kept, once more */
		assert_true(serves("127.0.0.2:8080"));
		eventually(10000, refuses("[::1]:8080"));
		succeed(way, GATEWAY_ADDRESS);
		eventually(10000, refuses("127.0.0.2:8080"));
	}
	close_load();
}

static void a_wildcard_that_covers_an_old_address_goes_on(void **state)
{
	open_load();
	succeed(UPGRADE, "0.0.0.0:8080");
	succeed(UPGRADE, "0.0.0.0:8080");
	succeed(RESTART, "0.0.0.0:8080");
	assert_true(serves("127.0.0.2:8080"));
	agent_orphan();
	for (int i = 0; i < 50; i++)
		assert_true(serves("127.0.0.2:8080") && serves(GATEWAY_ADDRESS));
	agent_start("");
	eventually(10000, refuses("127.0.0.2:8080"));
	close_load();
}

static bool check_says(const char *text)
{
	return strstr(sh("meshctl check")->out, text);
}

static void a_gateway_that_cannot_be_had_stays_where_it_was(void **state)
{
	int taken = try_address("127.0.0.1:8099", LISTEN);
	long from = agent_log_size();
	pid_t before;

	assert_true(taken >= 0);
	web = instance_ready(instance_start("web", "web-1", "--netns", "origin --port 8000"));
	before = agent_succeed("--upgrade --gateway 127.0.0.1:8099");
	reap(&before, 0);
	agent_wait();
	eventually(5000, agent_logged(from, "until that is possible it is at " GATEWAY_ADDRESS));
	eventually(20000, agent_logged(from, "the workers of before have ended"));
	assert_true(serves(GATEWAY_ADDRESS));
	eventually(15000, check_says("cannot listen on 127.0.0.1:8099 for the gateway"));
	assert_non_null(strstr(sh("meshctl check -o name")->out, "gateway\n"));
	assert_int_equal(sh("meshctl status")->status, 1);
	assert_non_null(strstr(sh("meshctl get agents -o wide")->out, GATEWAY_ADDRESS));
	for (int i = 0; i < 2; i++) { /* whatever becomes of the agent */
		if (i)
			agent_orphan();
		else
			agent_stop(SIGUSR2);
		assert_true(serves(GATEWAY_ADDRESS));
		from = agent_log_size();
		agent_start("--gateway 127.0.0.1:8099");
		eventually(20000, agent_logged(from, "the workers of before have ended"));
		assert_true(serves(GATEWAY_ADDRESS));
	}
	close(taken);
	eventually(10000, serves("127.0.0.1:8099"));
	eventually(10000, refuses(GATEWAY_ADDRESS));
	eventually(15000, check_says("listens on 127.0.0.1:8099"));
	assert_true(agent_logged(from, "the gateway listens on 127.0.0.1:8099"));
	agent_stop(SIGUSR2);
	agent_start("");
	eventually(10000, serves(GATEWAY_ADDRESS));
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(no_connection_is_refused_when_the_address_changes),
		STORY(a_wildcard_that_covers_an_old_address_goes_on),
		STORY(a_gateway_that_cannot_be_had_stays_where_it_was),
	};

	return RUN(stories);
}
