/* SPDX-License-Identifier: Apache-2.0 */
/* See qualify_choose.h. */
#include "agent/kernel/qualify_choose.h"

#include <stdio.h>
#include <string.h>

/* The first trial that speaks against a mode; NULL: none does. */
static const struct trial *objection(const struct qualify_result *q, enum mesh_splice_mode mode,
				     unsigned noticed)
{
	for (size_t i = 0; i < trials_count; i++) {
		switch (q->outcome[mode][i]) {
		case TRIAL_PASSED:
		case TRIAL_SKIPPED:
			break;
		case TRIAL_FAILED:
			if (trials[i].whom & noticed)
				break;
			return &trials[i];
		default:
			return &trials[i];
		}
	}
	return NULL;
}

static void explain(const struct qualify_result *q, enum mesh_splice_mode mode,
		    const struct trial *t, char why[QUALIFY_WHY_MAX])
{
	size_t i = (size_t)(t - trials);

	if (q->outcome[mode][i] == TRIAL_FAILED)
		snprintf(why, QUALIFY_WHY_MAX, "with %s %s (trial %s: %s)", qualify_mode_name(mode),
			 t->guards, t->name, q->why[mode][i]);
	else
		snprintf(why, QUALIFY_WHY_MAX, "the trials of %s came no further than %s in %u ms",
			 qualify_mode_name(mode), t->name, q->ms);
}

enum mesh_splice_mode qualify_choose(const struct qualify_result *q, unsigned noticed,
				     char why[QUALIFY_WHY_MAX])
{
	static const enum mesh_splice_mode best_first[] = {MESH_SPLICE_REDIRECT,
							   MESH_SPLICE_VERDICT};

	*why = 0;
	if (*q->error) {
		snprintf(why, QUALIFY_WHY_MAX, "%s", q->error);
		return MESH_SPLICE_OFF;
	}
	for (size_t i = 0; i < sizeof(best_first) / sizeof(best_first[0]); i++) {
		const struct trial *t = objection(q, best_first[i], noticed);

		if (!t)
			return best_first[i];
		explain(q, best_first[i], t, why);
	}
	return MESH_SPLICE_OFF;
}

static const char *const modes[QUALIFY_MODES] = {
	[MESH_SPLICE_OFF] = "off",
	[MESH_SPLICE_REDIRECT] = "redirect",
	[MESH_SPLICE_VERDICT] = "verdict",
};

const char *qualify_mode_name(unsigned mode)
{
	return mode < QUALIFY_MODES ? modes[mode] : "?";
}

int qualify_mode_parse(const char *name)
{
	for (int i = 0; i < QUALIFY_MODES; i++)
		if (!strcmp(modes[i], name))
			return i;
	return -1;
}

const char *qualify_outcome_name(unsigned outcome)
{
	static const char *const names[] = {
		[TRIAL_NOT_RUN] = "not-run",
		[TRIAL_PASSED] = "passed",
		[TRIAL_FAILED] = "failed",
		[TRIAL_SKIPPED] = "skipped",
	};

	return outcome < sizeof(names) / sizeof(names[0]) ? names[outcome] : "?";
}
