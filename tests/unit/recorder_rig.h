/* SPDX-License-Identifier: Apache-2.0 */
/* A file of records on its own, as small as one may be. Header only. */
#ifndef TESTS_RECORDER_RIG_H
#define TESTS_RECORDER_RIG_H

#include "ctl/meshd/traces/recorder.h"
#include "tests/unit/meshd_dir.h"
#include "tests/unit/random.h"
#include "tests/unit/records_rig.h"

#include <errno.h>
#include <fcntl.h>

#define SIZE RECORDER_SIZE_MIN

static struct test_dir home;
static struct recorder *ring;
static inline void start(void)
{
	assert_int_equal(recorder_open(home.path, SIZE, true, &ring), 0);
}

static inline int setup(void **state)
{
	test_dir_make(&home);
	seed = 1;
	start();
	return 0;
}

static inline int teardown(void **state)
{
	recorder_close(&ring);
	test_dir_remove(&home);
	return 0;
}

static inline const char *file(void)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/" RECORDER_FILE, home.path);
	return path;
}

/* As kill -9 would leave it: nothing is written at the end. */
static inline void restart(void)
{
	recorder_close(&ring);
	start();
}

static inline void spoil(off_t at, const void *bytes, size_t len)
{
	int fd = open(file(), O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, len, at), (ssize_t)len);
	close(fd);
}

static inline uint32_t add(const struct rec *all, size_t n, uint64_t came_ms)
{
	struct record_batch_view v;
	uint32_t first = 0;
	size_t len;
	void *data = rec_batch(all, n, &len);

	assert_int_equal(record_batch_check(data, len, &v), 0);
	assert_int_equal(recorder_add(ring, &v, came_ms, &first), 0);
	free(data);
	return first;
}

static inline uint32_t add_one(uint64_t id, uint64_t came_ms)
{
	struct rec one = {.trace = "t", .id = id};

	return add(&one, 1, came_ms);
}

static inline uint64_t id_at(uint32_t number)
{
	struct record_batch_view v;
	const struct record *rec = recorder_read(ring, number, &v);
	uint64_t id = 0;

	if (rec)
		memcpy(&id, rec->span_id, 8);
	return id;
}

static inline uint32_t records(void)
{
	struct recorder_counts n;

	recorder_count(ring, &n);
	return n.records;
}

static inline uint32_t mark_of(const char *trace)
{
	uint8_t key[16];

	trace_id_bytes(trace, strlen(trace), key);
	return recorder_mark(ring, key);
}

#endif
