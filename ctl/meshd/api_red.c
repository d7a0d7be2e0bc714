/* SPDX-License-Identifier: Apache-2.0 */
/* Handler of /api/metrics/S: rate, errors and duration of one service over time. */
#include "ctl/meshd/api_red.h"
#include "lib/clock.h"

#include <errno.h>
#include <stdlib.h>

#define ANSWER_MAX (4u << 20)

/* In whole seconds, rounded up. 0 or -EINVAL after answering. */
static int seconds(struct request *r, const char *name, uint64_t *out)
{
	const char *text = request_query(r, name);
	uint64_t ms;

	if (!text)
		return 0;
	if (duration_parse(text, &ms) || !ms || ms > RED_KEEP_S * 1000ull) {
		reply_error(r, 400, name, "must be a time from 1s to 336h (14 days), as 1m or 10s");
		return -EINVAL;
	}
	*out = (ms + 999) / 1000;
	return 0;
}

int api_window(struct request *r, bool step, struct red_window *w)
{
	w->window_s = API_RED_WINDOW_S;
	if (seconds(r, "window", &w->window_s) || (step && seconds(r, "granularity", &w->step_s)))
		return -EINVAL;
	if (!step)
		w->step_s = w->window_s;
	if (!red_window_plan(r->meshd->red, w, clock_wall_ms()))
		return 0;
	reply_error(r, 400, "granularity", "would give more than %d points: ask for a coarser one",
		    RED_POINTS_MAX);
	return -EINVAL;
}

static double ms(const struct red_sum *s, double q)
{
	return histogram_sparse_quantile_ns(&s->histogram, q) / 1e6;
}

/* "key":value with six decimals at most. By hand: a map has tens of thousands of them, and printf
 * takes longer for that than all else together. */
static void figure(struct buf *b, const char *key, const char *suffix, double value)
{
	char text[48], *p = text + sizeof(text);
	uint64_t whole = value > 0 && value < 1e18 ? (uint64_t)value : 0,
		 part = value < 1e18 ? (uint64_t)((value - (double)whole) * 1e6 + 0.5) : 0;
	bool any = false;

	whole += part / 1000000;
	for (int i = 0; i < 6; i++, part /= 10) {
		any = any || part % 10;
		if (any)
			*--p = (char)('0' + part % 10);
	}
	if (any)
		*--p = '.';
	do
		*--p = (char)('0' + whole % 10);
	while (whole /= 10);
	buf_char(b, '"');
	buf_str(b, key);
	buf_str(b, suffix);
	buf_add(b, "\":", 2);
	buf_add(b, p, (size_t)(text + sizeof(text) - p));
}

void api_figure(struct buf *b, const char *key, double value)
{
	figure(b, key, "", value);
}

void api_figures(struct buf *b, const struct red_sum *s, double secs, const char *suffix)
{
	double share = s->requests ? (double)s->errors / (double)s->requests : 0;

	api_figure(b, "requests", (double)s->requests);
	buf_char(b, ',');
	api_figure(b, "errors", (double)s->errors);
	buf_char(b, ',');
	api_figure(b, "rate", (double)s->requests / secs);
	buf_char(b, ',');
	api_figure(b, "errorRate", share);
	buf_char(b, ',');
	figure(b, "p50", suffix, ms(s, 0.50));
	buf_char(b, ',');
	figure(b, "p95", suffix, ms(s, 0.95));
	buf_char(b, ',');
	figure(b, "p99", suffix, ms(s, 0.99));
	buf_char(b, ',');
	api_figure(b, "bytesIn", (double)s->bytes_in);
	buf_char(b, ',');
	api_figure(b, "bytesOut", (double)s->bytes_out);
}

/* A question under way, on its request. */
struct question {
	struct works *works;
	struct red_query *q;
};

static void question_done(void *work)
{
	struct question *u = work;

	u->works->begun--;
	red_query_free(&u->q);
	free(u);
}

