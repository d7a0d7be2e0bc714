/* SPDX-License-Identifier: Apache-2.0 */
/* /metrics, /healthz and /readyz of the agent, served on the supervisor's loop by libmicrohttpd.
 * GET and HEAD only; a Host that is neither an address nor localhost nor ours is refused, or a web
 * page in somebody's browser could read them (DNS rebinding). */
#ifndef AGENT_TELEMETRY_ADMIN_H
#define AGENT_TELEMETRY_ADMIN_H

#include "lib/buf.h"
#include "lib/loop.h"

#include <stdbool.h>

/* Bytes of /metrics: what metrics.h keeps at most, with the longest names, and room for the rest.
 */
#define ADMIN_TEXT_MAX (32u << 20)

struct admin;

struct admin_ops {
	void *arg;
	const char *name; /* of this host, as it may be asked for; lives as long as the server */
	/* Appends text as lib/exposition.h has it, with exemplars if they may be there. */
	void (*metrics)(void *arg, struct buf *out, bool exemplars);
	/* False: not ready, and *why says it in a few words. */
	bool (*ready)(void *arg, const char **why);
};

/* fd: a listening socket, taken over (closed here, also on failure). 0 or -errno. */
int admin_new(struct loop *l, int fd, const struct admin_ops *ops, struct admin **out);
void admin_free(struct admin **a);

#endif
