/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the outcomes of trials to what this kernel is good for. Pure. Called by the supervisor when
 * its trials are done, and by tests.
 */
#ifndef AGENT_KERNEL_QUALIFY_CHOOSE_H
#define AGENT_KERNEL_QUALIFY_CHOOSE_H

#include "agent/kernel/trials.h"

#include <mesh/splice.h>

#define QUALIFY_MODES	3 /* enum mesh_splice_mode */
#define QUALIFY_WHY_MAX 320

/* What a battery of trials found out. Plain: it goes through a pipe. */
struct qualify_result {
	uint32_t ms;				   /* that all of it took */
	bool done;				   /* it came to its end, else it ran out of time */
	char error[160];			   /* why nothing could be tried; "" */
	uint8_t outcome[QUALIFY_MODES][TRIAL_MAX]; /* enum trial_outcome */
	char why[QUALIFY_MODES][TRIAL_MAX][TRIAL_WHY_MAX];
};

/*
 * The best mode that may be used: redirect alone; with the verdict; off. A mode may be used when
 * every trial passed, or was skipped because it cannot be tried here, or stands only for programs
 * that are `noticed` (bits of enum trial_for) and left to plain TCP. A trial that did not run
 * counts against its mode.
 *
 * why: one sentence. Off: what is wrong with the last resort; verdict: what is wrong with redirect
 * alone; redirect: "".
 */
enum mesh_splice_mode qualify_choose(const struct qualify_result *q, unsigned noticed,
				     char why[QUALIFY_WHY_MAX]);

/* "off", "redirect", "verdict"; "?" beyond. */
const char *qualify_mode_name(unsigned mode);
/* The mode of that name, -1: none. */
int qualify_mode_parse(const char *name);
/* "not-run", "passed", "failed", "skipped". */
const char *qualify_outcome_name(unsigned outcome);

#endif
