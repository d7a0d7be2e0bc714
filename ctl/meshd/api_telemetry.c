/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handler of /api/telemetry: what agents have measured, seen and explained (docs/telemetry.md),
 * JSON and, behind it, records. Each part of a batch goes to its own place; a batch is taken once,
 * by its number. The series come last: with them its number is stored, and until then it is sent
 * again after a crash (a span that comes twice is known by its id).
 */
#include "ctl/meshd/api.h"
#include "ctl/meshd/strip.h"
#include "ctl/meshd/telemetry_forms.h"
#include "ctl/meshd/telemetry_records.h"
#include "lib/clock.h"
#include "lib/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint64_t now_ms(const struct request *r)
{
	return r->meshd->loop->now_ns / 1000000;
}

static int keep_why(struct request *r, cJSON *why, const char *from)
{
	cJSON_DeleteItemFromObjectCaseSensitive(why, "node"); /* ours to say */
	if (!cJSON_AddStringToObject(why, "node", from))
		return -ENOMEM;
	return whys_add(r->meshd->whys, why, now_ms(r));
}

static void answer(struct request *r, const struct red_batch *b, bool duplicate, unsigned kept,
		   unsigned dropped)
{
	struct meshd *m = r->meshd;
	cJSON *v = cJSON_CreateObject();

	cJSON_AddBoolToObject(v, "success", true);
	cJSON_AddNumberToObject(v, "kept", kept);
	cJSON_AddNumberToObject(v, "dropped", dropped);
	if (b->seq)
		cJSON_AddNumberToObject(v, "seq", (double)b->seq);
	cJSON_AddBoolToObject(v, "duplicate", duplicate);
	traces_want(m->traces, b->node, cJSON_AddArrayToObject(v, "want"));
	tap_list(m->taps, cJSON_AddArrayToObject(v, "taps"));
	cJSON_AddNumberToObject(v, "tapSerial", (double)tap_serial(m->taps));
	cJSON_AddNumberToObject(v, "records", RECORD_LAYOUT);
	reply_json(r, 200, v);
}

/* Everything of a batch that is new. */
static void take(struct request *r, const cJSON *body, const struct red_batch *b,
		 const struct telemetry_records *records)
{
	struct meshd *m = r->meshd;
	const cJSON *spans = cJSON_GetObjectItemCaseSensitive(body, "spans");
	unsigned kept = 0, dropped = 0;
	cJSON *why;

	cJSON_ArrayForEach (why, cJSON_GetObjectItemCaseSensitive(body, "whys")) {
		if (keep_why(r, why, b->node))
			dropped++;
		else
			kept++;
	}
	m->whys_dropped += dropped;
	if (spans && spans->child) /* what fails is counted there */
		(void)traces_take(m->traces, spans, b->node, now_ms(r));
	(void)traces_take_records(m->traces, records->batches, records->n, now_ms(r));
	traces_lose(m->traces, records->skipped);
	tap_take(m->taps, cJSON_GetObjectItemCaseSensitive(body, "tapped"));
	if (b->seq && red_take(m->red, b, clock_wall_ms()) == -ENOMEM)
		reply_json(r, 500, NULL); /* it comes again */
	else
		answer(r, b, false, kept, dropped);
}

static void strip_all(const struct request *r, const cJSON *body)
{
	static const char *const lists[] = {"spans", "tapped", "whys"};

	for (size_t i = 0; r->meshd->options.strip_queries && i < 3; i++)
		strip_queries(cJSON_GetObjectItemCaseSensitive(body, lists[i]));
}

/* They are the body's, which is ours. */
static void strip_records(const struct request *r, const struct telemetry_records *records)
{
	const struct record *rec;

	for (size_t i = 0; r->meshd->options.strip_queries && i < records->n; i++)
		for (uint32_t at = 0; (rec = record_batch_next(&records->batches[i], &at));)
			strip_record((struct record *)rec);
}

/* Of a body whose JSON is known: all that it is, or what is wrong with it. */
static int read_all(struct request *r, const cJSON *body, struct red_batch *b,
		    struct telemetry_records *records, struct schema_error *e)
{
	int err = schema_check(&telemetry_form, body, e);

	if (err)
		return err;
	err = telemetry_records(r->body.data, r->body.len, json_str(body, "node", ""), records, e);
	if (err)
		return err;
	err = telemetry_batch(body, b, e);
	if (err)
		telemetry_records_done(records);
	else
		strip_records(r, records);
	return err;
}

void api_telemetry(struct request *r)
{
	cJSON *body = request_json_part(r, telemetry_json_len(r->body.data, r->body.len));
	struct telemetry_records records;
	struct red_batch b;
	struct schema_error e;
	int err;

	if (!body)
		return;
	strip_all(r, body);
	err = read_all(r, body, &b, &records, &e);
	if (err) {
		api_fail(r, err, &e);
		cJSON_Delete(body);
		return;
	}
	if (b.seq && red_seen(r->meshd->red, b.node, b.epoch, b.seq)) {
		(void)red_take(r->meshd->red, &b, clock_wall_ms()); /* counts that it came again */
		answer(r, &b, true, 0, 0);
	} else {
		take(r, body, &b, &records);
	}
	telemetry_batch_done(&b);
	telemetry_records_done(&records);
	cJSON_Delete(body);
}
