/* SPDX-License-Identifier: Apache-2.0 */
/* From the registry's names and configuration to the block that workers map (snapshot.h). */
#ifndef AGENT_CONTROL_COMPILE_H
#define AGENT_CONTROL_COMPILE_H

#include "agent/registry/registry.h"

struct snapshot_input {
	const struct registry *registry;
	const char *gateway_default; /* name, or NULL */
	uint64_t generation, revision;
};

/* A sealed memfd (the caller's) with *size bytes, checked. Returns the descriptor or -errno:
 * -E2BIG above SNAPSHOT_MAX. */
int snapshot_compile(const struct snapshot_input *in, uint64_t *size);

#endif
