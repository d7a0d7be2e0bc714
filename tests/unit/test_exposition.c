/* SPDX-License-Identifier: Apache-2.0 */
/* Who asks for metrics gets them in the form it can read. */
#include "lib/exposition.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include <cmocka.h>

static const char prometheus_2_42[] =
	"application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;"
	"q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
static const char prometheus_3[] =
	"application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/"
	"openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
	"text/plain;version=0.0.4;q=0.3,*/*;q=0.2";

static void openmetrics_is_for_who_names_it_and_prefers_it(void **state)
{
	static const struct {
		const char *accept;
		bool openmetrics;
	} cases[] = {
		{NULL, false},
		{"", false},
		{"*/*", false},
		{"text/plain", false},
		{"application/*", false},
		{prometheus_2_42, true},
		{prometheus_3, true},
		{"application/openmetrics-text", true},
		{"Application/OpenMetrics-Text ; Version=1.0.0", true},
		{"application/openmetrics-text; version=\"1.0.0\"", true},
		{"application/openmetrics-text; version=2.0.0", false},
		{"application/openmetrics-text; version=2.0.0, application/openmetrics-text", true},
		{"application/openmetrics-text;q=0.5, text/plain;q=0.6", false},
		{"text/plain;q=0.6, application/openmetrics-text;q=0.601", true},
		{"application/openmetrics-text;q=0.5, text/*;q=0.6", false},
		{"application/openmetrics-text;q=0.5, */*", false},
		{"application/openmetrics-text;q=0.5, */*, text/*;q=0.6, text/plain;q=0.1", true},
		{"application/openmetrics-text;q=0.5, text/plain;version=1.0.0", true},
		{"application/openmetrics-text;q=0", false},
		{"application/openmetrics-text;q=0.000, text/plain;q=0", false},
		{"application/openmetrics-text;q=2", false},
		{"application/openmetrics-text;q=1.0000", false},
		{"application/openmetrics-text;q=", false},
		{"application/openmetrics-text;q=x;q", false},
		{";;;,,,q=1", false},
		{"application/openmetrics-text;version=\"1.0.0", true},
		{"application/openmetrics-text;a=\",text/plain\";q=0.3,text/plain;q=0.2", true},
		{"text/html, application/openmetrics-textual", false},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		if (exposition_choose(cases[i].accept, NULL).openmetrics != cases[i].openmetrics)
			fail_msg("%s", cases[i].accept ? cases[i].accept : "(none)");
}

static void gzip_is_for_who_takes_it(void **state)
{
	static const struct {
		const char *accept;
		bool gzip;
	} cases[] = {
		{NULL, false},		{"", false},
		{"identity", false},	{"gzip", true},
		{"GZip", true},		{"x-gzip", true},
		{"br, gzip", true},	{"gzip;q=0", false},
		{"gzip;q=0.001", true}, {"*", true},
		{"*;q=0", false},	{"*, gzip;q=0", false},
		{"gzip;q=0, *", false}, {"deflate, br", false},
		{"gzipped", false},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		if (exposition_choose(NULL, cases[i].accept).gzip != cases[i].gzip)
			fail_msg("%s", cases[i].accept ? cases[i].accept : "(none)");
}

/* Whatever a client sends: nothing is read behind its end (the sanitizers see to that). */
static void garbage_does_no_harm(void **state)
{
	static const char *const words[] = {"application/openmetrics-text",
					    "text/plain",
					    "gzip",
					    "version=",
					    "q=",
					    "1.0.0",
					    "0.5",
					    "\"",
					    ";",
					    ",",
					    "=",
					    " ",
					    "\t",
					    "*/*",
					    "*",
					    "\xff"};
	char text[128], *copy;

	srandom(1);
	for (int i = 0; i < 20000; i++) {
		text[0] = '\0';
		for (long n = random() % 12; n > 0; n--) {
			const char *w = words[(size_t)random() % (sizeof(words) / sizeof(*words))];

			if (strlen(text) + strlen(w) < sizeof(text))
				strcat(text, w);
		}
		copy = strdup(text); /* on its own, so that its end is known */
		(void)exposition_choose(copy, copy);
		free(copy);
	}
}

static void write_some(struct buf *b, bool exemplars)
{
	static const uint8_t trace_id[16] = {0x4b, 0xf9, 0x2f, 0xff, [15] = 1};

	exposition_head(b, "a_seconds", "histogram", "Of \"a\".");
	buf_str(b, "a_seconds_bucket{le=\"+Inf\"} 1");
	if (exemplars)
		exposition_exemplar(b, trace_id, 0.25, 1763868000007);
	buf_str(b, "\na_seconds_count 1\na_seconds_sum 0.25\n");
	exposition_single(b, "b_total", "counter", "Of b.", 3);
	exposition_head(b, "c", "gauge", "Of c.");
	buf_str(b, "c{");
	exposition_label(b, "x", "# HELP \"\\\n");
	buf_str(b, "} 1\n");
}

static void text_is_as_it_was_written(void **state)
{
	struct exposition x = {false, false};
	struct buf b;

	buf_init(&b, 4096);
	write_some(&b, false);
	exposition_seal(&x, &b);
	assert_string_equal(
		b.data, "# HELP a_seconds Of \"a\".\n# TYPE a_seconds histogram\n"
			"a_seconds_bucket{le=\"+Inf\"} 1\na_seconds_count 1\na_seconds_sum 0.25\n"
			"# HELP b_total Of b.\n# TYPE b_total counter\nb_total 3\n"
			"# HELP c Of c.\n# TYPE c gauge\nc{x=\"# HELP \\\"\\\\\\n\"} 1\n");
	assert_string_equal(exposition_type(&x), "text/plain; version=0.0.4; charset=utf-8");
	buf_done(&b);
}

static void openmetrics_names_families_and_units_and_ends(void **state)
{
	struct exposition x = {true, false};
	struct buf b;

	buf_init(&b, 4096);
	write_some(&b, true);
	exposition_seal(&x, &b);
	assert_string_equal(
		b.data, "# TYPE a_seconds histogram\n# UNIT a_seconds seconds\n# HELP a_seconds Of "
			"\\\"a\\\".\n"
			"a_seconds_bucket{le=\"+Inf\"} 1 # "
			"{trace_id=\"4bf92fff000000000000000000000001\"} 0.25 1763868000.007\n"
			"a_seconds_count 1\na_seconds_sum 0.25\n"
			"# TYPE b counter\n# HELP b Of b.\nb_total 3\n"
			"# TYPE c gauge\n# HELP c Of c.\nc{x=\"# HELP \\\"\\\\\\n\"} 1\n# EOF\n");
	assert_string_equal(exposition_type(&x),
			    "application/openmetrics-text; version=1.0.0; charset=utf-8");
	buf_done(&b);
}

static void an_empty_text_is_whole_too(void **state)
{
	struct exposition x = {true, true};
	struct buf b;

	buf_init(&b, 4096);
	exposition_seal(&(struct exposition){false, true}, &b);
	assert_int_equal(b.len, 0);
	assert_false(b.failed);
	exposition_seal(&(struct exposition){true, false}, &b);
	assert_string_equal(b.data, "# EOF\n");
	exposition_seal(&x, &b);
	assert_false(b.failed);
	buf_done(&b);
}

static size_t plain_of(const struct exposition *x, const struct buf *b, char *out, size_t cap)
{
	z_stream z = {0};

	if (!x->gzip) {
		memcpy(out, b->data, b->len);
		return b->len;
	}
	assert_int_equal(inflateInit2(&z, 15 + 16), Z_OK);
	z.next_in = (unsigned char *)b->data;
	z.avail_in = (unsigned)b->len;
	z.next_out = (unsigned char *)out;
	z.avail_out = (unsigned)cap;
	assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
	inflateEnd(&z);
	return z.total_out;
}

static void gzip_gives_back_the_same_text(void **state)
{
	struct exposition x = {false, true};
	z_stream z = {0};
	struct buf b, plain;
	char *out;

	buf_init(&plain, 1u << 20);
	for (int i = 0; i < 1000; i++)
		write_some(&plain, false);
	buf_init(&b, 1u << 20);
	buf_add(&b, plain.data, plain.len);
	exposition_seal(&x, &b);
	assert_false(b.failed);
	assert_true(b.len < plain.len / 10);
	out = malloc(plain.len + 1);
	assert_int_equal(inflateInit2(&z, 15 + 16), Z_OK);
	z.next_in = (unsigned char *)b.data;
	z.avail_in = (unsigned)b.len;
	z.next_out = (unsigned char *)out;
	z.avail_out = (unsigned)plain.len + 1;
	assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
	assert_int_equal(z.total_out, plain.len);
	assert_memory_equal(out, plain.data, plain.len);
	inflateEnd(&z);
	free(out);
	buf_done(&b);
	buf_done(&plain);
}

/* Of any form: what parts come to, one behind the other, says what the whole does. */
static void in_parts_it_is_the_same_text(void **state)
{
	static char whole[1 << 20], parts[1 << 20];

	for (int form = 0; form < 4; form++) {
		struct exposition x = {form & 1, form & 2};
		struct exposition_stream *e = exposition_stream_new(&x);
		struct buf b, part, sent;
		size_t n, sent_n;

		assert_non_null(e);
		buf_init(&b, 1u << 20);
		buf_init(&sent, 1u << 20);
		for (int i = 0; i < 300; i++) {
			buf_init(&part, 1u << 20);
			if (i % 7)
				write_some(&part, x.openmetrics);
			buf_add(&b, part.data ? part.data : "", part.len);
			exposition_stream_part(e, &part, i == 299);
			assert_false(part.failed);
			assert_true(part.len || i % 7 == 0);
			buf_add(&sent, part.data ? part.data : "", part.len);
			buf_done(&part);
		}
		exposition_stream_free(&e);
		exposition_stream_free(&e);
		exposition_seal(&x, &b);
		n = plain_of(&x, &b, whole, sizeof(whole));
		sent_n = plain_of(&x, &sent, parts, sizeof(parts));
		assert_int_equal(sent_n, n);
		assert_memory_equal(parts, whole, n);
		buf_done(&b);
		buf_done(&sent);
	}
}

static void what_did_not_fit_is_said(void **state)
{
	struct exposition x = {true, true};
	struct buf b;

	buf_init(&b, 100);
	write_some(&b, true);
	assert_true(b.failed);
	exposition_seal(&x, &b);
	assert_true(b.failed);
	buf_done(&b);
}

static void a_process_tells_of_itself(void **state)
{
	static const char *const names[] = {
		"process_cpu_seconds_total",	 "process_resident_memory_bytes",
		"process_virtual_memory_bytes",	 "process_open_fds",
		"process_start_time_seconds 17", "process_max_fds"};
	char line[64];
	struct buf b;

	buf_init(&b, 4096);
	exposition_process(&b, 17);
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		const char *at;

		snprintf(line, sizeof(line), "\n%s", names[i]);
		at = strstr(b.data, line);
		assert_non_null(at);
		assert_true(strtod(strchr(at, ' '), NULL) > 0);
	}
	buf_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(openmetrics_is_for_who_names_it_and_prefers_it),
		cmocka_unit_test(gzip_is_for_who_takes_it),
		cmocka_unit_test(garbage_does_no_harm),
		cmocka_unit_test(text_is_as_it_was_written),
		cmocka_unit_test(openmetrics_names_families_and_units_and_ends),
		cmocka_unit_test(an_empty_text_is_whole_too),
		cmocka_unit_test(gzip_gives_back_the_same_text),
		cmocka_unit_test(in_parts_it_is_the_same_text),
		cmocka_unit_test(what_did_not_fit_is_said),
		cmocka_unit_test(a_process_tells_of_itself),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
