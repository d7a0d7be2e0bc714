/* SPDX-License-Identifier: Apache-2.0 */
/* Handler of /api/why: why the mesh answered a request as it did. */
#include "ctl/meshd/api.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void api_why(struct request *r)
{
	const char *found = whys_find(r->meshd->whys, r->arg[0], r->meshd->loop->now_ns / 1000000);
	struct buf b;

	if (!found) {
		reply_error(r, 404, NULL,
			    "nothing is known of %s: only answers that the mesh made itself are "
			    "explained, the last %d of %d minutes (%u are kept now)",
			    r->arg[0], WHYS_MAX, WHYS_KEEP_MS / 60000, whys_number(r->meshd->whys));
		return;
	}
	buf_init(&b, WHY_TEXT_MAX + 1);
	buf_str(&b, found);
	reply_buf(r, 200, "application/json", &b);
}
