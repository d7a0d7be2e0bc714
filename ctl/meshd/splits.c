/* SPDX-License-Identifier: Apache-2.0 */
/* See splits.h. */
#include "ctl/meshd/splits.h"
#include "lib/buf.h"
#include "lib/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void splits_done(struct splits *s)
{
	free(s->text);
	*s = (struct splits){0};
}

static int add(void *arg, const char *service, const char *text, uint64_t revision)
{
	cJSON *v = json_parse(text, strlen(text), NULL);
	const cJSON *split = cJSON_GetObjectItemCaseSensitive(v, "split");
	char *own = split ? cJSON_PrintUnformatted(split) : NULL;
	struct buf *b = arg;

	if (own) {
		buf_add(b, service, strlen(service) + 1);
		buf_add(b, own, strlen(own) + 1);
	}
	cJSON_free(own);
	cJSON_Delete(v);
	return b->failed ? -ENOMEM : 0;
}

int splits_read(struct splits *s, struct store *store)
{
	struct buf b;
	int r;

	if (s->revision == store_revision(store))
		return 0;
	buf_init(&b, STORE_TEXT_MAX);
	r = store_config_each(store, add, &b);
	if (!r) {
		splits_done(s);
		s->len = b.len;
		s->text = buf_take(&b);
		s->revision = store_revision(store);
	}
	buf_done(&b);
	return r;
}

const char *splits_of(const struct splits *s, const char *service)
{
	for (const char *p = s->text; p && p < s->text + s->len;) {
		const char *split = p + strlen(p) + 1;

		if (!strcmp(p, service))
			return split;
		p = split + strlen(split) + 1;
	}
	return NULL;
}
