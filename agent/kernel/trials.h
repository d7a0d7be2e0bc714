/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trials: small programs on real socket pairs that do what applications do, and look whether they
 * get what TCP promises. Run by qualify_sandbox.c at start-up to decide whether messages of this
 * host may skip TCP, and by tests/bpf against plain TCP (all must pass) and against the splice
 * programs with a cover left out (the one it guards against must fail). They know nothing of BPF:
 * the environment steers, and TCP_INFO tells which way the bytes took.
 *
 * Everything waits for events with a deadline; a trial that passes takes about a millisecond.
 */
#ifndef AGENT_KERNEL_TRIALS_H
#define AGENT_KERNEL_TRIALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRIAL_WHY_MAX 96
#define TRIAL_MAX     32	 /* trials at most */
#define TRIAL_EXTRA   (1u << 20) /* that may be queued for a peer beyond what TCP queues */
#define TRIAL_NET_SAME                                                                             \
	"198.18.255.1"		   /* an address that both namespaces have (RFC 2544's range)      \
				    */
#define TRIAL_NET_A "198.18.254.1" /* the ends of a veth pair between them */
#define TRIAL_NET_B "198.18.254.2"

enum trial_outcome { TRIAL_NOT_RUN, TRIAL_PASSED, TRIAL_FAILED, TRIAL_SKIPPED };

/* What a trial is run in. Nothing of it is the trial's to keep or to close. */
struct trial_env {
	/* Two network namespaces with lo up, TRIAL_NET_SAME on it, and a veth pair between them
	 * (or not: `veth`). -1: none, trials that need them are skipped; the first is also the one
	 * in which the caller is. */
	int netns[2];
	bool veth;
	/* What plain TCP here takes from a sender for a peer that does not read, see
	 * trial_plain_queue(); 0: not known, measured on a pair of the trial's own. */
	size_t plain_queue;
	/* From now on messages skip TCP (or do not) where order allows. NULL: everything is plain
	 * TCP, and nobody looks at the way. 0 or -errno. */
	int (*steer)(void *arg, bool redirect);
	void *arg;
	uint64_t deadline_ns; /* CLOCK_MONOTONIC: no trial waits beyond it; 0: none */
};

/* Whom a trial stands for. Some programs are known when they are seen at work, and left to plain
 * TCP then: a trial for these alone need not pass. */
enum trial_for {
	TRIAL_FOR_ALL = 0,
	TRIAL_FOR_SPLICERS = 1, /* who uses splice(2) on a socket */
	TRIAL_FOR_BLOCKERS = 2, /* who sleeps in recv() */
};

struct trial_run; /* trials_impl.h */

struct trial {
	const char *name;   /* "fionread": a word for logs and metrics */
	const char *guards; /* what goes wrong without it, for a reader at 3 a.m. */
	enum trial_for whom;
	bool (*run)(struct trial_run *r);
};

extern const struct trial trials[];
extern const size_t trials_count; /* <= TRIAL_MAX */

/* Runs one. why: what was seen, "" when it passed; for a skipped one the reason. */
enum trial_outcome trial_run(const struct trial *t, const struct trial_env *env,
			     char why[TRIAL_WHY_MAX]);

/* Waits are so many times as long: 1, but for tests on a machine that is emulated. */
extern unsigned trial_patience;

/* Sends to a peer that does not read until nothing is taken any more. Bytes, 0 when it failed. */
size_t trial_plain_queue(void);

/* The one of that name; NULL: there is none. */
const struct trial *trial_find(const char *name);

#endif
