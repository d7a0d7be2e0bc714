/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a service's connections skip TCP, as its agents say it: lines of `describe service`. */
#ifndef CTL_MESHCTL_GAIN_H
#define CTL_MESHCTL_GAIN_H

#include <cjson/cJSON.h>

/* agents: the answer of GET /api/agents, or NULL. Prints a line for each agent and port that has
 * had a connection of the service, and nothing when there was none. */
void gain_print(const cJSON *agents, const char *service);
/* The same as a list of objects, {"node",...as the agent says it}; the caller deletes it. NULL
 * without memory. */
cJSON *gain_json(const cJSON *agents, const char *service);

#endif
