/* SPDX-License-Identifier: Apache-2.0 */
/* Listening sockets, made by the supervisor in the namespaces of workloads and handed to every
 * worker, and what accept() yields. On a capture listener only captured connections are served:
 * one without an entry in origdst is reset. */
#ifndef PROXY_LISTENER_H
#define PROXY_LISTENER_H

#include "agent/proxy/proxy.h"

/* Takes fd over. role: enum ipc_listener_role. 0 or -errno. */
int listener_add(struct proxy *p, int fd, uint32_t id, uint32_t role, uint64_t netns);
void listener_remove(struct proxy *p, uint32_t id);
/* Accepts what waits, then closes them all: a close with connections in the queue would reset
 * those. */
void listener_drain(struct proxy *p);
/* Accepts what waits unnoticed: a connection wakes one worker, which may be one that was just being
 * killed. Whoever replaces it looks, by adding the listeners; this is for when nobody does. */
void listener_look(struct proxy *p);
/* Their descriptors from number `from` on, with IPC_HOLDS_GATEWAY, at most max. How many. */
uint32_t listener_list(const struct proxy *p, uint32_t from, uint32_t *fds, uint32_t max);
/* Accepts nothing for so long: a worker that has no clients yet. */
void listener_wait(struct proxy *p, uint32_t ms);
/* A client has gone: accepts again if that was paused. */
void listener_resume(struct proxy *p);

#endif
