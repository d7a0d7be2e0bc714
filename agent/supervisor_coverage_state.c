/* SPDX-License-Identifier: Apache-2.0 */
/* What the supervisor says of coverage: to meshd, whose words meshctl puts into sentences, and in
 * /metrics. */
#include "agent/supervisor.h"

#include <string.h>

#define REPORTED_MAX 64 /* workloads; of more than these only the number */

static unsigned long long ago_ms(const struct supervisor *s, uint64_t ns)
{
	return (unsigned long long)(s->loop.now_ns > ns ? (s->loop.now_ns - ns) / 1000000 : 0);
}

static void to_service(struct supervisor *s, struct buf *b, uint32_t upstream)
{
	const char *name = registry_service_name(s->registry,
						 registry_upstream_service(s->registry, upstream));

	buf_member(b, "to", *name ? name : NULL);
}

static void reason(struct supervisor *s, const struct coverage_row *row, uint32_t i, struct buf *b)
{
	buf_comma(b);
	buf_printf(b, "{\"reason\":\"%s\",\"open\":%u,", coverage_reason_name(i), row->open[i]);
	if (i != COVERAGE_UNSEEN)
		buf_printf(b, "\"connects\":%llu,",
			   (unsigned long long)row->n[i + MESH_COV_ESCAPES]);
	if (row->escaped_ns[i])
		buf_printf(b, "\"agoMs\":%llu,", ago_ms(s, row->escaped_ns[i]));
	if (row->open[i])
		to_service(s, b, row->upstream[i]);
	else
		buf_member(b, "to", NULL);
	buf_char(b, '}');
}

static void escaping(struct supervisor *s, const struct workload_info *w,
		     const struct coverage_row *row, struct buf *b)
{
	buf_comma(b);
	buf_char(b, '{');
	buf_member(b, "service", w->service);
	buf_char(b, ',');
	buf_member(b, "instance", w->instance);
	buf_char(b, ',');
	buf_member(b, "cgroup", w->path);
	buf_str(b, ",\"reasons\":[");
	for (uint32_t i = 0; i < COVERAGE_REASONS; i++)
		if (coverage_escapes(row, i, s->loop.now_ns))
			reason(s, row, i, b);
	buf_str(b, "]}");
}

static void stranger(struct supervisor *s, const struct coverage_stranger *st, struct buf *b)
{
	buf_comma(b);
	buf_char(b, '{');
	buf_member(b, "cgroup", discovery_path(&s->discovery, st->cgroup));
	buf_printf(b, ",\"id\":%llu,\"connects\":%llu,\"open\":%u,", (unsigned long long)st->cgroup,
		   (unsigned long long)st->n, st->open);
	to_service(s, b, st->upstream);
	buf_char(b, '}');
}

void coverage_json(struct supervisor *s, struct buf *b)
{
	const struct coverage *c = &s->coverage.books;
	uint32_t n = 0;

	buf_printf(b, "{\"rounds\":%llu,", (unsigned long long)c->rounds);
	buf_member(b, "error", s->coverage.error ? strerror(-s->coverage.error) : NULL);
	buf_str(b, ",\"escaping\":[");
	for (uint32_t i = 0; i < MESH_MAX_WORKLOADS; i++) {
		const struct workload_info *w = registry_workload(s->registry, i, NULL);

		if (!w || !c->row[i] || c->row[i]->cgroup != w->cgroup ||
		    !coverage_escapes_any(c->row[i], s->loop.now_ns))
			continue;
		if (n++ < REPORTED_MAX)
			escaping(s, w, c->row[i], b);
	}
	buf_printf(b, "],\"more\":%u,\"strangers\":[", n > REPORTED_MAX ? n - REPORTED_MAX : 0);
	for (uint32_t i = 0; i < c->nstrangers; i++)
		stranger(s, &c->strangers[i], b);
	buf_str(b, "]}");
}

/* Its two labels in /metrics, its key in the state. */
static const struct {
	const char *path, *reason;
} ways[MESH_COV_WAYS] = {
	[MESH_COV_WORKER] = {"worker", ""},
	[MESH_COV_KERNEL] = {"kernel", ""},
	[MESH_COV_REFUSED] = {"refused", ""},
	[MESH_COV_OTHER] = {"passed", "other-destination"},
	[MESH_COV_SELF] = {"passed", "self"},
	[MESH_COV_IDLE] = {"passed", "no-endpoint"},
	[MESH_COV_NOBODY] = {"passed", "no-worker"},
	[MESH_COV_DEVICE] = {"passed", "device"},
	[MESH_COV_STORAGE] = {"passed", "memory"},
	[MESH_COV_PROTOCOL] = {"passed", "mptcp"},
};

void coverage_connects_json(struct supervisor *s, uint32_t workload, struct buf *b)
{
	const struct coverage_row *row = s->coverage.books.row[workload];

	buf_char(b, '{');
	for (uint32_t way = 0; row && way < MESH_COV_WAYS; way++) {
		if (!row->n[way])
			continue;
		buf_comma(b);
		buf_printf(b, "\"%s\":%llu", *ways[way].reason ? ways[way].reason : ways[way].path,
			   (unsigned long long)row->n[way]);
	}
	buf_char(b, '}');
}

/* --- metrics --- */

static void write_connects(const struct coverage *c, struct buf *out)
{
	exposition_head(out, "mesh_coverage_connects_total", "counter",
			"connect() calls of a service's workloads, by where they went and why.");
	for (uint32_t i = 0; i < c->nservices; i++)
		for (uint32_t way = 0; way < MESH_COV_WAYS; way++) {
			const struct coverage_service *v = &c->services[i];

			if (!v->n[way])
				continue;
			buf_str(out, "mesh_coverage_connects_total{");
			exposition_label(out, "source", v->name);
			buf_printf(out, ",path=\"%s\",reason=\"%s\"} %llu\n", ways[way].path,
				   ways[way].reason, (unsigned long long)v->n[way]);
		}
}

static void write_open(const struct coverage *c, struct buf *out)
{
	exposition_head(
		out, "mesh_coverage_escaped_connections", "gauge",
		"Connections of a service's workloads to services that go past the mesh, by why.");
	for (uint32_t i = 0; i < c->nservices; i++)
		for (uint32_t k = 0; k < COVERAGE_REASONS; k++) {
			const struct coverage_service *v = &c->services[i];

			if (!v->open[k])
				continue;
			buf_str(out, "mesh_coverage_escaped_connections{");
			exposition_label(out, "source", v->name);
			buf_printf(out, ",reason=\"%s\"} %u\n", coverage_reason_name(k),
				   v->open[k]);
		}
}

void coverage_metrics(struct supervisor *s, struct buf *out)
{
	const struct coverage *c = &s->coverage.books;

	write_connects(c, out);
	write_open(c, out);
	exposition_head(out, "mesh_coverage_escaping_workloads", "gauge",
			"Workloads whose traffic goes past the mesh, or did within a minute.");
	buf_printf(out, "mesh_coverage_escaping_workloads %u\n", s->coverage.escaping);
	exposition_head(out, "mesh_coverage_rounds_total", "counter",
			"Times that all connections of all workloads were looked at.");
	buf_printf(out, "mesh_coverage_rounds_total %llu\n", (unsigned long long)c->rounds);
	exposition_head(out, "mesh_coverage_lost_total", "counter",
			"Times that something of this could not be kept for want of room.");
	buf_printf(out, "mesh_coverage_lost_total %llu\n", (unsigned long long)c->lost);
}
