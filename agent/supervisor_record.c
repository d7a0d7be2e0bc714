/* SPDX-License-Identifier: Apache-2.0 */
/* What workers have recorded, each record once to everybody who counts or shows it: metrics, series
 * and spans, access log, explanations. See supervisor.h. */
#include "agent/supervisor.h"
#include "lib/span_json.h"

#include "lib/name.h"

static void count_request(struct supervisor *s, const struct record *rec,
			  const struct accesslog_names *n)
{
	uint64_t end_ns = rec->start_ns + rec->duration_ns;

	metrics_request(s->metrics,
			&(struct metrics_request){
				.source = n->caller,
				.destination = n->callee,
				.version = n->version,
				.code = rec->status,
				.cause = rec->cause,
				.duration_ns = span_took_ns(rec),
				.bytes_in = rec->bytes_in,
				.bytes_out = rec->bytes_out,
				.tries = rec->tries,
				.flags = rec->flags,
				.bulkhead = rec->bulkhead,
				.trace_id = telemetry_keeps(s, rec) ? rec->trace_id : NULL,
				.time_ms = walltime_ns(&s->telemetry.wall, end_ns) / 1000000});
}

void supervisor_record(const struct record *rec, void *arg)
{
	struct supervisor *s = arg;
	struct accesslog_names n;

	if (rec->kind == RECORD_WHY) {
		why_send(s, (const struct record_why *)rec);
		return;
	}
	telemetry_names(s, rec, &n);
	if (name_is_own(n.callee))
		return;
	if (rec->kind == RECORD_REQUEST)
		count_request(s, rec, &n);
	else
		metrics_tunnel(s->metrics, n.caller, n.callee, rec->bulkhead, 1);
	telemetry_record(s, rec, &n);
	if (s->accesslog)
		accesslog_write(s->accesslog, rec, &n,
				walltime_ns(&s->telemetry.wall, rec->start_ns));
}

static void count_alike(struct supervisor *s, const struct tally_sum *sum,
			const struct accesslog_names *n)
{
	uint64_t tries = sum->retries < UINT32_MAX ? sum->retries + 1 : UINT32_MAX;

	metrics_request(s->metrics, &(struct metrics_request){.source = n->caller,
							      .destination = n->callee,
							      .version = "",
							      .code = sum->status,
							      .cause = sum->cause,
							      .alike = sum->n - 1,
							      .duration_ns = sum->duration_ns,
							      .bytes_in = sum->bytes_in,
							      .bytes_out = sum->bytes_out,
							      .tries = (uint32_t)tries,
							      .flags = sum->flags,
							      .bulkhead = sum->bulkhead});
}

void supervisor_counted(const struct tally_sum *sum, void *arg)
{
	struct supervisor *s = arg;
	struct accesslog_names n;

	telemetry_sum_names(s, sum, &n);
	if (name_is_own(n.callee))
		return;
	if (sum->tunnel)
		metrics_tunnel(s->metrics, n.caller, n.callee, sum->bulkhead, sum->n);
	else
		count_alike(s, sum, &n);
	telemetry_counted(s, sum, &n);
}