/* 0 or -ENOMEM. */
static int question_new(struct request *r, const struct red_window *w)
{
	struct question *u = calloc(1, sizeof(*u));

	if (!u || red_query_new(r->meshd->red, w, &u->q)) {
		free(u);
		return -ENOMEM;
	}
	u->works = &r->meshd->works;
	u->works->begun++;
	r->work = u;
	r->work_done = question_done;
	return 0;
}

/* Parts, for as long as the loop may wait. */
static int query_parts(struct red_query *q)
{
	uint64_t end = clock_mono_ns() + WORKS_PART_NS;
	int more;

	do
		more = red_query_step(q);
	while (more > 0 && clock_mono_ns() < end);
	return more;
}

int api_query(struct request *r, const struct red_window *w, struct red_query **q)
{
	struct meshd *m = r->meshd;
	int err = 0;

	if (!r->work && m->works.begun >= WORKS_BEGUN)
		err = 1;
	else if (!r->work)
		err = question_new(r, w);
	if (!err) {
		*q = ((struct question *)r->work)->q;
		err = query_parts(*q);
	}
	if (err > 0)
		(void)works_wait(&m->works, r); /* it is answered, if it cannot */
	else if (err == -EIO)
		reply_error(r, 503, NULL, "%s", red_error(m->red));
	else if (err)
		api_fail(r, err, NULL);
	return err;
}

static void duration_member(struct buf *b, const char *key, uint64_t secs)
{
	char text[32];

	buf_member(b, key, duration_format(secs * 1000, text));
}

/* A point is a part of the window: of its seconds only those count in which anything was known. */
static void write_points(struct buf *b, const struct red_window *w, const struct red_sum *points,
			 double covered)
{
	double end = (double)w->to_ms / 1000, begin = end - covered;
	uint64_t at = w->from_s - w->from_s % w->step_s;

	for (size_t i = 0; i < red_window_points(w); i++, at += w->step_s) {
		double from = (double)at > begin ? (double)at : begin,
		       to = (double)(at + w->step_s) < end ? (double)(at + w->step_s) : end;

		buf_printf(b, "%s{\"time\":%llu,", i ? "," : "", (unsigned long long)at * 1000);
		api_figures(b, &points[i], to - from > 1 ? to - from : 1, "");
		buf_char(b, '}');
	}
}

static void write_answer(struct buf *b, const struct red *red, const struct red_query *q)
{
	const struct red_window *w = red_query_window(q);
	double covered = red_covered_s(red, w, w->service);

	buf_char(b, '{');
	buf_member(b, "service", w->service);
	buf_char(b, ',');
	duration_member(b, "window", w->window_s);
	buf_char(b, ',');
	duration_member(b, "granularity", w->step_s);
	buf_char(b, ',');
	duration_member(b, "resolution", w->resolution_s);
	buf_printf(b, ",\"from\":%llu,\"to\":%llu,\"seconds\":%.3f,",
		   (unsigned long long)w->from_s * 1000, (unsigned long long)w->to_ms, covered);
	api_figures(b, red_query_total(q), covered, "Latency");
	buf_str(b, ",\"series\":[");
	write_points(b, w, red_query_points(q), covered);
	buf_str(b, "]}");
}

/* A query parameter that is a name. 0 or -EINVAL after answering. */
static int name_of(struct request *r, const char *key, const char **out)
{
	*out = request_query(r, key);
	if (!*out || name_valid(*out))
		return 0;
	reply_error(r, 400, key, "must be " NAME_WHAT);
	return -EINVAL;
}

/* 0, or -EINVAL after answering. */
static int window_of(struct request *r, struct red_window *w)
{
	w->service = r->arg[0];
	if (api_window(r, true, w) || name_of(r, "source", &w->source) ||
	    name_of(r, "version", &w->version) ||
	    (!red_knows(r->meshd->red, w->service) && !api_knows_service(r, w->service)))
		return -EINVAL;
	return 0;
}

void api_red(struct request *r)
{
	struct red_window w = {0};
	struct red_query *q;
	struct buf b;

	if ((!r->work && window_of(r, &w)) || api_query(r, &w, &q))
		return;
	buf_init(&b, ANSWER_MAX);
	write_answer(&b, r->meshd->red, q);
	reply_buf(r, 200, "application/json", &b);
	buf_done(&b);
}
