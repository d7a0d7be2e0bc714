/* SPDX-License-Identifier: Apache-2.0 */
/* A worker process: what `mesh-agent worker` runs. Started by the supervisor only, see ipc.h. */
#ifndef AGENT_WORKER_H
#define AGENT_WORKER_H

/* Takes over descriptor IPC_FD, proxies until told to drain, by this supervisor or by one that
 * comes after it (rendezvous.h). Returns an exit code. */
int worker_main(void);

#endif
