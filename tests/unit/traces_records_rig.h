/* SPDX-License-Identifier: Apache-2.0 */
/* A store of spans that come as records, and questions to it. Header only. */
#ifndef TESTS_TRACES_RECORDS_RIG_H
#define TESTS_TRACES_RECORDS_RIG_H

#include "tests/unit/random.h"
#include "tests/unit/records_rig.h"
#include "tests/unit/traces_rig.h"

static inline int setup_store(void **state)
{
	seed = 1;
	setup_dir(state);
	store_start(0, 0);
	return 0;
}

static inline void restart(void)
{
	traces_free(&store);
	store_start(0, 0);
}

static inline uint64_t now_us(void)
{
	return clock_wall_ms() * 1000;
}

/* Only recorded. */
static inline int record_at(uint64_t now_ms, const struct rec *all, size_t n)
{
	struct record_batch_view v;
	size_t len;
	void *data = rec_batch(all, n, &len);
	int r;

	assert_int_equal(record_batch_check(data, len, &v), 0);
	r = traces_take_records(store, &v, 1, now_ms);
	free(data);
	return r;
}

/* And what is due is listed. */
static inline int send_at(uint64_t now_ms, const struct rec *all, size_t n)
{
	int r = record_at(now_ms, all, n);

	while (traces_list_due(store, now_ms))
		;
	return r;
}

static inline void send_one(struct rec one)
{
	if (!one.start_us)
		one.start_us = now_us();
	assert_int_equal(send_at(1000, &one, 1), 0);
}
#define SEND(...) send_one((struct rec){__VA_ARGS__})

/* n spans in one call. */
static inline void send_all(const struct rec *all, size_t n)
{
	assert_int_equal(send_at(1000, all, n), 0);
}

/* n traces named PREFIX0 and so on, each of one span, in one call. */
static inline void send_many(const char *prefix, int from, int n, struct rec like)
{
	static char names[4096][32];
	static struct rec all[4096];

	for (int i = 0; i < n; i++) {
		snprintf(names[i], sizeof(names[i]), "%s%d", prefix, from + i);
		all[i] = like;
		all[i].trace = names[i];
		all[i].id = (uint64_t)(from + i + 1);
		all[i].start_us = now_us();
	}
	for (int i = 0; i < n; i += 500)
		assert_int_equal(send_at(1000, all + i, (size_t)(n - i < 500 ? n - i : 500)), 0);
}

/* Services of which nothing is listed have a little more: no more. Two may look the same. */
static inline void use_up_quiet(void)
{
	char name[24];

	uint64_t before = counts().listed;

	for (int i = 0; counts().listed < before + TRACES_QUIET_BURST; i++) {
		assert_in_range(i, 0, 10 * TRACES_QUIET_BURST);
		snprintf(name, sizeof(name), "quiet%d", i);
		send_many(name, 0, 1, (struct rec){.service = name});
	}
}

/* How many traces a list has; *whole: it says that it is complete. */
static inline int listed(struct traces_filter f, bool *whole)
{
	struct buf b;
	cJSON *v;
	int n;

	if (!f.until_ms)
		f.until_ms = INT64_MAX;
	if (!f.limit)
		f.limit = TRACES_LIST_MAX;
	assert_int_equal(traces_list(store, &f, &b), 0);
	v = json_parse(b.data, b.len, NULL);
	assert_non_null(v);
	n = cJSON_GetArraySize(cJSON_GetObjectItem(v, "traces"));
	if (whole)
		*whole = json_bool(v, "complete", 0);
	cJSON_Delete(v);
	buf_done(&b);
	return n;
}

/* Asks until the answer is complete: a question has its time. */
static inline int listed_all(struct traces_filter f)
{
	bool whole = false;
	int n = 0;

	for (int i = 0; i < 1000 && !whole; i++)
		n = listed(f, &whole);
	assert_true(whole);
	return n;
}
#define LISTED(...)	listed_all((struct traces_filter){.error = -1, __VA_ARGS__})
#define WITH_ERROR(...) listed_all((struct traces_filter){.error = 1, __VA_ARGS__})

#endif
