/* SPDX-License-Identifier: Apache-2.0 */
/* See traces.h. */
#include "ctl/meshd/traces/traces.h"

#include <errno.h>
#include <stdlib.h>

struct traces {
	struct traces_options o;
	struct traces_counts counts;
};

int traces_new(const struct traces_options *o, struct traces **out)
{
	struct traces *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->o = *o;
	*out = t;
	return 0;
}

void traces_free(struct traces **t)
{
	free(*t);
	*t = NULL;
}

int traces_take(struct traces *t, const cJSON *spans, const char *node, uint64_t now_ms)
{
	t->counts.failed += (uint64_t)cJSON_GetArraySize(spans);
	return -EIO;
}

void traces_want(struct traces *t, const char *node, cJSON *array)
{
}

void traces_sweep(struct traces *t, uint64_t now_ms)
{
}

const char *traces_error(const struct traces *t)
{
	return "spans are not kept yet";
}

void traces_count(struct traces *t, struct traces_counts *out)
{
	*out = t->counts;
}
