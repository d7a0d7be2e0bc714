/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Active health checks: connects to endpoints now and then, by TCP or with a small HTTP request,
 * and says when one turns unhealthy or healthy. Runs on the supervisor's loop, never blocks, and
 * shares nothing with traffic: at most CHECKS_AT_ONCE connections, answers are read up to their
 * status line. Who is not checked is healthy.
 */
#ifndef AGENT_HEALTH_CHECK_H
#define AGENT_HEALTH_CHECK_H

#include "agent/registry/registry.h"
#include "lib/loop.h"

#include <stdbool.h>
#include <stdint.h>

#define CHECKS_AT_ONCE 64

struct check_target {
	uint32_t endpoint, gen; /* whom; a target of another gen is another one */
	uint8_t ip[16];
	uint16_t port;	/* host order */
	uint64_t netns; /* whose loopback is meant; 0: connect from our own namespace */
	uint8_t type;	/* HEALTH_HTTP or HEALTH_TCP */
	bool sick;	/* when met for the first time: an earlier check has said so */
	const struct health_config *config;
};

struct checks_ops {
	void *arg;
	/* An unconnected non-blocking TCP socket in that namespace: the caller's, or -errno. */
	int (*socket)(void *arg, uint64_t netns, int family);
	/* The endpoint has turned. Must not call checks_*. */
	void (*turned)(void *arg, uint32_t endpoint, uint32_t gen, bool healthy, const char *why);
};

struct checks;

/* 0 or -ENOMEM. */
int checks_new(struct loop *l, const struct checks_ops *ops, struct checks **out);
void checks_free(struct checks **c);

/*
 * The whole list of targets, between begin and end: who is not named any more is forgotten (without
 * a word), who is new is checked for the first time within one interval. Naming one again with the
 * same address and configuration changes nothing. 0 or -ENOMEM.
 */
void checks_begin(struct checks *c);
int checks_target(struct checks *c, const struct check_target *t);
void checks_end(struct checks *c);

struct checks_counts {
	uint32_t targets, running, waiting; /* waiting: due, and CHECKS_AT_ONCE are running */
	uint64_t good, bad;
};
void checks_counts(const struct checks *c, struct checks_counts *out);

#endif
