/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of supervisor_workers.h share. Included by nobody else. */
#ifndef AGENT_SUPERVISOR_WORKERS_IMPL_H
#define AGENT_SUPERVISOR_WORKERS_IMPL_H

#include "agent/supervisor_workers.h"

#include <stddef.h>

#define container(p, type, field) ((type *)((char *)(p)-offsetof(type, field)))

/* supervisor_workers_talk.c. Whatever cannot be told is queued; a worker whose queue is full is
 * killed. */
void worker_tell(struct worker *w, const struct ipc_msg *msg, const int *fds, size_t nfds);
void worker_tell_init(struct worker *w, int rendezvous);
void worker_tell_listener(struct worker *w, const struct workers_listener *l);
void worker_ipc_event(struct watch *watch, uint32_t events);
void worker_forget_queue(struct worker *w);
void worker_give_up(struct worker *w, const char *why);
void worker_kill(const struct worker *w);

#define WORKERS_RING_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

/* supervisor_workers.c. The end of its process. */
void worker_exited(struct watch *watch, uint32_t events);
/* Maps ring_fd, which is of the right size for good. 0 or -errno. */
int worker_map_ring(struct worker *w);
void worker_unmap_ring(struct worker *w); /* harmless twice */
/* NULL: all are taken. */
struct worker *workers_free_place(struct workers *ws);

#endif
