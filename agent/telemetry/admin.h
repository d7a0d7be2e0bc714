/* SPDX-License-Identifier: Apache-2.0 */
/* /metrics, /healthz and /readyz of the agent, served on the supervisor's loop by libmicrohttpd.
 * GET and HEAD only; a Host that is neither an address nor localhost nor ours is refused, or a web
 * page in somebody's browser could read them (DNS rebinding). */
#ifndef AGENT_TELEMETRY_ADMIN_H
#define AGENT_TELEMETRY_ADMIN_H

#include "lib/buf.h"
#include "lib/loop.h"

#include <stdbool.h>

#define ADMIN_PART_MAX (4u << 20) /* bytes of one part of /metrics */

struct admin;

struct admin_ops {
	void *arg;
	const char *name; /* of this host, as it may be asked for; lives as long as the server */
	/* Text as lib/exposition.h has it, with exemplars if they may be there, in parts that take
	 * a millisecond or so: other work is done between them. What begin() returned (NULL: there
	 * is no memory) goes to part(), which appends one and returns false after the last, and in
	 * any case to end(). */
	void *(*metrics_begin)(void *arg, bool exemplars);
	bool (*metrics_part)(void *arg, void *text, struct buf *out);
	void (*metrics_end)(void *text);
	/* False: not ready, and *why says it in a few words. */
	bool (*ready)(void *arg, const char **why);
};

/* fd: a listening socket, taken over (closed here, also on failure). 0 or -errno. */
int admin_new(struct loop *l, int fd, const struct admin_ops *ops, struct admin **out);
void admin_free(struct admin **a);

#endif
