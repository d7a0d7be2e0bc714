/* SPDX-License-Identifier: Apache-2.0 */
/* Agents that wait for changes, over the daemon of meshd_rig.h. Header only. */
#ifndef TESTS_MESHD_WATCH_H
#define TESTS_MESHD_WATCH_H

#include "tests/unit/meshd_rig.h"

struct waiting {
	int answered, status;
	char body[4096];
};

static inline void on_watch(const struct http_answer *a, void *arg)
{
	struct waiting *w = arg;

	w->answered++;
	w->status = a->error ? a->error : a->status;
	snprintf(w->body, sizeof(w->body), "%s", a->body ? a->body : "");
}

static inline void run_until(struct loop *l, const struct waiting *w, int answered, uint64_t ms)
{
	uint64_t end = clock_mono_ns() + ms * 1000000;

	while (w->answered < answered && clock_mono_ns() < end)
		assert_int_equal(loop_once(l, 10), 0);
}

/* Of what was ordered by hand, as an agent that knows nothing is told. */
static inline uint64_t serial(void)
{
	uint64_t n;
	cJSON *v;

	assert_int_equal(call("GET", "/api/watch", NULL), 200);
	v = json_parse(answer.body, answer.len, NULL);
	n = (uint64_t)json_num(v, "serial", 0);
	cJSON_Delete(v);
	return n;
}

static inline void watch_path(struct http_client *hc, const char *path, struct waiting *w)
{
	struct http_call c = {.method = "GET", .base = local, .path = path, .timeout_ms = 40000};

	assert_int_equal(http_client_start(hc, &c, on_watch, w), 0);
}

static inline void watch_start(struct http_client *hc, uint64_t rev, uint64_t ser,
			       struct waiting *w)
{
	char path[128];

	snprintf(path, sizeof(path), "/api/watch?revision=%llu&serial=%llu&node=n1",
		 (unsigned long long)rev, (unsigned long long)ser);
	watch_path(hc, path, w);
}

/* Until the daemon says that so many wait. */
static inline void await_watchers(struct loop *l, int n)
{
	uint64_t end = clock_mono_ns() + 5000000000ULL;
	char want[32];

	snprintf(want, sizeof(want), "mesh_watchers %d\n", n);
	do {
		assert_int_equal(loop_once(l, 1), 0);
		assert_int_equal(call("GET", "/metrics", NULL), 200);
		if (clock_mono_ns() > end)
			fail_msg("%d do not wait", n);
	} while (!strstr(answer.body, want));
}

#endif
