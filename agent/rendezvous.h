/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a worker can be met by a supervisor that did not start it: a unix socket each in
 * RUN_DIR/workers, which only root can enter. The supervisor makes it, the worker listens on it
 * before it gives up its privileges, and takes who comes for its supervisor from then on; what they
 * say is in ipc.h. A worker passes no descriptor: the supervisor takes what it is told of by
 * pidfd_getfd(), and judges it itself.
 */
#ifndef AGENT_RENDEZVOUS_H
#define AGENT_RENDEZVOUS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define RENDEZVOUS_DIR	    "workers"
#define RENDEZVOUS_NAME_MAX 32

/* --- supervisor; each returns a descriptor (close-on-exec, the caller's), 0, or -errno --- */

/* RUN_DIR/workers, made if it is not there. -EPERM: somebody else's. */
int rendezvous_open(const char *run_dir);
/* A name that no other worker has or had. */
void rendezvous_name(uint64_t instance, char out[RENDEZVOUS_NAME_MAX]);
/* A socket under that name, for IPC_FD_RENDEZVOUS. Not connectable before the worker listens. */
int rendezvous_bind(int dir, const char *name);
void rendezvous_remove(int dir, const char *name);
/* Removes the sockets of workers that have ended, and the directory when none is left. Whoever
 * calls has the lock of run_dir: he is the supervisor of those who live. */
void rendezvous_sweep(const char *run_dir);
/* Calls on a worker: a connected socket, to hear IPC_HELLO from, and a pidfd of it. -ECONNREFUSED:
 * it does not run any more. */
int rendezvous_dial(int dir, const char *name, int *pidfd);
/* A copy of descriptor `fd` of that process. */
int rendezvous_take(int pidfd, int fd);

/* --- worker --- */

/* Before privileges go, as the kernel notes who it is that listens. 0 or -errno. */
int rendezvous_listen(int fd);
/* The next who called and is `uid`; -EAGAIN when there is none. Others are turned away. */
int rendezvous_accept(int fd, uid_t uid);

#endif
