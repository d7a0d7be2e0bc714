/* SPDX-License-Identifier: Apache-2.0 */
/* See acceleration.h. */
#include "ctl/meshctl/acceleration.h"
#include "lib/json.h"

#include <stdio.h>
#include <string.h>

#define NAMED_MAX    8	 /* workloads that are named one by one */
#define ONE_NAME_MAX 160 /* bytes of one, with room for the end */

static const cJSON *report(const cJSON *agent)
{
	return cJSON_GetObjectItemCaseSensitive(agent, "acceleration");
}

static unsigned count(const cJSON *r, const char *outcome)
{
	const char *mode = json_str(r, "mode", "");
	const cJSON *t;
	unsigned n = 0;

	cJSON_ArrayForEach (t, cJSON_GetObjectItemCaseSensitive(r, "trials"))
		n += !strcmp(json_str(t, mode, ""), outcome);
	return n;
}

static void words_of_working(const cJSON *r, char *out)
{
	bool verdict = !strcmp(json_str(r, "mode", ""), "verdict");
	unsigned passed = count(r, "passed");

	if (passed)
		snprintf(out, ACCELERATION_WORDS_MAX,
			 "connections on this host skip TCP%s: %u trials of this kernel passed in "
			 "%.0f ms",
			 verdict ? " (by redirect with verdict)" : " (by redirect)", passed,
			 json_num(r, "ms", 0));
	else
		snprintf(out, ACCELERATION_WORDS_MAX, "connections on this host skip TCP (%s): %s",
			 json_str(r, "mode", "?"), json_str(r, "why", ""));
}

enum acceleration_state acceleration_words(const cJSON *agent, char *out)
{
	const cJSON *r = report(agent);
	const char *why = json_str(r, "why", "");

	*out = 0;
	if (!r)
		return ACCELERATION_UNKNOWN;
	if (!json_bool(r, "settled", 0)) {
		snprintf(out, ACCELERATION_WORDS_MAX,
			 "connections use plain TCP until this kernel has been tried%s%s",
			 *why ? "; the last attempt: " : "", why);
		return ACCELERATION_TRIES;
	}
	if (strcmp(json_str(r, "mode", "off"), "off")) {
		words_of_working(r, out);
		return ACCELERATION_WORKS;
	}
	snprintf(out, ACCELERATION_WORDS_MAX, "connections use plain TCP: %s", why);
	return strcmp(json_str(agent, "accelerate", ""), "off") ? ACCELERATION_REFUSED
								: ACCELERATION_UNWANTED;
}

void acceleration_plain(const cJSON *agent, char *out)
{
	const cJSON *all = cJSON_GetObjectItemCaseSensitive(report(agent), "plain"), *w;
	size_t len = 0, cap = ACCELERATION_WORDS_MAX;
	int i = 0;

	*out = 0;
	cJSON_ArrayForEach (w, all) {
		if (i == NAMED_MAX || len + ONE_NAME_MAX > cap) {
			snprintf(out + len, cap - len, " and more");
			return;
		}
		len += (size_t)snprintf(out + len, cap - len, "%s%.63s/%.63s", i++ ? ", " : "",
					json_str(w, "service", "?"), json_str(w, "instance", "?"));
	}
}

bool check_acceleration(struct check *c, const cJSON *agent)
{
	char words[ACCELERATION_WORDS_MAX], plain[ACCELERATION_WORDS_MAX];
	bool wanted = !strcmp(json_str(agent, "accelerate", ""), "on");

	acceleration_plain(agent, plain);
	switch (acceleration_words(agent, words)) {
	case ACCELERATION_WORKS:
		return check_add(c, "acceleration", CHECK_PASSED, NULL, "%.300s%s%.200s", words,
				 *plain ? "; not those of what uses splice(2): " : "", plain);
	case ACCELERATION_REFUSED:
		return check_add(c, "acceleration", wanted ? CHECK_FAILED : CHECK_SKIPPED,
				 wanted ? "this kernel does not bear it; all works without. "
					  "--accelerate auto does not ask for it"
					: NULL,
				 "%s", words);
	case ACCELERATION_UNKNOWN:
		return true;
	default:
		return check_add(c, "acceleration", CHECK_SKIPPED, NULL, "%s", words);
	}
}
