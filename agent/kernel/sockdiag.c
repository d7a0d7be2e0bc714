/* SPDX-License-Identifier: Apache-2.0 */
/* See sockdiag.h; the protocol is sock_diag(7). */
#include "agent/kernel/sockdiag.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ANSWER_MAX 32768

struct dump {
	int fd;
	uint64_t netns;
	bool interrupted;
	void (*fn)(uint64_t cookie, const struct mesh_listener *l, void *arg);
	void *arg;
};

static int diag_socket(void)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);

	return fd < 0 ? -errno : fd;
}

/* A socket belongs to the namespace it was made in, so going there and back once is enough. */
int sockdiag_open(int netns_fd)
{
	int home, fd;

	if (netns_fd < 0)
		return diag_socket();
	home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (home < 0)
		return -errno;
	fd = setns(netns_fd, CLONE_NEWNET) < 0 ? -errno : diag_socket();
	if (setns(home, CLONE_NEWNET) < 0) {
		if (fd >= 0)
			close(fd);
		fd = -ENOTRECOVERABLE;
	}
	close(home);
	return fd;
}

static int ask(const struct dump *d, int family)
{
	struct {
		struct nlmsghdr head;
		struct inet_diag_req_v2 req;
	} msg = {
		.head.nlmsg_len = sizeof(msg),
		.head.nlmsg_type = SOCK_DIAG_BY_FAMILY,
		.head.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
		.req.sdiag_family = (__u8)family,
		.req.sdiag_protocol = IPPROTO_TCP,
		.req.idiag_states = 1u << TCP_LISTEN,
	};

	return send(d->fd, &msg, sizeof(msg), 0) < 0 ? -errno : 0;
}

static void read_attributes(const struct rtattr *a, size_t len, struct mesh_listener *l)
{
	for (; RTA_OK(a, len); a = RTA_NEXT(a, len)) {
		if (a->rta_type == INET_DIAG_CGROUP_ID && RTA_PAYLOAD(a) >= sizeof(l->cgroup))
			memcpy(&l->cgroup, RTA_DATA(a), sizeof(l->cgroup));
		else if (a->rta_type == INET_DIAG_SKV6ONLY && RTA_PAYLOAD(a) >= 1)
			l->v6only = *(__u8 *)RTA_DATA(a) != 0;
	}
}

static void deliver(struct dump *d, const struct nlmsghdr *h)
{
	const struct inet_diag_msg *m = NLMSG_DATA(h);
	struct mesh_listener l = {.netns = d->netns, .port = m->id.idiag_sport};
	uint64_t cookie = (uint64_t)m->id.idiag_cookie[1] << 32 | m->id.idiag_cookie[0];

	if (m->idiag_family == AF_INET) {
		l.ip[10] = l.ip[11] = 0xff;
		memcpy(l.ip + 12, m->id.idiag_src, 4);
	} else {
		memcpy(l.ip, m->id.idiag_src, 16);
	}
	read_attributes((const struct rtattr *)(m + 1), h->nlmsg_len - NLMSG_LENGTH(sizeof(*m)),
			&l);
	d->fn(cookie, &l, d->arg);
}

/* A DONE begins with the errno, as an ERROR does: a dump that failed ends like one that found
 * nothing. */
int sockdiag_status(const struct nlmsghdr *h)
{
	int err = h->nlmsg_len >= NLMSG_LENGTH(sizeof(int)) ? *(const int *)NLMSG_DATA(h) : 0;

	return err < 0 ? err : h->nlmsg_type == NLMSG_ERROR ? -EPROTO : 0;
}

/* 1: more to come, 0: done, -errno. */
static int take(struct dump *d, const struct nlmsghdr *h, size_t len)
{
	for (; NLMSG_OK(h, len); h = NLMSG_NEXT(h, len)) {
		if (h->nlmsg_flags & NLM_F_DUMP_INTR)
			d->interrupted = true;
		if (h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR)
			return sockdiag_status(h);
		if (h->nlmsg_type == SOCK_DIAG_BY_FAMILY &&
		    h->nlmsg_len >= NLMSG_LENGTH(sizeof(struct inet_diag_msg)))
			deliver(d, h);
	}
	return 1;
}

static int dump_family(struct dump *d, int family)
{
	char buf[ANSWER_MAX] __attribute__((aligned(8)));
	int r = ask(d, family);

	if (r)
		return r;
	do {
		ssize_t n = recv(d->fd, buf, sizeof(buf), 0);

		if (n < 0 && errno == EINTR)
			r = 1;
		else
			r = n < 0 ? -errno : take(d, (struct nlmsghdr *)buf, (size_t)n);
	} while (r > 0);
	return r;
}

int sockdiag_listeners(int netns_fd,
		       void (*fn)(uint64_t cookie, const struct mesh_listener *l, void *arg),
		       void *arg)
{
	struct dump d = {.fd = sockdiag_open(netns_fd), .fn = fn, .arg = arg};
	socklen_t len = sizeof(d.netns);
	int r = 0;

	if (d.fd < 0)
		return d.fd;
	if (getsockopt(d.fd, SOL_SOCKET, SO_NETNS_COOKIE, &d.netns, &len) < 0)
		r = -errno;
	if (!r)
		r = dump_family(&d, AF_INET);
	if (!r)
		r = dump_family(&d, AF_INET6);
	close(d.fd);
	return r ? r : d.interrupted ? -EINTR : 0;
}

static bool is_v4(const uint8_t ip[16])
{
	static const uint8_t prefix[12] = {[10] = 0xff, [11] = 0xff};

	return !memcmp(ip, prefix, sizeof(prefix));
}

/* As the kernel has it: an IPv6 socket with IPv4 addresses is found as IPv6 as well. */
static void fill_id(struct inet_diag_sockid *id, const struct sockdiag_socket *s, bool v4)
{
	id->idiag_sport = s->local_port;
	id->idiag_dport = s->remote_port;
	memcpy(id->idiag_src, s->local + (v4 ? 12 : 0), v4 ? 4 : 16);
	memcpy(id->idiag_dst, s->remote + (v4 ? 12 : 0), v4 ? 4 : 16);
	id->idiag_cookie[0] = (__u32)s->cookie;
	id->idiag_cookie[1] = (__u32)(s->cookie >> 32);
}

int sockdiag_destroy(int netns_fd, const struct sockdiag_socket *s)
{
	bool v4 = is_v4(s->remote);
	struct {
		struct nlmsghdr head;
		struct inet_diag_req_v2 req;
	} msg = {
		.head.nlmsg_len = sizeof(msg),
		.head.nlmsg_type = SOCK_DESTROY,
		.head.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK,
		.req.sdiag_family = v4 ? AF_INET : AF_INET6,
		.req.sdiag_protocol = IPPROTO_TCP,
		.req.idiag_states = ~0u,
	};
	struct {
		struct nlmsghdr head;
		struct nlmsgerr error;
		char rest[256];
	} answer = {.error.error = -EPROTO};
	int fd = sockdiag_open(netns_fd), r = 0;

	if (fd < 0)
		return fd;
	fill_id(&msg.req.id, s, v4);
	if (send(fd, &msg, sizeof(msg), 0) < 0 || recv(fd, &answer, sizeof(answer), 0) < 0)
		r = -errno;
	close(fd);
	return r ? r : answer.error.error;
}
