/* SPDX-License-Identifier: Apache-2.0 */
/* What workers have recorded, each record once to everybody who counts or shows it: metrics, series
 * and spans, access log, explanations. See supervisor.h. */
#include "agent/supervisor.h"
#include "lib/span_json.h"

static void count_request(struct supervisor *s, const struct record *rec, struct parties *p,
			  bool kept)
{
	struct metrics_request r = {.source = p->names.caller,
				    .destination = p->names.callee,
				    .version = p->names.version,
				    .code = rec->status,
				    .cause = rec->cause,
				    .duration_ns = span_took_ns(rec),
				    .bytes_in = rec->bytes_in,
				    .bytes_out = rec->bytes_out,
				    .tries = rec->tries,
				    .flags = rec->flags,
				    .bulkhead = rec->bulkhead,
				    .place = &p->metrics};

	if (kept) {
		r.trace_id = rec->trace_id;
		r.time_ms =
			walltime_ns(&s->telemetry.wall, rec->start_ns + rec->duration_ns) / 1000000;
	}
	metrics_request(s->metrics, &r);
}

void supervisor_record(const struct record *rec, void *arg)
{
	struct supervisor *s = arg;
	struct parties *p;
	bool kept;

	if (rec->kind == RECORD_WHY) {
		why_send(s, (const struct record_why *)rec);
		return;
	}
	p = parties_of_record(s, rec);
	if (p->own)
		return;
	kept = telemetry_keeps(s, rec);
	if (rec->kind == RECORD_REQUEST)
		count_request(s, rec, p, kept);
	else
		metrics_tunnel(s->metrics, p->names.caller, p->names.callee, rec->bulkhead, 1);
	telemetry_record(s, rec, p, kept);
	if (s->accesslog)
		accesslog_write(s->accesslog, rec, &p->names,
				walltime_ns(&s->telemetry.wall, rec->start_ns));
}

static void count_alike(struct supervisor *s, const struct tally_sum *sum, struct parties *p)
{
	uint64_t tries = sum->retries < UINT32_MAX ? sum->retries + 1 : UINT32_MAX;

	metrics_request(s->metrics, &(struct metrics_request){.source = p->names.caller,
							      .destination = p->names.callee,
							      .version = p->names.version,
							      .code = sum->status,
							      .cause = sum->cause,
							      .alike = sum->n - 1,
							      .duration_ns = sum->duration_ns,
							      .bytes_in = sum->bytes_in,
							      .bytes_out = sum->bytes_out,
							      .tries = (uint32_t)tries,
							      .flags = sum->flags,
							      .bulkhead = sum->bulkhead,
							      .place = &p->metrics});
}

void supervisor_counted(const struct tally_sum *sum, void *arg)
{
	struct supervisor *s = arg;
	struct parties_key k = {.caller = sum->caller,
				.service = sum->service,
				.endpoint = MESH_NONE,
				.kind = sum->tunnel ? RECORD_TUNNEL : RECORD_REQUEST,
				.gateway = sum->flags & RECORD_GATEWAY};
	struct parties other = {.key = k, .names = {"other", "other", "", ""}},
		       *p = sum->other ? &other : parties_of(s, &k);

	if (p->own)
		return;
	if (sum->tunnel)
		metrics_tunnel(s->metrics, p->names.caller, p->names.callee, sum->bulkhead, sum->n);
	else
		count_alike(s, sum, p);
	telemetry_counted(s, sum, p);
}
