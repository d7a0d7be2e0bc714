/* SPDX-License-Identifier: Apache-2.0 */
/* What the supervisor says about itself: the state that meshd gets, and the gauges of /metrics. */
#include "agent/supervisor.h"
#include "agent/supervisor_splice.h"

#include "lib/clock.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STATE_MAX (8u << 20)
#define PORTS_MAX 64 /* of one workload that are reported */

static const char *protocol_name(uint8_t protocol)
{
	return protocol == MESH_PROTO_HTTP ? "http" : protocol == MESH_PROTO_TCP ? "tcp" : "auto";
}

static void endpoint(struct supervisor *s, struct buf *b, const struct endpoint_view *e)
{
	const struct workload_info *w = registry_workload(s->registry, e->workload, NULL);
	char text[ADDR_TEXT_MAX];
	struct service_view v;
	uint16_t ports[PORTS_MAX];
	uint32_t n;

	if ((!w && !e->external) || !registry_service(s->registry, e->service, &v))
		return;
	buf_comma(b);
	buf_char(b, '{');
	buf_member(b, "service", v.name);
	buf_char(b, ',');
	buf_member(b, "id", e->id);
	buf_char(b, ',');
	buf_member(b, "address", addr_format_ip(e->ip, text));
	buf_printf(b, ",\"port\":%u,", e->port);
	buf_member(b, "version", e->version);
	buf_printf(b, ",\"weight\":%u,\"protocol\":\"%s\",\"status\":\"%s\",\"primary\":true",
		   e->weight, protocol_name(v.protocol), endpoint_status_name(e->status));
	if (e->external) { /* meshd knows the rest */
		buf_str(b, ",\"registered\":true}");
		return;
	}
	buf_str(b, ",\"ports\":[");
	n = registry_ports(s->registry, e->workload, ports, PORTS_MAX);
	for (uint32_t i = 0; i < n && i < PORTS_MAX; i++)
		buf_printf(b, "%s%u", i ? "," : "", ports[i]);
	buf_str(b, "],");
	buf_member(b, "cgroup", w->path);
	buf_printf(b, ",\"pid\":%d}", w->pid);
}

static void workload(struct supervisor *s, struct buf *b, uint32_t id,
		     const struct workload_info *w)
{
	uint16_t port;

	buf_comma(b);
	buf_char(b, '{');
	buf_member(b, "service", w->service);
	buf_char(b, ',');
	buf_member(b, "instance", w->instance);
	buf_char(b, ',');
	buf_member(b, "version", w->version);
	buf_char(b, ',');
	buf_member(b, "cgroup", w->path);
	buf_printf(b, ",\"pid\":%d,\"listens\":%s,\"connects\":", w->pid,
		   registry_ports(s->registry, id, &port, 1) ? "true" : "false");
	coverage_connects_json(s, id, b);
	buf_char(b, '}');
}

static void address(struct buf *b, const char *key, const struct addr *a)
{
	char text[ADDR_TEXT_MAX];

	buf_member(b, key, a ? addr_format(a, text) : NULL);
}

char *state_json(struct supervisor *s)
{
	char why[GATEWAY_ERROR_MAX];
	struct endpoint_view e;
	struct buf b;

	buf_init(&b, STATE_MAX);
	buf_char(&b, '{');
	buf_member(&b, "epoch", s->epoch);
	buf_printf(&b, ",\"version\":\"%s\",\"pid\":%d,", MESH_VERSION, (int)getpid());
	buf_member(&b, "cgroup", kernel_cgroup(s->kernel));
	buf_printf(&b, ",\"workers\":%u,\"workersAnswering\":%u,", s->cfg->workers,
		   workers_answering(&s->workers));
	acceleration_json(s, &b);
	buf_char(&b, ',');
	address(&b, "gateway", gateway_at(s));
	buf_char(&b, ',');
	buf_member(&b, "gatewayError", gateway_error(s, why));
	buf_char(&b, ',');
	address(&b, "admin", s->cfg->admin_on ? &s->cfg->admin : NULL);
	buf_printf(&b, ",\"configRevision\":%llu,", (unsigned long long)s->revision);
	buf_member(&b, "configError", session_error(s->session));
	buf_str(&b, ",\"endpoints\":[");
	for (uint32_t i = 0; i < MESH_MAX_ENDPOINTS; i++)
		if (registry_endpoint(s->registry, i, &e) && e.primary)
			endpoint(s, &b, &e);
	buf_str(&b, "],\"workloads\":[");
	for (uint32_t i = 0; i < MESH_MAX_WORKLOADS; i++) {
		const struct workload_info *w = registry_workload(s->registry, i, NULL);

		if (w)
			workload(s, &b, i, w);
	}
	buf_str(&b, "],\"breakers\":");
	breakers_json(s, &b);
	buf_str(&b, ",\"coverage\":");
	coverage_json(s, &b);
	buf_str(&b, ",\"gains\":");
	gain_json(s, &b);
	buf_char(&b, '}');
	return buf_take(&b);
}

/* --- metrics --- */

struct version_count {
	const char *version, *status;
	uint32_t service, n;
};

