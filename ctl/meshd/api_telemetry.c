/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handler of /api/telemetry: what agents have measured, seen and explained (docs/telemetry.md).
 * Each part of a batch goes to its own place; what counts is counted once, by the batch's number.
 */
#include "ctl/meshd/api.h"
#include "lib/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct schema label = {SCHEMA_TEXT, .min = 1, .max = 63};
static const struct schema id = {SCHEMA_TEXT, .min = 1, .max = WHY_ID_MAX};
/* Open: an agent that is newer than this meshd may say more. */
static const struct schema why_form = {
	SCHEMA_OBJECT, .open = true,
	.fields = (const struct schema_field[]){
		{"id", &id, .required = true}, {"traceId", &id}, {NULL}}};
static const struct schema whys_form = {SCHEMA_LIST, .min = 0, .max = WHYS_MAX, .item = &why_form};
static const struct schema node = {SCHEMA_TEXT, .min = 1, .max = 63, .valid = name_valid,
				   .what = NAME_WHAT};
static const struct schema telemetry_form = {
	SCHEMA_OBJECT, .open = true,
	.fields = (const struct schema_field[]){{"node", &node, .required = true},
						{"epoch", &label},
						{"whys", &whys_form},
						{NULL}}};

static uint64_t now_ms(const struct request *r)
{
	return r->meshd->loop->now_ns / 1000000;
}

static int keep(struct request *r, cJSON *why, const char *from)
{
	cJSON_DeleteItemFromObjectCaseSensitive(why, "node"); /* ours to say */
	if (!cJSON_AddStringToObject(why, "node", from))
		return -ENOMEM;
	return whys_add(r->meshd->whys, why, now_ms(r));
}

void api_telemetry(struct request *r)
{
	unsigned kept = 0, dropped = 0;
	cJSON *body = request_json(r), *why, *v;
	struct schema_error e;

	if (!body)
		return;
	if (schema_check(&telemetry_form, body, &e)) {
		cJSON_Delete(body);
		reply_invalid(r, &e);
		return;
	}
	cJSON_ArrayForEach (why, cJSON_GetObjectItemCaseSensitive(body, "whys")) {
		if (keep(r, why, json_str(body, "node", "")))
			dropped++;
		else
			kept++;
	}
	tap_take(r->meshd->taps, cJSON_GetObjectItemCaseSensitive(body, "tapped"));
	cJSON_Delete(body);
	r->meshd->whys_dropped += dropped;
	v = cJSON_CreateObject();
	cJSON_AddBoolToObject(v, "success", true);
	cJSON_AddNumberToObject(v, "kept", kept);
	cJSON_AddNumberToObject(v, "dropped", dropped);
	tap_list(r->meshd->taps, cJSON_AddArrayToObject(v, "taps"));
	cJSON_AddNumberToObject(v, "tapSerial", (double)tap_serial(r->meshd->taps));
	reply_json(r, 200, v);
}
