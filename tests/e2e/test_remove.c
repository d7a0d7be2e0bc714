/* SPDX-License-Identifier: Apache-2.0 */
/* The mesh is taken away from under live connections. */
#include "tests/bench/pattern.h"
#include "tests/e2e/harness.h"

#include <poll.h>
#include <sys/socket.h>

#define LEN  (48L << 20)
#define SEED 7

static struct instance *web, *raw;
static struct caller *who;

/* web by a worker, raw by the kernel; both are HTTP servers. */
static void open_both(void)
{
	web = instance_ready(instance_start("web", "web-1", "--netns", "origin --port 8000"));
	raw = instance_ready(
		instance_start("raw", "raw-1", "--netns --protocol tcp", "origin --port 8000"));
	who = caller_start("client", "--netns");
	configure("raw", "{\"accelerate\":\"on\"}");
}

struct transfer {
	int fd;
	long at;
};

static void read_head(int fd)
{
	char last[4] = {0};

	while (memcmp(last, "\r\n\r\n", 4)) {
		memmove(last, last + 1, 3);
		assert_int_equal(recv(fd, last + 3, 1, 0), 1);
	}
}

static struct transfer begin(const struct instance *i)
{
	static const char ask[] = "GET /?len=50331648&seed=7 HTTP/1.1\r\nHost: w\r\n\r\n";
	struct transfer t = {.fd = caller_dial(who, i->address)};

	assert_true(t.fd >= 0);
	assert_int_equal(send(t.fd, ask, sizeof(ask) - 1, MSG_NOSIGNAL), sizeof(ask) - 1);
	read_head(t.fd);
	return t;
}

/* Up to byte `end`; each is the one that it should be. */
static void go_on(struct transfer *t, long end)
{
	static char buf[1 << 16];

	while (t->at < end) {
		struct pollfd p = {.fd = t->fd, .events = POLLIN};
		size_t most =
			(size_t)(end - t->at) < sizeof(buf) ? (size_t)(end - t->at) : sizeof(buf);
		ssize_t n;

		assert_int_equal(poll(&p, 1, 10000), 1);
		n = recv(t->fd, buf, most, 0);
		if (n <= 0)
			fail_msg("it ended after %ld of %ld bytes: %s", t->at, LEN,
				 n ? strerror(errno) : "closed");
		assert_true(pattern_check(SEED, (uint64_t)t->at, buf, (size_t)n));
		t->at += n;
	}
}

/* By a connection of its own. */
static bool captured(void)
{
	struct client *c = call(who, web->address);
	bool ok;

	assert_int_equal(get(c, "/"), 200);
	ok = *header(c, "x-instance-id") != 0;
	hang_up(c);
	return ok;
}

/* The trials take their time, and may say that connections here do not skip TCP. */
static void wait_for_splice(void)
{
	uint64_t until = mono_ms() + 5000;

	while (mono_ms() < until &&
	       metric("mesh_splice_connections_total", "group=\"enrolled\"", NULL) < 1)
		close(caller_dial(who, raw->address));
}

static bool has_ended(pid_t pid)
{
	char path[64], state = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	if (f && fscanf(f, "%*d %*s %c", &state) != 1)
		state = 0;
	if (f)
		fclose(f);
	return !state || state == 'Z';
}

static void nothing_is_left(void)
{
	assert_string_equal(sh("ls -d /sys/fs/bpf/sockmesh*")->out, "");
	assert_string_equal(sh("ss -H -l -t -n | grep -E ':15001|:8080|:15020'")->out, "");
	assert_string_equal(sh("bpftool cgroup tree /sys/fs/cgroup | grep mesh_")->out, "");
	assert_string_equal(sh("getfattr -R -n user.sockmesh /sys/fs/cgroup 2>/dev/null")->out, "");
}

static void live_connections_lose_no_byte(void **state)
{
	struct transfer t[2];
	pid_t pid;

	open_both();
	eventually(2000, captured());
	wait_for_splice();
	t[0] = begin(web);
	t[1] = begin(raw);
	for (int i = 0; i < 2; i++)
		go_on(&t[i], 1 << 20);
	agent_orphan();
	pid = spawn("remove", "exec mesh-agent --remove");
	eventually(5000, !captured());
	go_on(&t[0], LEN);
	go_on(&t[1], LEN / 2);
	assert_false(has_ended(pid)); /* callers that keep their connections are waited for */
	close(t[0].fd);
	eventually(10000, has_ended(pid));
	assert_int_equal(reap(&pid, 0), 0);
	printf("%s", sh("cat " SCRATCH "/remove.log")->out);
	assert_non_null(strstr(sh("cat " SCRATCH "/remove.log")->out, "removed:"));
	nothing_is_left();
	assert_false(captured());
	go_on(&t[1], LEN); /* what was sent past TCP, and is still unread, too */
	close(t[1].fd);
	agent_start("");
	eventually(5000, captured());
}

/* Workers and all: only the kernel still has something. */
static void what_died_altogether_is_removed(void **state)
{
	struct output *o;

	open_both();
	eventually(2000, captured());
	agent_stop(SIGKILL);
	workers_kill();
	assert_false(captured());
	o = sh("mesh-agent --remove");
	assert_int_equal(o->status, 0);
	nothing_is_left();
	assert_false(captured());
	o = sh("mesh-agent --remove");
	assert_int_equal(o->status, 0);
	assert_non_null(strstr(o->err, "nothing of the mesh"));
	agent_start("");
	eventually(5000, captured());
}

static void an_agent_that_runs_is_not_removed(void **state)
{
	struct output *o;

	open_both();
	eventually(2000, captured());
	o = sh("mesh-agent --remove");
	assert_int_equal(o->status, 1);
	assert_non_null(strstr(o->err, "stop it"));
	for (int i = 0; i < 10; i++)
		assert_true(captured());
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(live_connections_lose_no_byte),
		STORY(what_died_altogether_is_removed),
		STORY(an_agent_that_runs_is_not_removed),
	};

	return RUN(stories);
}
