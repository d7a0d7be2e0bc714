/* SPDX-License-Identifier: Apache-2.0 */
/* See figures.h. */
#include "ctl/meshctl/figures.h"
#include "lib/json.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>

static double either(const cJSON *o, const char *key, const char *other)
{
	return json_num(o, key, json_num(o, other, NAN));
}

void figures_read(const cJSON *o, struct figures *f)
{
	*f = (struct figures){
		.requests = json_num(o, "requests", NAN),
		.errors = json_num(o, "errors", NAN),
		.rate = json_num(o, "rate", NAN),
		.error_rate = json_num(o, "errorRate", NAN),
		.p50 = either(o, "p50", "p50Latency"),
		.p95 = either(o, "p95", "p95Latency"),
		.p99 = either(o, "p99", "p99Latency"),
	};
	if (isnan(f->errors))
		f->errors = f->requests * f->error_rate;
	if (isnan(f->error_rate) && f->requests > 0)
		f->error_rate = f->errors / f->requests;
	if (f->requests == 0) /* whatever the answer has in its place */
		f->p50 = f->p95 = f->p99 = NAN;
}

static int put(cJSON *o, const char *key, double v)
{
	return (isfinite(v) ? cJSON_AddNumberToObject(o, key, v) : cJSON_AddNullToObject(o, key))
		       ? 0
		       : -ENOMEM;
}

int figures_write(cJSON *o, const struct figures *f)
{
	return put(o, "requests", f->requests) || put(o, "errors", f->errors) ||
			       put(o, "rate", f->rate) || put(o, "errorRate", f->error_rate) ||
			       put(o, "p50", f->p50) || put(o, "p95", f->p95) ||
			       put(o, "p99", f->p99)
		       ? -ENOMEM
		       : 0;
}

void figures_add(struct figures *sum, const struct figures *f)
{
	if (!(f->requests > 0))
		return;
	if (!(sum->requests > 0)) {
		*sum = *f;
		return;
	}
	sum->requests += f->requests;
	sum->errors += f->errors;
	sum->rate += f->rate;
	sum->error_rate = sum->errors / sum->requests;
	sum->p50 = sum->p95 = sum->p99 = NAN;
}

char *figure_rate(double v, char out[FIGURE_MAX])
{
	if (!isfinite(v) || v < 0)
		snprintf(out, FIGURE_MAX, "-");
	else if (v == 0)
		snprintf(out, FIGURE_MAX, "0/s");
	else if (v >= 9.995e6)
		snprintf(out, FIGURE_MAX, "%.3gM/s", v / 1e6);
	else if (v >= 9999.5)
		snprintf(out, FIGURE_MAX, "%.1fk/s", v / 1e3);
	else
		snprintf(out, FIGURE_MAX, "%.*f/s", v < 9.995 ? 2 : v < 99.95 ? 1 : 0, v);
	return out;
}

char *figure_share(double v, char out[FIGURE_MAX])
{
	double percent = v * 100;

	if (!isfinite(v) || v < 0)
		snprintf(out, FIGURE_MAX, "-");
	else if (v == 0)
		snprintf(out, FIGURE_MAX, "0%%");
	else if (percent < 0.01)
		snprintf(out, FIGURE_MAX, "<0.01%%");
	else if (percent < 100 && percent >= 99.95) /* never all of them when one was well */
		snprintf(out, FIGURE_MAX, ">99.9%%");
	else
		snprintf(out, FIGURE_MAX, "%.*f%%",
			 percent < 0.995 ? 2
			 : percent < 100 ? 1
					 : 0,
			 percent);
	return out;
}

char *figure_ms(double ms, char out[FIGURE_MAX])
{
	if (!isfinite(ms) || ms < 0)
		snprintf(out, FIGURE_MAX, "-");
	else if (ms < 999.5)
		snprintf(out, FIGURE_MAX, "%.*fms", ms < 9.995 ? 2 : ms < 99.95 ? 1 : 0, ms);
	else if (ms < 59995)
		snprintf(out, FIGURE_MAX, "%.*fs", ms < 9995 ? 2 : 1, ms / 1000);
	else if (ms < 1e12)
		snprintf(out, FIGURE_MAX, "%.0fm%.0fs", floor(ms / 60000),
			 floor(fmod(ms, 60000) / 1000));
	else
		snprintf(out, FIGURE_MAX, "%.3gs", ms / 1000);
	return out;
}

char *figure_count(double v, char out[FIGURE_MAX])
{
	if (!isfinite(v) || v < 0)
		snprintf(out, FIGURE_MAX, "-");
	else
		snprintf(out, FIGURE_MAX, "%.15g", v);
	return out;
}
