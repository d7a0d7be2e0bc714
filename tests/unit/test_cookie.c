/* SPDX-License-Identifier: Apache-2.0 */
/* How a session's cookie is found among others. */
#include "agent/proxy/sticky.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void cookies(void **state)
{
	static const struct {
		const char *field, *name, *value; /* NULL: not there */
	} cases[] = {
		{"s=1", "s", "1"},
		{"s=1;", "s", "1"},
		{"a=2; s=1", "s", "1"},
		{"a=2;s=1", "s", "1"},
		{"a=2; \t s=1 \t; b=3", "s", "1"},
		{"s=1; s=2", "s", "1"},
		{"s=; s=2", "s", "2"},
		{"s=a=b", "s", "a=b"},
		{"s=\"q\"", "s", "\"q\""},
		{"ss=1", "s", NULL},
		{"as=1", "s", NULL},
		{"s", "s", NULL},
		{"s=", "s", NULL},
		{"", "s", NULL},
		{";;;", "s", NULL},
		{"S=1", "s", NULL},
		{"a=s=1", "s", NULL},
		{"a=1 s=2", "s", NULL},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const char *value = NULL;
		size_t len = 0;
		bool there = sticky_cookie(cases[i].field, strlen(cases[i].field), cases[i].name,
					   &value, &len);

		if (there != !!cases[i].value || (there && (strlen(cases[i].value) != len ||
							    memcmp(value, cases[i].value, len))))
			fail_msg("%s in \"%s\"", cases[i].name, cases[i].field);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cookies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
