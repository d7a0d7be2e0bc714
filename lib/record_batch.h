/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records (lib/record.h) with the names of what is in them, in one piece that needs nothing else to
 * be read: what agents send to meshd (docs/telemetry.md, "Records") and what meshd keeps.
 *
 *   struct record_batch_head | records, one behind the other | where[names] | the names' strings
 *
 * A batch begins and ends at a multiple of 8 bytes. In its records the ids are numbers of names:
 *
 *   caller        who called ("gateway" and "unknown" are names)
 *   service       who was called ("none" is a name)
 *   endpoint      the instance that answered, endpoint_gen its version
 *   of each try   endpoint likewise; gen says nothing
 *
 * MESH_NONE: no name, "". upstream says nothing. A record that its agent found slow has
 * RECORD_SLOW.
 */
#ifndef LIB_RECORD_BATCH_H
#define LIB_RECORD_BATCH_H

#include "lib/record.h"
#include "lib/span_json.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RECORD_BATCH_MAGIC 0x6272636d	/* "mcrb" */
#define RECORD_BATCH_SIZE  (256u << 10) /* bytes of one at most */
#define RECORD_BATCH_MAX   4096		/* records of one */
#define RECORD_BATCH_NAMES 1024		/* names of one */
#define RECORD_NAME_SIZE   64		/* bytes of a name, NUL included */

/* The first four are the same in all layouts: so who does not know one can pass it over. */
struct record_batch_head {
	uint32_t magic;
	uint32_t layout;   /* RECORD_LAYOUT */
	uint32_t size;	   /* of all of it */
	uint32_t records;  /* how many */
	uint32_t at_names; /* where the records end and where[] begins, from the batch's start */
	uint32_t names;	   /* how many; number 0 is the node */
	int64_t wall_ns;   /* to be added to their start_ns: since 1970 */
};

/* --- reading ------------------------------------------------------------------------- */

/* Of a batch that was checked; good as long as its bytes are there, and may be copied. */
struct record_batch_view {
	const struct record_batch_head *head;
	const uint16_t *where; /* of each name in `strings` */
	const char *strings;
};

/* Looks whether a batch begins at `data` and is whole and sound, all of it: whatever the functions
 * below hand out can be relied on then as if we had made it (records fit and are trim, as
 * record_fits() and record_is_trim() have it; kinds are RECORD_REQUEST or RECORD_TUNNEL; names have
 * no more than RECORD_NAME_SIZE bytes). len: bytes that may be read; the batch may be shorter,
 * view->head->size says by how much. data: at a multiple of 8. Some 30 ns a record.
 * 0 or -EINVAL: it came over the network or from disk, and anything else may be in it. */
int record_batch_check(const void *data, size_t len, struct record_batch_view *view);

/* The records in their order: *at is 0 before the first call and is where the one that follows the
 * one returned is; NULL: there is no more. An *at kept from before leads there again. */
const struct record *record_batch_next(const struct record_batch_view *v, uint32_t *at);

/* The name of that number; "" of MESH_NONE. */
static inline const char *record_batch_name(const struct record_batch_view *v, uint32_t number)
{
	return number < v->head->names ? v->strings + v->where[number] : "";
}
static inline const char *record_batch_node(const struct record_batch_view *v)
{
	return record_batch_name(v, 0);
}

/* When that was (a record's start_ns), in ns since 1970. */
static inline uint64_t record_batch_wall(const struct record_batch_view *v, uint64_t mono_ns)
{
	int64_t ns = (int64_t)mono_ns + v->head->wall_ns;

	return ns > 0 ? (uint64_t)ns : 0;
}

/* What span_json() wants to know; it points into the batch and to *v. */
void record_batch_span(const struct record_batch_view *v, const struct record *rec,
		       struct span_names *out);

/* --- writing ------------------------------------------------------------------------- */

struct record_batch; /* a writer: the batch that is being filled */

/* node: copied. 0 or -ENOMEM. */
int record_batch_new(const char *node, struct record_batch **out);
void record_batch_free(struct record_batch **b); /* with what is in it */

/* Copies one record, of kind RECORD_REQUEST or RECORD_TUNNEL, that fits and is trim. names: as for
 * span_json(); `endpoint` is asked only for tries that ended elsewhere than the request. Names are
 * known by where they are: until the batch is taken the same pointer has to mean the same string
 * (of endpoints: the same with the same generation). Of longer ones than RECORD_NAME_SIZE the
 * beginning counts. 0; -ENOSPC: the batch is full, it is to be taken first; -ENOMEM. */
int record_batch_add(struct record_batch *b, const struct record *rec,
		     const struct span_names *names);

uint32_t record_batch_count(const struct record_batch *b); /* records in it */

/* Ends the batch and begins another: *out is its bytes (*len of them), the caller's to free().
 * wall_ns: as in its head, for all of its records. 0; -ENODATA: there are none; -ENOMEM: they are
 * lost, *out is NULL. */
int record_batch_take(struct record_batch *b, int64_t wall_ns, void **out, size_t *len);

/* Bytes of memory that a batch of so many takes, as record_batch_take() gives it. */
size_t record_batch_memory(size_t len);

/* Instead of free(), for what record_batch_take() of this writer gave (NULL: nothing): its memory
 * serves again, up to 4 MiB. Memory that is new to the process costs more than all the rest. */
void record_batch_reuse(struct record_batch *b, void *batch);
/* Now and then: gives back some of the memory that was not needed since the last time. */
void record_batch_rest(struct record_batch *b);

#endif
