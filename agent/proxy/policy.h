/* SPDX-License-Identifier: Apache-2.0 */
/* What the configuration in force says of a service. Read anew each time: a snapshot may be
 * replaced while an exchange runs. */
#ifndef PROXY_POLICY_H
#define PROXY_POLICY_H

#include "agent/proxy/proxy.h"

/* Breaker, budget and bulkhead of a service; of one that the configuration does not mention, as
 * service_config_init has them. Valid until the next message from the supervisor is read. */
const struct snap_service *policy_of(const struct proxy *p, uint32_t service);

#endif
