/* SPDX-License-Identifier: Apache-2.0 */
/* Handler of /api/tap: requests as they pass, as server-sent events. */
#include "ctl/meshd/api.h"
#include "lib/clock.h"
#include "lib/name.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct follower {
	struct request *request;
	struct tap *tap;
};

static int take_name(struct request *r, const char *key, char out[64])
{
	const char *v = request_query(r, key);

	if (v && !name_valid(v)) {
		reply_error(r, 400, key, "must be " NAME_WHAT);
		return -EINVAL;
	}
	snprintf(out, 64, "%s", v ? v : "");
	return 0;
}

static int take_trace(struct request *r, char out[TAP_TRACE_MAX + 1])
{
	static const char allowed[] = "0123456789.-_"
				      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
	const char *v = request_query(r, "trace");
	size_t len = v ? strlen(v) : 1;

	if (!len || len > TAP_TRACE_MAX || (v && strspn(v, allowed) != len)) {
		reply_error(r, 400, "trace", "must be 1 to %d of A-Z a-z 0-9 . _ -", TAP_TRACE_MAX);
		return -EINVAL;
	}
	snprintf(out, TAP_TRACE_MAX + 1, "%s", v ? v : "");
	return 0;
}

static int take_min(struct request *r, uint64_t *ms)
{
	const char *v = request_query(r, "min");

	if (!v || !duration_parse(v, ms))
		return 0;
	reply_error(r, 400, "min", "must be a duration, such as 100ms");
	return -EINVAL;
}

static void on_ready(void *arg)
{
	stream_wake(((struct follower *)arg)->request);
}

static long on_read(void *arg, char *out, size_t cap)
{
	return tap_read(((struct follower *)arg)->tap, out, cap);
}

static void on_gone(void *arg)
{
	struct follower *f = arg;

	tap_close(&f->tap);
	free(f);
}

void api_tap(struct request *r)
{
	struct tap_filter filter = {0};
	struct follower *f;
	int err;

	if (take_name(r, "service", filter.service) || take_name(r, "source", filter.source) ||
	    take_trace(r, filter.trace) || take_min(r, &filter.min_ms) ||
	    request_flag(r, "error", &filter.error))
		return;
	f = calloc(1, sizeof(*f));
	err = f ? tap_open(r->meshd->taps, &filter, on_ready, f, &f->tap) : -ENOMEM;
	if (err) {
		free(f);
		if (err == -ENOSPC)
			reply_error(r, 503, NULL, "%d taps are open already", TAP_MAX);
		else
			reply_error(r, 503, NULL, "%s", strerror(-err));
		return;
	}
	f->request = r;
	reply_stream(r, "text/event-stream",
		     &(struct stream){.read = on_read, .gone = on_gone, .arg = f});
}
