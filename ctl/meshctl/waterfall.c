/* SPDX-License-Identifier: Apache-2.0 */
/* See waterfall.h. Called by trace.c. */
#include "ctl/meshctl/waterfall.h"
#include "ctl/meshctl/figures.h"
#include "ctl/meshctl/output.h"
#include "ctl/meshctl/request_line.h"
#include "ctl/meshctl/text.h"
#include "ctl/meshctl/trace_tree.h"
#include "ctl/meshctl/words.h"
#include "lib/clock.h"
#include "lib/json.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BARS_MAX    100 /* a longer bar tells nothing more */
#define LABEL_MIN   16
#define INDENT	    2 /* columns of a level */
#define RIGHT	    (2 + FIGURES + 1 + FIGURES + 2 + STATUS)
#define FIGURES	    8
#define STATUS	    6
#define LABEL_BYTES 1024

struct draw {
	struct waterfall_style style;
	const struct trace_tree *tree;
	FILE *out;
	bool *more;	      /* by depth: does a sibling follow below? */
	unsigned label, bars; /* columns */
};

/* A line of the waterfall: a span, or something of a span. */
struct line {
	const char *name, *rest; /* rest: not coloured, may be "" */
	enum colour colour;
	double start, duration;
	const char *status;
	bool failed, part; /* part: of a span */
};

static enum colour service_colour(const char *service)
{
	static const enum colour list[] = {COLOUR_CYAN, COLOUR_GREEN, COLOUR_MAGENTA, COLOUR_BLUE,
					   COLOUR_YELLOW};
	uint32_t h = 2166136261u; /* FNV-1a: the same colour every time */

	for (; *service; service++)
		h = (h ^ (unsigned char)*service) * 16777619u;
	return list[(h ^ h >> 15) % 5];
}

/* Writes s in at most `room` columns; how many it took. */
static unsigned put_cut(const struct draw *d, const char *s, unsigned room, enum colour c)
{
	const char *dots = d->style.utf8 ? "\xe2\x80\xa6" : "~";
	char text[LABEL_BYTES];
	size_t keep = 0;

	if (!room)
		return 0;
	if (text_columns(s) > room) {
		keep = text_bytes(s, room - 1);
		snprintf(text, sizeof(text), "%.*s%s", (int)keep, s, dots);
	} else {
		snprintf(text, sizeof(text), "%s", s);
	}
	fputs(output_paint(d->style.colour, c, text), d->out);
	return text_columns(text);
}

static void blanks(FILE *out, unsigned n)
{
	while (n--)
		fputc(' ', out);
}

/* The lines of the tree before a name. Where they would take more than half of the room they are
 * the depth in numbers. part: below the row, not at it. How many columns. */
static unsigned put_indent(const struct draw *d, const struct trace_row *r, bool part)
{
	bool utf8 = d->style.utf8;
	const char *down = utf8 ? "\xe2\x94\x82 " : "| ", *tee = utf8 ? "\xe2\x94\x9c " : "|-",
		   *corner = utf8 ? "\xe2\x94\x94 " : "`-",
		   *own = part	    ? r->last ? "  " : down
			  : r->last ? corner
				    : tee;
	unsigned depth = r->depth;
	char text[24];

	if (depth * INDENT > d->label / 2) {
		snprintf(text, sizeof(text), "(%u) ", depth);
		if (part)
			memset(text, ' ', strlen(text));
		fputs(output_paint(d->style.colour, COLOUR_DIM, text), d->out);
		return text_columns(text);
	}
	for (unsigned i = 1; i < depth; i++)
		fputs(d->more[i] ? down : "  ", d->out);
	if (depth)
		fputs(own, d->out);
	if (part)
		fputs(r->leaf ? "  " : down, d->out);
	return (depth + part) * INDENT;
}

/* The columns of a bar: at least one, within the room. */
static void bar_place(const struct draw *d, const struct line *l, unsigned *from, unsigned *to)
{
	double scale = d->tree->length > 0 ? d->bars / d->tree->length : 0;
	double first = floor(l->start * scale), end = ceil((l->start + l->duration) * scale - 1e-9);

	*from = (unsigned)fmin(fmax(first, 0), d->bars - 1);
	*to = (unsigned)fmin(fmax(end, *from + 1), d->bars);
}

static void put_bar(const struct draw *d, const struct line *l)
{
	const char *cell = d->style.utf8 ? l->part ? "\xe2\x96\x91" : "\xe2\x96\x88"
			   : l->part	 ? "-"
					 : "#";
	char text[BARS_MAX * 3 + 1] = "";
	size_t len = strlen(cell), at = 0;
	unsigned from, to;

	bar_place(d, l, &from, &to);
	for (unsigned i = from; i < to; i++, at += len)
		memcpy(text + at, cell, len + 1);
	blanks(d->out, from);
	fputs(output_paint(d->style.colour, l->failed ? COLOUR_RED : l->colour, text), d->out);
	blanks(d->out, d->bars - to);
}

