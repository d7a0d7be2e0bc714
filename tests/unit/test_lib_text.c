/* SPDX-License-Identifier: Apache-2.0 */
/* lib/buf and lib/log: limits hold, JSON strings are always valid, and no message makes a second
 * line. */
#include "lib/buf.h"
#include "lib/json.h"
#include "lib/log.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void buf_grows_up_to_its_limit(void **state)
{
	struct buf b;

	buf_init(&b, 200);
	for (int i = 0; i < 20; i++)
		buf_str(&b, "0123456789");
	assert_false(b.failed);
	assert_int_equal(b.len, 200);
	buf_char(&b, 'x');
	assert_true(b.failed);
	assert_int_equal(b.len, 200);
	assert_int_equal(strlen(b.data), 200);
	buf_done(&b);
	buf_done(&b);
}

static void buf_does_nothing_after_a_failure_until_it_is_reset(void **state)
{
	struct buf b;

	buf_init(&b, 4);
	buf_str(&b, "abc");
	buf_printf(&b, "%s", "too long");
	buf_char(&b, 'd'); /* would fit */
	assert_true(b.failed);
	assert_string_equal(b.data, "abc");
	assert_null(buf_take(&b));
	buf_str(&b, "new");
	assert_string_equal(b.data, "new");
	buf_reset(&b);
	assert_int_equal(b.len, 0);
	buf_done(&b);
}

