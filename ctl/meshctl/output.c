/* SPDX-License-Identifier: Apache-2.0 */
/* Tables, JSON and colour for every command of meshctl. Knows nothing of services or of meshd. */
#include "ctl/meshctl/output.h"
#include "ctl/meshctl/meshctl.h"
#include "ctl/meshctl/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "lib/buf.h"

#define WIDTH_UNKNOWN 80

void table_init(struct table *t, const char *const *headers, unsigned columns)
{
	*t = (struct table){.headers = headers, .columns = columns};
}

void table_done(struct table *t)
{
	for (size_t r = 0; r < t->count; r++)
		for (unsigned c = 0; c < t->columns; c++)
			free(t->rows[r][c]);
	free(t->rows);
	t->rows = NULL;
	t->count = t->cap = 0;
}

void table_row(struct table *t, const char *const *cells)
{
	if (t->count == t->cap) {
		size_t cap = t->cap ? t->cap * 2 : 16;
		void *rows = reallocarray(t->rows, cap, sizeof(*t->rows));

		if (!rows) {
			t->failed = true;
			return;
		}
		t->rows = rows;
		t->cap = cap;
	}
	for (unsigned c = 0; c < t->columns; c++) {
		char *cell = strndup(cells[c] && *cells[c] ? cells[c] : "-", TEXT_CELL_MAX);

		t->rows[t->count][c] = cell;
		if (cell)
			text_mask(cell);
		else
			t->failed = true;
	}
	t->count++;
}

static int compare_rows(const void *a, const void *b, void *arg)
{
	char *const *ra = a, *const *rb = b;
	const struct table *t = arg;

	for (unsigned c = 0; c < t->columns; c++) {
		int d = strverscmp(ra[c] ? ra[c] : "", rb[c] ? rb[c] : "");

		if (d)
			return d;
	}
	return 0;
}

void table_sort(struct table *t)
{
	if (t->count)
		qsort_r(t->rows, t->count, sizeof(*t->rows), compare_rows, t);
}

static void blanks(FILE *out, unsigned n)
{
	while (n--)
		fputc(' ', out);
}

/* The cell of a column in so many columns of the terminal, and the gap behind it. */
static void print_cell(const struct table *t, unsigned column, unsigned room, FILE *out,
		       const char *cell, const char *paint)
{
	bool right = t->right & 1u << column, last = column + 1 == t->columns;
	unsigned fill = room - text_columns(cell);

	blanks(out, right ? fill : 0);
	fputs(paint, out);
	blanks(out, last ? 0 : (right ? 0 : fill) + 2);
}

static enum colour cell_colour(const char *header, const char *cell)
{
	static const char *const states[] = {"STATUS", "STATE", "BREAKER"};

	for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++)
		if (!strcmp(header, states[i]))
			return output_state_colour(cell);
	if (!strcmp(header, "ERRORS") && strcmp(cell, "0%") && strcmp(cell, "-"))
		return COLOUR_RED;
	return COLOUR_NONE;
}

int table_print(const struct table *t, FILE *out, bool colour)
{
	unsigned widths[TABLE_COLUMNS] = {0};

	if (t->failed)
		return -ENOMEM;
	for (unsigned c = 0; c < t->columns; c++) {
		widths[c] = text_columns(t->headers[c]);
		for (size_t r = 0; r < t->count; r++)
			if (text_columns(t->rows[r][c]) > widths[c])
				widths[c] = text_columns(t->rows[r][c]);
	}
	for (unsigned c = 0; c < t->columns; c++)
		print_cell(t, c, widths[c], out, t->headers[c],
			   output_paint(colour, COLOUR_BOLD, t->headers[c]));
	fputc('\n', out);
	for (size_t r = 0; r < t->count; r++) {
		for (unsigned c = 0; c < t->columns; c++) {
			const char *cell = t->rows[r][c];

			print_cell(t, c, widths[c], out, cell,
				   output_paint(colour, cell_colour(t->headers[c], cell), cell));
		}
		fputc('\n', out);
	}
	return 0;
}

bool output_colour(FILE *out)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

	return !(no && *no) && !(term && !strcmp(term, "dumb")) && isatty(fileno(out));
}

bool output_terminal(void)
{
	const char *term = getenv("TERM");

	return term && *term && strcmp(term, "dumb") != 0 && isatty(STDIN_FILENO) &&
	       isatty(STDOUT_FILENO);
}

bool output_utf8(void)
{
	static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};

	for (size_t i = 0; i < 3; i++) {
		const char *v = getenv(names[i]);

		if (v && *v)
			return strcasestr(v, "utf-8") || strcasestr(v, "utf8");
	}
	return false;
}

unsigned output_width(void)
{
	const char *columns = getenv("COLUMNS");
	struct winsize w;
	uint64_t n;

	if (!ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) && w.ws_col)
		return w.ws_col;
	if (columns && !text_number(columns, 1, 10000, &n))
		return (unsigned)n;
	return WIDTH_UNKNOWN;
}

const char *output_paint(bool on, enum colour c, const char *text)
{
	static const char *const codes[] = {"", "32", "31", "33", "1", "2", "34", "35", "36"};
	static char ring[8][TEXT_CELL_MAX + 16];
	static unsigned next;
	char *out = ring[next++ % 8];

	if (!on || c == COLOUR_NONE)
		return text;
	snprintf(out, sizeof(ring[0]), "\033[%sm%.*s\033[0m", codes[c], TEXT_CELL_MAX, text);
	return out;
}

enum colour output_state_colour(const char *word)
{
	static const char *const good[] = {"healthy", "live", "ok", "created", "ready", "closed"};
	static const char *const warn[] = {"draining", "changed", "half-open", "degraded",
					   "unknown"};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		if (!strcmp(word, good[i]))
			return COLOUR_GREEN;
	for (size_t i = 0; i < sizeof(warn) / sizeof(warn[0]); i++)
		if (!strcmp(word, warn[i]))
			return COLOUR_YELLOW;
	return !strcmp(word, "-") || !strcmp(word, "unchanged") ? COLOUR_NONE : COLOUR_RED;
}

static void indent(struct buf *b, unsigned depth)
{
	buf_char(b, '\n');
	while (depth--)
		buf_str(b, "  ");
}

/* cJSON's own printing uses tabs and puts one-line arrays and many-line objects side by side. */
static void pretty(struct buf *b, const cJSON *v, unsigned depth)
{
	bool object = cJSON_IsObject(v);
	const cJSON *item;
	char *text;

	if ((!object && !cJSON_IsArray(v)) || !v->child) {
		text = cJSON_PrintUnformatted(v);
		if (text)
			buf_str(b, text);
		else
			b->failed = true;
		cJSON_free(text);
		return;
	}
	buf_char(b, object ? '{' : '[');
	cJSON_ArrayForEach (item, v) {
		indent(b, depth + 1);
		if (object) {
			buf_json(b, item->string, strlen(item->string));
			buf_str(b, ": ");
		}
		pretty(b, item, depth + 1);
		if (item->next)
			buf_char(b, ',');
	}
	indent(b, depth);
	buf_char(b, object ? '}' : ']');
}

char *output_json_text(const cJSON *v)
{
	struct buf b;

	buf_init(&b, 64u << 20);
	pretty(&b, v, 0);
	buf_char(&b, '\n');
	return buf_take(&b);
}

int output_json(const cJSON *v)
{
	char *text = output_json_text(v);

	if (!text)
		return cli_fail("out of memory while printing JSON");
	fputs(text, stdout);
	free(text);
	return EXIT_OK;
}
