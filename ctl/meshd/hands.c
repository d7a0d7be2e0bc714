/* SPDX-License-Identifier: Apache-2.0 */
/* See hands.h. */
#include "ctl/meshd/hands.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

const char *hand_word(enum hand_action a)
{
	static const char *const words[] = {"open", "close", "reset"};

	return words[a];
}

static void remove_at(struct hands *h, unsigned i)
{
	h->number--;
	memmove(&h->list[i], &h->list[i + 1], (h->number - i) * sizeof(*h->list));
}

static int find(const struct hands *h, const char *service, const char *endpoint)
{
	for (unsigned i = 0; i < h->number; i++)
		if (!strcmp(h->list[i].service, service) &&
		    !strcmp(h->list[i].endpoint, endpoint ? endpoint : ""))
			return (int)i;
	return -1;
}

static bool make_room(struct hands *h)
{
	for (unsigned i = 0; i < h->number; i++)
		if (h->list[i].action == HAND_RESET) {
			remove_at(h, i);
			return true;
		}
	return false;
}

int hands_add(struct hands *h, const char *service, const char *endpoint, enum hand_action action,
	      uint64_t serial)
{
	int old = find(h, service, endpoint);
	struct hand *n;

	if (old >= 0)
		remove_at(h, (unsigned)old);
	else if (h->number == HANDS_MAX && !make_room(h))
		return -ENOSPC;
	n = &h->list[h->number++];
	*n = (struct hand){.serial = serial, .action = action};
	snprintf(n->service, sizeof(n->service), "%s", service);
	snprintf(n->endpoint, sizeof(n->endpoint), "%s", endpoint ? endpoint : "");
	return 0;
}

bool hands_held(const struct hands *h, const char *service, const char *endpoint)
{
	int i = find(h, service, endpoint);

	return i >= 0 && h->list[i].action != HAND_RESET;
}

unsigned hands_sweep(struct hands *h, const struct endpoint *all, int n, uint64_t now_ms)
{
	unsigned gone = 0;

	for (unsigned i = 0; i < h->number;) {
		struct hand *c = &h->list[i];

		if (!c->endpoint[0] || endpoints_have(all, n, c->service, c->endpoint))
			c->gone_ms = 0;
		else if (!c->gone_ms)
			c->gone_ms = now_ms;
		if (c->gone_ms && now_ms - c->gone_ms >= HANDS_GONE_MS) {
			remove_at(h, i);
			gone++;
		} else {
			i++;
		}
	}
	return gone;
}

void hands_tell(const struct hands *h, struct buf *b)
{
	buf_char(b, '[');
	for (unsigned i = 0; i < h->number; i++) {
		const struct hand *n = &h->list[i];

		buf_printf(b, "%s{\"serial\":%llu,\"service\":", i ? "," : "",
			   (unsigned long long)n->serial);
		buf_json(b, n->service, strlen(n->service));
		if (n->endpoint[0]) {
			buf_str(b, ",\"endpoint\":");
			buf_json(b, n->endpoint, strlen(n->endpoint));
		}
		buf_printf(b, ",\"action\":\"%s\"}", hand_word(n->action));
	}
	buf_char(b, ']');
}