static void put_line(const struct draw *d, const struct trace_row *r, const struct line *l)
{
	unsigned used = put_indent(d, r, l->part), room = d->label > used ? d->label - used : 0;
	char start[FIGURE_MAX], duration[FIGURE_MAX];

	used += put_cut(d, l->name, room, l->failed ? COLOUR_RED : l->colour);
	if (*l->rest && used + 1 < d->label) {
		fputc(' ', d->out);
		used += 1 + put_cut(d, l->rest, d->label - used - 1, COLOUR_NONE);
	}
	blanks(d->out, used < d->label ? d->label - used : 0);
	fputc(' ', d->out);
	put_bar(d, l);
	fprintf(d->out, " %*s %*s  %s", FIGURES, figure_ms(l->start, start), FIGURES,
		figure_ms(l->duration, duration),
		output_paint(d->style.colour, l->failed ? COLOUR_RED : COLOUR_NONE, l->status));
}

static void code_text(const cJSON *v, bool failed, char out[24])
{
	double status = json_num(v, "statusCode", 0);

	if (status >= 1 && status <= 999)
		snprintf(out, 24, "%.0f", status);
	else
		snprintf(out, 24, "%s", failed ? "none" : "ok");
}

/* A try, or another event of the span. */
static void put_event(const struct draw *d, const struct trace_row *r, const cJSON *e, unsigned n)
{
	bool try = !strcmp(json_str(e, "name", ""), "try");
	const char *cause = json_str(e, "cause", "");
	bool failed = *cause || json_num(e, "statusCode", 0) >= 500;
	char name[128], rest[256], status[24];
	struct line l = {.name = name,
			 .rest = rest,
			 .colour = COLOUR_DIM,
			 .start = r->start + fmax(json_num(e, "time", 0), 0),
			 .duration = fmax(json_num(e, "duration", 0), 0),
			 .status = status,
			 .failed = failed,
			 .part = true};

	if (try)
		snprintf(name, sizeof(name), "try %u", n);
	else
		snprintf(name, sizeof(name), "%.100s", json_str(e, "name", "event"));
	snprintf(rest, sizeof(rest), "%.100s%s%.100s", json_str(e, "endpoint", ""),
		 *cause ? " " : "", cause);
	code_text(e, failed, status);
	if (!try && !words_get(e, "statusCode"))
		status[0] = '\0';
	put_line(d, r, &l);
	if (d->style.wide && json_bool(e, "reused", 0))
		fputs("  reused connection", d->out);
	fputc('\n', d->out);
}

/* Tries are shown when they say more than their span: there were several, or something failed. */
static bool shows_tries(const struct draw *d, const cJSON *span)
{
	return d->style.wide || json_num(span, "tries", 1) > 1 || *json_str(span, "cause", "");
}

static void put_events(const struct draw *d, const struct trace_row *r)
{
	const cJSON *events = words_get(r->span, "events"), *e;
	bool show = shows_tries(d, r->span);
	unsigned tries = 0;

	cJSON_ArrayForEach (e, events) {
		bool try = !strcmp(json_str(e, "name", ""), "try");

		tries += try;
		if (cJSON_IsObject(e) && (d->style.wide || (show && try)))
			put_event(d, r, e, tries);
	}
}

static void put_cause(const struct draw *d, const struct trace_row *r)
{
	const char *cause = json_str(r->span, "cause", "");
	unsigned used;

	if (!*cause)
		return;
	used = put_indent(d, r, true);
	put_cut(d, cause, d->label + d->bars - used, COLOUR_RED);
	fputc('\n', d->out);
}

static void put_span(const struct draw *d, const struct trace_row *r)
{
	const char *service = json_str(r->span, "service", "?");
	static const char *const wide[] = {"instance", "version", "node", "id"};
	bool failed = request_failed(r->span);
	char status[24];
	struct line l = {.name = service,
			 .rest = json_str(r->span, "operation", ""),
			 .colour = service_colour(service),
			 .start = r->start,
			 .duration = r->duration,
			 .status = status,
			 .failed = failed};

	code_text(r->span, failed, status);
	put_line(d, r, &l);
	for (size_t i = 0; d->style.wide && i < sizeof(wide) / sizeof(wide[0]); i++) {
		const char *text = json_str(r->span, wide[i], "");

		fprintf(d->out, "  %s", *text ? text : "-");
	}
	fputc('\n', d->out);
	put_cause(d, r);
	put_events(d, r);
}

