/* SPDX-License-Identifier: Apache-2.0 */
/* The route table: one line an address. A new endpoint is a line here and a handler. */
#include "ctl/meshd/api.h"
#include "ctl/meshd/traces/post.h"

#include <errno.h>
#include <string.h>

#define AGENT_STATE_MAX (8u << 20) /* MESH_MAX_ENDPOINTS endpoints and as many workloads fit */
#define TELEMETRY_MAX	(8u << 20)
/* A batch of an agent is at most 4 MiB, the densest of it histograms: "7,1," is two values */
#define TELEMETRY_VALUES_MAX 1500000

const struct route api_routes[] = {
	{"GET", "/", NULL, api_page},
	{"GET", "/ui/*", NULL, api_page_file},
	{"GET", "/ui/vendor/*", NULL, api_page_vendor},
	{"GET", "/health", NULL, api_health},
	{"GET", "/metrics", NULL, api_metrics},
	{"POST", "/api/register", NULL, api_register},
	{"DELETE", "/api/register/*/*", NULL, api_deregister},
	{"GET", "/api/services", NULL, api_services},
	{"GET", "/api/services/*", NULL, api_service},
	{"GET", "/api/config", "effective", api_config_list},
	{"GET", "/api/config/*", "effective", api_config_get},
	{"PUT", "/api/config/*", "dryRun,force", api_config_put},
	{"PATCH", "/api/config/*", "dryRun,force", api_config_patch},
	{"DELETE", "/api/config/*", "dryRun", api_config_delete},
	{"GET", "/api/config/*/history", NULL, api_config_history},
	{"POST", "/api/config/*/rollback", "revision,dryRun", api_config_rollback},
	{"GET", "/api/agents", NULL, api_agents},
	{"PUT", "/api/agents/*", NULL, api_agent_put, .body_max = AGENT_STATE_MAX},
	{"DELETE", "/api/agents/*", "epoch", api_agent_delete},
	{"GET", "/api/faults", NULL, api_faults},
	{"DELETE", "/api/faults", NULL, api_faults_delete},
	{"GET", "/api/faults/*", NULL, api_fault_get},
	{"PUT", "/api/faults/*", NULL, api_fault_put},
	{"DELETE", "/api/faults/*", NULL, api_fault_delete},
	{"GET", "/api/drain", NULL, api_drains},
	{"POST", "/api/drain/*/?", NULL, api_drain_post},
	{"DELETE", "/api/drain/*/?", NULL, api_drain_delete},
	{"GET", "/api/breakers", NULL, api_breakers},
	{"GET", "/api/breakers/*", NULL, api_breaker},
	{"POST", "/api/breakers/*/open", "endpoint", api_breaker_open},
	{"POST", "/api/breakers/*/close", "endpoint", api_breaker_close},
	{"POST", "/api/breakers/*/reset", "endpoint", api_breaker_reset},
	{"POST", "/api/telemetry", NULL, api_telemetry, .body_max = TELEMETRY_MAX,
	 .values_max = TELEMETRY_VALUES_MAX},
	{"GET", "/api/metrics/*", "window,granularity,source,version", api_red},
	{"GET", "/api/graph", "window", api_graph},
	{"GET", "/api/why/?", NULL, api_why},
	{"POST", "/api/spans", NULL, api_spans_post, .body_max = POST_BODY_MAX},
	{"POST", "/v1/traces", NULL, api_otlp_post, .body_max = POST_BODY_MAX},
	{"GET", "/api/traces", "service,source,min,error,since,until,limit", api_traces},
	{"GET", "/api/traces/?", NULL, api_trace},
	{"GET", "/api/logs", "service,source,trace,min,error,since,until,limit", api_logs},
	{"GET", "/api/tap", "service,source,error,min,trace", api_tap},
	{"GET", "/api/watch", "revision,serial,taps,node,epoch", poll_handle},
	{NULL},
};

void api_fail(struct request *r, int err, const struct schema_error *e)
{
	switch (err) {
	case -EINVAL:
		reply_invalid(r, e);
		break;
	case -ENOENT:
		reply_error(r, 404, NULL, "no such entry");
		break;
	case -ESTALE:
		reply_error(r, 412, NULL,
			    "it has changed since, or does not meet If-Match / If-None-Match");
		break;
	case -ENOSPC:
		reply_error(r, 507, NULL, "a limit of meshd is reached: nothing was stored");
		break;
	case -EIO:
		reply_error(r, 503, NULL, "the store failed, nothing was changed: %s",
			    store_error(r->meshd->store));
		break;
	default:
		reply_error(r, 500, NULL, "%s", strerror(-err));
	}
}
