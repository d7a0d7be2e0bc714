/* SPDX-License-Identifier: Apache-2.0 */
/* meshctl check: runs the checks in order, again and again with --wait, and shows the last run. */
#include "ctl/meshctl/check.h"
#include "ctl/meshctl/output.h"
#include "ctl/meshctl/text.h"
#include "lib/clock.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define POLL_MS 100

static const char *opt_wait;
static bool opt_pre;

const struct option_spec check_options[] = {
	{"pre", 0, NULL, NULL, "only what the host must offer, before anything is installed", NULL,
	 &opt_pre},
	{"wait", 'w', "DURATION", NULL, "repeat until everything passes, at most so long (60s)",
	 &opt_wait, NULL},
	{0},
};

bool check_add(struct check *c, const char *name, enum check_result result, const char *hint,
	       const char *fmt, ...)
{
	struct check_line *l = &c->lines[c->count < CHECK_LINES ? c->count++ : CHECK_LINES - 1];
	va_list ap;

	l->name = name;
	l->result = result;
	snprintf(l->hint, sizeof(l->hint), "%s", hint && result != CHECK_PASSED ? hint : "");
	va_start(ap, fmt);
	vsnprintf(l->detail, sizeof(l->detail), fmt, ap);
	va_end(ap);
	text_mask(l->detail);
	return result != CHECK_FAILED;
}

static bool all_passed(const struct check *c)
{
	for (unsigned i = 0; i < c->count; i++)
		if (c->lines[i].result == CHECK_FAILED)
			return false;
	return true;
}

static const char *first_failure(const struct check *c)
{
	for (unsigned i = 0; i < c->count; i++)
		if (c->lines[i].result == CHECK_FAILED)
			return c->lines[i].detail;
	return "";
}

/* Each step needs those before it; what was not tried is not shown. */
static void run_once(struct check *c)
{
	c->count = 0;
	c->unreachable = false;
	c->cgroup[0] = '\0';
	check_host(c);
	if (opt_pre || !check_mesh(c))
		return;
	if (check_programs(c) && all_passed(c))
		check_request(c);
}

static void run_until_passed(struct check *c, uint64_t wait_ms)
{
	uint64_t until = clock_mono_ns() + wait_ms * 1000000u;
	struct timespec pause = {.tv_nsec = POLL_MS * 1000000};
	struct spinner spinner;
	char text[160];

	spinner_start(&spinner, "checking");
	for (;;) {
		run_once(c);
		if (all_passed(c) || clock_mono_ns() >= until)
			break;
		snprintf(text, sizeof(text), "waiting: %.140s", first_failure(c));
		spinner_text(&spinner, text);
		nanosleep(&pause, NULL);
	}
	spinner_stop(&spinner);
}

static void print_lines(const struct check *c)
{
	static const char *const marks[2][4] = {{"ok  ", "FAIL", "-   ", "note"},
						{"✓", "✗", "–", "!"}};
	static const enum colour colours[] = {COLOUR_GREEN, COLOUR_RED, COLOUR_DIM, COLOUR_YELLOW};
	bool colour = output_colour(stdout), utf8 = output_utf8();
	int width = 0;

	for (unsigned i = 0; i < c->count; i++)
		if ((int)strlen(c->lines[i].name) > width)
			width = (int)strlen(c->lines[i].name);
	for (unsigned i = 0; i < c->count; i++) {
		const struct check_line *l = &c->lines[i];

		const char *mark = output_paint(colour, colours[l->result], marks[utf8][l->result]);

		if (l->detail[0])
			printf("%s %-*s  %s\n", mark, width, l->name, l->detail);
		else
			printf("%s %s\n", mark, l->name);
		if (l->hint[0])
			printf("%*s%s %s\n", width + (utf8 ? 4 : 7), "", utf8 ? "→" : "->",
			       l->hint);
	}
}

static int print_json(const struct check *c)
{
	cJSON *list = cJSON_CreateArray();
	int rc;

	for (unsigned i = 0; i < c->count; i++) {
		const struct check_line *l = &c->lines[i];
		cJSON *o = cJSON_CreateObject();

		cJSON_AddStringToObject(o, "check", l->name);
		cJSON_AddItemToObject(o, "ok",
				      l->result == CHECK_SKIPPED
					      ? cJSON_CreateNull()
					      : cJSON_CreateBool(l->result != CHECK_FAILED));
		cJSON_AddStringToObject(o, "detail", l->detail);
		cJSON_AddStringToObject(o, "hint", l->hint);
		cJSON_AddItemToArray(list, o);
	}
	rc = output_json(list);
	cJSON_Delete(list);
	return rc;
}

static int print(const struct check *c)
{
	if (c->cli->format == OUTPUT_JSON)
		return print_json(c);
	if (c->cli->format != OUTPUT_NAME) {
		print_lines(c);
		return EXIT_OK;
	}
	for (unsigned i = 0; i < c->count; i++)
		if (c->lines[i].result == CHECK_FAILED)
			puts(c->lines[i].name);
	return EXIT_OK;
}

int cmd_check(struct cli *cli)
{
	struct check c = {.cli = cli};
	uint64_t wait_ms = 0;
	int rc;

	if (opt_wait && duration_parse(opt_wait, &wait_ms))
		return cli_usage(cli, "--wait %s: a duration like 60s or 500ms", opt_wait);
	run_until_passed(&c, wait_ms);
	rc = print(&c);
	if (rc != EXIT_OK)
		return rc;
	if (c.unreachable)
		return EXIT_UNREACHABLE;
	return all_passed(&c) ? EXIT_OK : EXIT_FAILED;
}
