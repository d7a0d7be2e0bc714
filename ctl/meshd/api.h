/* SPDX-License-Identifier: Apache-2.0 */
/* The handlers behind the route table in api.c; what each takes and answers is in docs/api.md. */
#ifndef MESHD_API_H
#define MESHD_API_H

#include "ctl/meshd/meshd.h"

void api_health(struct request *r);
void api_metrics(struct request *r);
void api_page(struct request *r);
void api_page_file(struct request *r);
void api_page_vendor(struct request *r);

void api_services(struct request *r);
void api_service(struct request *r);
void api_register(struct request *r);
void api_deregister(struct request *r);
void api_agents(struct request *r);
void api_agent_put(struct request *r);
void api_agent_delete(struct request *r);

void api_config_list(struct request *r);
void api_config_get(struct request *r);
void api_config_put(struct request *r);
void api_config_patch(struct request *r);
void api_config_delete(struct request *r);
void api_config_history(struct request *r);
void api_config_rollback(struct request *r);

void api_faults(struct request *r);
void api_faults_delete(struct request *r);
void api_fault_get(struct request *r);
void api_fault_put(struct request *r);
void api_fault_delete(struct request *r);
void api_drains(struct request *r);
void api_drain_post(struct request *r);
void api_drain_delete(struct request *r);
void api_breakers(struct request *r);
void api_breaker(struct request *r);
void api_breaker_open(struct request *r);
void api_breaker_close(struct request *r);
void api_breaker_reset(struct request *r);

void api_telemetry(struct request *r);
void api_red(struct request *r);
void api_graph(struct request *r);
void api_why(struct request *r);
void api_spans_post(struct request *r);
void api_otlp_post(struct request *r);
void api_traces(struct request *r);
void api_trace(struct request *r);
void api_logs(struct request *r);
void api_tap(struct request *r);

/* What meshd got of agents: traffic of services, spans, what was lost. A part of /metrics. */
void metrics_telemetry(struct buf *b, const struct meshd *m);

/* How many services these endpoints, in the order of the registry, are of. */
unsigned api_services_in(const struct endpoint *e, int n);

/* Is there such a service (it has an endpoint or a configuration), such an endpoint? If not, a 404
 * that names what there is has been answered. */
bool api_knows_service(struct request *r, const char *service);
bool api_knows_endpoint(struct request *r, const char *service, const char *id);

/* Answers an error that came from the store, the registry or the configuration. */
void api_fail(struct request *r, int err, const struct schema_error *e);

#endif
