/* SPDX-License-Identifier: Apache-2.0 */
/* See connections.h; the protocol is sock_diag(7), the notes come by INET_DIAG_REQ_SK_BPF_STORAGES.
 */
#include "agent/kernel/connections.h"

#include "agent/kernel/impl.h"
#include "agent/kernel/sockdiag.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ANSWER_MAX 32768
#define NOTES	   2 /* maps that are asked for */

struct kernel_dump {
	int fd;
	bool second; /* family: IPv6 */
	uint64_t netns;
	__u32 id[NOTES]; /* of the maps `sockets` and `escapes` */
	int map[NOTES];
};

static int ask(const struct kernel_dump *d)
{
	struct {
		struct nlmsghdr head;
		struct inet_diag_req_v2 req;
		struct nlattr notes;
		struct {
			struct nlattr attr;
			__u32 fd;
		} note[NOTES];
	} msg = {
		.head.nlmsg_len = sizeof(msg),
		.head.nlmsg_type = SOCK_DIAG_BY_FAMILY,
		.head.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
		.req.sdiag_family = d->second ? AF_INET6 : AF_INET,
		.req.sdiag_protocol = IPPROTO_TCP,
		.req.idiag_states = 1u << TCP_ESTABLISHED,
		.notes = {sizeof(msg.notes) + sizeof(msg.note),
			  INET_DIAG_REQ_SK_BPF_STORAGES | NLA_F_NESTED},
	};

	for (int i = 0; i < NOTES; i++) {
		msg.note[i].attr.nla_len = sizeof(msg.note[i]);
		msg.note[i].attr.nla_type = SK_DIAG_BPF_STORAGE_REQ_MAP_FD;
		msg.note[i].fd = (__u32)d->map[i];
	}
	return send(d->fd, &msg, sizeof(msg), 0) < 0 ? -errno : 0;
}

/* --- one connection --- */

#define each_attribute(a, from, bytes)                                                             \
	for (size_t left_ = (bytes), once_ = 1; once_; once_ = 0)                                  \
		for (const struct rtattr *a = (from); RTA_OK(a, left_); a = RTA_NEXT(a, left_))

static uint32_t word(const struct rtattr *a)
{
	uint32_t v = MESH_NONE;

	if (RTA_PAYLOAD(a) >= sizeof(v))
		memcpy(&v, RTA_DATA(a), sizeof(v));
	return v;
}

static void read_note(const struct kernel_dump *d, const struct rtattr *note,
		      struct kernel_connection *c)
{
	const struct rtattr *value = NULL;
	uint32_t id = MESH_NONE;

	each_attribute(a, RTA_DATA(note), RTA_PAYLOAD(note))
	{
		if (a->rta_type == SK_DIAG_BPF_STORAGE_MAP_ID)
			id = word(a);
		else if (a->rta_type == SK_DIAG_BPF_STORAGE_MAP_VALUE)
			value = a;
	}
	if (!value)
		return;
	if (id == d->id[0])
		c->ours = true;
	else if (id == d->id[1])
		c->escape = word(value);
}

static void read_notes(const struct kernel_dump *d, const struct rtattr *notes,
		       struct kernel_connection *c)
{
	each_attribute(a, RTA_DATA(notes), RTA_PAYLOAD(notes))
	{
		if ((a->rta_type & NLA_TYPE_MASK) == SK_DIAG_BPF_STORAGE)
			read_note(d, a, c);
	}
}

static void read_attributes(const struct kernel_dump *d, const struct rtattr *from, size_t len,
			    struct kernel_connection *c)
{
	each_attribute(a, from, len)
	{
		if (a->rta_type == INET_DIAG_CGROUP_ID && RTA_PAYLOAD(a) >= sizeof(c->cgroup))
			memcpy(&c->cgroup, RTA_DATA(a), sizeof(c->cgroup));
		else if ((a->rta_type & NLA_TYPE_MASK) == INET_DIAG_SK_BPF_STORAGES)
			read_notes(d, a, c);
	}
}

static void address(uint8_t family, const __be32 *from, uint8_t out[16])
{
	if (family == AF_INET) {
		memset(out, 0, 10);
		out[10] = out[11] = 0xff;
		memcpy(out + 12, from, 4);
	} else {
		memcpy(out, from, 16);
	}
}

static void deliver(const struct kernel_dump *d, const struct nlmsghdr *h,
		    void (*fn)(const struct kernel_connection *c, void *arg), void *arg)
{
	const struct inet_diag_msg *m = NLMSG_DATA(h);
	struct kernel_connection c = {.local_port = m->id.idiag_sport,
				      .remote_port = m->id.idiag_dport,
				      .escape = MESH_NONE};

	address(m->idiag_family, m->id.idiag_src, c.local);
	address(m->idiag_family, m->id.idiag_dst, c.remote);
	read_attributes(d, (const struct rtattr *)(m + 1), h->nlmsg_len - NLMSG_LENGTH(sizeof(*m)),
			&c);
	fn(&c, arg);
}

/* --- the dump --- */

/* 1: more to come, 0: this family is done, -errno. */
static int take(const struct kernel_dump *d, const struct nlmsghdr *h, size_t len,
		void (*fn)(const struct kernel_connection *c, void *arg), void *arg)
{
	for (; NLMSG_OK(h, len); h = NLMSG_NEXT(h, len)) {
		if (h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR)
			return sockdiag_status(h);
		if (h->nlmsg_type == SOCK_DIAG_BY_FAMILY &&
		    h->nlmsg_len >= NLMSG_LENGTH(sizeof(struct inet_diag_msg)))
			deliver(d, h, fn, arg);
	}
	return 1;
}

int kernel_dump_next(struct kernel_dump *d,
		     void (*fn)(const struct kernel_connection *c, void *arg), void *arg)
{
	char buf[ANSWER_MAX] __attribute__((aligned(8)));
	ssize_t n = recv(d->fd, buf, sizeof(buf), MSG_DONTWAIT);
	int r = n < 0 ? -errno : take(d, (struct nlmsghdr *)buf, (size_t)n, fn, arg);

	if (r || d->second)
		return r == -EINTR ? 1 : r;
	d->second = true;
	r = ask(d);
	return r ? r : 1;
}

static int map_id(int fd, __u32 *id)
{
	struct bpf_map_info info = {};
	__u32 len = sizeof(info);

	if (bpf_obj_get_info_by_fd(fd, &info, &len) < 0)
		return -errno;
	*id = info.id;
	return 0;
}

int kernel_dump_begin(struct kernel *k, int netns_fd, struct kernel_dump **out)
{
	struct kernel_dump *d = calloc(1, sizeof(*d));
	socklen_t len = sizeof(d->netns);
	int r = d ? 0 : -ENOMEM;

	if (r)
		return r;
	d->map[0] = k->map[KM_SOCKETS];
	d->map[1] = k->map[KM_ESCAPES];
	d->fd = r = sockdiag_open(netns_fd);
	if (r >= 0)
		r = getsockopt(d->fd, SOL_SOCKET, SO_NETNS_COOKIE, &d->netns, &len) < 0 ? -errno
											: 0;
	for (int i = 0; !r && i < NOTES; i++)
		r = map_id(d->map[i], &d->id[i]);
	if (!r)
		r = ask(d);
	if (r)
		kernel_dump_end(&d);
	*out = d;
	return r;
}

void kernel_dump_end(struct kernel_dump **dp)
{
	if (*dp && (*dp)->fd >= 0)
		close((*dp)->fd);
	free(*dp);
	*dp = NULL;
}

uint64_t kernel_dump_netns(const struct kernel_dump *d)
{
	return d->netns;
}
