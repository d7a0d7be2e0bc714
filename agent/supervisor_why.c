/* SPDX-License-Identifier: Apache-2.0 */
/* See supervisor_why.h. Words and gauges are those of the moment in which the worker gave up; names
 * and windows are of now, a few milliseconds later. */
#include "agent/supervisor.h"

#include "lib/clock.h"

#include <arpa/inet.h>
#include <mesh/budget.h>
#include <stdlib.h>
#include <string.h>

#define WHY_TEXT_MAX (64u << 10)
#define ID_MAX	     128 /* WHY_ID_MAX of ctl/meshd/whys.h */

static void text(struct buf *b, const char *key, const char *value, uint16_t len)
{
	buf_printf(b, "\"%s\":", key);
	buf_json(b, value, len);
}

static double ms(uint64_t ns)
{
	return (double)ns / 1e6;
}

static const char *flag_status(const struct why_candidate *c)
{
	return c->flags & MESH_EP_DRAINING		       ? "draining"
	       : c->flags & MESH_EP_UNHEALTHY		       ? "unhealthy"
	       : mesh_breaker_state(c->breaker) != MESH_CLOSED ? "ejected"
							       : "healthy";
}

static void candidate(struct supervisor *s, const struct why_candidate *c, struct buf *b)
{
	const char *id = "", *version = "";
	char address[ADDR_TEXT_MAX] = "";
	struct endpoint_view e;
	struct addr a;

	registry_endpoint_names(s->registry, c->endpoint, c->gen, &id, &version);
	if (registry_endpoint(s->registry, c->endpoint, &e) && e.gen == c->gen) {
		memcpy(a.ip, e.ip, sizeof(a.ip));
		a.port = e.port;
		addr_format(&a, address);
	}
	buf_char(b, '{');
	buf_member(b, "id", id);
	buf_char(b, ',');
	buf_member(b, "address", address);
	buf_char(b, ',');
	buf_member(b, "version", version);
	buf_printf(b, ",\"status\":\"%s\",\"latencyMs\":%.3f,\"inFlight\":%u,\"costMs\":%.3f",
		   flag_status(c), ms(c->latency_ns), c->in_flight, ms(c->cost));
	if (mesh_breaker_state(c->breaker) != MESH_CLOSED)
		buf_printf(
			b, ",\"ejectedMs\":%llu",
			(unsigned long long)mesh_breaker_age(c->breaker, s->loop.now_ns / 1000000));
	buf_printf(b, ",\"tried\":%s", c->tried ? "true" : "false");
	if (c->tried && c->cause)
		buf_printf(b, ",\"result\":\"%s\"", cause_name(c->cause));
	else if (c->tried && c->status)
		buf_printf(b, ",\"result\":\"%u\"", c->status);
	buf_char(b, '}');
}

static void service_state(struct supervisor *s, const struct record_why *rec, struct buf *b)
{
	uint64_t now_ms = s->loop.now_ns / 1000000;
	struct breaker_view v;
	struct service_view sv;

	if (!registry_service(s->registry, rec->service, &sv) ||
	    !eject_service_view(&s->health.eject, rec->service, s->loop.now_ns, &v))
		return;
	breaker_view_word(&v, rec->breaker, &sv.config->breaker, now_ms);
	buf_str(b, ",\"breaker\":{");
	breaker_json(b, &v);
	buf_printf(b, "},\"budget\":{\"tokens\":%.3f}",
		   (double)mesh_budget_level(rec->budget, &sv.config->budget, now_ms) / 1000.0);
}

void why_json(struct supervisor *s, const struct record_why *rec, struct buf *b)
{
	const char *source = registry_caller_name(s->registry, rec->caller), *t = why_text(rec);
	const char *service = registry_service_name(s->registry, rec->service);
	char iso[CLOCK_ISO_MAX];

	if (!*source)
		source = rec->flags & RECORD_GATEWAY ? "gateway" : "unknown";
	buf_char(b, '{');
	text(b, "id", t, rec->request_id_len);
	t += rec->request_id_len;
	if (rec->trace_id_len) {
		buf_char(b, ',');
		text(b, "traceId", t, rec->trace_id_len);
		t += rec->trace_id_len;
	}
	buf_printf(b, ",\"time\":\"%s\",",
		   clock_iso(walltime_ns(&s->telemetry.wall, rec->start_ns) / 1000000, iso));
	buf_member(b, "service", service);
	buf_char(b, ',');
	buf_member(b, "source", source);
	if (rec->route_len) {
		buf_char(b, ',');
		text(b, "route", t, rec->route_len);
	}
	buf_printf(b, ",\"cause\":\"%s\",\"status\":%u,\"tries\":%u,\"durationMs\":%.3f",
		   cause_name(rec->cause), rec->status, rec->tries, ms(rec->duration_ns));
	service_state(s, rec, b);
	buf_printf(b,
		   ",\"bulkhead\":{\"requests\":%u,\"connections\":%u,\"pending\":%u,"
		   "\"fromSource\":%u},\"endpoints\":[",
		   rec->requests, rec->connections, rec->pending, rec->from_source);
	for (uint32_t i = 0; i < rec->ncandidates; i++) {
		if (i)
			buf_char(b, ',');
		candidate(s, &why_candidates(rec)[i], b);
	}
	buf_str(b, "]}");
}

/* meshd finds it by that, and refuses a batch with one that it cannot keep. */
static bool has_id(const struct record_why *rec)
{
	const char *id = why_text(rec);
	uint32_t n = rec->request_id_len;

	if (!n || n > ID_MAX || rec->trace_id_len > TRACE_TEXT_MAX)
		return false;
	for (uint32_t i = 0; i < n + rec->trace_id_len; i++)
		if (id[i] <= ' ' || id[i] > '~')
			return false;
	return true;
}

/* Many come when a service refuses all that it is asked, and then the agent has no time to make
 * text that is dropped. */
void why_send(struct supervisor *s, const struct record_why *rec)
{
	struct outbox *o = s->telemetry.outbox;
	struct buf b;

	buf_init(&b, WHY_TEXT_MAX);
	if (!outbox_full(o, OUTBOX_WHYS) && has_id(rec))
		why_json(s, rec, &b);
	if (!b.len || b.failed)
		outbox_lose(o, OUTBOX_WHYS, 1);
	else
		outbox_add(o, OUTBOX_WHYS, 0, b.data, b.len, 1);
	buf_done(&b);
}
