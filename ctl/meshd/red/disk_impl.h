/* SPDX-License-Identifier: Apache-2.0 */
/* What disk.c and disk_open.c share; nobody else includes it. */
#ifndef MESHD_RED_DISK_IMPL_H
#define MESHD_RED_DISK_IMPL_H

#include "ctl/meshd/red/disk.h"
#include "ctl/meshd/wal.h"

#include <sqlite3.h>

#define DISK_PART_NS 2000000

enum disk_statement {
	D_BEGIN,
	D_COMMIT,
	D_ROLLBACK,
	D_AGENT_PUT,
	D_AGENT_DROP,
	D_AGENT_ALL,
	D_JOURNAL_PUT,
	D_JOURNAL_ALL,
	D_JOURNAL_SIZE,
	D_JOURNAL_OLDEST,
	D_MARK_PUT,
	D_MARK_ALL,
	D_CELL_PUT,
	D_CELL_OF,
	D_CELL_ALL,
	D_CELL_OLDEST,
	D_SERVICE_PUT,
	D_SERVICE_ALL,
	D_PRUNE_CELL,
	D_PRUNE_CELL_OLDEST,
	D_PRUNE_JOURNAL,
	D_PRUNE_SERVICE,
	D_PRUNE_AGENT,
	D_PAGES,
	DISK_STATEMENTS,
};

extern const char *const disk_statements[DISK_STATEMENTS]; /* prepared once */

struct red_disk {
	sqlite3 *db;
	sqlite3_stmt *stmt[DISK_STATEMENTS];
	uint64_t journal_bytes, bytes_max, journal_max;
	uint64_t journal_from_s; /* what is of before it may be gone */
	uint64_t part_ns;	 /* for each part of a pruning; a step that has begun goes on */
	unsigned turn;		 /* of pruning */
	bool began;		 /* there was a transaction to roll back */
	struct wal wal;
	char error[160];
};

#endif
