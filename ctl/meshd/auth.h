/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may do what. Reading is free; writing takes the token, or the unix socket, whose file mode is
 * the check. The Host and Origin headers are looked at so that a web page which the user happens to
 * have open cannot act or read here (DNS rebinding, cross-site requests). Pure functions but for
 * auth_token_load().
 */
#ifndef MESHD_AUTH_H
#define MESHD_AUTH_H

#include "lib/token.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct auth {
	char token[TOKEN_MAX + 1];
	bool insecure_writes;	 /* no token from loopback peers */
	const char *allow_hosts; /* more names that Host may have, by commas; or NULL */
};

/* Reads DIR/token; makes it (32 random bytes in hex, mode 0640, group gid unless that is -1) when
 * there is none. 0, or -errno with a line for people in why. */
int auth_token_load(struct auth *a, const char *dir, gid_t gid, char *why, size_t cap);

struct auth_facts {
	bool local;				   /* came over the unix socket */
	bool peer_loopback;			   /* the peer's address is a loopback address */
	bool write;				   /* the method changes something */
	const char *host, *origin, *authorization; /* headers, or NULL */
	const char *site;			   /* likewise: Sec-Fetch-Site */
	bool page; /* what a link from anywhere may open: the page and its files */
};

/* 0: go on; else the HTTP status of the refusal, with its text in *why. */
unsigned auth_judge(const struct auth *a, const struct auth_facts *f, const char **why);

#endif
