/* SPDX-License-Identifier: Apache-2.0 */
/* Handler of /metrics. Labels are names of services and what meshd itself calls things. */
#include "ctl/meshd/api.h"
#include "lib/exposition.h"

#include <stdlib.h>
#include <string.h>

#define METRICS_MAX (8u << 20)

static int metric_order(const void *x, const void *y)
{
	const struct endpoint *a = x, *b = y;
	int r = strcmp(a->service, b->service);

	if (!r)
		r = strcmp(a->version, b->version);
	return r ? r : strcmp(a->status, b->status);
}

static void write_endpoints(struct buf *b, struct endpoint *e, int n)
{
	unsigned number = 0;

	qsort(e, (size_t)n, sizeof(*e), metric_order);
	exposition_head(b, "mesh_endpoints", "gauge", "Endpoints that are known.");
	for (int i = 0; i < n; i++) {
		number++;
		if (i + 1 < n && !metric_order(&e[i], &e[i + 1]))
			continue;
		buf_str(b, "mesh_endpoints{");
		exposition_label(b, "service", e[i].service);
		exposition_label(b, ",version", e[i].version);
		exposition_label(b, ",status", e[i].status);
		buf_printf(b, "} %u\n", number);
		number = 0;
	}
}

static void write_store(struct buf *b, const struct meshd *m)
{
	exposition_head(b, "mesh_build_info", "gauge", "Version of meshd.");
	buf_str(b, "mesh_build_info{version=\"" MESH_VERSION "\"} 1\n");
	exposition_single(b, "mesh_config_revision", "gauge", "Revision of the configuration.",
			  (double)store_revision(m->store));
	exposition_single(b, "mesh_config_last_reload_successful", "gauge",
			  "1 when the files of --config were valid at the last look.",
			  m->last_reload_ok);
	exposition_single(b, "mesh_store_healthy", "gauge", "1 when the last write went well.",
			  store_healthy(m->store));
}

static void write_registry(struct buf *b, const struct meshd *m, const struct registry_counts *c)
{
	exposition_head(b, "mesh_agents", "gauge", "Agents by whether they were heard of.");
	buf_printf(b, "mesh_agents{status=\"live\"} %u\nmesh_agents{status=\"stale\"} %u\n",
		   c->agents_live, c->agents_stale);
	exposition_single(b, "mesh_registrations", "gauge", "Endpoints registered by hand.",
			  c->registrations);
	exposition_single(b, "mesh_watchers", "gauge", "Agents that wait for a change.",
			  m->hub.waiting);
	exposition_single(b, "mesh_api_connections", "gauge", "Connections to this API.",
			  server_connections(m->server));
}

/* What people ordered. */
static void write_orders(struct buf *b, const struct meshd *m)
{
	exposition_single(b, "mesh_faults_active", "gauge",
			  "Services with a fault injected by hand.", m->faults.number);
	exposition_single(b, "mesh_drains", "gauge", "Endpoints drained by hand.",
			  m->drains.number);
	exposition_single(b, "mesh_breaker_orders", "gauge",
			  "Breaker commands by hand that are remembered.", m->hands.number);
	exposition_single(b, "mesh_whys", "gauge", "Answers of the mesh whose explanation is kept.",
			  whys_number(m->whys));
	exposition_single(b, "mesh_whys_dropped_total", "counter",
			  "Explanations too long to be kept.", (double)m->whys_dropped);
}

void api_metrics(struct request *r)
{
	struct meshd *m = r->meshd;
	uint64_t now_ms = m->loop->now_ns / 1000000;
	struct exposition x = exposition_choose(request_header(r, "Accept"),
						request_header(r, "Accept-Encoding"));
	struct registry_counts counts;
	struct endpoint *all = NULL;
	int n = registry_endpoints(m->registry, now_ms, &all);
	struct buf b;

	if (n < 0) {
		api_fail(r, n, NULL);
		return;
	}
	buf_init(&b, METRICS_MAX);
	registry_count(m->registry, now_ms, &counts);
	write_store(&b, m);
	exposition_single(&b, "mesh_services", "gauge", "Services that have an endpoint.",
			  api_services_in(all, n));
	write_endpoints(&b, all, n);
	write_registry(&b, m, &counts);
	write_orders(&b, m);
	metrics_telemetry(&b, m);
	exposition_process(&b, m->started_wall_s);
	free(all);
	exposition_seal(&x, &b);
	r->gzip = x.gzip;
	r->vary = "Accept, Accept-Encoding";
	reply_buf(r, 200, exposition_type(&x), &b);
}
