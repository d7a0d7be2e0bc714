/* SPDX-License-Identifier: Apache-2.0 */
/* See whys.h: a list by age, and a table by request id. */
#include "ctl/meshd/whys.h"
#include "lib/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define BUCKETS 16384 /* a power of two */

struct why {
	struct why *older, *newer, *next; /* next: in its bucket */
	uint64_t at_ms;
	size_t len;
	char id[WHY_ID_MAX + 1], trace[WHY_ID_MAX + 1]; /* trace "": none */
	char text[];
};

struct whys {
	struct why *oldest, *newest, *bucket[BUCKETS];
	uint64_t seed; /* ids are the clients': they must not choose the bucket */
	unsigned number;
	size_t bytes;
};

static struct why **bucket_of(const struct whys *w, const char *id)
{
	uint64_t h = w->seed;

	for (; *id; id++)
		h = (h ^ (unsigned char)*id) * 0x9e3779b97f4a7c15u;
	return (struct why **)&w->bucket[(h >> 32) & (BUCKETS - 1)];
}

/* Where its pointer is, or the end of its bucket. */
static struct why **find(const struct whys *w, const char *id)
{
	struct why **at = bucket_of(w, id);

	while (*at && strcmp((*at)->id, id))
		at = &(*at)->next;
	return at;
}

static size_t size_of(const struct why *y)
{
	return sizeof(*y) + y->len + 1;
}

static void drop(struct whys *w, struct why *y)
{
	struct why **at = find(w, y->id);

	*at = y->next;
	*(y->older ? &y->older->newer : &w->oldest) = y->newer;
	*(y->newer ? &y->newer->older : &w->newest) = y->older;
	w->number--;
	w->bytes -= size_of(y);
	free(y);
}

int whys_new(struct whys **out)
{
	struct whys *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	if (getrandom(&w->seed, sizeof(w->seed), 0) != sizeof(w->seed)) {
		free(w);
		return -EIO;
	}
	*out = w;
	return 0;
}

void whys_free(struct whys **w)
{
	if (!*w)
		return;
	while ((*w)->oldest)
		drop(*w, (*w)->oldest);
	free(*w);
	*w = NULL;
}

static struct why *make(const cJSON *v, const char *id, const char *trace)
{
	char *text = cJSON_PrintUnformatted(v);
	size_t len = text ? strlen(text) : 0;
	struct why *y = text && len <= WHY_TEXT_MAX ? malloc(sizeof(*y) + len + 1) : NULL;

	if (y) {
		*y = (struct why){.len = len};
		strcpy(y->id, id);
		strcpy(y->trace, trace);
		memcpy(y->text, text, len + 1);
	} else {
		errno = text && len > WHY_TEXT_MAX ? EMSGSIZE : ENOMEM;
	}
	cJSON_free(text);
	return y;
}

int whys_add(struct whys *w, const cJSON *v, uint64_t now_ms)
{
	const char *id = json_str(v, "id", ""), *trace = json_str(v, "traceId", "");
	struct why **at, *y;

	if (!*id || strlen(id) > WHY_ID_MAX || strlen(trace) > WHY_ID_MAX)
		return -EMSGSIZE;
	y = make(v, id, trace);
	if (!y)
		return -errno;
	at = find(w, id);
	if (*at)
		drop(w, *at);
	while (w->oldest && (w->number >= WHYS_MAX || w->bytes + size_of(y) > WHYS_BYTES))
		drop(w, w->oldest);
	at = bucket_of(w, id);
	y->at_ms = now_ms;
	y->next = *at;
	*at = y;
	y->older = w->newest;
	*(w->newest ? &w->newest->newer : &w->oldest) = y;
	w->newest = y;
	w->number++;
	w->bytes += size_of(y);
	return 0;
}

const char *whys_find(const struct whys *w, const char *id, uint64_t now_ms)
{
	const struct why *y = *find(w, id);

	if (!y)
		for (y = w->newest; y && strcmp(y->trace, id);)
			y = y->older;
	return y && now_ms - y->at_ms < WHYS_KEEP_MS ? y->text : NULL;
}

void whys_sweep(struct whys *w, uint64_t now_ms)
{
	while (w->oldest && now_ms - w->oldest->at_ms >= WHYS_KEEP_MS)
		drop(w, w->oldest);
}

unsigned whys_number(const struct whys *w)
{
	return w->number;
}
