/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of red.h share; nobody else includes it. */
#ifndef MESHD_RED_IMPL_H
#define MESHD_RED_IMPL_H

#include "ctl/meshd/red/disk.h"
#include "ctl/meshd/red/ring.h"

#include <limits.h>

#define RED_TIERS	3	    /* 0 is the ring */
#define RED_TIER_BYTES	(12u << 20) /* of what waits to be written, in each */
#define RED_NODE_AGENTS 4	    /* processes of one node: upgrades have two at a time */
#define RED_RETRY_MS	5000	    /* after a failure of the database */

/* A coarse tier: what is not on disk yet is added up here, by shards, each of which is written in
 * its turn, whole, together with how far in the journal it is (`mark`). So what is in memory is
 * always what the journal has behind the mark. A bucket may be written several times: readers add
 * it up. */
struct red_tier {
	uint64_t step_s, keep_s, period_s;
	struct red_cells cells[RED_SHARDS];
	uint64_t mark[RED_SHARDS], due_s[RED_SHARDS];
};

struct red_process { /* of an agent */
	char node[RED_NAME_MAX + 1], epoch[RED_NAME_MAX + 1];
	uint64_t seq, used_s, order; /* order: of use, grows */
	uint64_t lost[RED_LOSSES], batches, duplicates, missing;
};

struct red {
	struct red_table *table;
	struct red_ring ring;
	struct red_tier tier[RED_TIERS];
	struct red_disk *disk; /* NULL: none */
	char dir[PATH_MAX];    /* "": memory only */
	bool loaded;	       /* what it has is read: nothing is written before */
	uint64_t journal_id;   /* the last */
	uint64_t replayed_id;  /* the last that was read at the start */
	struct red_process *process;
	unsigned processes;
	uint64_t order, seed;
	uint64_t retry_ms; /* the database is left alone until then; 0: it works */
	bool damaged;	   /* the file is to be put aside ... */
	bool other;	   /* ... because it is of another form ... */
	bool stuck;	   /* ... which did not work the last time */
	unsigned ticks;
	struct red_counts counts;
	char error[256];
};

/* --- keep.c --- */

/* Opens the database and reads what is in it. Whatever fails, the rest goes on. */
void red_keep_open(struct red *r, uint64_t now_ms);
void red_keep_close(struct red *r);
/* May the database be used now? */
bool red_keep_ready(const struct red *r);
/* The number and the content of a batch of that second. 0, or -EIO (noted). */
int red_keep_batch(struct red *r, const struct red_process *p, const struct red_batch *b,
		   uint64_t second_s, uint64_t now_ms);
/* Writes one shard. 0, or -EIO (noted). */
int red_keep_shard(struct red *r, unsigned tier, unsigned shard, uint64_t now_ms);
/* What is due. */
void red_keep_tick(struct red *r, uint64_t now_ms);
/* Notes a failure; damage has the file put aside at the next tick. -EIO. */
int red_keep_failed(struct red *r, int err, uint64_t now_ms);

/* --- red.c --- */

/* Counts into the tiers of the mask (1 << tier); live: it is no replay. In the coarse tiers it is
 * in the shard of the key's destination, whatever series has room for it. */
void red_count_in(struct red *r, const struct red_key *key, const struct red_sum *sum,
		  uint64_t second_s, unsigned mask, bool live, uint64_t now_s);
struct red_process *red_process_find(const struct red *r, const char *node, const char *epoch);
/* Makes room if need be, and forgets who has to go also on disk. */
struct red_process *red_process_make(struct red *r, const char *node, const char *epoch);

#endif
