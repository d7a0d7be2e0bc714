/* SPDX-License-Identifier: Apache-2.0 */
/* Handler of /api/why: why the mesh answered a request as it did. */
#include "ctl/meshd/api.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct search {
	const struct whys *whys;
	uint64_t now_ms;
	const char *found;
};

static int try_name(void *arg, const char *name)
{
	struct search *s = arg;

	s->found = whys_find(s->whys, name, s->now_ms);
	return s->found != NULL;
}

/* kept: there is a trace of that name. */
static void not_there(struct request *r, bool kept)
{
	if (kept)
		reply_error(r, 404, NULL,
			    "the mesh made no answer of its own to %s, or it is too long "
			    "ago: `meshctl trace show %s` has what its endpoints answered",
			    r->arg[0], r->arg[0]);
	else
		reply_error(r, 404, NULL,
			    "nothing is known of %s: only answers that the mesh made "
			    "itself are "
			    "explained, the last %d of %d minutes (%u are kept now)",
			    r->arg[0], WHYS_MAX, WHYS_KEEP_MS / 60000, whys_number(r->meshd->whys));
}

/* By request id or trace id; a trace also by what else it is called. */
void api_why(struct request *r)
{
	struct search s = {r->meshd->whys, r->meshd->loop->now_ns / 1000000};
	struct buf b;
	int err = 0;

	if (!try_name(&s, r->arg[0]))
		err = traces_names(r->meshd->traces, r->arg[0], try_name, &s);
	if (s.found) {
		buf_init(&b, WHY_TEXT_MAX + 1);
		buf_str(&b, s.found);
		reply_buf(r, 200, "application/json", &b);
	} else if (err == -EAGAIN) {
		reply_again(r, "there are too many spans to look through them now: ask again");
	} else {
		not_there(r, !err);
	}
}
