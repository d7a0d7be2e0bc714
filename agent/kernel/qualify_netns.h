/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network namespaces for trials: two of their own, with all that struct trial_env promises. They
 * have no name and go with the process (and the descriptors), however it ends. Called by
 * qualify_sandbox.c in its child, and by the tests of the trials.
 */
#ifndef AGENT_KERNEL_QUALIFY_NETNS_H
#define AGENT_KERNEL_QUALIFY_NETNS_H

#include "agent/kernel/trials.h"

/* Moves the calling process into a new network namespace, makes a second one, and fills
 * env->netns and env->veth. 0 or -errno; env->netns[1] stays -1 and veth false where only that
 * cannot be had. The descriptors are the caller's. */
int qualify_netns(struct trial_env *env);

#endif
