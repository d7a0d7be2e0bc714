/* SPDX-License-Identifier: Apache-2.0 */
/* See request_line.h. */
#include "ctl/meshctl/request_line.h"
#include "ctl/meshctl/figures.h"
#include "ctl/meshctl/output.h"
#include "lib/json.h"

#include <string.h>
#include <time.h>

#define WHO_MAX 36 /* longer ones shift what is behind them */

bool request_failed(const cJSON *span)
{
	double status = json_num(span, "statusCode", 0);

	return json_bool(span, "error", status >= 400);
}

/* "04:00:01.123", of this host's time zone. */
static void clock_text(double ms, bool date, char out[40])
{
	struct tm tm = {0};
	time_t t;

	if (!(ms >= 0 && ms < 4e14)) { /* up to the year 14000: what strftime can print */
		snprintf(out, 40, "?");
		return;
	}
	t = (time_t)(ms / 1000);
	localtime_r(&t, &tm);
	strftime(out, 32, date ? "%Y-%m-%d %H:%M:%S" : "%H:%M:%S", &tm);
	snprintf(out + strlen(out), 8, ".%03d", (int)(ms - (double)t * 1000) % 1000);
}

static void status_text(const cJSON *span, char out[24])
{
	double status = json_num(span, "statusCode", 0);

	if (status >= 1 && status <= 999)
		snprintf(out, 24, "%.0f", status);
	else
		snprintf(out, 24, "%s", request_failed(span) ? "---" : "ok");
}

/* A path is as long as a client likes. */
static void print_operation(const cJSON *span, FILE *out)
{
	const char *method = json_str(span, "method", ""), *path = json_str(span, "path", "");

	if (*method)
		fprintf(out, "  %s %.200s%s", method, path, strlen(path) > 200 ? "..." : "");
	else
		fprintf(out, "  %.200s", json_str(span, "operation", "-"));
}

static const char *or_dash(const cJSON *span, const char *key)
{
	const char *text = json_str(span, key, "");

	return *text ? text : "-";
}

static void print_rest(const cJSON *span, const struct request_style *style, FILE *out)
{
	const char *cause = json_str(span, "cause", ""), *instance = json_str(span, "instance", "");
	double tries = json_num(span, "tries", 1);

	if (*cause)
		fprintf(out, "  %s", output_paint(style->colour, COLOUR_RED, cause));
	if (tries > 1)
		fprintf(out, "  %.0f tries", tries);
	if (*instance)
		fprintf(out, "  %s", instance);
	if (style->wide)
		fprintf(out, "  %s  %s  request %s", or_dash(span, "version"),
			or_dash(span, "node"), or_dash(span, "requestId"));
	if (style->wide || request_failed(span))
		fprintf(out, "  trace %s", or_dash(span, "traceId"));
}

/* "frontend -> backend"; its length. */
static unsigned who_text(const cJSON *span, char out[160])
{
	const char *source = json_str(span, "source", "");

	snprintf(out, 160, "%.70s -> %.70s", *source ? source : "(unknown)",
		 json_str(span, "service", "?"));
	return (unsigned)strlen(out);
}

void request_measure(const cJSON *span, struct request_style *style)
{
	char who[160];
	unsigned n = who_text(span, who);

	n = n < WHO_MAX ? n : WHO_MAX;
	style->who_width = n > style->who_width ? n : style->who_width;
}

void request_line(const cJSON *span, struct request_style *style, FILE *out)
{
	bool failed = request_failed(span);
	char at[40], status[24], duration[FIGURE_MAX];
	char who[160];
	unsigned len = who_text(span, who);

	clock_text(json_num(span, "startTime", -1), style->date, at);
	status_text(span, status);
	fprintf(out, "%s  %s  %8s  ", output_paint(style->colour, COLOUR_DIM, at),
		output_paint(style->colour, failed ? COLOUR_RED : COLOUR_GREEN, status),
		figure_ms(json_num(span, "duration", -1), duration));
	request_measure(span, style);
	fputs(who, out);
	for (; len < style->who_width; len++)
		fputc(' ', out);
	print_operation(span, out);
	print_rest(span, style, out);
	fputc('\n', out);
}

void request_print(enum output_format format, const cJSON *span, struct request_style *style)
{
	char *text;

	if (format == OUTPUT_NAME) {
		puts(json_str(span, "traceId", "?"));
	} else if (format == OUTPUT_JSON) {
		text = cJSON_PrintUnformatted(span);
		puts(text ? text : "{}");
		cJSON_free(text);
	} else {
		request_line(span, style, stdout);
	}
}
