/* SPDX-License-Identifier: Apache-2.0 */
/* What is said about breakers and the health of endpoints: to meshd, and in /metrics. */
#include "agent/supervisor.h"

#include "lib/json.h"

#include <stdlib.h>
#include <string.h>

const char *endpoint_status_name(uint32_t status)
{
	return status & ENDPOINT_DRAINING    ? "draining"
	       : status & ENDPOINT_UNHEALTHY ? "unhealthy"
	       : status & ENDPOINT_EJECTED   ? "ejected"
					     : "healthy";
}

/* What workers count is what a worker that lies wrote: meshd takes no number above 2^53, and then
 * nothing of all that it stands in. */
static unsigned long long counted(uint64_t n)
{
	return n < JSON_WHOLE_MAX ? n : JSON_WHOLE_MAX;
}

void breaker_json(struct buf *b, const struct breaker_view *v)
{
	buf_printf(b,
		   "\"state\":\"%s\",\"held\":%s,\"sinceMs\":%llu,\"forMs\":%llu,\"level\":%u,"
		   "\"requests\":%u,\"failures\":%u,\"consecutive\":%llu,\"opened\":%llu",
		   breaker_state_name(v->state), v->held ? "true" : "false",
		   (unsigned long long)v->since_ms, (unsigned long long)v->for_ms, v->level,
		   v->tally.total, v->tally.failed, counted(v->consecutive), counted(v->opened));
}

static void one(struct buf *b, const char *service, const char *endpoint,
		const struct breaker_view *v)
{
	buf_comma(b);
	buf_str(b, "{\"service\":");
	buf_json(b, service, strlen(service));
	buf_str(b, ",\"endpoint\":");
	if (endpoint)
		buf_json(b, endpoint, strlen(endpoint));
	else
		buf_str(b, "null");
	buf_char(b, ',');
	breaker_json(b, v);
	buf_char(b, '}');
}

void breakers_json(struct supervisor *s, struct buf *b)
{
	const struct eject *e = &s->health.eject;
	struct breaker_view v;
	struct service_view sv;
	struct endpoint_view ep;

	buf_char(b, '[');
	for (uint32_t i = 0; i < MESH_MAX_SERVICES; i++)
		if (registry_service(s->registry, i, &sv) &&
		    eject_service_view(e, i, s->loop.now_ns, &v) && (sv.nendpoints || v.held))
			one(b, sv.name, NULL, &v);
	for (uint32_t i = 0; i < MESH_MAX_ENDPOINTS; i++) {
		if (!registry_endpoint(s->registry, i, &ep) || !ep.primary ||
		    !eject_endpoint_view(e, i, s->loop.now_ns, &v))
			continue;
		if (v.state != MESH_CLOSED || v.held || v.tally.failed)
			one(b, registry_service_name(s->registry, ep.service), ep.id, &v);
	}
	buf_char(b, ']');
}

/* --- metrics --- */

static void labels(struct buf *out, const char *metric, const char *destination, const char *name,
		   const char *value)
{
	buf_printf(out, "%s{", metric);
	exposition_label(out, "destination", destination);
	buf_char(out, ',');
	exposition_label(out, name, value);
	buf_str(out, "} ");
}

static void write_states(struct supervisor *s, struct buf *out)
{
	static const char metric[] = "mesh_circuit_breaker_state";
	const struct eject *e = &s->health.eject;
	struct breaker_view v;
	struct service_view sv;
	struct endpoint_view ep;

	exposition_head(out, metric, "gauge",
			"0 closed, 1 half-open, 2 open; with an endpoint: whether it is ejected.");
	for (uint32_t i = 0; i < MESH_MAX_SERVICES; i++)
		if (registry_service(s->registry, i, &sv) && sv.upstream != MESH_NONE &&
		    eject_service_view(e, i, s->loop.now_ns, &v)) {
			labels(out, metric, sv.name, "endpoint", "");
			buf_printf(out, "%u\n", v.state);
		}
	for (uint32_t i = 0; i < MESH_MAX_ENDPOINTS; i++)
		if (registry_endpoint(s->registry, i, &ep) && ep.primary &&
		    eject_endpoint_view(e, i, s->loop.now_ns, &v)) {
			labels(out, metric, registry_service_name(s->registry, ep.service),
			       "endpoint", ep.id);
			buf_printf(out, "%u\n", v.state);
		}
}

static void write_transitions(struct supervisor *s, struct buf *out)
{
	static const char metric[] = "mesh_circuit_breaker_transitions_total";
	struct service_view sv;

	exposition_head(out, metric, "counter",
			"Changes of a service's breaker, by the state it went to.");
	for (uint32_t i = 0; i < MESH_MAX_SERVICES; i++) {
		const struct mesh_svc_stat *st = &s->arrays->svc_stats[i];

		if (!registry_service(s->registry, i, &sv) || sv.upstream == MESH_NONE)
			continue;
		for (uint32_t to = MESH_CLOSED; to <= MESH_OPEN; to++) {
			labels(out, metric, sv.name, "to", breaker_state_name(to));
			buf_printf(out, "%llu\n",
				   (unsigned long long)__atomic_load_n(&st->went[to],
								       __ATOMIC_RELAXED));
		}
	}
}

static void write_checks(struct supervisor *s, struct buf *out)
{
	struct checks_counts n;

	checks_counts(s->health.checks, &n);
	exposition_head(out, "mesh_health_checks_total", "counter",
			"Active health checks, by their result.");
	buf_printf(out,
		   "mesh_health_checks_total{result=\"success\"} %llu\n"
		   "mesh_health_checks_total{result=\"failure\"} %llu\n",
		   (unsigned long long)n.good, (unsigned long long)n.bad);
	exposition_head(out, "mesh_health_check_endpoints", "gauge",
			"Endpoints with active checks, and these now.");
	buf_printf(out,
		   "mesh_health_check_endpoints{state=\"targets\"} %u\n"
		   "mesh_health_check_endpoints{state=\"running\"} %u\n"
		   "mesh_health_check_endpoints{state=\"waiting\"} %u\n",
		   n.targets, n.running, n.waiting);
}

void breakers_metrics(struct supervisor *s, struct buf *out)
{
	const struct outbox_counts *c = outbox_counts(s->telemetry.outbox);

	write_states(s, out);
	write_transitions(s, out);
	write_checks(s, out);
	exposition_head(out, "mesh_edges", "gauge",
			"Pairs of caller and callee whose requests in flight are limited.");
	buf_printf(out, "mesh_edges %u\n", s->health.nedges);
	exposition_head(out, "mesh_whys_total", "counter",
			"Explanations of the mesh's own answers, by what became of them.");
	buf_printf(out,
		   "mesh_whys_total{result=\"exported\"} %llu\n"
		   "mesh_whys_total{result=\"dropped\"} %llu\n"
		   "mesh_whys_total{result=\"skipped\"} %llu\n",
		   (unsigned long long)c->sent[OUTBOX_WHYS],
		   (unsigned long long)c->dropped[OUTBOX_WHYS],
		   (unsigned long long)workers_whys_skipped(&s->workers));
}
