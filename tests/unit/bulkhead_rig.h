/* SPDX-License-Identifier: Apache-2.0 */
/* For tests of what a worker lets in of a service at once: its gauges, the limits, requests that
 * wait, and other workers, which the test plays. Header only, on top of proxy_rig.h. */
#ifndef TESTS_BULKHEAD_RIG_H
#define TESTS_BULKHEAD_RIG_H

#include "proxy_rig.h"

#define OK200 "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"
#define LAST  "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx"

static inline struct mesh_svc_gauges *gauges(struct rig *rig, unsigned worker)
{
	return &rig->shared.svc_inflight[0].worker[worker];
}

static inline struct mesh_bulkhead_policy *limits(struct rig *rig)
{
	return &rig->snapshot->service.bulkhead;
}

static inline void set(__u32 *gauge, uint32_t n)
{
	__atomic_store_n(gauge, n, __ATOMIC_SEQ_CST);
}

static inline void expect_gauge(const __u32 *gauge, uint32_t n)
{
	for (int i = 0; __atomic_load_n(gauge, __ATOMIC_SEQ_CST) != n; i++) {
		if (i == RIG_WAIT_MS)
			fail_msg("%u and not %u", *gauge, n);
		poll(NULL, 0, 1);
	}
}

static inline uint32_t from_all_callers(struct rig *rig)
{
	uint32_t sum = 0;

	for (unsigned i = 0; i < MESH_MAX_EDGES; i++)
		sum += __atomic_load_n(&rig->shared.edges[i].worker[0], __ATOMIC_SEQ_CST);
	return sum;
}

static inline void expect_nothing_held(struct rig *rig)
{
	expect_gauge(&gauges(rig, 0)->requests, 0);
	expect_gauge(&gauges(rig, 0)->pending, 0);
	expect_gauge(&gauges(rig, 0)->seats, 0);
	assert_int_equal(from_all_callers(rig), 0);
	assert_int_equal(rig->inside->nqueued, 0);
}

static inline struct record record_at(struct rig *rig, unsigned n)
{
	const char *at = (char *)rig->ring + RING_DATA;
	struct record r;

	for (unsigned i = 0;;) {
		for (int k = 0; (uint64_t)(at - (char *)rig->ring - RING_DATA) >=
				__atomic_load_n(&rig->ring->head, __ATOMIC_ACQUIRE);
		     k++) {
			assert_true(k < RIG_WAIT_MS);
			poll(NULL, 0, 1);
		}
		memcpy(&r, at, sizeof(r));
		if (r.kind != RECORD_WHY && i++ == n)
			return r;
		at += r.size;
	}
}

static inline bool is_ready(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 0) > 0;
}

static inline int asked(struct rig *rig)
{
	int c = rig_connect(rig->gateway_port);

	rig_send(c, GET);
	return c;
}

/* A request that waits. */
static inline int waits(struct rig *rig, uint32_t nth)
{
	int c = asked(rig);

	expect_gauge(&gauges(rig, 0)->pending, nth);
	return c;
}

/* As if there were another; the test plays it. */
static inline void two_workers(struct rig *rig)
{
	expect_gauge(&rig->inside->workers, 1); /* it is up */
	set(&rig->inside->workers, 2);
}

static inline void expect_full(struct rig *rig, int c, unsigned record, uint32_t reason)
{
	struct record r;

	expect_refusal(c, "503", "bulkhead-full");
	assert_non_null(strstr(text, "x-mesh-tries: 0\r\n"));
	r = record_at(rig, record);
	assert_int_equal(r.cause, CAUSE_BULKHEAD_FULL);
	assert_int_equal(r.bulkhead, reason);
	close(c);
}

#endif
