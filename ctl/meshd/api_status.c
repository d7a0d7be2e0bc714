/* SPDX-License-Identifier: Apache-2.0 */
/* Handlers of /health and /metrics. */
#include "ctl/meshd/api.h"
#include "lib/clock.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define METRICS_MAX (8u << 20)
#define FDS_MAX	    4096 /* main.c raises the limit to no more */

static uint64_t now_ms(const struct request *r)
{
	return r->meshd->loop->now_ns / 1000000;
}

static unsigned services_in(const struct endpoint *e, int n)
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
	cJSON_AddNumberToObject(v, "services", services_in(all, n));
	cJSON_AddNumberToObject(v, "agents", counts.agents_live);
	cJSON_AddItemToObject(v, "configError",
			      m->last_reload_ok ? cJSON_CreateNull()
						: cJSON_CreateString(m->reload_error));
	cJSON_AddItemToObject(v, "storeError",
			      ok ? cJSON_CreateNull() : cJSON_CreateString(store_error(m->store)));
	free(all);
	reply_json(r, ok ? 200 : 503, v);
}

static void metric(struct buf *b, const char *name, const char *type, const char *help,
		   double value)
{
	buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n%s %.17g\n", name, help, name, type, name,
		   value);
}

/* Text format 0.0.4: backslash, quote and line feed are escaped in label values. */
static void label(struct buf *b, const char *name, const char *value)
{
	buf_printf(b, "%s=\"", name);
	for (; *value; value++) {
		if (*value == '\\' || *value == '"')
			buf_char(b, '\\');
		buf_char(b, *value);
	}
	buf_char(b, '"');
}

static int metric_order(const void *x, const void *y)
{
	const struct endpoint *a = x, *b = y;
	int r = strcmp(a->service, b->service);

	if (!r)
		r = strcmp(a->version, b->version);
	return r ? r : strcmp(a->status, b->status);
}

static void metrics_endpoints(struct buf *b, struct endpoint *e, int n)
{
	unsigned number = 0;

	qsort(e, (size_t)n, sizeof(*e), metric_order);
	buf_str(b,
		"# HELP mesh_endpoints Endpoints that are known.\n# TYPE mesh_endpoints gauge\n");
	for (int i = 0; i < n; i++) {
		number++;
		if (i + 1 < n && !metric_order(&e[i], &e[i + 1]))
			continue;
		buf_str(b, "mesh_endpoints{");
		label(b, "service", e[i].service);
		label(b, ",version", e[i].version);
		label(b, ",status", e[i].status);
		buf_printf(b, "} %u\n", number);
		number = 0;
	}
}

/* /proc/self/fd is closed to a process that has dropped its privileges. */
static unsigned open_fds(rlim_t limit)
{
	int most = limit < FDS_MAX ? (int)limit : FDS_MAX;
	unsigned n = 0;

	for (int fd = 0; fd < most; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void metrics_process(struct buf *b, const struct meshd *m)
{
	struct rusage u = {0};
	struct rlimit limit = {0};
	unsigned long size = 0, resident = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	if (f && fscanf(f, "%lu %lu", &size, &resident) != 2)
		size = resident = 0;
	if (f)
		fclose(f);
	getrusage(RUSAGE_SELF, &u);
	getrlimit(RLIMIT_NOFILE, &limit);
	metric(b, "process_cpu_seconds_total", "counter", "CPU time, user and system.",
	       (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
		       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6);
	metric(b, "process_resident_memory_bytes", "gauge", "Resident memory.",
	       (double)resident * (double)sysconf(_SC_PAGESIZE));
	metric(b, "process_virtual_memory_bytes", "gauge", "Virtual memory.",
	       (double)size * (double)sysconf(_SC_PAGESIZE));
	metric(b, "process_start_time_seconds", "gauge", "Start, in seconds since 1970.",
	       m->started_wall_s);
	metric(b, "process_open_fds", "gauge", "Open descriptors.", open_fds(limit.rlim_cur));
	metric(b, "process_max_fds", "gauge", "Limit of open descriptors.", (double)limit.rlim_cur);
}

void api_metrics(struct request *r)
{
	struct meshd *m = r->meshd;
	struct registry_counts counts;
	struct endpoint *all = NULL;
	int n = registry_endpoints(m->registry, now_ms(r), &all);
	struct buf b;

	if (n < 0) {
		api_fail(r, n, NULL);
		return;
	}
	buf_init(&b, METRICS_MAX);
	registry_count(m->registry, now_ms(r), &counts);
	buf_printf(&b, "# HELP mesh_build_info Version of meshd.\n# TYPE mesh_build_info gauge\n"
		       "mesh_build_info{version=\"" MESH_VERSION "\"} 1\n");
	metric(&b, "mesh_config_revision", "gauge", "Revision of the configuration.",
	       (double)store_revision(m->store));
	metric(&b, "mesh_config_last_reload_successful", "gauge",
	       "1 when the files of --config were valid at the last look.", m->last_reload_ok);
	metric(&b, "mesh_store_healthy", "gauge", "1 when the last write went well.",
	       store_healthy(m->store));
	metric(&b, "mesh_services", "gauge", "Services that have an endpoint.",
	       services_in(all, n));
	metrics_endpoints(&b, all, n);
	buf_printf(&b,
		   "# HELP mesh_agents Agents by whether they were heard of.\n# TYPE mesh_agents "
		   "gauge\n"
		   "mesh_agents{status=\"live\"} %u\nmesh_agents{status=\"stale\"} %u\n",
		   counts.agents_live, counts.agents_stale);
	metric(&b, "mesh_registrations", "gauge", "Endpoints registered by hand.",
	       counts.registrations);
	metric(&b, "mesh_faults_active", "gauge", "Services with a fault injected by hand.",
	       m->faults.number);
	metric(&b, "mesh_drains", "gauge", "Endpoints drained by hand.", m->drains.number);
	metric(&b, "mesh_breaker_orders", "gauge", "Breaker commands by hand that are remembered.",
	       m->hands.number);
	metric(&b, "mesh_whys", "gauge", "Answers of the mesh whose explanation is kept.",
	       whys_number(m->whys));
	metric(&b, "mesh_whys_dropped_total", "counter", "Explanations too long to be kept.",
	       (double)m->whys_dropped);
	metric(&b, "mesh_watchers", "gauge", "Agents that wait for a change.", m->hub.waiting);
	metric(&b, "mesh_api_connections", "gauge", "Connections to this API.",
	       server_connections(m->server));
	metrics_process(&b, m);
	free(all);
	reply_buf(r, 200, "text/plain; version=0.0.4; charset=utf-8", &b);
}
