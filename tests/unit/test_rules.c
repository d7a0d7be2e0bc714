/* SPDX-License-Identifier: Apache-2.0 */
/* What is delivered for Prometheus is judged by its own tool: configuration, rules, and what fires
 * when (deploy/prometheus/tests). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define DIR   "deploy/prometheus/"
#define RULES DIR "rules/alerts.yml"

static char output[1 << 16];

/* Runs a command by sh; its status, and what it said in `output`. */
static int run(const char *cmd)
{
	FILE *f = popen(cmd, "re");
	size_t n;

	assert_non_null(f);
	n = fread(output, 1, sizeof(output) - 1, f);
	output[n] = '\0';
	return pclose(f);
}

/* promtool comes with `make deps`; who builds without it need not have Prometheus. */
static void promtool(const char *cmd)
{
	if (system("command -v promtool >/dev/null")) {
		print_message("promtool is missing: deploy/install-deps.sh tests\n");
		skip();
	}
	if (run(cmd))
		fail_msg("%s\n%s", cmd, output);
}

static void the_configuration_is_valid(void **state)
{
	promtool("promtool check config " DIR "prometheus.yml 2>&1");
}

static void the_rules_are_valid(void **state)
{
	promtool("promtool check rules " DIR "rules/*.yml 2>&1");
	assert_null(strstr(output, "WARNING"));
}

static void what_fires_is_what_should(void **state)
{
	promtool("promtool test rules " DIR "tests/*.yaml 2>&1");
}

/* Reads line after line of the alerts and calls fn with the name and the text of each. */
static void each_alert(void (*fn)(const char *name, const char *text))
{
	static char text[1 << 16];
	char *at, *next, name[128];
	FILE *f = fopen(RULES, "re");
	unsigned n = 0;

	assert_non_null(f);
	text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
	fclose(f);
	for (at = strstr(text, "- alert: "); at; at = next, n++) {
		next = strstr(at + 1, "- alert: ");
		if (next)
			next[-1] = '\0';
		assert_int_equal(sscanf(at, "- alert: %127s", name), 1);
		fn(name, at);
	}
	assert_true(n > 20);
}

static void says_what_to_do(const char *name, const char *text)
{
	static const char *const parts[] = {"\n          summary: ", "\n          description: ",
					    "\n          runbook: ", "labels: {severity: "};

	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++)
		if (!strstr(text, parts[i]))
			fail_msg("%s has no %s", name, parts[i]);
}

static void each_alert_says_what_it_is_and_what_to_do(void **state)
{
	each_alert(says_what_to_do);
}

static void is_known(const char *name, const char *text)
{
	char cmd[256];

	snprintf(cmd, sizeof(cmd),
		 "grep -q 'alertname=\"%s\",alertstate=\"firing\"' " DIR "tests/*.yaml", name);
	if (run(cmd))
		fail_msg("no test has %s fire", name);
	snprintf(cmd, sizeof(cmd), "grep -q '`%s`' docs/operations.md", name);
	if (run(cmd))
		fail_msg("docs/operations.md does not name %s", name);
}

static void each_alert_is_tested_and_documented(void **state)
{
	each_alert(is_known);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_configuration_is_valid),
		cmocka_unit_test(the_rules_are_valid),
		cmocka_unit_test(what_fires_is_what_should),
		cmocka_unit_test(each_alert_says_what_it_is_and_what_to_do),
		cmocka_unit_test(each_alert_is_tested_and_documented),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