static void write_endpoints(struct supervisor *s, struct buf *out)
{
	struct version_count *v = calloc(MESH_MAX_ENDPOINTS, sizeof(*v));
	struct endpoint_view e;
	struct service_view sv;
	uint32_t n = 0, k;

	if (!v)
		return;
	for (uint32_t i = 0; i < MESH_MAX_ENDPOINTS; i++) {
		const char *status;

		if (!registry_endpoint(s->registry, i, &e) || !e.primary)
			continue;
		status = endpoint_status_name(e.status);
		for (k = 0; k < n && (v[k].service != e.service ||
				      strcmp(v[k].version, e.version) || v[k].status != status);)
			k++;
		if (k == n)
			v[n++] = (struct version_count){e.version, status, e.service, 0};
		v[k].n++;
	}
	exposition_head(out, "mesh_endpoints", "gauge", "Endpoints of primary ports.");
	for (k = 0; k < n; k++) {
		if (!registry_service(s->registry, v[k].service, &sv))
			continue;
		buf_str(out, "mesh_endpoints{");
		exposition_label(out, "service", sv.name);
		buf_char(out, ',');
		exposition_label(out, "version", v[k].version);
		buf_printf(out, ",status=\"%s\"} %u\n", v[k].status, v[k].n);
	}
	free(v);
}

static void write_inflight(struct supervisor *s, struct buf *out)
{
	uint64_t per_service[MESH_MAX_SERVICES] = {0};
	struct endpoint_view e;
	struct service_view v;

	for (uint32_t i = 0; i < MESH_MAX_ENDPOINTS; i++) {
		if (!registry_endpoint(s->registry, i, &e))
			continue;
		for (uint32_t w = 0; w < WORKERS_MAX; w++)
			per_service[e.service] += __atomic_load_n(
				&s->arrays->ep_inflight[i].worker[w], __ATOMIC_RELAXED);
	}
	exposition_head(out, "mesh_requests_in_flight", "gauge",
			"Requests that wait for an endpoint's answer.");
	for (uint32_t i = 0; i < MESH_MAX_SERVICES; i++) {
		if (!registry_service(s->registry, i, &v) || v.upstream == MESH_NONE)
			continue;
		buf_str(out, "mesh_requests_in_flight{");
		exposition_label(out, "destination", v.name);
		buf_printf(out, "} %llu\n", (unsigned long long)per_service[i]);
	}
}

static void write_counters(struct supervisor *s, struct buf *out)
{
	uint64_t c[MESH_C_MAX] = {0}, passed = 0, lost;

	kernel_counters(s->kernel, c);
	for (int i = MESH_C_PASSED_SELF; i <= MESH_C_PASSED_DEVICE; i++)
		passed += c[i];
	passed += c[MESH_C_PASSED] + c[MESH_C_PASSED_NO_STORAGE] + c[MESH_C_PASSED_NO_ENDPOINT] +
		  c[MESH_C_PASSED_PROTOCOL];
	exposition_head(out, "mesh_connections_captured_total", "counter",
			"connect() calls of workloads, by where they went.");
	buf_printf(out, "mesh_connections_captured_total{path=\"worker\"} %llu\n",
		   (unsigned long long)c[MESH_C_CAPTURED]);
	buf_printf(out, "mesh_connections_captured_total{path=\"kernel\"} %llu\n",
		   (unsigned long long)c[MESH_C_KERNEL]);
	buf_printf(out, "mesh_connections_captured_total{path=\"passed\"} %llu\n",
		   (unsigned long long)passed);
	buf_printf(out, "mesh_connections_captured_total{path=\"refused\"} %llu\n",
		   (unsigned long long)c[MESH_C_REFUSED]);
	exposition_head(out, "mesh_hook_total", "counter",
			"What the kernel programs counted, in detail.");
	for (unsigned i = 0; i < MESH_C_MAX; i++)
		buf_printf(out, "mesh_hook_total{what=\"%s\"} %llu\n", kernel_counter_name(i),
			   (unsigned long long)c[i]);
	exposition_head(out, "mesh_ring_lost_total", "counter", "Records that found no room.");
	for (uint32_t i = 0; i < WORKERS_MAX; i++) {
		lost = workers_ring_lost(&s->workers, i);
		if (lost || s->workers.w[i].ring)
			buf_printf(out, "mesh_ring_lost_total{ring=\"worker-%u\"} %llu\n", i,
				   (unsigned long long)lost);
	}
	buf_printf(out, "mesh_ring_lost_total{ring=\"kernel\"} %llu\n",
		   (unsigned long long)c[MESH_C_EVENTS_LOST]);
	buf_printf(out, "mesh_ring_lost_total{ring=\"accesslog\"} %llu\n",
		   (unsigned long long)accesslog_lost(s->accesslog));
	exposition_single(out, "mesh_ring_corrupt_total", "counter",
			  "Times a worker's ring made no sense and was emptied.",
			  (double)s->workers.ring_corrupt);
}

