/* SPDX-License-Identifier: Apache-2.0 */
/* What store.c and store_open.c share; nobody else includes it. */
#ifndef MESHD_STORE_IMPL_H
#define MESHD_STORE_IMPL_H

#include "ctl/meshd/store.h"

#include <sqlite3.h>

enum statement {
	S_BEGIN,
	S_COMMIT,
	S_ROLLBACK,
	S_META_GET,
	S_REVISION_SET,
	S_CONFIG_PUT,
	S_CONFIG_DELETE,
	S_CONFIG_GET,
	S_CONFIG_ALL,
	S_CONFIG_SIZE,
	S_HISTORY_ADD,
	S_HISTORY_TRIM,
	S_HISTORY_TRIM_ALL,
	S_HISTORY_ALL,
	S_HISTORY_GET,
	S_FILE_PUT,
	S_FILE_DELETE,
	S_FILE_ALL,
	S_REG_PUT,
	S_REG_DELETE,
	S_REG_ALL,
	S_REG_COUNT,
	S_DRAIN_PUT,
	S_DRAIN_DELETE,
	S_DRAIN_ALL,
	STATEMENTS,
};

extern const char *const store_statements[STATEMENTS]; /* prepared once, when it is opened */

struct store {
	sqlite3 *db;
	sqlite3_stmt *stmt[STATEMENTS];
	uint64_t starts;
	uint64_t revision, committed; /* revision: also counts what an open transaction has done */
	char epoch[17];
	bool open, healthy;
	char error[160];
};

#endif
