/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sockets that listen now, asked of the kernel: what events cannot tell because it is older
 * than the agent or was lost. Called by discovery at start-up and when it reconciles. Blocks for
 * the time of one dump.
 */
#ifndef AGENT_KERNEL_SOCKDIAG_H
#define AGENT_KERNEL_SOCKDIAG_H

#include <mesh/abi.h>
#include <stdint.h>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

struct nlmsghdr;

/*
 * Calls fn for each TCP socket, IPv4 and IPv6, that listens in the network namespace netns_fd
 * refers to (-1: the caller's own). *l is complete, the namespace's cookie included, and fit for
 * kernel_listener_add(); its cgroup is the socket's own, to be matched by id through the ancestors.
 * fn is called while the caller is back in its own namespace.
 *
 * 0 or -errno. -EINTR: the table changed during the dump, what was delivered is true but maybe not
 * complete; ask again. -ENOENT: this kernel cannot tell (no tcp_diag). -ENOTRECOVERABLE: the way
 * back to the caller's own namespace failed; the process must end.
 */
int sockdiag_listeners(int netns_fd,
		       void (*fn)(uint64_t cookie, const struct mesh_listener *l, void *arg),
		       void *arg);

/* For connections.c. A socket to ask with, in the namespace netns_fd refers to (-1: the caller's
 * own): a descriptor, or -errno as above. */
int sockdiag_open(int netns_fd);
/* Of a message that ends a dump: 0 or -errno. */
int sockdiag_status(const struct nlmsghdr *h);

/*
 * Ends a TCP connection: its program gets ECONNABORTED, the peer a reset. Found by both its ends
 * (16 bytes each, network order; ports too) in the namespace netns_fd refers to (-1: the caller's
 * own), and only if it is the socket with that cookie. 0, -ENOENT when it has gone, -EOPNOTSUPP on
 * a kernel without CONFIG_INET_DIAG_DESTROY, -errno.
 */
struct sockdiag_socket {
	uint64_t cookie;
	uint8_t local[16], remote[16];
	__be16 local_port, remote_port;
};
int sockdiag_destroy(int netns_fd, const struct sockdiag_socket *s);

#endif
