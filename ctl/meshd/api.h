/* SPDX-License-Identifier: Apache-2.0 */
/* The handlers behind the route table in api.c; what each takes and answers is in docs/api.md. */
#ifndef MESHD_API_H
#define MESHD_API_H

#include "ctl/meshd/meshd.h"

void api_health(struct request *r);
void api_metrics(struct request *r);
void api_page(struct request *r);
void api_page_script(struct request *r);
void api_page_style(struct request *r);

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

/* Answers an error that came from the store, the registry or the configuration. */
void api_fail(struct request *r, int err, const struct schema_error *e);

#endif
