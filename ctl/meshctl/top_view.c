/* SPDX-License-Identifier: Apache-2.0 */
/* See top_view.h. Called by top.c. */
#include "ctl/meshctl/top_view.h"
#include "ctl/meshctl/figures.h"
#include "ctl/meshctl/output.h"
#include "ctl/meshctl/words.h"
#include "lib/json.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

const char top_sorts[] = "nre59";

static double measure(const cJSON *s, char sort)
{
	struct figures f;
	double v;

	figures_read(s, &f);
	v = sort == 'r' ? f.rate : sort == 'e' ? f.error_rate : sort == '5' ? f.p50 : f.p99;
	return isnan(v) ? -1 : v;
}

/* What is equal goes by name, so that rows do not dance. */
static int compare(const void *a, const void *b, void *arg)
{
	const struct top_view *v = arg;
	const cJSON *sa = *(const cJSON *const *)a, *sb = *(const cJSON *const *)b;
	int by_name = strverscmp(json_str(sa, "service", ""), json_str(sb, "service", "")), d = 0;

	if (v->sort != 'n') {
		double ma = measure(sa, v->sort), mb = measure(sb, v->sort);

		d = (ma < mb) - (ma > mb);
	}
	d = v->sort == 'n' ? by_name : d;
	d = v->reverse ? -d : d;
	return d ? d : by_name;
}

static void add_row(struct table *t, const cJSON *s)
{
	char rate[FIGURE_MAX], share[FIGURE_MAX], p50[FIGURE_MAX], p95[FIGURE_MAX], p99[FIGURE_MAX],
		endpoints[48];
	struct figures f;

	figures_read(s, &f);
	snprintf(endpoints, sizeof(endpoints), "%.0f/%.0f", json_num(s, "healthy", 0),
		 json_num(s, "endpoints", 0));
	table_row(t, (const char *[]){json_str(s, "service", "?"), figure_rate(f.rate, rate),
				      figure_share(f.error_rate, share), figure_ms(f.p50, p50),
				      figure_ms(f.p95, p95), figure_ms(f.p99, p99), endpoints,
				      json_str(s, "status", NULL), json_str(s, "breaker", NULL)});
}

static int print_some(const cJSON **list, unsigned n, struct top_view *v, FILE *out,
		      unsigned *hidden)
{
	static const char *const headers[] = {"SERVICE", "RATE",    "ERRORS", "P50",	"P95",
					      "P99",	 "HEALTHY", "STATUS", "BREAKER"};
	unsigned room = v->rows && v->rows < n ? v->rows : n, last = n - room;
	struct table t;
	int r;

	v->first = v->first > last ? last : v->first;
	table_init(&t, headers, 9);
	t.right = 0x7e;
	for (unsigned i = 0; i < room; i++)
		add_row(&t, list[v->first + i]);
	*hidden = n - room - v->first;
	r = table_print(&t, out, v->colour);
	table_done(&t);
	return r;
}

int top_print(const cJSON *services, struct top_view *v, FILE *out, unsigned *hidden)
{
	const cJSON *list = words_get(services, "services"), *s, **sorted;
	int n = cJSON_GetArraySize(list), at = 0, r;

	sorted = calloc((size_t)n + 1, sizeof(*sorted));
	if (!sorted)
		return -ENOMEM;
	cJSON_ArrayForEach (s, list)
		sorted[at++] = s;
	qsort_r(sorted, (size_t)n, sizeof(*sorted), compare, v);
	r = print_some(sorted, (unsigned)n, v, out, hidden);
	free(sorted);
	return r;
}

char *top_total(const cJSON *services, char out[96])
{
	const cJSON *list = words_get(services, "services"), *s;
	struct figures sum = {0, 0, 0, NAN, NAN, NAN, NAN}, f;
	char rate[FIGURE_MAX], share[FIGURE_MAX];
	int n = cJSON_GetArraySize(list);

	cJSON_ArrayForEach (s, list) {
		figures_read(s, &f);
		figures_add(&sum, &f);
	}
	snprintf(out, 96, "%d service%s, %s, %s errors", n, n == 1 ? "" : "s",
		 figure_rate(sum.rate, rate),
		 figure_share(sum.requests > 0 ? sum.error_rate : 0, share));
	return out;
}
