/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing the records that workers and the kernel read from shared memory while we write them
 * (mesh/seq.h). The supervisor alone writes. A reader that meets a half written record takes it as
 * absent, and half written it stays for as long as the writer is kept from the CPU: so what would
 * say the same is left alone, as almost all is that an agent finds when it takes over.
 */
#ifndef AGENT_RECORDS_H
#define AGENT_RECORDS_H

#include <mesh/abi.h>

#include <stdbool.h>

/* src's seq is not looked at. */
void records_put_upstream(struct mesh_upstream *dst, const struct mesh_upstream *src);

/* The flags are one word that the kernel changes at any moment (mesh/alive.h), and need no more
 * than that here. fresh: nobody stands on it yet, whatever the word says. */
void records_put_endpoint(struct mesh_endpoint *dst, const struct mesh_endpoint *src, bool fresh);

/* `flags` of a record becomes what fn makes of it and `image`. */
void records_change_flags(__u32 *flags, __u32 (*fn)(__u32 old, __u32 image), __u32 image);

#endif
