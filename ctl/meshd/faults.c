/* SPDX-License-Identifier: Apache-2.0 */
/* See faults.h. */
#include "ctl/meshd/faults.h"
#include "lib/clock.h"
#include "lib/json.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_MS     60000
#define DEFAULT_STATUS 503

struct kind {
	uint64_t end_ms; /* 0: there is none */
	double percent;
	uint64_t delay_ms; /* of a delay */
	unsigned status;   /* of an abort */
};

struct fault {
	struct fault *next;
	char service[64];
	struct kind delay, abort;
};

/* clang-format off: the tables are read as tables */
static const struct schema percent = {SCHEMA_NUMBER, .min = 0.001, .max = 100};
static const struct schema delay_time = {SCHEMA_DURATION, .min = 1, .max = 600e3};
static const struct schema status = {SCHEMA_INTEGER, .min = 200, .max = 599};
static const struct schema lasting = {SCHEMA_DURATION, .min = 100, .max = 24 * 3600e3};
static const struct schema delay_form = {
	SCHEMA_OBJECT,
	.fields = (const struct schema_field[]){
		{"percent", &percent}, {"duration", &delay_time, .required = true}, {NULL}}};
static const struct schema abort_form = {
	SCHEMA_OBJECT, .fields = (const struct schema_field[]){
			       {"percent", &percent}, {"status", &status}, {NULL}}};

static int body_check(const cJSON *v, struct schema_error *e)
{
	return cJSON_HasObjectItem(v, "delay") || cJSON_HasObjectItem(v, "abort")
		       ? 0
		       : schema_fail(e, "", "must have \"delay\" or \"abort\", or both");
}

static const struct schema body_form = {
	SCHEMA_OBJECT, .check = body_check,
	.fields = (const struct schema_field[]){
		{"delay", &delay_form}, {"abort", &abort_form}, {"for", &lasting}, {NULL}}};
/* clang-format on */

/* Where the service is in the list, or belongs. */
static struct fault **place(struct faults *f, const char *service)
{
	struct fault **at = &f->first;

	while (*at && strcmp((*at)->service, service) < 0)
		at = &(*at)->next;
	return at;
}

static const struct fault *find(const struct faults *f, const char *service)
{
	const struct fault *g = f->first;

	while (g && strcmp(g->service, service))
		g = g->next;
	return g;
}

static void unlink_at(struct faults *f, struct fault **at)
{
	struct fault *old = *at;

	*at = old->next;
	f->number--;
	free(old);
}

void faults_done(struct faults *f)
{
	faults_delete(f, NULL);
}

static uint64_t duration_of(const cJSON *v, const char *key, uint64_t fallback)
{
	uint64_t ms = fallback;
	const char *text = json_str(v, key, NULL);

	return text && duration_parse(text, &ms) ? fallback : ms;
}

int faults_put(struct faults *f, const char *service, const cJSON *body, uint64_t now_ms,
	       struct schema_error *e)
{
	const cJSON *delay = cJSON_GetObjectItemCaseSensitive(body, "delay"),
		    *abort = cJSON_GetObjectItemCaseSensitive(body, "abort");
	struct fault **at = place(f, service), *g = *at;
	uint64_t end;
	int r = schema_check(&body_form, body, e);

	if (r)
		return r;
	if (!g || strcmp(g->service, service)) {
		if (f->number >= FAULTS_MAX)
			return -ENOSPC;
		g = calloc(1, sizeof(*g));
		if (!g)
			return -ENOMEM;
		snprintf(g->service, sizeof(g->service), "%s", service);
		g->next = *at;
		*at = g;
		f->number++;
	}
	end = now_ms + duration_of(body, "for", DEFAULT_MS);
	if (delay)
		g->delay = (struct kind){.end_ms = end,
					 .percent = json_num(delay, "percent", 100),
					 .delay_ms = duration_of(delay, "duration", 0)};
	if (abort)
		g->abort = (struct kind){
			.end_ms = end,
			.percent = json_num(abort, "percent", 100),
			.status = (unsigned)json_num(abort, "status", DEFAULT_STATUS)};
	return 0;
}

unsigned faults_delete(struct faults *f, const char *service)
{
	struct fault **at = &f->first;
	unsigned gone = 0;

	while (*at) {
		if (service && strcmp((*at)->service, service)) {
			at = &(*at)->next;
			continue;
		}
		unlink_at(f, at);
		gone++;
	}
	return gone;
}

