/* SPDX-License-Identifier: Apache-2.0 */
/* How meshctl shows things: tables, JSON, colour, a spinner. Data goes to stdout, progress to
 * stderr. */
#ifndef CTL_MESHCTL_OUTPUT_H
#define CTL_MESHCTL_OUTPUT_H

#include <cjson/cJSON.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define TABLE_COLUMNS 12
#define TEXT_CELL_MAX 1024

enum colour {
	COLOUR_NONE,
	COLOUR_GREEN,
	COLOUR_RED,
	COLOUR_YELLOW,
	COLOUR_BOLD,
	COLOUR_DIM,
	COLOUR_BLUE,
	COLOUR_MAGENTA,
	COLOUR_CYAN
};

/* A table holds copies of its cells. Without memory it says so when it is printed. */
struct table {
	const char *const *headers;
	unsigned columns;
	unsigned right; /* a bit for each column of numbers: they end below each other */
	char *(*rows)[TABLE_COLUMNS];
	size_t count, cap;
	bool failed;
};

/* headers: kept, in capitals, at most TABLE_COLUMNS. */
void table_init(struct table *t, const char *const *headers, unsigned columns);
void table_done(struct table *t);
/* cells: one a column; NULL or "" shows as "-". Control characters are masked. */
void table_row(struct table *t, const char *const *cells);
/* By the first column, then the second, and so on; digits compare as numbers. */
void table_sort(struct table *t);
/* Aligned, two spaces between columns, no white space at line ends. Columns named STATUS,
 * STATE or BREAKER are coloured when `colour`, and ERRORS that are not 0. 0 or -ENOMEM. */
int table_print(const struct table *t, FILE *out, bool colour);

/* Should this stream get colour: it is a terminal and NO_COLOR is not set. */
bool output_colour(FILE *out);
/* Can the terminal be drawn upon: stdin and stdout are one, and it is not dumb. */
bool output_terminal(void);
/* May check marks and arrows be used: the locale's or the environment's charset is UTF-8. */
bool output_utf8(void);
/* Columns of the terminal that stdout is; else what $COLUMNS says, else 80. */
unsigned output_width(void);
/* text in a colour (a rotating static buffer, 8 of them), or as it is when !on. */
const char *output_paint(bool on, enum colour c, const char *text);
/* What a word of state should look like: healthy, live, yes, ok ... */
enum colour output_state_colour(const char *word);
/* One JSON document, indented by two spaces, and a newline. EXIT_OK or EXIT_FAILED. */
int output_json(const cJSON *v);
/* The same as a string; the caller frees it. NULL without memory. */
char *output_json_text(const cJSON *v);

/* A line on stderr while something takes long: it appears after a second, on a terminal only.
 * `text` is copied. */
struct spinner {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	char text[160];
	bool running, stop, shown;
};

void spinner_start(struct spinner *s, const char *text);
void spinner_text(struct spinner *s, const char *text);
void spinner_stop(struct spinner *s);
/* From now on there is none: the terminal belongs to something else. */
void spinner_off(void);

#endif
