/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The conversation with meshd: configuration and registered endpoints come by a long poll, our
 * state goes by PUT, at once when it changed and every few seconds. Without meshd the last
 * configuration (kept on disk) stays in force.
 */
#ifndef AGENT_CONTROL_SESSION_H
#define AGENT_CONTROL_SESSION_H

#include "agent/registry/registry.h"
#include "lib/loop.h"

#include <stdbool.h>
#include <stdint.h>

struct session;

struct session_config {
	const char *control, *node, *run_dir;
	const char *token_file; /* NULL: the default place, if it can be read */
};

struct session_ops {
	void *arg;
	/* A whole new configuration, already checked. */
	void (*configure)(void *arg, const struct named_config *services, size_t nservices,
			  const struct external_info *externals, size_t nexternals);
	char *(*state)(void *arg); /* body of the next PUT; freed by the session */
};

/* Applies the configuration kept on disk, then starts to talk. 0 or -errno. */
int session_new(struct loop *l, const struct session_config *cfg, const struct session_ops *ops,
		struct session **out);
void session_free(struct session **s);

/* Our state is different now: to be sent within 10 ms. */
void session_changed(struct session *s);
/* Reads the token again. */
void session_reload(struct session *s);
/* Sends the farewell: meshd forgets our endpoints at once. `done` runs when it was answered or
 * given up. */
void session_goodbye(struct session *s, void (*done)(void *arg), void *arg);

uint64_t session_revision(const struct session *s); /* of the configuration in force */
const char *session_error(const struct session *s); /* why the last one was refused, or NULL */
bool session_connected(const struct session *s);
/* a configuration was ever taken, from meshd or from disk */

#endif
