/* SPDX-License-Identifier: Apache-2.0 */
/* Handler of /health. */
#include "ctl/meshd/api.h"
#include "lib/clock.h"

#include <stdlib.h>
#include <string.h>

static uint64_t now_ms(const struct request *r)
{
	return r->meshd->loop->now_ns / 1000000;
}

unsigned api_services_in(const struct endpoint *e, int n)
{
	unsigned services = 0;

	for (int i = 0; i < n; i++)
		services += !i || strcmp(e[i].service, e[i - 1].service);
	return services;
}

void api_health(struct request *r)
{
	struct meshd *m = r->meshd;
	bool ok = store_healthy(m->store);
	struct registry_counts counts;
	struct endpoint *all = NULL;
	cJSON *v = cJSON_CreateObject();
	int n = registry_endpoints(m->registry, now_ms(r), &all);

	registry_count(m->registry, now_ms(r), &counts);
	cJSON_AddStringToObject(v, "status", ok ? "healthy" : "unhealthy");
	cJSON_AddStringToObject(v, "version", MESH_VERSION);
	cJSON_AddNumberToObject(v, "uptimeSeconds",
				(double)((clock_mono_ns() - m->started_ns) / 1000000000));
	cJSON_AddNumberToObject(v, "revision", (double)store_revision(m->store));
	cJSON_AddStringToObject(v, "epoch", store_epoch(m->store));
	cJSON_AddNumberToObject(v, "services", api_services_in(all, n));
	cJSON_AddNumberToObject(v, "agents", counts.agents_live);
	cJSON_AddItemToObject(v, "configError",
			      m->last_reload_ok ? cJSON_CreateNull()
						: cJSON_CreateString(m->reload_error));
	cJSON_AddItemToObject(v, "storeError",
			      ok ? cJSON_CreateNull() : cJSON_CreateString(store_error(m->store)));
	cJSON_AddItemToObject(v, "tracesError",
			      traces_error(m->traces) ? cJSON_CreateString(traces_error(m->traces))
						      : cJSON_CreateNull());
	cJSON_AddItemToObject(v, "telemetryError",
			      *red_error(m->red) ? cJSON_CreateString(red_error(m->red))
						 : cJSON_CreateNull());
	free(all);
	reply_json(r, ok ? 200 : 503, v);
}
