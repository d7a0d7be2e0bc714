/* SPDX-License-Identifier: Apache-2.0 */
/* See sandbox.h. Called once, by worker.c. */
#include "agent/sandbox.h"

#include <errno.h>
#include <grp.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

static int drop_bounding_set(void)
{
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap) >= 0; cap++)
		if (prctl(PR_CAPBSET_DROP, cap) < 0 && errno != EPERM)
			return -errno;
	return 0;
}

static int drop_capabilities(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {{0}, {0}};

	return syscall(SYS_capset, &head, none) < 0 ? -errno : 0;
}

int sandbox_drop(uid_t uid, gid_t gid)
{
	int r;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	r = drop_bounding_set(); /* while CAP_SETPCAP is still there */
	if (r)
		return r;
	if (uid && (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 ||
		    setresuid(uid, uid, uid) < 0))
		return -errno;
	return drop_capabilities();
}

/* Allowed whatever the arguments. */
static const int allowed[] = {
	SCMP_SYS(epoll_wait),	SCMP_SYS(epoll_pwait),	 SCMP_SYS(epoll_ctl),
	SCMP_SYS(accept4),	SCMP_SYS(connect),	 SCMP_SYS(shutdown),
	SCMP_SYS(getsockopt),	SCMP_SYS(setsockopt),	 SCMP_SYS(getsockname),
	SCMP_SYS(getpeername),	SCMP_SYS(recvfrom),	 SCMP_SYS(recvmsg),
	SCMP_SYS(sendto),	SCMP_SYS(read),		 SCMP_SYS(write),
	SCMP_SYS(readv),	SCMP_SYS(writev),	 SCMP_SYS(close),
	SCMP_SYS(fstat),	SCMP_SYS(newfstatat),	 SCMP_SYS(brk),
	SCMP_SYS(munmap),	SCMP_SYS(mremap),	 SCMP_SYS(madvise),
	SCMP_SYS(futex),	SCMP_SYS(clock_gettime), SCMP_SYS(gettimeofday),
	SCMP_SYS(getrandom),	SCMP_SYS(getpid),	 SCMP_SYS(gettid),
	SCMP_SYS(rt_sigreturn), SCMP_SYS(rt_sigaction),	 SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(exit),		SCMP_SYS(exit_group),	 SCMP_SYS(restart_syscall),
	SCMP_SYS(sched_yield),
};

/* Allowed with some arguments: socket() for TCP only, so that a worker that was taken over opens no
 * packet or netlink socket; mmap() of memory that is not executable, or of a file to read; bpf() to
 * look up; tgkill() of itself, for abort(); timerfd_settime() as the loop does it.
 */
static int allow_narrowed(scmp_filter_ctx ctx)
{
	static const unsigned int families[] = {AF_INET, AF_INET6};
	int r;

	/* no page may become writable or executable that was not: the arrays that steer stay
	 * read-only */
	r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 2,
			     SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0),
			     SCMP_A3(SCMP_CMP_MASKED_EQ, MAP_ANONYMOUS, MAP_ANONYMOUS));
	if (!r) /* a new configuration snapshot */
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
				     SCMP_A2(SCMP_CMP_EQ, PROT_READ));
	for (size_t i = 0; !r && i < sizeof(families) / sizeof(families[0]); i++)
		r = seccomp_rule_add(
			ctx, SCMP_ACT_ALLOW, SCMP_SYS(socket), 3, SCMP_A0(SCMP_CMP_EQ, families[i]),
			SCMP_A1(SCMP_CMP_MASKED_EQ, 0xf, SOCK_STREAM), SCMP_A2(SCMP_CMP_EQ, 0));
	if (!r)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
				     SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
	if (!r)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(bpf), 1,
				     SCMP_A0(SCMP_CMP_EQ, BPF_MAP_LOOKUP_ELEM));
	if (!r)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(timerfd_settime), 1,
				     SCMP_A1(SCMP_CMP_EQ, TFD_TIMER_ABSTIME));
	return r;
}

int sandbox_filter(void)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int r = 0;

	if (!ctx)
		return -ENOMEM;
	for (size_t i = 0; !r && i < sizeof(allowed) / sizeof(allowed[0]); i++)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, allowed[i], 0);
	if (!r)
		r = allow_narrowed(ctx);
	if (!r)
		r = seccomp_load(ctx);
	seccomp_release(ctx);
	return r;
}
