/* SPDX-License-Identifier: Apache-2.0 */
/* See tail.h: two rings by age, each with a table of chains by trace. A ring's entry that was taken
 * out of its middle stays there, empty, until its turn comes. */
#include "ctl/meshd/traces/tail.h"
#include "ctl/meshd/traces/span.h"
#include "ctl/meshd/traces/traces.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define BUCKETS 4096 /* a power of two */

struct want {
	uint8_t key[16];
	uint64_t until_ms;
	uint32_t next; /* of its chain: number + 1, 0: none */
};

struct held {
	uint8_t key[16];
	uint64_t at_ms;
	uint32_t next;
	char *text; /* NULL: taken out */
	size_t len;
	char node[64];
};

struct node {
	char name[64];
	uint64_t told;	  /* the number of the next want that it is to be told of */
	uint64_t full_ms; /* when it was told all */
};

struct tail {
	uint64_t seed; /* trace ids are the clients': they must not choose the chain */
	uint64_t want_first, want_end; /* numbers of wants; slot: number % TRACES_WANT_MAX */
	uint64_t held_first, held_end;
	unsigned nheld, nnodes;
	size_t bytes;
	uint32_t want_chain[BUCKETS], held_chain[BUCKETS]; /* slot + 1 */
	struct want want[TRACES_WANT_MAX];
	struct held held[TAIL_HELD_MAX];
	struct node node[TAIL_NODES_MAX];
};

static unsigned bucket(const struct tail *t, const uint8_t key[16])
{
	uint64_t a, b;

	memcpy(&a, key, 8);
	memcpy(&b, key + 8, 8);
	a = (a ^ t->seed) * 0x9e3779b97f4a7c15u;
	b = (b ^ (a >> 32) ^ a) * 0x9e3779b97f4a7c15u;
	return (b >> 32) & (BUCKETS - 1);
}

int tail_new(struct tail **out)
{
	struct tail *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	if (getrandom(&t->seed, sizeof(t->seed), 0) != sizeof(t->seed)) {
		free(t);
		return -EIO;
	}
	*out = t;
	return 0;
}

/* --- what is asked for ----------------------------------------------------------------- */

static void want_drop_first(struct tail *t)
{
	uint32_t slot = (uint32_t)(t->want_first++ % TRACES_WANT_MAX);
	uint32_t *at = &t->want_chain[bucket(t, t->want[slot].key)];

	while (*at && *at != slot + 1)
		at = &t->want[*at - 1].next;
	*at = t->want[slot].next;
}

bool tail_ask(struct tail *t, const uint8_t key[16], uint64_t now_ms)
{
	uint32_t *chain = &t->want_chain[bucket(t, key)], slot;

	for (uint32_t i = *chain; i; i = t->want[i - 1].next)
		if (!memcmp(t->want[i - 1].key, key, 16))
			return true;
	if (t->want_end - t->want_first == TRACES_WANT_MAX)
		return false;
	slot = (uint32_t)(t->want_end++ % TRACES_WANT_MAX);
	memcpy(t->want[slot].key, key, 16);
	t->want[slot].until_ms = now_ms + TRACES_WANT_MS;
	t->want[slot].next = *chain;
	*chain = slot + 1;
	return true;
}

/* The node's entry; when there are too many, that of whoever was told all the longest ago. */
static struct node *find_node(struct tail *t, const char *name)
{
	struct node *oldest = &t->node[0];

	for (unsigned i = 0; i < t->nnodes; i++) {
		if (!strcmp(t->node[i].name, name))
			return &t->node[i];
		if (t->node[i].full_ms < oldest->full_ms)
			oldest = &t->node[i];
	}
	if (t->nnodes < TAIL_NODES_MAX)
		oldest = &t->node[t->nnodes++];
	*oldest = (struct node){0};
	snprintf(oldest->name, sizeof(oldest->name), "%s", name);
	return oldest;
}

void tail_tell(struct tail *t, const char *node, uint64_t now_ms, cJSON *array)
{
	struct node *n = find_node(t, node);
	char hex[33];

	if (now_ms - n->full_ms >= TAIL_AGAIN_MS) {
		n->full_ms = now_ms;
		n->told = 0;
	}
	if (n->told < t->want_first)
		n->told = t->want_first;
	for (; n->told < t->want_end; n->told++)
		cJSON_AddItemToArray(array, cJSON_CreateString(span_hex(
						    t->want[n->told % TRACES_WANT_MAX].key, hex)));
}

/* --- what waits ------------------------------------------------------------------------ */

/* Takes a held span's text out of its chain and of the sums. */
static char *take_out(struct tail *t, struct held *h)
{
	uint32_t slot = (uint32_t)(h - t->held), *at = &t->held_chain[bucket(t, h->key)];
	char *text = h->text;

	while (*at && *at != slot + 1)
		at = &t->held[*at - 1].next;
	*at = h->next;
	t->nheld--;
	t->bytes -= h->len;
	h->text = NULL;
	return text;
}

/* Returns whether a span went with it. */
static bool held_drop_first(struct tail *t)
{
	struct held *h = &t->held[t->held_first++ % TAIL_HELD_MAX];
	bool lost = h->text;

	if (lost)
		cJSON_free(take_out(t, h));
	return lost;
}

unsigned tail_hold(struct tail *t, const uint8_t key[16], const cJSON *span, const char *node,
		   uint64_t now_ms)
{
	char *text = cJSON_PrintUnformatted(span);
	size_t len = text ? strlen(text) : 0;
	unsigned lost = 0;
	struct held *h;
	uint32_t slot, *chain;

	if (!text || len > SPAN_BODY_MAX) {
		cJSON_free(text);
		return 1;
	}
	while (t->held_end - t->held_first == TAIL_HELD_MAX || t->bytes + len > TAIL_HELD_BYTES)
		lost += held_drop_first(t);
	slot = (uint32_t)(t->held_end++ % TAIL_HELD_MAX);
	chain = &t->held_chain[bucket(t, key)];
	h = &t->held[slot];
	*h = (struct held){.at_ms = now_ms, .next = *chain, .text = text, .len = len};
	memcpy(h->key, key, 16);
	snprintf(h->node, sizeof(h->node), "%s", node);
	*chain = slot + 1;
	t->bytes += len;
	t->nheld++;
	return lost;
}

char *tail_release(struct tail *t, const uint8_t key[16], char *node)
{
	for (uint32_t i = t->held_chain[bucket(t, key)]; i; i = t->held[i - 1].next) {
		struct held *h = &t->held[i - 1];

		if (memcmp(h->key, key, 16))
			continue;
		memcpy(node, h->node, sizeof(h->node));
		return take_out(t, h);
	}
	return NULL;
}

unsigned tail_sweep(struct tail *t, uint64_t now_ms)
{
	unsigned lost = 0;

	while (t->want_first < t->want_end &&
	       t->want[t->want_first % TRACES_WANT_MAX].until_ms <= now_ms)
		want_drop_first(t);
	while (t->held_first < t->held_end &&
	       t->held[t->held_first % TAIL_HELD_MAX].at_ms + TAIL_HELD_MS <= now_ms)
		lost += held_drop_first(t);
	return lost;
}

unsigned tail_held(const struct tail *t)
{
	return t->nheld;
}

void tail_free(struct tail **t)
{
	if (!*t)
		return;
	while ((*t)->held_first < (*t)->held_end)
		held_drop_first(*t);
	free(*t);
	*t = NULL;
}