static void buf_printf_fits_or_changes_nothing(void **state)
{
	for (int before = 0; before < 140; before++)
		for (int n = 0; n < 140; n++) {
			struct buf b;

			buf_init(&b, 150);
			buf_printf(&b, "%0*d", before, 0);
			before = (int)b.len; /* a width of 0 is still a digit */
			buf_printf(&b, "%.*s", n,
				   "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
			assert_int_equal(b.failed, before + (n < 48 ? n : 48) > 150);
			assert_int_equal(strlen(b.data), b.len);
			assert_int_equal(b.len, before + (b.failed ? 0 : n < 48 ? n : 48));
			buf_done(&b);
		}
}

static void numbers_are_in_digits(void **state)
{
	struct buf b;

	buf_init(&b, 100);
	buf_u64(&b, 0);
	buf_char(&b, ' ');
	buf_u64(&b, UINT64_MAX);
	buf_char(&b, ' ');
	buf_ms(&b, 1002003999);
	buf_char(&b, ' ');
	buf_ms(&b, 999);
	assert_string_equal(b.data, "0 18446744073709551615 1002.003 0.000");
	buf_done(&b);
}

static void buf_take_gives_the_string_away(void **state)
{
	struct buf b;
	char *s;

	buf_init(&b, 100);
	s = buf_take(&b);
	assert_string_equal(s, "");
	free(s);
	buf_printf(&b, "%d-%s", 7, "x");
	s = buf_take(&b);
	assert_string_equal(s, "7-x");
	assert_null(b.data);
	assert_int_equal(b.len, 0);
	free(s);
}

static void json_string_is_escaped(void **state)
{
	static const struct {
		const char *what, *in, *out;
		size_t len;
	} cases[] = {
		{"plain", "abc", "\"abc\"", 3},
		{"empty", "", "\"\"", 0},
		{"quotes and backslash", "a\"b\\c", "\"a\\\"b\\\\c\"", 5},
		{"named controls", "\b\f\n\r\t", "\"\\b\\f\\n\\r\\t\"", 5},
		{"other controls", "\x01\x1f\x7f", "\"\\u0001\\u001f\\u007f\"", 3},
		{"controls of Latin-1, as terminals know them", "\xc2\x80\xc2\x9b\xc2\xa0",
		 "\"\\u0080\\u009b\xc2\xa0\"", 6},
		{"NUL inside", "a\0b", "\"a\\u0000b\"", 3},
		{"UTF-8 of every length", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80",
		 "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"", 9},
		{"overlong", "\xc0\xaf", "\"\xef\xbf\xbd\xef\xbf\xbd\"", 2},
		{"surrogate", "\xed\xa0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"", 3},
		{"cut off", "x\xe2\x82", "\"x\xef\xbf\xbd\xef\xbf\xbd\"", 3},
		{"beyond U+10FFFF", "\xf4\x90\x80\x80",
		 "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"", 4},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buf b;

		buf_init(&b, 100);
		buf_json(&b, cases[i].in, cases[i].len);
		print_message("%s\n", cases[i].what);
		assert_string_equal(b.data, cases[i].out);
		buf_done(&b);
	}
}

static void a_member_may_be_null(void **state)
{
	struct buf b;

	buf_init(&b, 100);
	buf_member(&b, "why", "\"x\"");
	buf_char(&b, ',');
	buf_member(&b, "error", NULL);
	assert_string_equal(b.data, "\"why\":\"\\\"x\\\"\",\"error\":null");
	buf_done(&b);
}

static void a_comma_stands_between_elements(void **state)
{
	struct buf b;

	buf_init(&b, 100);
	buf_comma(&b);
	buf_str(&b, "[");
	for (int i = 0; i < 2; i++) {
		buf_comma(&b);
		buf_str(&b, "{");
		buf_comma(&b);
		buf_str(&b, "\"a\":1");
		buf_comma(&b);
		buf_str(&b, "\"b\":\"[\"}");
	}
	assert_string_equal(b.data, "[{\"a\":1,\"b\":\"[\"},{\"a\":1,\"b\":\"[\"}");
	buf_done(&b);
}

/* What log_write() puts on stderr, into out. */
static size_t logged(bool json, enum log_level level, const char *message, char *out, size_t cap)
{
	int saved = dup(STDERR_FILENO), fds[2];
	ssize_t n;

	assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
	assert_true(dup2(fds[1], STDERR_FILENO) >= 0);
	log_init("prog", json, LOG_LEVEL_INFO);
	log_write(level, "%s", message);
	assert_true(dup2(saved, STDERR_FILENO) >= 0);
	n = read(fds[0], out, cap - 1);
	close(saved);
	close(fds[0]);
	close(fds[1]);
	out[n > 0 ? n : 0] = 0;
	return n > 0 ? (size_t)n : 0;
}

static void text_line_has_time_level_and_program(void **state)
{
	char line[512];
	size_t n = logged(false, LOG_LEVEL_WARN, "hello \xc3\xa9", line, sizeof(line));

	assert_int_equal(strspn(line, "0123456789-:TZ."), 24);
	assert_string_equal(line + 24, " warn prog: hello \xc3\xa9\n");
	assert_int_equal(n, strlen(line));
}

static void control_characters_never_make_a_second_line(void **state)
{
	char line[512];

	logged(false, LOG_LEVEL_INFO, "a\nb\r\x1b[31m\x7f\xc2\x9b\xff", line, sizeof(line));
	assert_string_equal(line + 24, " info prog: a\\x0ab\\x0d\\x1b[31m\\x7f\\xc2\\x9b\\xff\n");
}

static void json_line_is_one_valid_object(void **state)
{
	char line[512];
	size_t n = logged(true, LOG_LEVEL_ERROR, "a\n\"b\"\xff", line, sizeof(line));
	cJSON *v = json_parse(line, n, NULL);

	assert_non_null(v);
	assert_ptr_equal(strchr(line, '\n'), line + n - 1);
	assert_string_equal(json_str(v, "level", ""), "error");
	assert_string_equal(json_str(v, "program", ""), "prog");
	assert_string_equal(json_str(v, "message", ""), "a\n\"b\"\xef\xbf\xbd");
	cJSON_Delete(v);
}

static void level_below_the_least_is_dropped_and_errno_kept(void **state)
{
	char line[64];

	errno = ENOTTY;
	assert_int_equal(logged(false, LOG_LEVEL_DEBUG, "quiet", line, sizeof(line)), 0);
	errno = ENOTTY;
	log_debug("nothing");
	assert_int_equal(errno, ENOTTY);
}

static void overlong_message_is_cut_to_one_line(void **state)
{
	char *message = malloc(100000), line[20000];
	size_t n;

	assert_non_null(message);
	memset(message, 0x01, 99999); /* each becomes six characters in JSON */
	message[99999] = 0;
	n = logged(true, LOG_LEVEL_INFO, message, line, sizeof(line));
	assert_true(n > 1000);
	assert_int_equal(line[n - 1], '\n');
	free(message);
}

static void level_names_are_parsed(void **state)
{
	enum log_level level;

	assert_int_equal(log_level_parse("debug", &level), 0);
	assert_int_equal(level, LOG_LEVEL_DEBUG);
	assert_int_equal(log_level_parse("error", &level), 0);
	assert_int_equal(level, LOG_LEVEL_ERROR);
	assert_int_equal(log_level_parse("loud", &level), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(buf_grows_up_to_its_limit),
		cmocka_unit_test(buf_does_nothing_after_a_failure_until_it_is_reset),
		cmocka_unit_test(buf_printf_fits_or_changes_nothing),
		cmocka_unit_test(numbers_are_in_digits),
		cmocka_unit_test(buf_take_gives_the_string_away),
		cmocka_unit_test(json_string_is_escaped),
		cmocka_unit_test(a_member_may_be_null),
		cmocka_unit_test(a_comma_stands_between_elements),
		cmocka_unit_test(text_line_has_time_level_and_program),
		cmocka_unit_test(control_characters_never_make_a_second_line),
		cmocka_unit_test(json_line_is_one_valid_object),
		cmocka_unit_test(level_below_the_least_is_dropped_and_errno_kept),
		cmocka_unit_test(overlong_message_is_cut_to_one_line),
		cmocka_unit_test(level_names_are_parsed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
