/* SPDX-License-Identifier: Apache-2.0 */
/* What recorder.c (memory) and recorder_file.c share; nobody else includes it. */
#ifndef MESHD_TRACES_RECORDER_IMPL_H
#define MESHD_TRACES_RECORDER_IMPL_H

#include "ctl/meshd/traces/recorder.h"

#include <limits.h>
#include <sys/types.h>

#define BITS_MAX  (RECORD_BATCH_MAX / 8)
#define READ_MAX  (sizeof(struct record_batch_head) + RECORD_SIZE_MAX + NAMES_MAX)
#define NAMES_MAX (RECORD_BATCH_NAMES * (RECORD_NAME_SIZE + 2) + 8)

struct recorder {
	/* the file */
	int fd;
	dev_t dev;
	ino_t ino;
	char path[PATH_MAX];
	uint64_t cap;	/* bytes for entries */
	uint64_t id;	/* of the file: what entries of it begin with */
	uint64_t at;	/* where the next entry begins, counted since it was begun */
	uint64_t clean; /* recorder_forget() has overwritten all before it, but for what came since
			 */
	/* batches and records, each in a ring */
	uint64_t seed; /* ids and names are chosen by strangers */
	struct recorder_batch *batch;
	uint32_t batch_mask; /* of the number of one: its place; there are so many, and one */
	uint32_t batch_first, nbatches;
	uint32_t *changed, nchanged; /* numbers of those whose bits are to be written, once each */
	uint32_t first, next; /* numbers of records: those from `first` up to before `next` */
	uint32_t mask;	      /* of a number: its place; there are so many, and one */
	struct recorded *rec;
	uint32_t *chain; /* the newest record of each, by mark */
	struct recorder_counts counts;
	_Alignas(8) char read[READ_MAX];
};

/* Of the file (recorder_file.c): -errno. */
int file_open(struct recorder *r, const char *dir, uint64_t size, bool make);
void file_close(struct recorder *r);
/* Calls fn for each entry that is whole, the oldest first; bits: a bit for each record. */
int file_each(struct recorder *r, void (*fn)(struct recorder *r, const struct record_batch_view *v,
					     uint64_t at, uint64_t came_ms, const uint8_t *bits));
/* How many bytes an entry has. */
uint32_t file_entry(uint32_t records, uint32_t size);
int file_write(struct recorder *r, const struct record_batch_view *v, uint64_t at,
	       uint64_t came_ms);
/* Overwrites so many bytes of the file with zeros; they do not cross its end. */
int file_zero(struct recorder *r, uint64_t at, uint32_t len);
int file_bits_write(struct recorder *r, const struct recorder_batch *b, const uint8_t *bits);
int file_bits_read(struct recorder *r, const struct recorder_batch *b, uint8_t *bits);
/* Some bytes of a batch. */
int file_read(struct recorder *r, const struct recorder_batch *b, uint32_t from, void *to,
	      uint32_t len);

#endif
