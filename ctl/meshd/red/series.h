/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which series and which services there are: a table of each, bounded. Data in memory names a
 * series by its id; an id is never given to another series. Called by red.c and scan.c only.
 */
#ifndef MESHD_RED_SERIES_H
#define MESHD_RED_SERIES_H

#include "ctl/meshd/red/red.h"

#define RED_NAME_MAX	63
#define RED_SERIES_IDLE 900	/* s without a request: then it may go, no tier in memory has it */
#define RED_OTHER	"other" /* source and version of what had no room of its own */
#define RED_SHARDS	16	/* services are written to disk in so many turns */

struct red_service {
	char name[RED_NAME_MAX + 1]; /* "": free */
	uint32_t refs;		     /* of series */
	bool called;		     /* else it has only called others */
	bool unwritten;		     /* it is on disk otherwise, or not at all */
	uint64_t first_s, last_s;
	uint64_t requests, errors;
};

struct red_series {
	uint32_t id;	       /* 0: free */
	uint32_t refs;	       /* of cells that are not written yet */
	uint32_t next;	       /* in its bucket, or among the free ones */
	uint32_t older, newer; /* by use */
	uint64_t used_s;
	struct red_service *to;
	struct red_key key; /* strings are in text */
	char text[3 * (RED_NAME_MAX + 1)];
};

/* Of an id: which of less than RED_SLOTS places it has. */
#define RED_SLOTS 32768
static inline uint32_t red_slot(uint32_t id)
{
	return id & (RED_SLOTS - 1);
}

struct red_table;

/* The same for a name on every host and after every restart. */
unsigned red_shard_of(const char *service);

int red_table_new(struct red_table **out);
void red_table_free(struct red_table **t);

/* The series of that key, made if need be; when there is no room, that of "other" callers of the
 * same service (*folded), or of "other" services. NULL: not even that. */
struct red_series *red_table_series(struct red_table *t, const struct red_key *key, uint64_t now_s,
				    bool *folded);
/* NULL: it has gone. */
struct red_series *red_table_by_id(const struct red_table *t, uint32_t id);
/* The service, made if need be. NULL: no room, all are in use. */
struct red_service *red_table_service(struct red_table *t, const char *name, uint64_t now_s);
struct red_service *red_table_find(const struct red_table *t, const char *name);
/* Calls fn for each until it returns non-zero, which is then returned. */
int red_table_services(const struct red_table *t, int (*fn)(void *arg, struct red_service *s),
		       void *arg);
void red_table_count(const struct red_table *t, struct red_counts *c);

#endif
