/* SPDX-License-Identifier: Apache-2.0 */
/* A store of spans on its own, and spans to put into it. Header only. */
#ifndef TESTS_TRACES_RIG_H
#define TESTS_TRACES_RIG_H

#include "ctl/meshd/traces/traces.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "tests/unit/meshd_dir.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/stat.h>
/* after the types that it needs */
#include <cmocka.h>

static struct test_dir home;
static struct traces *store;

static inline void store_start(uint64_t size, uint64_t age_ms)
{
	struct traces_options o = {
		.dir = home.path, .size = size, .age_ms = age_ms, .turn_ms = 60000};

	assert_int_equal(traces_new(&o, &store), 0);
}

static inline int setup_dir(void **state)
{
	test_dir_make(&home);
	return 0;
}

static inline int teardown_dir(void **state)
{
	traces_free(&store);
	test_dir_remove(&home);
	return 0;
}

struct made {
	const char *trace, *id, *parent, *service;
	double start, duration;
	int status;
	bool unsampled;
	const char *pad; /* something large */
};

static inline cJSON *span_made(const struct made *m)
{
	cJSON *v = cJSON_CreateObject();

	cJSON_AddStringToObject(v, "traceId", m->trace);
	cJSON_AddStringToObject(v, "id", m->id);
	if (m->parent)
		cJSON_AddStringToObject(v, "parentId", m->parent);
	cJSON_AddStringToObject(v, "service", m->service ? m->service : "backend");
	cJSON_AddStringToObject(v, "source", "frontend");
	cJSON_AddStringToObject(v, "operation", "GET /items");
	cJSON_AddNumberToObject(v, "startTime", m->start > 0 ? m->start : (double)clock_wall_ms());
	cJSON_AddNumberToObject(v, "duration", m->duration);
	cJSON_AddNumberToObject(v, "statusCode", m->status ? m->status : 200);
	cJSON_AddBoolToObject(v, "sampled", !m->unsampled);
	if (m->pad)
		cJSON_AddStringToObject(v, "path", m->pad);
	return v;
}

/* One span of the agent of node "n" at that time. */
static inline int take_at(uint64_t now_ms, struct made m)
{
	cJSON *list = cJSON_CreateArray();
	int r;

	cJSON_AddItemToArray(list, span_made(&m));
	r = traces_take(store, list, "n", now_ms);
	cJSON_Delete(list);
	return r;
}

#define TAKE(...) take_at(1000, (struct made){__VA_ARGS__})

/* The spans of a trace, -1: there is none. */
static inline int spans_of(const char *trace)
{
	struct buf b = {0};
	cJSON *v;
	int n = -1;

	if (traces_show(store, trace, &b))
		return -1;
	v = json_parse(b.data, b.len, NULL);
	assert_non_null(v);
	n = cJSON_GetArraySize(cJSON_GetObjectItem(v, "spans"));
	cJSON_Delete(v);
	buf_done(&b);
	return n;
}

static inline struct traces_counts counts(void)
{
	struct traces_counts c;

	traces_count(store, &c);
	return c;
}

static inline off_t file_size(const char *name)
{
	char path[256];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", home.path, name);
	return stat(path, &st) ? -1 : st.st_size;
}

#endif
