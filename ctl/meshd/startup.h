/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What needs privileges, done once by main.c before they are dropped: directories, listening
 * sockets, becoming somebody else. Every function returns 0 (or a descriptor), or -errno with a
 * line for people in why.
 */
#ifndef MESHD_STARTUP_H
#define MESHD_STARTUP_H

#include "lib/addr.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct identity {
	bool change; /* we are root and become somebody else */
	uid_t uid;
	gid_t gid;
	gid_t file_gid; /* group of the token and the socket: gid, or root's when shared */
	bool shared;	/* the user is nobody, whom other programs are too */
};

/* user NULL: mesh, else nobody. Without root: who we are. */
int startup_identity(const char *user, struct identity *id, char *why, size_t cap);
/* Makes DIR (with what is above it) when it is missing; gives it, and meshd's own files in it, to
 * the identity. To a shared one only by its group, which no other process has: who else is nobody
 * cannot enter. */
int startup_state(const char *dir, const struct identity *id, char *why, size_t cap);
/* A listening socket, or -errno. */
int startup_tcp(const struct addr *at, char *why, size_t cap);
/* A listening socket of mode 0660, root's with the group file_gid: meshd itself needs no right to
 * connect. Replaces a socket file that nobody answers on. */
int startup_unix(const char *path, const struct identity *id, char *why, size_t cap);
/* Between begin and end files are opened and made as the identity. The groups are its own from the
 * first time on. */
int startup_act_as(const struct identity *id, bool begin, char *why, size_t cap);
/* For good; after startup_act_as(). */
int startup_drop(const struct identity *id, char *why, size_t cap);

#endif
