/* SPDX-License-Identifier: Apache-2.0 */
/* The exporter of spans and a receiver (otlp_receiver.h) that it sends to. Header only. */
#ifndef TESTS_OTLP_RIG_H
#define TESTS_OTLP_RIG_H

#include "ctl/meshd/otlp/otlp.h"
#include "tests/unit/otlp_receiver.h"
#include "tests/unit/quoted.h"

static struct otlp *otlp;
static const struct scripted takes[] = {{ANSWER}};

static inline void start_with(struct otlp_config c)
{
	char url[64], why[256];

	snprintf(url, sizeof(url), "http://127.0.0.1:%d", receiver.port);
	c.endpoint = url;
	if (!c.batch_ms)
		c.batch_ms = 300; /* what is offered in a row is one request */
	if (!c.backoff_ms)
		c.backoff_ms = 20;
	assert_int_equal(otlp_new(&c, &otlp, why, sizeof(why)), 0);
}

static inline void start(const struct scripted *script, unsigned n)
{
	receiver_bind();
	receiver_listen(script, n);
	start_with((struct otlp_config){0});
}
#define START(script) start(script, sizeof(script) / sizeof(*(script)))

static inline void stop(void)
{
	otlp_free(&otlp);
	receiver_end();
}

/* Single quotes stand for double ones. */
static inline void offer(const char *text)
{
	cJSON *span = quoted_json(text);

	assert_non_null(span);
	otlp_offer(otlp, span);
	cJSON_Delete(span);
}

static inline void offer_number(unsigned i)
{
	char text[256];

	snprintf(text, sizeof(text),
		 "{'id':'%016x','traceId':'t-%u','service':'s%u','method':'GET','path':'/"
		 "','statusCode':"
		 "200,'startTime':1763868000123.5,'duration':1,'kind':'request'}",
		 i + 1, i, i % 3);
	offer(text);
}

static inline struct otlp_stats stats(void)
{
	struct otlp_stats s;

	otlp_count(otlp, &s);
	return s;
}

/* Until nothing waits. */
static inline void settle(void)
{
	uint64_t end = clock_mono_ns() + 20000000000ull;

	while (stats().queued) {
		if (clock_mono_ns() > end)
			fail_msg("%u spans wait still", stats().queued);
		poll(NULL, 0, 2);
	}
}

static inline void assert_all_right(void)
{
	for (unsigned i = 0; i < receiver.n; i++)
		assert_string_equal(receiver.got[i].wrong, "");
}

static inline const cJSON *at(const cJSON *list, int i)
{
	const cJSON *v = cJSON_GetArrayItem(list, i);

	assert_non_null(v);
	return v;
}

static inline const cJSON *spans_of(unsigned request, int resource)
{
	const cJSON *r =
		at(cJSON_GetObjectItem(receiver.got[request].body, "resourceSpans"), resource);

	return cJSON_GetObjectItem(at(cJSON_GetObjectItem(r, "scopeSpans"), 0), "spans");
}

static inline unsigned spans_in(unsigned request)
{
	unsigned n = 0;
	int resources = cJSON_GetArraySize(
		cJSON_GetObjectItem(receiver.got[request].body, "resourceSpans"));

	for (int i = 0; i < resources; i++)
		n += (unsigned)cJSON_GetArraySize(spans_of(request, i));
	return n;
}

#endif
