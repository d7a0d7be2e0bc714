/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The recorder: DIR/spans.ring, a file of fixed size into which every span that agents send as a
 * record (lib/record_batch.h) is copied as it came, the oldest making room. That costs a hundredth
 * of its rows in the database; those are made for a part of them soon, and for the others when
 * somebody asks (listing, records.c). Which records are listed is known here.
 *
 *   file      one page that says what it is | entries, which do not cross the end
 *   entry     struct entry_head | a bit for each record: listed | the batch
 *   memory    a struct recorder_batch each entry, a struct recorded each record; chains of records
 *             that are probably of one trace, newest first
 *
 * An entry is written at once with a sum over all of it but the bits, so what was torn by kill -9
 * is no entry after the next start. Bits are written after the database has committed: what was
 * listed and is not known as such is listed again, which changes nothing. The file is read and
 * written, never mapped: when somebody cuts it, that is an error and no signal.
 *
 * Records are numbered as they come; a number is good until its batch has made room. One thread.
 */
#ifndef MESHD_TRACES_RECORDER_H
#define MESHD_TRACES_RECORDER_H

#include "lib/record_batch.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RECORDER_FILE	     "spans.ring"
#define RECORDER_SIZE_MIN    (320u << 10) /* bytes of it: the largest batch fits */
#define RECORDER_SIZE_MAX    (128u << 20)
#define RECORDER_RECORDS_MAX (1u << 20) /* records at a time, if the size allows */
#define RECORDER_BATCHES_MAX (1u << 17) /* entries at a time, likewise */

enum recorded_flags {
	RECORDED_LISTED = 1,  /* it needs no listing (any more) */
	RECORDED_KEPT = 2,    /* with it its trace is kept: sampled, or one of the next two */
	RECORDED_SAMPLED = 4, /* whatever became of it */
	RECORDED_URGENT = 8,  /* an error, slow or cut off */
	RECORDED_ERROR = 16,
	RECORDED_ALIAS = 32, /* its trace has other names */
	RECORDED_NONE = 64,  /* no span: it has no trace; RECORDED_LISTED, too */
	RECORDED_ROOT = 128, /* it has no parent */
	RECORDED_DUE = 256,  /* the reader's: it will be listed without being asked for */
	RECORDED_ONCE = 512, /* it was listed once, and what became of it is counted */
};

/* Of one that was checked. */
uint16_t recorded_flags(const struct record *rec);

/* A record in memory: what is needed to decide and to find. */
struct recorded {
	uint32_t mark;	 /* of its trace's id: recorder_mark() */
	uint32_t before; /* the number of the one before it in its chain; may be gone */
	uint32_t took_us;
	uint16_t at;		  /* in its batch, in 8 bytes */
	uint16_t caller, service; /* recorder_tag() of the names */
	uint16_t flags;
	uint32_t ago_ms;  /* so long before it came it began; 0, too: later, by its clock */
	uint32_t aliases; /* recorder_alias() of each, together; 0: it has none */
	uint32_t looked;  /* the reader's: the last search that came by */
};

/* A batch in memory. */
struct recorder_batch {
	uint64_t at;		   /* of its entry, counted since the file was begun */
	uint64_t came_ms;	   /* wall clock */
	int64_t first_us, last_us; /* its records began between these, since 1970 */
	int64_t wall_ns;
	uint32_t size, at_names, names; /* as in its head */
	uint32_t first, n;		/* its records' numbers */
	bool changed;			/* bits are to be written */
};

struct recorder_counts {
	/* since it was opened, with those of a file of another size that was there */
	uint64_t kept_lost;  /* records with RECORDED_KEPT that made room before they were listed */
	uint64_t other_lost; /* likewise, of the others */
	uint32_t records, batches; /* now */
};

struct recorder;

/* Opens the file in dir and reads what is in it; anything that is no entry is passed over, and a
 * file of another size, form or layout begins anew. make: if there is none, make it; else that is
 * -ENOENT. size: rounded and brought within the bounds. -errno. */
int recorder_open(const char *dir, uint64_t size, bool make, struct recorder **out);
void recorder_close(struct recorder **r);
/* Bytes that the file has for that size. */
uint64_t recorder_bytes(uint64_t size);
/* Was the file removed, moved, replaced or cut? */
bool recorder_moved(const struct recorder *r);

/* Appends a batch that was checked; *first is its first record's number, the others follow. 0;
 * -EIO or what the write said: it is not in it. */
int recorder_add(struct recorder *r, const struct record_batch_view *v, uint64_t came_ms,
		 uint32_t *first);

uint32_t recorder_mark(const struct recorder *r, const uint8_t trace_id[16]);
/* NULL: there is none of that number any more. Good until the next recorder_add(). */
struct recorded *recorder_at(struct recorder *r, uint32_t number);
/* The numbers that are there: first up to end, which is not. They may run over 2^32. */
void recorder_range(const struct recorder *r, uint32_t *first, uint32_t *end);
/* The newest with that mark; of those before `number` when it is a record of a chain (next). false:
 * there is none (any more). */
bool recorder_newest(struct recorder *r, uint32_t mark, uint32_t *number);
bool recorder_next(struct recorder *r, uint32_t mark, uint32_t *number);

/* Batches, 0 is the oldest; NULL beyond the newest. */
struct recorder_batch *recorder_batch(struct recorder *r, uint32_t i);
/* The place of that record's batch among them; it has to be there. */
uint32_t recorder_batch_of(struct recorder *r, uint32_t number);
/* Has half of the file been written since that record came? It has to be there. */
bool recorder_half_gone(struct recorder *r, uint32_t number);
/* What stands for a name: of two names it is the same now and then. */
uint16_t recorder_tag(const struct recorder *r, const char *name);
/* Four bits of 32: a record that has this alias has them all, another one seldom. */
uint32_t recorder_alias(const struct recorder *r, const char *name, size_t len);

/* A record as it was sent, in a batch of its own; both are good until the next call. NULL: it
 * cannot be read, or is none (any more). */
const struct record *recorder_read(struct recorder *r, uint32_t number,
				   struct record_batch_view *v);

/* It is listed, as far as memory knows. */
void recorder_set_listed(struct recorder *r, uint32_t number);
/* It is not, any more. */
void recorder_set_unlisted(struct recorder *r, uint32_t number);
/* The database has committed: so it is in the file. */
void recorder_save(struct recorder *r);
/* It has not: it is as it is in the file again. */
void recorder_restore(struct recorder *r);
/* The database began anew: nothing is listed. */
void recorder_unlist(struct recorder *r);

/* Batches that came before then go, and are overwritten with zeros, as is whatever else of their
 * age is left in the file; up to so many bytes at once. They do not count as lost. */
void recorder_forget(struct recorder *r, uint64_t before_ms, uint64_t bytes);
/* Everything goes from memory, and counts as lost as if it had made room. */
void recorder_drop(struct recorder *r);

void recorder_count(const struct recorder *r, struct recorder_counts *out);

#endif