static void write_maps(struct supervisor *s, struct buf *out)
{
	struct kernel_map_use use[16];
	struct registry_usage u;
	size_t n = kernel_map_use(s->kernel, use, 16);
	const struct {
		const char *name;
		uint32_t entries, max;
	} tables[] = {{"services", 0, MESH_MAX_SERVICES},
		      {"upstreams", 0, MESH_MAX_UPSTREAMS},
		      {"endpoints", 0, MESH_MAX_ENDPOINTS},
		      {"slots", 0, MESH_MAX_SUBSETS}};
	uint32_t used[4];

	registry_usage(s->registry, &u);
	used[0] = u.services;
	used[1] = u.upstreams;
	used[2] = u.endpoints;
	used[3] = u.subsets;
	exposition_head(out, "mesh_bpf_map_entries", "gauge",
			"Entries in use of a map or a shared table.");
	for (size_t i = 0; i < n; i++)
		buf_printf(out, "mesh_bpf_map_entries{map=\"%s\"} %u\n", use[i].name,
			   use[i].entries);
	for (size_t i = 0; i < 4; i++)
		buf_printf(out, "mesh_bpf_map_entries{map=\"%s\"} %u\n", tables[i].name, used[i]);
	exposition_head(out, "mesh_bpf_map_max_entries", "gauge", "Entries that it can hold.");
	for (size_t i = 0; i < n; i++)
		buf_printf(out, "mesh_bpf_map_max_entries{map=\"%s\"} %u\n", use[i].name,
			   use[i].max_entries);
	for (size_t i = 0; i < 4; i++)
		buf_printf(out, "mesh_bpf_map_max_entries{map=\"%s\"} %u\n", tables[i].name,
			   tables[i].max);
	exposition_single(out, "mesh_table_full_total", "counter",
			  "Times something did not fit into a table.", (double)u.full);
}

static void write_netns(struct supervisor *s, struct buf *out)
{
	uint32_t captured = 0, taken = 0;

	for (const struct netns *ns = s->discovery.netns.list; ns; ns = ns->next) {
		captured += ns->listener[0].fd >= 0 || ns->listener[1].fd >= 0;
		taken += ns->port_taken;
	}
	exposition_head(out, "mesh_network_namespaces", "gauge",
			"Network namespaces of workloads.");
	buf_printf(out, "mesh_network_namespaces{state=\"captured\"} %u\n", captured);
	buf_printf(out, "mesh_network_namespaces{state=\"port-taken\"} %u\n", taken);
}

static void write_process(struct supervisor *s, struct buf *out)
{
	exposition_single(out, "mesh_workers", "gauge", "Workers that there should be.",
			  s->cfg->workers);
	exposition_single(out, "mesh_workers_ready", "gauge", "Workers that answer.",
			  workers_answering(&s->workers));
	exposition_single(out, "mesh_worker_restarts_total", "counter",
			  "Workers that were replaced.", (double)s->workers.restarts);
	exposition_single(out, "mesh_control_connected", "gauge",
			  "1: meshd answered the last call.", session_connected(s->session));
	exposition_single(out, "mesh_config_revision", "gauge",
			  "Revision of the configuration in force.", (double)s->revision);
	exposition_single(out, "mesh_config_last_reload_successful", "gauge",
			  "0: the last configuration from meshd was refused.",
			  !session_error(s->session));
	exposition_head(out, "mesh_build_info", "gauge", "Version of this program.");
	buf_printf(out, "mesh_build_info{version=\"%s\",abi=\"%d\"} 1\n", MESH_VERSION,
		   MESH_ABI_VERSION);
	exposition_process(out, (double)s->started_ms / 1e3);
}

struct state_text {
	struct metrics_text *metrics; /* NULL: all of that was written */
	uint32_t next;		      /* of `others` */
};

void *state_metrics_begin(void *arg, bool exemplars)
{
	struct state_text *t = calloc(1, sizeof(*t));
	struct supervisor *s = arg;

	workers_drain_rings(&s->workers);
	kernel_events_drain(s->kernel);
	tcp_beat(s);
	if (t)
		t->metrics = metrics_text_new(s->metrics, exemplars);
	if (t && !t->metrics) {
		free(t);
		return NULL;
	}
	return t;
}

bool state_metrics_part(void *arg, void *text, struct buf *out)
{
	static void (*const others[])(struct supervisor * s, struct buf * out) = {
		write_endpoints, write_inflight,       breakers_metrics,  coverage_metrics,
		tcp_metrics,	 gain_metrics,	       telemetry_metrics, write_counters,
		splice_metrics,	 acceleration_metrics, write_maps,	  write_netns,
		write_process};
	struct state_text *t = text;

	if (t->metrics) {
		if (!metrics_text_part(t->metrics, out))
			metrics_text_free(&t->metrics);
		return true;
	}
	others[t->next](arg, out);
	return ++t->next < sizeof(others) / sizeof(*others);
}

void state_metrics_end(void *text)
{
	struct state_text *t = text;

	if (t)
		metrics_text_free(&t->metrics);
	free(t);
}

bool state_ready(void *arg, const char **why)
{
	struct supervisor *s = arg;

	*why = s->stopping_ns			 ? "stopping"
	       : !workers_answering(&s->workers) ? "no worker is ready"
						 : "";
	return !**why;
}
