/* SPDX-License-Identifier: Apache-2.0 */
/* See ipc.h. Used by both ends; knows nothing of what the messages mean. */
#include "agent/ipc.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

union control {
	struct cmsghdr align;
	char space[CMSG_SPACE(sizeof(int) * IPC_MAX_FDS)];
};

int ipc_send(int fd, const struct ipc_msg *msg, const int *fds, size_t nfds)
{
	struct iovec iov = {.iov_base = (void *)msg, .iov_len = sizeof(*msg)};
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};
	union control c;

	if (nfds > IPC_MAX_FDS)
		return -EINVAL;
	if (nfds) {
		struct cmsghdr *cm;

		memset(&c, 0, sizeof(c));
		h.msg_control = c.space;
		h.msg_controllen = CMSG_SPACE(sizeof(int) * nfds);
		cm = CMSG_FIRSTHDR(&h);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(sizeof(int) * nfds);
		memcpy(CMSG_DATA(cm), fds, sizeof(int) * nfds);
	}
	for (;;) {
		ssize_t n;

		/* a worker may not use sendmsg, and passes no descriptors */
		if (nfds)
			n = sendmsg(fd, &h, MSG_DONTWAIT | MSG_NOSIGNAL);
		else
			n = send(fd, msg, sizeof(*msg), MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n >= 0)
			return 0;
		if (errno == EINTR)
			continue;
		return errno == ECONNRESET || errno == ENOTCONN ? -EPIPE : -errno;
	}
}

static void close_all(const int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		close(fds[i]);
}

/* The kernel never delivers more than fits into the control buffer, so IPC_MAX_FDS bounds *nfds. */
static size_t take_fds(struct msghdr *h, int *fds)
{
	size_t n = 0;

	for (struct cmsghdr *cm = CMSG_FIRSTHDR(h); cm; cm = CMSG_NXTHDR(h, cm)) {
		size_t here;

		if (cm->cmsg_level != SOL_SOCKET || cm->cmsg_type != SCM_RIGHTS)
			continue;
		here = (cm->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		if (here > IPC_MAX_FDS - n)
			here = IPC_MAX_FDS - n;
		memcpy(fds + n, CMSG_DATA(cm), here * sizeof(int));
		n += here;
	}
	return n;
}

int ipc_recv(int fd, struct ipc_msg *msg, int *fds, size_t *nfds)
{
	struct ipc_msg in;
	struct iovec iov = {.iov_base = &in, .iov_len = sizeof(in)};
	union control c;
	struct msghdr h = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = c.space,
			   .msg_controllen = sizeof(c.space)};
	ssize_t n;
	size_t got;

	/* a reset, by a peer that ended without reading all, is told once and before what it said
	 * last: the end itself comes behind that */
	do
		n = recvmsg(fd, &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && (errno == EINTR || errno == ECONNRESET));
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return 0;
	if (n < 0)
		return -errno;
	if (!n)
		return -EPIPE;
	got = take_fds(&h, fds);
	if (n != sizeof(in) || (h.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
		close_all(fds, got);
		return n == sizeof(in) && !(h.msg_flags & MSG_TRUNC) ? -EMFILE : -EPROTO;
	}
	*msg = in;
	*nfds = got;
	return 1;
}
