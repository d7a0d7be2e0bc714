/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The TCP connections that exist in a network namespace, asked of the kernel in portions, with what
 * our hooks have noted at each socket. For agent/coverage/, which looks for those that no hook has
 * seen. A dump that is open costs a descriptor and keeps the namespace alive.
 */
#ifndef AGENT_KERNEL_CONNECTIONS_H
#define AGENT_KERNEL_CONNECTIONS_H

#include "agent/kernel/kernel.h"

struct kernel_connection {
	uint64_t cgroup;	       /* that the socket was made in; 0: the kernel does not say */
	uint8_t local[16], remote[16]; /* as the socket sees it: a captured one, the worker */
	__be16 local_port, remote_port;
	bool ours;	 /* the hook sent it where it is */
	uint32_t escape; /* why the hook let it pass, enum mesh_coverage_way; MESH_NONE: no note */
};

struct kernel_dump;

/* Begins with the namespace that netns_fd refers to. 0 or -errno; -ENOTRECOVERABLE: the way back to
 * the caller's own namespace failed, the process must end. */
int kernel_dump_begin(struct kernel *k, int netns_fd, struct kernel_dump **out);
/* Delivers one portion (at most 32 KiB of the kernel's answer, some 150 connections): 1: there is
 * more, 0: that was all, or -errno. */
int kernel_dump_next(struct kernel_dump *d,
		     void (*fn)(const struct kernel_connection *c, void *arg), void *arg);
/* NULL inside is harmless. */
void kernel_dump_end(struct kernel_dump **d);
/* Cookie of the namespace. */
uint64_t kernel_dump_netns(const struct kernel_dump *d);

#endif
