/* SPDX-License-Identifier: Apache-2.0 */
/* meshctl top: the services of the mesh as a live table. Reads only. */
#include "ctl/meshctl/figures.h"
#include "ctl/meshctl/output.h"
#include "ctl/meshctl/screen.h"
#include "ctl/meshctl/telemetry.h"
#include "ctl/meshctl/top_view.h"
#include "ctl/meshctl/words.h"
#include "lib/clock.h"
#include "lib/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define HEAD_ROWS 4 /* title, empty line, headers; and the line of keys */

static const char *opt_window, *opt_interval;
static bool opt_once;

const struct option_spec top_options[] = {
	{"window", 'w', "TIME", "10s", "of what time: 1s to 14d", &opt_window, NULL},
	{"interval", 'i', "TIME", "1s", "how often it is drawn anew: 100ms to 1h", &opt_interval,
	 NULL},
	{"once", '1', NULL, NULL, "print it once and end, also on a terminal", NULL, &opt_once},
	{0},
};

struct top {
	struct cli *cli;
	struct top_view view;
	cJSON *services; /* the last answer, */
	time_t at;	 /* and when it came */
	char error[512]; /* why there is no newer one; "": there is */
	uint64_t interval_ms;
};

/* Keeps what there was when meshd does not answer. Returns the exit code. */
static int ask(struct top *t)
{
	char path[API_PATH_MAX] = "/api/graph";
	struct api_answer a;
	cJSON *services;
	int rc;

	telemetry_query(path, "window", opt_window);
	rc = api_call(t->cli, &(struct api_request){.method = "GET", .path = path}, &a);
	if (rc == EXIT_OK) {
		services = telemetry_services(a.json);
		cJSON_Delete(t->services);
		t->services = services;
		t->at = time(NULL);
	}
	snprintf(t->error, sizeof(t->error), "%s", rc == EXIT_OK ? "" : a.error);
	api_done(&a);
	return rc;
}

static void put_title(const struct top *t, FILE *out)
{
	char total[96], now[16];
	struct tm tm;

	localtime_r(&t->at, &tm);
	strftime(now, sizeof(now), "%H:%M:%S", &tm);
	fprintf(out, "%s  last %s  %s\n",
		output_paint(t->view.colour, COLOUR_BOLD, top_total(t->services, total)),
		opt_window, now);
	fprintf(out, "%s\n", *t->error ? output_paint(t->view.colour, COLOUR_RED, t->error) : "");
}

static void put_keys(const struct top *t, unsigned hidden, FILE *out)
{
	static const char *const names[] = {"name", "rate", "errors", "p50", "p99"};
	char text[160] = "q quit  sort:";

	for (unsigned i = 0; top_sorts[i]; i++) {
		size_t len = strlen(text);

		snprintf(text + len, sizeof(text) - len, " %c %s%s", top_sorts[i], names[i],
			 top_sorts[i] != t->view.sort ? ""
			 : t->view.reverse	      ? "^"
						      : "*");
	}
	if (hidden || t->view.first) {
		size_t len = strlen(text);

		snprintf(text + len, sizeof(text) - len, "  up/down: %u above, %u below",
			 t->view.first, hidden);
	}
	fputs(output_paint(t->view.colour, COLOUR_DIM, text), out);
	fputc('\n', out);
}

static int draw(struct top *t)
{
	unsigned columns, rows, hidden = 0;
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	int r;

	if (!out)
		return EXIT_FAILED;
	screen_size(&columns, &rows);
	t->view.rows = rows > HEAD_ROWS + 1 ? rows - HEAD_ROWS : 1;
	put_title(t, out);
	r = top_print(t->services, &t->view, out, &hidden);
	put_keys(t, hidden, out);
	if (!fclose(out) && !r)
		screen_draw(text);
	free(text);
	return r ? EXIT_FAILED : EXIT_OK;
}

/* False: it is to end. */
static bool press(struct top *t, int key)
{
	unsigned page = t->view.rows;

	if (key == 'q' || key == 'Q' || key == SCREEN_END)
		return false;
	if (key > 0 && key < 256 && strchr(top_sorts, key)) {
		t->view.reverse = t->view.sort == key && !t->view.reverse;
		t->view.sort = (char)key;
	} else if (key == SCREEN_DOWN || key == 'j') {
		t->view.first++;
	} else if (key == SCREEN_PAGE_DOWN || key == ' ') {
		t->view.first += page;
	} else if (key == SCREEN_UP || key == 'k') {
		t->view.first -= t->view.first > 0;
	} else if (key == SCREEN_PAGE_UP) {
		t->view.first -= t->view.first < page ? t->view.first : page;
	}
	return true;
}

/* Draws, and after each key too, until it is time to ask again. False: it is to end. */
static bool show_for_a_while(struct top *t, int *rc)
{
	uint64_t now = clock_mono_ns() / 1000000, end = now + t->interval_ms;
	bool go_on = true;

	for (; go_on && now < end; now = clock_mono_ns() / 1000000) {
		int key;

		*rc = draw(t);
		if (*rc != EXIT_OK)
			return false;
		key = screen_wait((int)(end - now));
		if (key == SCREEN_NONE)
			continue;
		go_on = press(t, key);
	}
	return go_on;
}

static int live(struct top *t)
{
	int rc = screen_open();

	if (rc)
		return cli_fail("this terminal cannot show a live table: %s; --once prints it",
				strerror(-rc));
	spinner_off();
	while (show_for_a_while(t, &rc))
		ask(t);
	screen_close();
	return rc == EXIT_OK ? EXIT_OK : cli_fail("out of memory");
}

static int print_once(struct top *t)
{
	const cJSON *s;
	unsigned hidden;

	if (t->cli->format == OUTPUT_JSON)
		return output_json(t->services);
	if (t->cli->format == OUTPUT_NAME) {
		cJSON_ArrayForEach (s, words_get(t->services, "services"))
			puts(json_str(s, "service", "?"));
		return EXIT_OK;
	}
	if (!cJSON_GetArraySize(words_get(t->services, "services"))) {
		fprintf(stderr, "meshctl: no services, and no calls in the last %s\n", opt_window);
		return EXIT_OK;
	}
	return top_print(t->services, &t->view, stdout, &hidden) ? cli_fail("out of memory")
								 : EXIT_OK;
}

static bool is_live(const struct cli *cli)
{
	return !opt_once && cli->format == OUTPUT_TABLE && output_terminal();
}

int cmd_top(struct cli *cli)
{
	struct top t = {.cli = cli, .view = {.sort = 'r', .colour = output_colour(stdout)}};
	int rc = telemetry_window(cli, opt_window);

	if (rc == EXIT_OK)
		rc = telemetry_time(cli, "--interval", opt_interval, &t.interval_ms);
	if (rc == EXIT_OK && (t.interval_ms < 100 || t.interval_ms > 3600000))
		rc = cli_usage(cli, "--interval %s: a time from 100ms to 1h", opt_interval);
	if (rc != EXIT_OK)
		return rc;
	rc = ask(&t);
	if (rc != EXIT_OK)
		cli_fail("%s", t.error);
	else if (!t.services)
		rc = cli_fail("out of memory");
	else
		rc = is_live(cli) ? live(&t) : print_once(&t);
	cJSON_Delete(t.services);
	return rc;
}
