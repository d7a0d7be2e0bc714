/* SPDX-License-Identifier: Apache-2.0 */
/* See sse.h. */
#include "ctl/meshctl/sse.h"

#include <stdio.h>
#include <string.h>

void sse_init(struct sse *s, int (*fn)(const char *, const char *, size_t, void *), void *arg)
{
	*s = (struct sse){.fn = fn, .arg = arg};
	buf_init(&s->line, SSE_EVENT_MAX);
	buf_init(&s->data, SSE_EVENT_MAX);
}

void sse_done(struct sse *s)
{
	buf_done(&s->line);
	buf_done(&s->data);
}

static void forget(struct sse *s)
{
	buf_reset(&s->data);
	s->event[0] = '\0';
	s->has_data = false;
}

void sse_reset(struct sse *s)
{
	forget(s);
	buf_reset(&s->line);
	s->after_cr = false;
}

static int dispatch(struct sse *s)
{
	int r = 0;

	if (s->data.failed)
		s->dropped++;
	else if (s->has_data)
		r = s->fn(s->event[0] ? s->event : "message", s->data.data ? s->data.data : "",
			  s->data.len, s->arg);
	forget(s);
	return r;
}

static void field(struct sse *s, const char *line, size_t len)
{
	const char *colon = memchr(line, ':', len);
	size_t name = colon ? (size_t)(colon - line) : len, at = name + (colon != NULL);

	if (at < len && line[at] == ' ')
		at++;
	if (name == 5 && !memcmp(line, "event", 5)) {
		snprintf(s->event, sizeof(s->event), "%.*s", (int)(len - at), line + at);
	} else if (name == 4 && !memcmp(line, "data", 4)) {
		if (s->has_data)
			buf_char(&s->data, '\n');
		buf_add(&s->data, line + at, len - at);
		s->has_data = true;
	}
}

static int end_of_line(struct sse *s)
{
	int r = 0;

	if (s->line.failed)
		s->data.failed = true;
	else if (!s->line.len)
		r = dispatch(s);
	else
		field(s, s->line.data, s->line.len);
	buf_reset(&s->line);
	return r;
}

int sse_feed(struct sse *s, const char *bytes, size_t n)
{
	const char *end = bytes + n;
	int r = 0;

	while (bytes < end && !r) {
		size_t len = 0, left = (size_t)(end - bytes);

		if (s->after_cr && *bytes == '\n') {
			s->after_cr = false;
			bytes++;
			continue;
		}
		while (len < left && bytes[len] != '\n' && bytes[len] != '\r')
			len++;
		buf_add(&s->line, bytes, len);
		s->after_cr = len < left && bytes[len] == '\r';
		if (len < left)
			r = end_of_line(s);
		bytes += len + (len < left);
	}
	return r;
}
