/* SPDX-License-Identifier: Apache-2.0 */
/* Longest common subsequence of lines, for `meshctl diff`. Sizes are those of configuration files:
 * a plain table will do. */
#include "ctl/meshctl/linediff.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CONTEXT 3

struct line {
	const char *text;
	size_t len; /* without the newline */
};

struct text {
	struct line *lines;
	size_t count;
};

struct op {
	char sign; /* ' ', '-', '+' */
	struct line line;
};

struct script {
	struct op *ops;
	size_t count;
};

static int split(const char *s, struct text *t)
{
	size_t n = 0;

	for (const char *p = s; *p; p++)
		n += *p == '\n';
	t->count = 0;
	t->lines = calloc(n + 1, sizeof(*t->lines));
	if (!t->lines)
		return -ENOMEM;
	while (*s) { /* n + 1 of them when the last has no newline */
		size_t len = strcspn(s, "\n");

		t->lines[t->count++] = (struct line){s, len};
		s += len + (s[len] == '\n');
	}
	return 0;
}

static bool same(const struct line *a, const struct line *b)
{
	return a->len == b->len && !memcmp(a->text, b->text, a->len);
}

static void emit(struct script *s, char sign, const struct line *l)
{
	s->ops[s->count++] = (struct op){sign, *l};
}

/* lcs[i * (m + 1) + j]: length for the lines from i of a and from j of b. */
static void walk(struct script *s, const struct line *a, size_t n, const struct line *b, size_t m,
		 const unsigned *lcs)
{
	size_t i = 0, j = 0;

	while (i < n || j < m) {
		if (i < n && j < m && same(&a[i], &b[j])) {
			emit(s, ' ', &a[i++]);
			j++;
		} else if (i < n && (j == m || !lcs ||
				     lcs[(i + 1) * (m + 1) + j] >= lcs[i * (m + 1) + j + 1])) {
			emit(s, '-', &a[i++]);
		} else {
			emit(s, '+', &b[j++]);
		}
	}
}

static int middle(struct script *s, const struct line *a, size_t n, const struct line *b, size_t m)
{
	unsigned *lcs = NULL;

	if ((n + 1) * (m + 1) <= LINEDIFF_CELLS) {
		lcs = calloc((n + 1) * (m + 1), sizeof(*lcs));
		if (!lcs)
			return -ENOMEM;
		for (size_t i = n; i-- > 0;) {
			for (size_t j = m; j-- > 0;) {
				unsigned down = lcs[(i + 1) * (m + 1) + j];
				unsigned right = lcs[i * (m + 1) + j + 1];

				lcs[i * (m + 1) + j] = same(&a[i], &b[j])
							       ? lcs[(i + 1) * (m + 1) + j + 1] + 1
						       : down > right ? down
								      : right;
			}
		}
	}
	walk(s, a, n, b, m, lcs);
	free(lcs);
	return 0;
}

static int compare(struct script *s, const struct text *a, const struct text *b)
{
	size_t head = 0, tail = 0;
	int rc;

	s->ops = calloc(a->count + b->count + 1, sizeof(*s->ops));
	if (!s->ops)
		return -ENOMEM;
	while (head < a->count && head < b->count && same(&a->lines[head], &b->lines[head]))
		emit(s, ' ', &a->lines[head++]);
	while (tail < a->count - head && tail < b->count - head &&
	       same(&a->lines[a->count - 1 - tail], &b->lines[b->count - 1 - tail]))
		tail++;
	rc = middle(s, a->lines + head, a->count - head - tail, b->lines + head,
		    b->count - head - tail);
	for (size_t i = a->count - tail; !rc && i < a->count; i++)
		emit(s, ' ', &a->lines[i]);
	return rc;
}

/* Where the hunk that begins with the change at `first` ends: behind the context of its last
 * change. */
static size_t hunk_end(const struct script *s, size_t first)
{
	size_t last = first;

	for (size_t i = first; i < s->count && i - last <= 2 * CONTEXT + 1; i++)
		if (s->ops[i].sign != ' ')
			last = i;
	return last + 1 + CONTEXT < s->count ? last + 1 + CONTEXT : s->count;
}

static void count_sides(const struct script *s, size_t from, size_t to, size_t *a, size_t *b)
{
	*a = *b = 0;
	for (size_t i = from; i < to; i++) {
		*a += s->ops[i].sign != '+';
		*b += s->ops[i].sign != '-';
	}
}

static void print_hunk(struct buf *out, const struct script *s, size_t from, size_t to)
{
	size_t a, b, before_a, before_b;

	count_sides(s, 0, from, &before_a, &before_b);
	count_sides(s, from, to, &a, &b);
	/* an empty side is named by the line before it */
	buf_printf(out, "@@ -%zu,%zu +%zu,%zu @@\n", before_a + (a > 0), a, before_b + (b > 0), b);
	for (size_t i = from; i < to; i++) {
		buf_char(out, s->ops[i].sign);
		buf_add(out, s->ops[i].line.text, s->ops[i].line.len);
		buf_char(out, '\n');
	}
}

int linediff(struct buf *out, const char *name_a, const char *a, const char *name_b, const char *b)
{
	struct text ta = {0}, tb = {0};
	struct script s = {0};
	int rc = split(a, &ta);

	if (!rc)
		rc = split(b, &tb);
	if (!rc)
		rc = compare(&s, &ta, &tb);
	for (size_t i = 0, end = 0; rc >= 0 && i < s.count; i++) {
		size_t from;

		if (s.ops[i].sign == ' ')
			continue;
		if (!rc)
			buf_printf(out, "--- %s\n+++ %s\n", name_a, name_b);
		rc = 1;
		from = i > end + CONTEXT ? i - CONTEXT : end;
		end = hunk_end(&s, i);
		print_hunk(out, &s, from, end);
		i = end - 1;
	}
	free(s.ops);
	free(ta.lines);
	free(tb.lines);
	return rc == 1 && out->failed ? -ENOMEM : rc;
}
