/* SPDX-License-Identifier: Apache-2.0 */
/* See policy.h. */
#include "agent/proxy/policy.h"

const struct snap_service *policy_of(const struct proxy *p, uint32_t service)
{
	const struct snap_service *s = p->snapshot ? snapshot_service(p->snapshot, service) : NULL;

	return s ? s : &snapshot_service_default;
}
