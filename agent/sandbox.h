/* SPDX-License-Identifier: Apache-2.0 */
/* What a worker gives up before the first byte of a stranger: root, capabilities, new privileges,
 * most system calls. */
#ifndef AGENT_SANDBOX_H
#define AGENT_SANDBOX_H

#include <sys/types.h>

/* Becomes uid and gid (0: stays who it is), drops all groups and capabilities, sets no_new_privs. 0
 * or -errno. */
int sandbox_drop(uid_t uid, gid_t gid);

/* Installs the system call filter: what the event loop needs, and of bpf() only
 * BPF_MAP_LOOKUP_ELEM. Anything else ends the process with SIGSYS. 0 or -errno. */
int sandbox_filter(void);

#endif
