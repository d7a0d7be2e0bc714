/* SPDX-License-Identifier: Apache-2.0 */
/* The configured splits of all services, as the map shows them; read again when the configuration
 * has changed. Called by api_graph.c. */
#ifndef MESHD_SPLITS_H
#define MESHD_SPLITS_H

#include "ctl/meshd/store.h"

struct splits {
	uint64_t revision; /* they are of; 0: never read */
	char *text;	   /* "service\0{"v1":90,...}\0" and so on, by service */
	size_t len;
};

void splits_done(struct splits *s);
/* 0, -ENOMEM or as store.h; then the old ones stay. */
int splits_read(struct splits *s, struct store *store);
/* As JSON text; NULL: it has none. */
const char *splits_of(const struct splits *s, const char *service);

#endif
