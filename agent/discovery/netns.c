/* SPDX-License-Identifier: Apache-2.0 */
/* See netns.h. */
#include "agent/discovery/netns.h"

#include "lib/addr.h"
#include "lib/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/nsfs.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif
#define LISTEN_BACKLOG 4096

/* --- inside another namespace: only system calls that make and set up sockets --- */

static int enter(const struct netns *ns)
{
	return setns(ns->fd, CLONE_NEWNET) < 0 ? -errno : 0;
}

static void leave(const struct netns_table *t)
{
	if (setns(t->own_fd, CLONE_NEWNET) == 0)
		return;
	log_error("cannot return to the own network namespace: %s", strerror(errno));
	abort();
}

static int close_error(int fd)
{
	int err = -errno;

	close(fd);
	return err;
}

static int route_open(void)
{
	struct sockaddr_nl sa = {.nl_family = AF_NETLINK,
				 .nl_groups = RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);

	if (fd < 0)
		return -errno;
	return bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ? close_error(fd) : fd;
}

static int listen_on(bool v6, uint16_t port)
{
	struct sockaddr_in6 sa6 = {
		.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = in6addr_loopback};
	struct sockaddr_in sa4 = {.sin_family = AF_INET, .sin_port = htons(port)};
	int one = 1,
	    fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	sa4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    (v6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)) < 0) ||
	    bind(fd, v6 ? (struct sockaddr *)&sa6 : (struct sockaddr *)&sa4,
		 v6 ? sizeof(sa6) : sizeof(sa4)) < 0 ||
	    listen(fd, LISTEN_BACKLOG) < 0)
		return close_error(fd);
	return fd;
}

static int cookie_of(int fd, int option, uint64_t *cookie)
{
	socklen_t len = sizeof(*cookie);

	return getsockopt(fd, SOL_SOCKET, option, cookie, &len) < 0 ? -errno : 0;
}

static int read_cookie(uint64_t *cookie)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), err;

	if (fd < 0)
		return -errno;
	err = cookie_of(fd, SO_NETNS_COOKIE, cookie);
	close(fd);
	return err;
}

int netns_own_cookie(uint64_t *cookie)
{
	return read_cookie(cookie);
}

/* --- the table --- */

/* What changed is not read from the messages: the table is read anew. */
static void skip_notices(int route)
{
	char buf[8192];
	ssize_t n;

	do
		n = recv(route, buf, sizeof(buf), MSG_DONTWAIT);
	while (n > 0 || (n < 0 && (errno == EINTR || errno == ENOBUFS)));
}

static void own_route_readable(struct watch *w, uint32_t events)
{
	struct netns_table *t =
		(struct netns_table *)((char *)w - offsetof(struct netns_table, own_watch));

	skip_notices(t->own_route);
	t->addresses(t->arg, NULL);
}

