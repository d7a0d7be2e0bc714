/* SPDX-License-Identifier: Apache-2.0 */
/* What a worker can still do behind its filter, and what ends it. Each case runs in a child. */
#include "agent/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <netinet/in.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static pid_t parent;

/* The sanitizer does more at _exit() than the filter lets pass. */
static void leave(int status)
{
	syscall(SYS_exit_group, status);
}

static void give_up(void)
{
	raise(SIGABRT);
}

/* How a child ends that does this behind the filter: its wait status. */
static int behind_filter(void (*what)(void))
{
	static const struct rlimit no_core;
	int status;
	pid_t pid;

	parent = getpid();
	pid = fork();
	if (!pid) {
		setrlimit(RLIMIT_CORE, &no_core);
		signal(SIGABRT, SIG_DFL);
		if (sandbox_filter())
			leave(99);
		what();
		leave(0);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void tcp_socket(void)
{
	if (socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0) < 0 ||
	    socket(AF_INET6, SOCK_STREAM, 0) < 0)
		leave(1);
}

static void yield(void)
{
	sched_yield();
}

static void memory(void)
{
	void *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || munmap(p, 1 << 20))
		leave(1);
}

static void look_up(void)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.map_fd = (uint32_t)-1;
	if (syscall(SYS_bpf, BPF_MAP_LOOKUP_ELEM, &attr, sizeof(attr)) != -1)
		leave(1);
}

static void open_file(void)
{
	open("/dev/null", O_RDONLY);
}

static void unix_socket(void)
{
	socket(AF_UNIX, SOCK_STREAM, 0);
}

static void raw_socket(void)
{
	socket(AF_INET, SOCK_RAW, IPPROTO_TCP);
}

static void datagram_socket(void)
{
	socket(AF_INET, SOCK_DGRAM, 0);
}

static void other_protocol(void)
{
	socket(AF_INET, SOCK_STREAM, IPPROTO_SCTP);
}

static void executable_memory(void)
{
	mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void writable_mapping(void)
{
	mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, 0, 0);
}

static void protection(void)
{
	mprotect((void *)((uintptr_t)&protection & ~4095ul), 4096, PROT_READ);
}

static void map_update(void)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	syscall(SYS_bpf, BPF_MAP_UPDATE_ELEM, &attr, sizeof(attr));
}

static void signal_to_another(void)
{
	syscall(SYS_tgkill, parent, parent, 0);
}

static void passing_descriptors(void)
{
	struct msghdr h = {0};

	sendmsg(0, &h, 0);
}

static void program(void)
{
	execl("/bin/true", "true", (char *)NULL);
}

static void what_a_worker_needs_is_allowed(void **state)
{
	(void)state;
	assert_int_equal(behind_filter(tcp_socket), 0);
	assert_int_equal(behind_filter(memory), 0);
	assert_int_equal(behind_filter(yield), 0);
	assert_int_equal(behind_filter(look_up), 0);
	assert_int_equal(WTERMSIG(behind_filter(give_up)), SIGABRT);
}

static void everything_else_ends_it(void **state)
{
	void (*const cases[])(void) = {
		open_file,	unix_socket,	   raw_socket,	     datagram_socket,
		other_protocol, executable_memory, writable_mapping, protection,
		map_update,	signal_to_another, program,	     passing_descriptors,
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int status = behind_filter(cases[i]);

		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
			fail_msg("case %zu: status %#x", i, (unsigned)status);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_a_worker_needs_is_allowed),
		cmocka_unit_test(everything_else_ends_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
