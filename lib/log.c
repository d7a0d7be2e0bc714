/* SPDX-License-Identifier: Apache-2.0 */
/* See log.h. One write() a line, so that lines of several processes on one stderr stay whole. */
#include "lib/log.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/utf8.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MESSAGE_MAX 2048 /* the rest of a longer message is cut off */

static const char *const level_names[] = {"debug", "info", "warn", "error"};

static struct {
	const char *program;
	bool json;
	enum log_level least;
} config = {.program = "mesh", .least = LOG_LEVEL_INFO};

void log_init(const char *program, bool json, enum log_level least)
{
	config.program = program;
	config.json = json;
	config.least = least;
}

int log_level_parse(const char *s, enum log_level *level)
{
	for (unsigned i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++) {
		if (!strcmp(s, level_names[i])) {
			*level = (enum log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

static bool printable(const unsigned char *s, size_t n)
{
	return n && s[0] >= 0x20 && s[0] != 0x7f && !utf8_is_c1(s, n);
}

static void add_text(struct buf *b, const char *s)
{
	const unsigned char *p = (const unsigned char *)s;
	size_t len = strlen(s), n;

	for (size_t i = 0; i < len; i += n ? n : 1) {
		n = utf8_len(p + i, len - i);
		if (printable(p + i, n))
			buf_add(b, p + i, n);
		else
			for (size_t k = 0; k < (n ? n : 1); k++)
				buf_printf(b, "\\x%02x", p[i + k]);
	}
}

static void format_line(struct buf *b, enum log_level level, const char *message)
{
	char now[CLOCK_ISO_MAX];

	clock_iso(clock_wall_ms(), now);
	if (config.json) {
		buf_printf(b, "{\"time\":\"%s\",\"level\":\"%s\",\"program\":", now,
			   level_names[level]);
		buf_json(b, config.program, strlen(config.program));
		buf_str(b, ",\"message\":");
		buf_json(b, message, strlen(message));
		buf_str(b, "}\n");
	} else {
		buf_printf(b, "%s %s %s: ", now, level_names[level], config.program);
		add_text(b, message);
		buf_char(b, '\n');
	}
}

void log_write(enum log_level level, const char *fmt, ...)
{
	char message[MESSAGE_MAX];
	struct buf line;
	va_list ap;
	int saved = errno;

	if (level < config.least)
		return;
	va_start(ap, fmt);
	if (vsnprintf(message, sizeof(message), fmt, ap) < 0)
		message[0] = 0;
	va_end(ap);
	buf_init(&line, 8 * MESSAGE_MAX);
	format_line(&line, level, message);
	if (!line.failed)
		(void)!write(STDERR_FILENO, line.data,
			     line.len); /* a log that fails can tell nobody */
	buf_done(&line);
	errno = saved;
}
