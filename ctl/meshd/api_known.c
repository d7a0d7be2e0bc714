/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is it there, what an order by hand is about? A name that nobody has is most likely mistyped, so
 * the refusal says which there are. Called by the handlers of faults, drains and breakers.
 */
#include "ctl/meshd/api.h"

#include <stdlib.h>
#include <string.h>

#define NAMES_MAX 360 /* bytes of names in a refusal */

static uint64_t now_ms(const struct request *r)
{
	return r->meshd->loop->now_ns / 1000000;
}

/* Adds a name, or dots when there is no room for it. */
static void name_add(struct buf *b, const char *name)
{
	size_t len = strlen(name);

	if (b->len >= 3 && !memcmp(b->data + b->len - 3, "...", 3))
		return;
	if (b->len + len > NAMES_MAX)
		buf_str(b, ", ...");
	else
		buf_printf(b, "%s%s", b->len ? ", " : "", name);
}

static bool configured(struct request *r, const char *service)
{
	uint64_t revision;
	char *text;

	if (store_config_get(r->meshd->store, service, &text, &revision))
		return false;
	free(text);
	return true;
}

bool api_knows_service(struct request *r, const char *service)
{
	struct endpoint *all;
	int n = registry_endpoints(r->meshd->registry, now_ms(r), &all);
	struct buf names;
	bool found = false;

	if (n < 0) {
		api_fail(r, n, NULL);
		return false;
	}
	buf_init(&names, NAMES_MAX + 64);
	for (int i = 0; i < n; i++) {
		found = found || !strcmp(all[i].service, service);
		if (!i || strcmp(all[i].service, all[i - 1].service))
			name_add(&names, all[i].service);
	}
	found = found || configured(r, service);
	if (!found && names.len)
		reply_error(r, 404, NULL, "there is no service %s; there are: %s", service,
			    names.data);
	else if (!found)
		reply_error(r, 404, NULL, "there is no service %s, and no other: nothing listens",
			    service);
	buf_done(&names);
	free(all);
	return found;
}

bool api_knows_endpoint(struct request *r, const char *service, const char *id)
{
	struct endpoint *all;
	struct buf names;
	bool found;
	int n;

	if (!api_knows_service(r, service))
		return false;
	n = registry_endpoints(r->meshd->registry, now_ms(r), &all);
	if (n < 0) {
		api_fail(r, n, NULL);
		return false;
	}
	buf_init(&names, NAMES_MAX + 64);
	for (int i = 0; i < n; i++)
		if (!strcmp(all[i].service, service))
			name_add(&names, all[i].id);
	found = endpoints_have(all, n, service, id);
	if (!found)
		reply_error(r, 404, NULL, "service %s has no endpoint %s; it has: %s", service, id,
			    names.len ? names.data : "none");
	buf_done(&names);
	free(all);
	return found;
}
