/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log: one line an event on stderr, as text ("2026-11-22T15:20:32.123Z info mesh-agent: message")
 * or JSON
 * ({"time","level","program","message"}). Control characters in a message are escaped: what a peer
 * sends can never make a second line. Library code returns errors; only the outermost caller logs,
 * once.
 */
#ifndef LIB_LOG_H
#define LIB_LOG_H

#include <stdbool.h>

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };

/* program is kept, not copied. json: JSON lines. Levels below `least` are dropped. */
void log_init(const char *program, bool json, enum log_level least);
/* "debug|info|warn|error" -> level; -EINVAL. */
int log_level_parse(const char *s, enum log_level *level);

__attribute__((format(printf, 2, 3))) void log_write(enum log_level level, const char *fmt, ...);
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_info(...)  log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_warn(...)  log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)

#endif