static int find_user_namespace(struct netns_table *t)
{
	struct stat st;

	if (stat("/proc/self/ns/user", &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	t->user_dev = st.st_dev;
	t->user_ino = st.st_ino;
	return 0;
}

int netns_init(struct netns_table *t)
{
	int err;

	t->own_route = t->own_watch.fd = -1;
	t->own_fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (t->own_fd < 0)
		return -errno;
	err = netns_own_cookie(&t->own_cookie);
	if (!err)
		err = find_user_namespace(t);
	if (err)
		return err;
	t->own_route = route_open();
	if (t->own_route < 0)
		return t->own_route;
	return loop_add(t->loop, &t->own_watch, t->own_route, EPOLLIN, own_route_readable);
}

static void unref(struct netns *ns)
{
	struct netns **p = &ns->table->list;

	while (*p != ns)
		p = &(*p)->next;
	*p = ns->next;
	ns->table->count--;
}

static void close_listeners(struct netns *ns)
{
	if (ns->listener[0].fd >= 0 || ns->listener[1].fd >= 0)
		ns->table->listening(ns->table->arg, ns, false);
	for (int i = 0; i < 2; i++) {
		if (ns->listener[i].fd >= 0)
			close(ns->listener[i].fd);
		ns->listener[i].fd = -1;
		ns->listener[i].cookie = 0;
		ns->listener[i].told = false;
	}
}

static void destroy(struct netns *ns)
{
	close_listeners(ns);
	loop_del(ns->table->loop, &ns->watch);
	if (ns->route >= 0)
		close(ns->route);
	close(ns->fd);
	free(ns);
}

void netns_done(struct netns_table *t)
{
	while (t->list) {
		struct netns *ns = t->list;

		unref(ns);
		destroy(ns);
	}
	loop_del(t->loop, &t->own_watch);
	if (t->own_route >= 0)
		close(t->own_route);
	if (t->own_fd >= 0)
		close(t->own_fd);
	t->own_fd = t->own_route = -1;
}

static int open_sockets(struct netns *ns)
{
	int err = enter(ns);

	if (err)
		return err;
	err = read_cookie(&ns->cookie);
	ns->route = route_open();
	leave(ns->table);
	return err ? err : ns->route < 0 ? ns->route : 0;
}

static void route_readable(struct watch *w, uint32_t events)
{
	struct netns *ns = (struct netns *)((char *)w - offsetof(struct netns, watch));

	skip_notices(ns->route);
	ns->table->addresses(ns->table->arg, ns);
	netns_listen(ns);
}

static int ns_open(struct netns_table *t, int fd, const struct stat *st, struct netns **out)
{
	struct netns *ns;
	int err;

	if (t->count >= MESH_MAX_NETNS)
		return -ENOSPC;
	ns = calloc(1, sizeof(*ns));
	if (!ns)
		return -ENOMEM;
	*ns = (struct netns){.table = t,
			     .fd = fd,
			     .dev = st->st_dev,
			     .ino = st->st_ino,
			     .refs = 1,
			     .route = -1,
			     .watch = {.fd = -1},
			     .listener = {{.fd = -1}, {.fd = -1}}};
	err = open_sockets(ns);
	if (!err)
		err = loop_add(t->loop, &ns->watch, ns->route, EPOLLIN, route_readable);
	if (err) {
		ns->fd = dup(fd); /* fd itself stays the caller's on failure */
		destroy(ns);
		return err;
	}
	ns->next = t->list;
	t->list = ns;
	t->count++;
	*out = ns;
	return 0;
}

/* A user namespace that is not below ours is not shown to us: EPERM. */
static int check_owner(const struct netns_table *t, int fd)
{
	struct stat st;
	int user, err;

	if (!t->user_ino)
		return 0;
	user = ioctl(fd, NS_GET_USERNS);
	if (user < 0)
		return -errno;
	err = fstat(user, &st) < 0 ? -errno : 0;
	close(user);
	return err ? err : st.st_ino == t->user_ino && st.st_dev == t->user_dev ? 0 : -EPERM;
}

static int ns_path(int pid, char out[64])
{
	return snprintf(out, 64, "/proc/%d/ns/net", pid);
}

int netns_get(struct netns_table *t, int pid, struct netns **out)
{
	char path[64];
	struct stat st;
	int fd, err;

	ns_path(pid, path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return close_error(fd);
	for (struct netns *ns = t->list; ns; ns = ns->next)
		if (ns->ino == st.st_ino && ns->dev == st.st_dev) {
			close(fd);
			ns->refs++;
			*out = ns;
			return 0;
		}
	err = check_owner(t, fd);
	if (!err)
		err = ns_open(t, fd, &st, out);
	if (err)
		close(fd);
	return err;
}

void netns_put(struct netns *ns)
{
	if (--ns->refs)
		return;
	unref(ns);
	destroy(ns);
}

bool netns_is(const struct netns *ns, int pid)
{
	char path[64];
	struct stat st;

	ns_path(pid, path);
	return !stat(path, &st) && st.st_ino == ns->ino && st.st_dev == ns->dev;
}

struct netns *netns_by_cookie(struct netns_table *t, uint64_t cookie)
{
	struct netns *ns = t->list;

	while (ns && ns->cookie != cookie)
		ns = ns->next;
	return ns;
}

static void say_port_taken(struct netns *ns)
{
	if (!ns->said_so)
		log_warn("port %u on loopback is taken in the network namespace %s: its calls are "
			 "not captured; "
			 "free the port or choose another --listener-port",
			 ns->table->port, ns->owner);
	ns->said_so = true;
}

static int inherit(struct netns *ns, bool v6)
{
	struct netns_table *t = ns->table;

	return t->inherited ? t->inherited(t->arg, ns->cookie, v6 ? AF_INET6 : AF_INET) : -1;
}

void netns_listen(struct netns *ns)
{
	bool came = false;
	int err[2] = {0, 0};

	if (ns->listener[0].fd >= 0 && ns->listener[1].fd >= 0)
		return;
	if (enter(ns))
		return;
	for (int i = 0; i < 2; i++) {
		int fd;

		if (ns->listener[i].fd >= 0)
			continue;
		fd = inherit(ns, i == 1);
		if (fd < 0)
			fd = listen_on(i == 1, ns->table->port);
		if (fd < 0) {
			err[i] = fd;
			continue;
		}
		ns->listener[i].fd = fd;
		ns->listener[i].id = ++ns->table->next_listener;
		err[i] = cookie_of(fd, SO_COOKIE, &ns->listener[i].cookie);
		came = true;
	}
	leave(ns->table);
	ns->port_taken = err[0] == -EADDRINUSE || err[1] == -EADDRINUSE;
	if (ns->port_taken)
		say_port_taken(ns);
	if (came)
		ns->table->listening(ns->table->arg, ns, true);
}

int netns_socket(struct netns *ns, int family)
{
	int err, fd;

	if (family != AF_INET && family != AF_INET6)
		return -EAFNOSUPPORT;
	err = enter(ns);
	if (err)
		return err;
	fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		fd = -errno;
	leave(ns->table);
	return fd;
}

/* --- addresses --- */

static bool wanted(const uint8_t ip[16])
{
	static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

	if (!memcmp(ip, mapped, 12))
		return true;
	/* a link-local address is nothing without its interface */
	return ip[0] != 0xfe || (ip[1] & 0xc0) != 0x80;
}

/* IFA_LOCAL is our own end where there is a peer; IPv6 has IFA_ADDRESS alone. */
static bool address_from(const struct nlmsghdr *h, uint8_t out[16])
{
	const struct ifaddrmsg *m = NLMSG_DATA(h);
	const struct rtattr *a = IFA_RTA(m);
	int len = (int)IFA_PAYLOAD(h);
	bool found = false;

	memset(out, 0, 16);
	for (; RTA_OK(a, len); a = RTA_NEXT(a, len)) {
		if (a->rta_type != IFA_LOCAL && (a->rta_type != IFA_ADDRESS || found))
			continue;
		if (m->ifa_family == AF_INET && RTA_PAYLOAD(a) == 4) {
			memset(out + 10, 0xff, 2);
			memcpy(out + 12, RTA_DATA(a), 4);
			found = true;
		} else if (m->ifa_family == AF_INET6 && RTA_PAYLOAD(a) == 16) {
			memcpy(out, RTA_DATA(a), 16);
			found = true;
		}
	}
	return found && wanted(out);
}

struct dump {
	uint8_t (*out)[16];
	int max, n, outside;
	bool own;
};

/* Addresses of the loopback interface (always the first one) go last: others reach us better by
 * those of a real one. */
static void take_address(struct dump *d, const struct nlmsghdr *h)
{
	const struct ifaddrmsg *m = NLMSG_DATA(h);
	uint8_t ip[16];

	if (d->n == d->max || !address_from(h, ip))
		return;
	if (m->ifa_index != 1) {
		memmove(d->out[d->outside + 1], d->out[d->outside],
			(size_t)(d->n++ - d->outside) * 16);
		memcpy(d->out[d->outside++], ip, 16);
	} else if (d->own || addr_is_loopback(ip)) {
		memcpy(d->out[d->n++], ip, 16);
	}
}

static int dump_addresses(int fd, struct dump *d)
{
	struct {
		struct nlmsghdr h;
		struct ifaddrmsg m;
	} req = {.h = {.nlmsg_len = sizeof(req),
		       .nlmsg_type = RTM_GETADDR,
		       .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP}};
	_Alignas(struct nlmsghdr) char buf[16384];

	if (send(fd, &req, sizeof(req), 0) < 0)
		return -errno;
	for (;;) {
		ssize_t got = recv(fd, buf, sizeof(buf), 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		for (struct nlmsghdr *h = (void *)buf; NLMSG_OK(h, got); h = NLMSG_NEXT(h, got)) {
			if (h->nlmsg_type == NLMSG_DONE)
				return d->n;
			if (h->nlmsg_type == NLMSG_ERROR)
				return -EIO;
			if (h->nlmsg_type == RTM_NEWADDR)
				take_address(d, h);
		}
	}
}

/* A socket of its own for the dump, as notices may lie in the other one. */
int netns_addresses(struct netns_table *t, struct netns *ns, uint8_t (*out)[16], int max)
{
	struct dump d = {.out = out, .max = max, .own = !ns || ns->cookie == t->own_cookie};
	int err = ns ? enter(ns) : 0, fd;

	if (err)
		return err;
	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (fd < 0)
		fd = -errno;
	if (ns)
		leave(t);
	if (fd < 0)
		return fd;
	err = dump_addresses(fd, &d);
	close(fd);
	return err;
}