static unsigned kind_sweep(struct kind *k, uint64_t now_ms, const char *service, const char *name,
			   void (*ended)(const char *service, const char *kind))
{
	if (!k->end_ms || k->end_ms > now_ms)
		return 0;
	k->end_ms = 0;
	ended(service, name);
	return 1;
}

unsigned faults_sweep(struct faults *f, uint64_t now_ms,
		      void (*ended)(const char *service, const char *kind))
{
	struct fault **at = &f->first, *g;
	unsigned gone = 0;

	while ((g = *at)) {
		gone += kind_sweep(&g->delay, now_ms, g->service, "delay", ended);
		gone += kind_sweep(&g->abort, now_ms, g->service, "abort", ended);
		if (g->delay.end_ms || g->abort.end_ms)
			at = &g->next;
		else
			unlink_at(f, at);
	}
	return gone;
}

static uint64_t nearer_end(const struct fault *g)
{
	uint64_t a = g->delay.end_ms, b = g->abort.end_ms;

	return !a || (b && b < a) ? b : a;
}

static uint64_t later_end(const struct fault *g)
{
	return g->delay.end_ms > g->abort.end_ms ? g->delay.end_ms : g->abort.end_ms;
}

uint64_t faults_next(const struct faults *f)
{
	uint64_t next = UINT64_MAX;

	for (const struct fault *g = f->first; g; g = g->next)
		if (nearer_end(g) < next)
			next = nearer_end(g);
	return next;
}

static uint64_t left(uint64_t end_ms, uint64_t now_ms)
{
	return end_ms > now_ms ? end_ms - now_ms : 0;
}

static cJSON *fault_json(const struct fault *g, uint64_t now_ms)
{
	cJSON *v = cJSON_CreateObject(), *k;
	char text[32];

	cJSON_AddStringToObject(v, "service", g->service);
	if (g->delay.end_ms) {
		k = cJSON_AddObjectToObject(v, "delay");
		cJSON_AddNumberToObject(k, "percent", g->delay.percent);
		cJSON_AddStringToObject(k, "duration", duration_format(g->delay.delay_ms, text));
		cJSON_AddNumberToObject(k, "leftMs", (double)left(g->delay.end_ms, now_ms));
	}
	if (g->abort.end_ms) {
		k = cJSON_AddObjectToObject(v, "abort");
		cJSON_AddNumberToObject(k, "percent", g->abort.percent);
		cJSON_AddNumberToObject(k, "status", g->abort.status);
		cJSON_AddNumberToObject(k, "leftMs", (double)left(g->abort.end_ms, now_ms));
	}
	if (cJSON_AddNumberToObject(v, "leftMs", (double)left(later_end(g), now_ms)))
		return v;
	cJSON_Delete(v);
	return NULL;
}

int faults_get(const struct faults *f, const char *service, uint64_t now_ms, cJSON **out)
{
	const struct fault *g = find(f, service);

	if (!g)
		return -ENOENT;
	*out = fault_json(g, now_ms);
	return *out ? 0 : -ENOMEM;
}

cJSON *faults_list(const struct faults *f, uint64_t now_ms)
{
	cJSON *list = cJSON_CreateArray(), *v;
	bool ok = list != NULL;

	for (const struct fault *g = f->first; g && ok; g = g->next) {
		v = fault_json(g, now_ms);
		ok = v && cJSON_AddItemToArray(list, v);
	}
	if (ok)
		return list;
	cJSON_Delete(list);
	return NULL;
}

void faults_tell(const struct faults *f, uint64_t now_ms, struct buf *b)
{
	buf_char(b, '[');
	for (const struct fault *g = f->first; g; g = g->next) {
		buf_printf(b, "%s{\"service\":\"%s\",", g == f->first ? "" : ",", g->service);
		if (g->delay.end_ms)
			buf_printf(b, "\"delay\":{\"percent\":%.15g,\"durationMs\":%llu},",
				   g->delay.percent, (unsigned long long)g->delay.delay_ms);
		if (g->abort.end_ms)
			buf_printf(b, "\"abort\":{\"percent\":%.15g,\"status\":%u},",
				   g->abort.percent, g->abort.status);
		buf_printf(b, "\"leftMs\":%llu}", (unsigned long long)left(nearer_end(g), now_ms));
	}
	buf_char(b, ']');
}
