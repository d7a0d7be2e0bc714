/* SPDX-License-Identifier: Apache-2.0 */
/* See taps.h. */
#include "agent/telemetry/taps.h"

#include "lib/json.h"
#include "lib/span_json.h"

#include <stdio.h>
#include <string.h>

static uint64_t whole(const cJSON *obj, const char *key)
{
	double d = json_num(obj, key, 0);

	return d > 0 && d < JSON_WHOLE_MAX ? (uint64_t)d : 0;
}

/* False: it is there and cannot be one of ours. */
static bool take_text(const cJSON *obj, const char *key, char *out, size_t cap)
{
	const char *s = json_str(obj, key, "");

	return (size_t)snprintf(out, cap, "%s", s) < cap;
}

static bool filter_of(const cJSON *v, struct tapped_filter *f)
{
	double min_ms = json_num(v, "minMs", 0);

	*f = (struct tapped_filter){.tap = whole(v, "tap"), .error = json_bool(v, "error", 0)};
	f->min_ns = min_ms > 0 && min_ms < 1e9 ? (uint64_t)(min_ms * 1e6) : 0;
	if (!f->tap || !take_text(v, "service", f->service, sizeof(f->service)) ||
	    !take_text(v, "source", f->source, sizeof(f->source)) ||
	    !take_text(v, "trace", f->trace, sizeof(f->trace)))
		return false;
	if (trace_id_usable(f->trace, strlen(f->trace)))
		trace_id_bytes(f->trace, strlen(f->trace), f->trace_id);
	return true;
}

static uint32_t lost_of(const struct taps *t, uint64_t tap)
{
	for (uint32_t i = 0; i < t->n; i++)
		if (t->filter[i].tap == tap)
			return t->filter[i].lost;
	return 0;
}

static void take_list(struct taps *t, const cJSON *list, uint64_t now_ns)
{
	struct tapped_filter new[TAPS_MAX];
	const cJSON *v;
	uint32_t n = 0;

	cJSON_ArrayForEach (v, list) {
		if (n == TAPS_MAX)
			break;
		if (!filter_of(v, &new[n]))
			continue;
		new[n].lost = lost_of(t, new[n].tap);
		n++;
	}
	memcpy(t->filter, new, n * sizeof(*new));
	t->n = n;
	t->heard_ns = now_ns;
}

void taps_polled(struct taps *t, const cJSON *list, uint64_t serial, uint64_t now_ns)
{
	t->serial = serial;
	take_list(t, list, now_ns);
}

void taps_answered(struct taps *t, const cJSON *answer, uint64_t now_ns)
{
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(answer, "taps");
	uint64_t serial = whole(answer, "tapSerial");

	if (cJSON_IsArray(list) && (!serial || serial >= t->serial))
		take_list(t, list, now_ns);
}

void taps_beat(struct taps *t, uint64_t now_ns)
{
	if (now_ns - t->heard_ns > TAPS_KEEP_NS)
		t->n = 0;
}

bool taps_fits(const struct tapped_filter *f, const struct record *rec, const char *service,
	       const char *source)
{
	return rec->duration_ns >= f->min_ns && (!f->error || span_error(rec)) &&
	       (!*f->service || !strcmp(f->service, service)) &&
	       (!*f->source || !strcmp(f->source, source)) &&
	       (!*f->trace || span_has_trace(rec, f->trace, f->trace_id));
}

bool taps_may_send(struct taps *t, uint64_t now_ns)
{
	if (t->second != now_ns / 1000000000) {
		t->second = now_ns / 1000000000;
		t->sent = 0;
	}
	return t->sent++ < TAPS_A_SECOND;
}
