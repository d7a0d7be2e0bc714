/* SPDX-License-Identifier: Apache-2.0 */
/* See config.h. One thread only: references are plain numbers. */
#include "agent/registry/config.h"

#include "agent/proxy/http1.h"
#include "lib/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct config_text {
	uint32_t refs;
	uint32_t size, room; /* of the block, this head included; room: as allocated */
	uint32_t pad;
};
_Static_assert(sizeof(struct config_text) % 8 == 0, "what comes first is aligned");

void service_config_init(struct service_config *c)
{
	memset(c, 0, sizeof(*c)); /* padding too: they are compared as bytes */
	c->policy = MESH_LB_P2C;
	c->fallback = SNAP_FALLBACK_SPLIT;
	c->sampling = SNAP_ALL;
	c->timeouts = (struct snap_timeouts){
		.connect = 1000, .try = 3000, .request = 15000, .idle = 60000};
	c->retry.attempts = 2;
	c->retry.causes = 1u << CAUSE_CONNECT_FAILED | 1u << CAUSE_UPSTREAM_RESET;
	for (uint32_t status = 502; status <= 504; status++)
		snap_retry_add_status(&c->retry, status);
	c->retry.methods = 1u << HTTP1_GET | 1u << HTTP1_HEAD | 1u << HTTP1_OPTIONS |
			   1u << HTTP1_PUT | 1u << HTTP1_DELETE;
	c->retry.backoff_ms = 25;
	c->retry.max_backoff_ms = 250;
	c->budget = snapshot_service_default.budget;
	c->breaker = snapshot_service_default.breaker;
	c->bulkhead = snapshot_service_default.bulkhead;
	strcpy(c->health.path, "/health");
	c->health.interval_ms = 2000;
	c->health.timeout_ms = 1000;
	c->health.unhealthy_after = 3;
	c->health.healthy_after = 2;
}

void service_config_done(struct service_config *c)
{
	if (c->text && !--c->text->refs)
		free(c->text);
	c->text = NULL;
}

void service_config_copy(struct service_config *dst, const struct service_config *src)
{
	memcpy(dst, src, sizeof(*dst));
	if (dst->text)
		dst->text->refs++;
}

bool service_config_equal(const struct service_config *a, const struct service_config *b)
{
	const size_t head = sizeof(struct config_text),
		     fixed = offsetof(struct service_config, text);

	if (memcmp(a, b, fixed) || !a->text != !b->text)
		return false;
	return a->text == b->text || (a->text->size == b->text->size &&
				      !memcmp((const char *)a->text + head,
					      (const char *)b->text + head, a->text->size - head));
}

const void *service_config_at(const struct service_config *c, uint32_t offset)
{
	return (const char *)c->text + offset;
}

const void *service_config_block(const struct service_config *c, uint32_t *size, uint32_t *skip)
{
	*size = c->text ? c->text->size : 0;
	*skip = c->text ? sizeof(*c->text) : 0;
	return c->text;
}

static int put(struct service_config *c, const void *p, size_t n, uint32_t align, uint32_t *offset)
{
	struct config_text *t = c->text;
	size_t size = t ? t->size : sizeof(*t), at = (size + align - 1) / align * align;

	if (n > CONFIG_TEXT_MAX || at + n > CONFIG_TEXT_MAX)
		return -E2BIG;
	if (!t || at + n > t->room) {
		size_t room = at + n < 256 ? at + n : (at + n) * 3 / 2;

		t = realloc(t, room);
		if (!t)
			return -ENOMEM;
		if (!c->text)
			*t = (struct config_text){.refs = 1};
		t->room = (uint32_t)room;
		c->text = t;
	}
	memset((char *)t + size, 0, at - size);
	if (p)
		memcpy((char *)t + at, p, n);
	else
		memset((char *)t + at, 0, n);
	t->size = (uint32_t)(at + n);
	*offset = (uint32_t)at;
	return 0;
}

int service_config_put(struct service_config *c, const void *p, size_t n, uint32_t *offset)
{
	return put(c, p, n, 8, offset);
}

int service_config_put_string(struct service_config *c, const char *s, uint32_t *offset)
{
	return put(c, s, strlen(s) + 1, 1, offset);
}

int service_config_version(struct service_config *c, const char *name, uint32_t *position)
{
	int err;

	for (uint32_t i = 0; i < c->nversions; i++)
		if (!strcmp(service_config_at(c, c->versions[i]), name)) {
			*position = i;
			return 0;
		}
	if (c->nversions == CONFIG_VERSIONS)
		return -ENOSPC;
	err = service_config_put_string(c, name, &c->versions[c->nversions]);
	if (!err)
		*position = c->nversions++;
	return err;
}
