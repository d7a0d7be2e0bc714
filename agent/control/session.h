/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The conversation with meshd: configuration, registered endpoints and what was ordered by hand
 * come by a long poll, our state goes by PUT, at once when it changed and every few seconds.
 * Without meshd the last configuration (kept on disk) stays in force.
 */
#ifndef AGENT_CONTROL_SESSION_H
#define AGENT_CONTROL_SESSION_H

#include "agent/control/configuration.h"
#include "lib/http.h"
#include "lib/loop.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

struct session;

struct session_config {
	const char *control, *node, *run_dir;
	const char *token_file; /* NULL: the default place, if it can be read */
};

struct session_ops {
	void *arg;
	/* Everything that meshd says, already checked, whenever any of it is new. What was read
	 * from disk has no faults and no commands by hand: those end with whoever held them. */
	void (*configure)(void *arg, const struct configuration *c);
	char *(*state)(void *arg); /* body of the next PUT; freed by the session */
	/* Optional: what is being watched now (`taps` of docs/telemetry.md; NULL: nothing), of
	 * which list. */
	void (*taps)(void *arg, const cJSON *taps, uint64_t serial);
};

/* Applies the configuration kept on disk, then starts to talk. 0 or -errno. */
int session_new(struct loop *l, const struct session_config *cfg, const struct session_ops *ops,
		struct session **out);
void session_free(struct session **s);

/* Our state is different now: to be sent within 10 ms. */
void session_changed(struct session *s);
/* A body in pieces, which stay as they are until the call has ended (lib/http.h). */
struct session_body {
	const struct iovec *pieces;
	size_t n;
};
/* Sends a body, with our token. done: as in http_client_start. 0 or -errno. */
int session_post(struct session *s, const char *path, const struct session_body *body,
		 void (*done)(const struct http_answer *a, void *arg), void *arg);
/* Ends what was posted with this arg: no answer will come. */
void session_post_cancel(struct session *s, const void *arg);
/* The same as session_post(), waiting for the answer for so long. Fills *a, to be released with
 * http_answer_done(). */
void session_post_now(struct session *s, const char *path, const struct session_body *body,
		      uint32_t timeout_ms, struct http_answer *a);
/* Reads the token again. */
void session_reload(struct session *s);
/* Sends the farewell: meshd forgets our endpoints at once. `done` runs when it was answered or
 * given up. */
void session_goodbye(struct session *s, void (*done)(void *arg), void *arg);

uint64_t session_revision(const struct session *s); /* of the configuration in force */
const char *session_error(const struct session *s); /* why the last one was refused, or NULL */
bool session_connected(const struct session *s);    /* meshd answered the last calls */

#endif
