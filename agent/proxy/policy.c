/* SPDX-License-Identifier: Apache-2.0 */
/* See policy.h. */
#include "agent/proxy/policy.h"

static const struct snap_service unknown = {
	.budget = {.percent_pm = 2000, .per_second = 10},
	.breaker = {.error_pm = 5000,
		    .min_requests = 10,
		    .window_ms = 10000,
		    .open_ms = 30000,
		    .half_open = 1,
		    .consecutive = 5,
		    .max_ejected = 50,
		    .probe_ms = 15000},
	.bulkhead = {.connections = 1024, .requests = 1024, .pending = 128, .per_source = 512},
};

const struct snap_service *policy_of(const struct proxy *p, uint32_t service)
{
	const struct snap_service *s = p->snapshot ? snapshot_service(p->snapshot, service) : NULL;

	return s ? s : &unknown;
}
