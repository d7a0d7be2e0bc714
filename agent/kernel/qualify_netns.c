/* SPDX-License-Identifier: Apache-2.0 */
/* See qualify_netns.h. Addresses by ioctl(), which needs no parsing; the veth pair by rtnetlink. */
#include "agent/kernel/qualify_netns.h"
#include "lib/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define VETH_A "trial-a"
#define VETH_B "trial-b"
/* Two ends with the same index would be taken for no pair, and come up only within a second. */
#define VETH_B_INDEX 77
#define CARRIER_NS   60000000ull /* that a veth pair gets to come up */

static int set_address(int s, const char *device, const char *ip)
{
	struct ifreq r = {0};
	struct sockaddr_in *a = (struct sockaddr_in *)&r.ifr_addr;

	snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", device);
	a->sin_family = AF_INET;
	inet_pton(AF_INET, ip, &a->sin_addr);
	if (ioctl(s, SIOCSIFADDR, &r) < 0)
		return -errno;
	inet_pton(AF_INET, "255.255.255.0", &a->sin_addr);
	return ioctl(s, SIOCSIFNETMASK, &r) < 0 ? -errno : 0;
}

static int set_up(int s, const char *device)
{
	struct ifreq r = {.ifr_flags = IFF_UP};

	snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", device);
	return ioctl(s, SIOCSIFFLAGS, &r) < 0 ? -errno : 0;
}

/* A namespace has its own switches. Where one cannot be set a trial takes longer, or its early
 * bytes follow the handshake: nothing that it would fail for. */
static void set_switches(void)
{
	static const char *const switches[][2] = {
		/* client and server, without cookies: 1 + 2 + 4 + 0x200 + 0x400 */
		{"/proc/sys/net/ipv4/tcp_fastopen", "1543"},
		/* less to fill up and to read again; the least and the first size are the usual */
		{"/proc/sys/net/ipv4/tcp_rmem", "4096 131072 1048576"},
		{"/proc/sys/net/ipv4/tcp_wmem", "4096 16384 1048576"},
	};

	for (size_t i = 0; i < sizeof(switches) / sizeof(switches[0]); i++) {
		int fd = open(switches[i][0], O_WRONLY | O_CLOEXEC);

		if (fd < 0)
			continue;
		if (write(fd, switches[i][1], strlen(switches[i][1])) < 0)
			errno = 0;
		close(fd);
	}
}

/* A new namespace, which the process is in from now on. The descriptor, or -errno. */
static int new_netns(void)
{
	int s, fd, err;

	if (unshare(CLONE_NEWNET) < 0)
		return -errno;
	s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (s < 0)
		return -errno;
	err = set_up(s, "lo");
	if (!err)
		err = set_address(s, "lo:1", TRIAL_NET_SAME);
	close(s);
	if (err)
		return err;
	set_switches();
	fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* --- the veth pair --- */

struct request {
	struct nlmsghdr head;
	char rest[256];
};

static void *put(struct request *q, const void *data, size_t len)
{
	void *at = (char *)q + q->head.nlmsg_len;

	memcpy(at, data, len);
	q->head.nlmsg_len += (__u32)NLMSG_ALIGN(len);
	return at;
}

static struct rtattr *begin(struct request *q, unsigned short type)
{
	struct rtattr a = {.rta_len = RTA_LENGTH(0), .rta_type = type};

	return put(q, &a, sizeof(a));
}

static void end(struct request *q, struct rtattr *a)
{
	a->rta_len = (unsigned short)((char *)q + q->head.nlmsg_len - (char *)a);
}

static void attribute(struct request *q, unsigned short type, const void *data, size_t len)
{
	struct rtattr *a = begin(q, type);

	put(q, data, len);
	a->rta_len = (unsigned short)RTA_LENGTH(len);
}

static int ask(const struct request *q)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), err = 0;
	struct {
		struct nlmsghdr head;
		struct nlmsgerr error;
		char rest[512];
	} answer = {.error.error = -EPROTO};

	if (fd < 0)
		return -errno;
	if (send(fd, q, q->head.nlmsg_len, 0) < 0 || recv(fd, &answer, sizeof(answer), 0) < 0)
		err = -errno;
	close(fd);
	return err ? err : answer.error.error;
}

static int make_veth(int peer_netns)
{
	struct request q = {.head = {.nlmsg_len = NLMSG_LENGTH(0),
				     .nlmsg_type = RTM_NEWLINK,
				     .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE}};
	struct rtattr *info, *data, *peer;
	struct ifinfomsg m = {0};

	put(&q, &m, sizeof(m));
	attribute(&q, IFLA_IFNAME, VETH_A, sizeof(VETH_A));
	info = begin(&q, IFLA_LINKINFO);
	attribute(&q, IFLA_INFO_KIND, "veth", 4);
	data = begin(&q, IFLA_INFO_DATA);
	peer = begin(&q, VETH_INFO_PEER);
	m.ifi_index = VETH_B_INDEX;
	put(&q, &m, sizeof(m));
	attribute(&q, IFLA_IFNAME, VETH_B, sizeof(VETH_B));
	attribute(&q, IFLA_NET_NS_FD, &peer_netns, sizeof(peer_netns));
	end(&q, peer);
	end(&q, data);
	end(&q, info);
	return ask(&q);
}

/* A socket for ioctl() in another namespace; the process stays where it was. */
static int socket_in(int netns, int home)
{
	int s;

	if (setns(netns, CLONE_NEWNET) < 0)
		return -errno;
	s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (setns(home, CLONE_NEWNET) < 0) {
		if (s >= 0)
			close(s);
		return -ENOTRECOVERABLE;
	}
	return s < 0 ? -errno : s;
}

/* The end that was up first has to be told of the other; before that, what is sent is dropped, and
 * sent again a second later. */
static bool comes_up(int s, const char *device)
{
	uint64_t until = clock_mono_ns() + CARRIER_NS * trial_patience;
	const struct timespec pause = {.tv_nsec = 200000};
	struct ifreq r = {0};

	snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", device);
	while (ioctl(s, SIOCGIFFLAGS, &r) == 0 && clock_mono_ns() < until) {
		if (r.ifr_flags & IFF_RUNNING)
			return true;
		nanosleep(&pause, NULL);
	}
	return false;
}

static bool join(const int netns[2])
{
	int a = socket_in(netns[0], netns[0]), b = socket_in(netns[1], netns[0]);
	bool ok = a >= 0 && b >= 0 && !make_veth(netns[1]) &&
		  !set_address(a, VETH_A, TRIAL_NET_A) && !set_address(b, VETH_B, TRIAL_NET_B) &&
		  !set_up(a, VETH_A) && !set_up(b, VETH_B) && comes_up(a, VETH_A) &&
		  comes_up(b, VETH_B);

	if (a >= 0)
		close(a);
	if (b >= 0)
		close(b);
	return ok;
}

int qualify_netns(struct trial_env *env)
{
	int second = new_netns(), first = new_netns();

	env->netns[0] = env->netns[1] = -1;
	env->veth = false;
	if (first < 0) {
		if (second >= 0)
			close(second);
		return first;
	}
	env->netns[0] = first;
	if (second < 0)
		return 0;
	env->netns[1] = second;
	env->veth = join(env->netns);
	return 0;
}
