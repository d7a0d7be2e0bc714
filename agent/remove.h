/* SPDX-License-Identifier: Apache-2.0 */
/* `mesh-agent --remove`: everything of an agent that is gone, its workers and its programs, is
 * taken away without cutting a connection. Called by main.c instead of the supervisor. */
#ifndef AGENT_REMOVE_H
#define AGENT_REMOVE_H

#include "agent/supervisor.h"

/* Says in the log what was done and what remains. The exit code: 1 while an agent runs, or when
 * something could not be removed. */
int remove_run(const struct agent_config *cfg);

#endif
