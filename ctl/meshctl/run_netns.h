/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An own network namespace for one instance (`run --netns`): /run/netns/mesh-SERVICE:INSTANCE (no
 * name has a colon, so no two are called the same), a veth pair, one end as eth0 inside, the other
 * on the bridge mesh0, which is made with the first and removed with the last. What is in use is
 * read from the kernel (each port of the bridge carries its address as its alias), so nothing can
 * get out of step; a lock keeps parallel runs apart. Whoever made a namespace holds a lock on it
 * (flock); one that nobody has locked was left behind by a killed run, and goes with the next.
 */
#ifndef CTL_MESHCTL_RUN_NETNS_H
#define CTL_MESHCTL_RUN_NETNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NETNS_BRIDGE	  "mesh0"
#define NETNS_FIRST	  2u	 /* 10.201.0.2; .1 is the bridge's */
#define NETNS_LAST	  65534u /* 10.201.255.254 */
#define NETNS_NAME_MAX	  160
#define NETNS_ADDRESS_MAX 48
#define NETNS_ERROR_MAX	  512

struct run_netns {
	char name[NETNS_NAME_MAX]; /* "" when there is none */
	int fd;			   /* the namespace, locked; close-on-exec */
	char path[NETNS_NAME_MAX + 16];
	char port[16]; /* the bridge's end of the veth pair */
	char address[NETNS_ADDRESS_MAX],
		address6[NETNS_ADDRESS_MAX]; /* address6: "" without IPv6 */
};

/* Makes it all. 0, or -errno and what failed in error[NETNS_ERROR_MAX]; nothing is left behind
 * then. */
int run_netns_create(struct run_netns *n, const char *service, const char *instance, char *error);
/* Takes it down, and the bridge if this was its last port. 0, or -errno and what failed in error.
 */
int run_netns_destroy(struct run_netns *n, char *error);

/* The first number after `last` (round and round from NETNS_FIRST to NETNS_LAST) that is not among
 * used[]; 0 when all are taken. An address is used again as late as possible: somebody may still
 * remember who had it. */
unsigned run_netns_next_free(const uint16_t *used, size_t count, unsigned last);
/* "10.201.3.7" -> 3 * 256 + 7; 0 when it is no address of the bridge's network. */
unsigned run_netns_number(const char *address);

#endif