/* How many columns the labels of a span and its tries would take. */
static unsigned row_need(const struct draw *d, const struct trace_row *r)
{
	unsigned indent = r->depth * INDENT,
		 need = indent + 1 + text_columns(json_str(r->span, "service", "?")) +
			text_columns(json_str(r->span, "operation", ""));
	const cJSON *e;

	if (!shows_tries(d, r->span))
		return need;
	cJSON_ArrayForEach (e, words_get(r->span, "events")) {
		unsigned n = indent + INDENT + (unsigned)sizeof("try 10  ") +
			     text_columns(json_str(e, "endpoint", "")) +
			     text_columns(json_str(e, "cause", ""));

		need = n > need ? n : need;
	}
	return need;
}

static unsigned label_need(const struct draw *d)
{
	unsigned need = LABEL_MIN;

	for (size_t i = 0; i < d->tree->n; i++) {
		unsigned n = row_need(d, &d->tree->rows[i]);

		need = n > need ? n : need;
	}
	return need;
}

static void divide(struct draw *d)
{
	unsigned width = d->style.width, room, need = label_need(d), most;

	width = width < WATERFALL_WIDTH_MIN   ? WATERFALL_WIDTH_MIN
		: width > WATERFALL_WIDTH_MAX ? WATERFALL_WIDTH_MAX
					      : width;
	room = width > RIGHT + LABEL_MIN ? width - RIGHT : LABEL_MIN + 2;
	most = room * 11 / 20;
	most = most < LABEL_MIN ? LABEL_MIN : most;
	d->label = need < most ? need : most;
	d->bars = room - d->label > BARS_MAX ? BARS_MAX : room - d->label;
}

static unsigned count_services(const struct trace_tree *t)
{
	unsigned n = 0;

	for (size_t i = 0; i < t->n; i++) {
		const char *name = json_str(t->rows[i].span, "service", "?");
		size_t k;

		for (k = 0; k < i && strcmp(json_str(t->rows[k].span, "service", "?"), name); k++)
			;
		n += k == i;
	}
	return n;
}

static void put_head(const struct draw *d, const cJSON *trace, unsigned errors)
{
	const struct trace_tree *t = d->tree;
	unsigned services = count_services(t);
	char length[FIGURE_MAX], when[CLOCK_ISO_MAX];
	const cJSON *a;

	fprintf(d->out, "Trace %s", json_str(trace, "traceId", "?"));
	cJSON_ArrayForEach (a, words_get(trace, "aliases"))
		if (cJSON_IsString(a))
			fprintf(d->out, ", also %.64s", a->valuestring);
	fprintf(d->out, "\n%zu span%s of %u service%s in %s, began %s", t->n, t->n == 1 ? "" : "s",
		services, services == 1 ? "" : "s", figure_ms(t->length, length),
		clock_iso((uint64_t)t->begin, when));
	if (errors) {
		char text[40];

		snprintf(text, sizeof(text), "%u error%s", errors, errors == 1 ? "" : "s");
		fprintf(d->out, ", %s", output_paint(d->style.colour, COLOUR_RED, text));
	}
	fprintf(d->out, "\n\n%s", output_paint(d->style.colour, COLOUR_BOLD, "SPAN"));
	blanks(d->out, d->label + d->bars - 3);
	fprintf(d->out, " %s\n",
		output_paint(d->style.colour, COLOUR_BOLD, "  OFFSET DURATION  STATUS"));
}

static void put_rows(struct draw *d)
{
	for (size_t i = 0; i < d->tree->n; i++) {
		const struct trace_row *r = &d->tree->rows[i];

		d->more[r->depth] = !r->last;
		put_span(d, r);
	}
}

int waterfall_print(const cJSON *trace, const struct waterfall_style *style, FILE *out)
{
	struct trace_tree tree;
	struct draw d = {.style = *style, .tree = &tree, .out = out};
	unsigned errors = 0;

	if (trace_tree_build(words_get(trace, "spans"), &tree))
		return -ENOMEM;
	d.more = calloc(tree.n + 2, sizeof(*d.more));
	if (!d.more) {
		trace_tree_done(&tree);
		return -ENOMEM;
	}
	for (size_t i = 0; i < tree.n; i++)
		errors += request_failed(tree.rows[i].span);
	divide(&d);
	put_head(&d, trace, errors);
	put_rows(&d);
	if (json_num(trace, "lost", 0) > 0)
		fprintf(out, "\n%.0f more spans of this trace were too many to keep.\n",
			json_num(trace, "lost", 0));
	free(d.more);
	trace_tree_done(&tree);
	return 0;
}
