/* SPDX-License-Identifier: Apache-2.0 */
/* JSON in tests, written with single quotes for double ones. Included after cmocka.h. */
#ifndef TESTS_UNIT_QUOTED_H
#define TESTS_UNIT_QUOTED_H

#include "lib/json.h"

#include <string.h>

/* The value, which the caller deletes; text that is no JSON fails the test. */
static inline cJSON *quoted_json(const char *quoted)
{
	char *text = strdup(quoted);
	cJSON *v;

	assert_non_null(text);
	for (char *p = text; *p; p++)
		if (*p == '\'')
			*p = '"';
	v = json_parse(text, strlen(text), NULL);
	if (!v)
		fail_msg("not JSON: %s", text);
	free(text);
	return v;
}

#endif
