/* SPDX-License-Identifier: Apache-2.0 */
/* See supervisor_tcp.h. */
#include "agent/supervisor.h"

#include "lib/log.h"

#include <stdio.h>
#include <string.h>

#define TELL_NS 1000000000ULL /* refusals of one service are added up for that long */

void tcp_start(struct supervisor *s)
{
	for (size_t i = 0; i < TCP_TOLD; i++)
		s->tcp.refused[i].service = MESH_NONE;
}

static const char *service_of(struct supervisor *s, uint32_t upstream)
{
	return registry_service_name(s->registry, registry_upstream_service(s->registry, upstream));
}

void tcp_closed(struct supervisor *s, const struct mesh_event *e)
{
	telemetry_connection(s, e);
	metrics_connection(s->metrics,
			   &(struct metrics_connection){
				   .source = registry_caller_name(s->registry, e->workload),
				   .destination = service_of(s, e->upstream),
				   .error = e->error,
				   .connect_ns = e->connect_ns,
				   .bytes_out = e->bytes_sent,
				   .bytes_in = e->bytes_received,
			   });
}

/* Why, in words: what the breaker or the bulkhead goes by. */
static void explain(struct supervisor *s, const struct tcp_refused *r, struct buf *b)
{
	struct breaker_view v;
	struct service_view sv;

	if (r->n[MESH_REFUSED_BREAKER] &&
	    eject_service_view(&s->health.eject, r->service, s->loop.now_ns, &v))
		buf_printf(b,
			   "; its breaker is %s for %.1f s (%u of %u connects failed), next probe "
			   "in %.1f s",
			   v.held ? "held open" : breaker_state_name(v.state),
			   (double)v.since_ms / 1000, v.tally.failed, v.tally.total,
			   (double)v.for_ms / 1000);
	if (r->n[MESH_REFUSED_BULKHEAD] && registry_service(s->registry, r->service, &sv))
		buf_printf(b, "; it has as many connections as bulkhead.maxConnections allows, %u",
			   sv.config->bulkhead.connections);
	if (r->n[MESH_REFUSED_NO_ENDPOINT])
		buf_str(b, "; it has no endpoint to go to, and failClosed");
}

static void tell(struct supervisor *s, struct tcp_refused *r)
{
	const char *caller = registry_caller_name(s->registry, r->caller);
	struct buf b;
	uint64_t n = 0;

	buf_init(&b, 1024);
	for (uint32_t i = 0; i < MESH_REFUSALS; i++)
		n += r->n[i];
	explain(s, r, &b);
	log_warn("%llu connects to %s were refused, the last one of %s%.*s", (unsigned long long)n,
		 registry_service_name(s->registry, r->service), *caller ? caller : "unknown",
		 (int)b.len, b.len ? b.data : "");
	buf_done(&b);
	r->service = MESH_NONE;
}

/* The place of that service, or a free one. NULL: there is none. */
static struct tcp_refused *place_of(struct tcp *t, uint32_t service)
{
	struct tcp_refused *vacant = NULL;

	for (size_t i = 0; i < TCP_TOLD; i++) {
		if (t->refused[i].service == service)
			return &t->refused[i];
		if (t->refused[i].service == MESH_NONE)
			vacant = &t->refused[i];
	}
	return vacant;
}

static const char *outcome_of(uint32_t reason)
{
	return reason == MESH_REFUSED_BREAKER	 ? "breaker-open"
	       : reason == MESH_REFUSED_BULKHEAD ? "bulkhead-full"
						 : "no-endpoint";
}

static void refused(const struct mesh_refusal_key *key, uint64_t n, void *arg)
{
	struct supervisor *s = arg;
	uint32_t service = registry_upstream_service(s->registry, key->upstream);
	struct tcp_refused one = {.service = MESH_NONE}, *r;

	if (key->reason >= MESH_REFUSALS)
		return;
	metrics_refused(s->metrics, registry_caller_name(s->registry, key->workload),
			registry_service_name(s->registry, service), outcome_of(key->reason), n);
	telemetry_refused(s, key->workload, service, n);
	if (service == MESH_NONE)
		return;
	r = place_of(&s->tcp, service);
	r = r ? r : &one;
	if (r->service == MESH_NONE)
		*r = (struct tcp_refused){.service = service, .since_ns = s->loop.now_ns};
	r->caller = key->workload;
	r->n[key->reason] += n;
	if (r == &one)
		tell(s, r);
}

void tcp_beat(struct supervisor *s)
{
	int err = kernel_refusals(s->kernel, refused, s);

	if (err)
		log_debug("what was refused cannot be read: %s", strerror(-err));
	for (size_t i = 0; i < TCP_TOLD; i++) {
		struct tcp_refused *r = &s->tcp.refused[i];

		if (r->service != MESH_NONE && s->loop.now_ns - r->since_ns >= TELL_NS)
			tell(s, r);
	}
}

void tcp_metrics(struct supervisor *s, struct buf *out)
{
	struct service_view v;

	exposition_head(out, "mesh_tcp_connections_open", "gauge",
			"Connections that the kernel sent to endpoints and that are open.");
	for (uint32_t i = 0; i < MESH_MAX_SERVICES; i++) {
		uint32_t n = __atomic_load_n(
			&s->arrays->svc_inflight[i].worker[MESH_KERNEL_WORKER].connections,
			__ATOMIC_RELAXED);

		if (!registry_service(s->registry, i, &v) || v.protocol != MESH_PROTO_TCP)
			continue;
		buf_str(out, "mesh_tcp_connections_open{");
		exposition_label(out, "destination", v.name);
		buf_printf(out, "} %u\n", n);
	}
}
