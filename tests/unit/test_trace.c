/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trace context, from the header lines of a caller to those that are sent on: the kinds of cases
 * that the W3C's test suite has, the forms of B3, ids that callers choose; and on generated input
 * what must hold for any.
 */
#include "tests/fuzz/trace_property.h"
#include "tests/unit/http1_harness.h"

#define TRACE	"4bf92f3577b34da6a3ce929d0e0e4736"
#define OTHER	"0af7651916cd43dd8448eb211c80319c"
#define PARENT	"00f067aa0ba902b7"
#define ANOTHER "5af7651916cd43dd8448eb211c80319c"
#define SHORT	"463ac35c9f6413ad"
#define VALID	"traceparent: 00-" TRACE "-" PARENT "-01\n"

/* In the outcome T is a trace id that was made here, S this hop's span. */
#define NEW_AS(sampled) "traceparent: 00-T-S-0" sampled "\nx-trace-id: T\nx-span-id: S\n"
#define NEW		NEW_AS("3")
#define STATE_PASSED(s)                                                                            \
	"traceparent: 00-" TRACE "-S-01\nx-trace-id: " TRACE                                       \
	"\nx-span-id: S\nx-parent-span-id: " PARENT "\n" s
#define PASSED STATE_PASSED("")

struct row {
	const char *what, *in, *out;
};

static struct trace last;
static char raw[65000]; /* what was sent on, with line feeds alone */

static void replace(char *s, const char *what, size_t n, char by)
{
	char *at;

	while ((at = memmem(s, strlen(s), what, n))) {
		*at = by;
		memmove(at + 1, at + n, strlen(at + n) + 1);
	}
}

static const char *crlf(const char *lines, size_t *len)
{
	static char out[60000];
	size_t n = 0;

	for (; *lines; lines++) {
		if (*lines == '\n')
			out[n++] = '\r';
		out[n++] = *lines;
		assert_true(n + 2 < sizeof(out));
	}
	*len = n;
	return out;
}

/* What is sent on, with S and T. */
static const char *sent(const char *lines)
{
	static char request[65000], out[65000];
	static struct http1_head h;
	const char *wrong, *copy;
	size_t n, len;

	lines = crlf(lines, &n);
	if (!trace_property_parse(&h, lines, n, request, sizeof(request), &len))
		fail_msg("not a head: %s", request);
	copy = guarded(request, len, true);
	wrong = trace_property(&h, copy);
	if (wrong)
		fail_msg("%s: %s", wrong, request);
	trace_read(&last, &h, copy);
	trace_property_begin(&last, true);
	n = trace_put(&last, &h, copy, out, sizeof(out) - 1);
	assert_true(n);
	out[n] = '\0';
	replace(out, "\r\n", 2, '\n');
	strcpy(raw, out);
	replace(out, last.span_hex, sizeof(last.span_hex), 'S');
	if (!last.named)
		replace(out, last.hex, sizeof(last.hex), 'T');
	return out;
}

static void check(const struct row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const char *out = sent(rows[i].in);

		if (strcmp(out, rows[i].out))
			fail_msg("%s: %s became\n%snot\n%s", rows[i].what, rows[i].in, out,
				 rows[i].out);
	}
}
#define CHECK(rows) check(rows, sizeof(rows) / sizeof(*(rows)))

#define TP(value)   "traceparent: " value "\n"

static void traceparent(void **state)
{
	static const struct row rows[] = {
		{"nothing", "", NEW},
		{"as it should be", VALID, PASSED},
		{"capital letters in the name", "TraceParent: 00-" TRACE "-" PARENT "-01\n",
		 PASSED},
		{"white space around", "traceparent: \t 00-" TRACE "-" PARENT "-01 \t\n", PASSED},
		{"empty", TP(""), NEW},
		{"twice, the same", VALID VALID, NEW},
		{"twice, different", VALID TP("00-" OTHER "-" PARENT "-01"), NEW},
		{"two in one", TP("00-" TRACE "-" PARENT "-01,00-" TRACE "-" PARENT "-01"), NEW},
		{"version ff", TP("ff-" TRACE "-" PARENT "-01"), NEW},
		{"version in capitals", TP("0A-" TRACE "-" PARENT "-01"), NEW},
		{"version .0", TP(".0-" TRACE "-" PARENT "-01"), NEW},
		{"version of one digit", TP("0-" TRACE "-" PARENT "-01"), NEW},
		{"version of three digits", TP("000-" TRACE "-" PARENT "-01"), NEW},
		{"00 and more", TP("00-" TRACE "-" PARENT "-01-what"), NEW},
		{"00 and a dash", TP("00-" TRACE "-" PARENT "-01-"), NEW},
		{"00 and a dot", TP("00-" TRACE "-" PARENT "-01."), NEW},
		{"a later version", TP("01-" TRACE "-" PARENT "-01"), PASSED},
		{"a later version with more", TP("cc-" TRACE "-" PARENT "-01-what-comes"), PASSED},
		{"a later version with nothing more", TP("cc-" TRACE "-" PARENT "-01-"), PASSED},
		{"a later version, wrongly", TP("cc-" TRACE "-" PARENT "-01.what"), NEW},
		{"a later version, cut", TP("cc-" TRACE "-" PARENT "-0"), NEW},
		{"trace id of zeros", TP("00-00000000000000000000000000000000-" PARENT "-01"), NEW},
		{"trace id in capitals", TP("00-4BF92F3577B34DA6A3CE929D0E0E4736-" PARENT "-01"),
		 NEW},
		{"trace id with a dot", TP("00-.bf92f3577b34da6a3ce929d0e0e4736-" PARENT "-01"),
		 NEW},
		{"trace id too short", TP("00-bf92f3577b34da6a3ce929d0e0e4736-" PARENT "-01"), NEW},
		{"trace id too long", TP("00-0" TRACE "-" PARENT "-01"), NEW},
		{"span of zeros", TP("00-" TRACE "-0000000000000000-01"), NEW},
		{"span in capitals", TP("00-" TRACE "-00F067AA0BA902B7-01"), NEW},
		{"span too short", TP("00-" TRACE "-0f067aa0ba902b7-01"), NEW},
		{"span too long", TP("00-" TRACE "-0" PARENT "-01"), NEW},
		{"span with a letter", TP("00-" TRACE "-g0f067aa0ba902b7-01"), NEW},
		{"flags with a dot", TP("00-" TRACE "-" PARENT "-.1"), NEW},
		{"flags in capitals", TP("00-" TRACE "-" PARENT "-0A"), NEW},
		{"flags of one digit", TP("00-" TRACE "-" PARENT "-1"), NEW},
		{"flags of three digits", TP("00-" TRACE "-" PARENT "-001"), NEW},
		{"other separators", TP("00_" TRACE "-" PARENT "-01"), NEW},
		{"other separators", TP("00-" TRACE "_" PARENT "-01"), NEW},
		{"other separators", TP("00-" TRACE "-" PARENT "_01"), NEW},
	};

	CHECK(rows);
}

#define FLAGS(in, out)                                                                             \
	{                                                                                          \
		"flags " in, TP("00-" TRACE "-" PARENT "-" in),                                    \
			"traceparent: 00-" TRACE "-S-" out "\nx-trace-id: " TRACE                  \
			"\nx-span-id: S\nx-parent-span-id: " PARENT "\n"                           \
	}

static void flags(void **state)
{
	static const struct row rows[] = {
		FLAGS("00", "00"), FLAGS("01", "01"), FLAGS("02", "02"), FLAGS("03", "03"),
		FLAGS("fc", "00"), FLAGS("ff", "03"), FLAGS("09", "01"), FLAGS("81", "01"),
	};

	CHECK(rows);
}

#define M8(c) c "1=x," c "2=x," c "3=x," c "4=x," c "5=x," c "6=x," c "7=x," c "8=x"
#define M32   M8("a") "," M8("b") "," M8("c") "," M8("d")
#define X64   "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define X256  X64 X64 X64 X64
#define TS(v) "tracestate: " v "\n"
#define KEPT(what, v)                                                                              \
	{                                                                                          \
		what, VALID TS(v), STATE_PASSED(TS(v))                                             \
	}
#define DROPPED(what, v)                                                                           \
	{                                                                                          \
		what, VALID TS(v), PASSED                                                          \
	}

static void tracestate(void **state)
{
	static const struct row rows[] = {
		KEPT("one member", "foo=1"),
		KEPT("two", "foo=1,bar=2"),
		KEPT("white space", "foo=1 \t , \t bar=2"),
		KEPT("empty members", "foo=1,,bar=2,"),
		KEPT("a key twice", "foo=1,foo=2"),
		KEPT("all that a key may be of", "0abcdefghijklmnopqrstuvwxyz0123456789_-*/@x=1"),
		KEPT("a tenant", "fw529a3039@dt=FfAAAAAA"),
		KEPT("all that a value may be of",
		     "a=!\"#$%&'()*+-./0123456789:;<>?@ABCXYZ[\\]^_`abcxyz{|} ~"),
		KEPT("32 members", M32),
		KEPT("the longest key", X256 "=1"),
		KEPT("the longest value", "a=" X256),
		KEPT("more than 512 characters", "a=" X256 ",b=" X256 ",c=" X256),
		{"before traceparent", TS("foo=1") VALID, STATE_PASSED(TS("foo=1"))},
		{"in two lines", VALID TS("foo=1") TS("bar=2"), STATE_PASSED(TS("foo=1,bar=2"))},
		{"in two lines, one empty", VALID TS("foo=1") TS(""), STATE_PASSED(TS("foo=1"))},
		{"in two lines, one empty", VALID TS("") TS("foo=1"), STATE_PASSED(TS("foo=1"))},
		{"in two lines, too many", VALID TS(M32) TS("bar=2"), PASSED},
		{"in two lines, one bad", VALID TS("foo=1") TS("bar"), PASSED},
		DROPPED("nothing", ""),
		DROPPED("nothing but commas", ", ,"),
		DROPPED("33 members", M32 ",e=x"),
		DROPPED("a key that is too long", X256 "x=1"),
		DROPPED("a value that is too long", "a=" X256 "x"),
		DROPPED("no value", "foo="),
		DROPPED("no key", "=1"),
		DROPPED("no equals sign", "foo"),
		DROPPED("two of them", "foo=1=2"),
		DROPPED("white space before it", "foo =1"),
		DROPPED("a capital letter", "FOO=1"),
		DROPPED("a dot in a key", "foo.bar=1"),
		DROPPED("begins with no letter", "_foo=1"),
		DROPPED("begins with no letter", "@foo=1"),
		DROPPED("a semicolon between", "foo=1;bar=2=3"),
		DROPPED("a tab in a value", "foo=1\t2"),
		DROPPED("not ASCII", "foo=\xc3\xa4"),
		DROPPED("one good and one bad", "foo=1,bar"),
		{"without traceparent", TS("foo=1"), NEW},
		{"with a bad traceparent", TP("00-" TRACE) TS("foo=1"), NEW},
		{"with two of them", VALID VALID TS("foo=1"), NEW},
	};

	CHECK(rows);
}

/* With an id of 32 digits, or of 16 behind zeros. */
#define B3_OUT(zeros, id, form, name, flag)                                                        \
	"traceparent: 00-" zeros id "-S-0" flag "\n" form "x-trace-id: " name                      \
	"\nx-span-id: S\nx-parent-span-id: " PARENT "\n"
#define LONG_OUT(form, flag)  B3_OUT("", TRACE, form, TRACE, flag)
#define SHORT_OUT(form, flag) B3_OUT("0000000000000000", SHORT, form, SHORT, flag)
#define B3(v)		      "b3: " v "\n"
#define B3_NEW(form, flag)    "traceparent: 00-T-S-0" flag "\n" form "x-trace-id: T\nx-span-id: S\n"

static void b3_in_one_header(void **state)
{
	static const struct row rows[] = {
		{"sampled", B3(TRACE "-" PARENT "-1"),
		 LONG_OUT("b3: " TRACE "-S-1-" PARENT "\n", "1")},
		{"not sampled", B3(TRACE "-" PARENT "-0"),
		 LONG_OUT("b3: " TRACE "-S-0-" PARENT "\n", "0")},
		{"debug", B3(TRACE "-" PARENT "-d"),
		 LONG_OUT("b3: " TRACE "-S-d-" PARENT "\n", "1")},
		{"undecided", B3(TRACE "-" PARENT),
		 LONG_OUT("b3: " TRACE "-S-1-" PARENT "\n", "1")},
		{"with a parent", B3(TRACE "-" PARENT "-1-05e3ac9a4f6e3b90"),
		 LONG_OUT("b3: " TRACE "-S-1-" PARENT "\n", "1")},
		{"short", B3(SHORT "-" PARENT "-1"),
		 SHORT_OUT("b3: " SHORT "-S-1-" PARENT "\n", "1")},
		{"short, undecided", B3(SHORT "-" PARENT),
		 SHORT_OUT("b3: " SHORT "-S-1-" PARENT "\n", "1")},
		{"no, whatever trace it is", B3("0"), B3_NEW("b3: T-S-0\n", "2")},
		{"yes", B3("1"), B3_NEW("b3: T-S-1\n", "3")},
		{"debug", B3("d"), B3_NEW("b3: T-S-d\n", "3")},
		{"another letter", B3("x"), NEW},
		{"a word", B3("true"), NEW},
		{"empty", B3(""), NEW},
		{"twice", B3("0") B3("0"), NEW},
		{"no span", B3(TRACE), NEW},
		{"no span", B3(TRACE "-"), NEW},
		{"a short span", B3(TRACE "-0f067aa0ba902b7-1"), NEW},
		{"a span of zeros", B3(TRACE "-0000000000000000-1"), NEW},
		{"a trace of zeros", B3("0000000000000000-" PARENT "-1"), NEW},
		{"an id of 24 digits", B3(SHORT "01234567-" PARENT "-1"), NEW},
		{"another state", B3(TRACE "-" PARENT "-2"), NEW},
		{"no state", B3(TRACE "-" PARENT "-"), NEW},
		{"a parent that is none", B3(TRACE "-" PARENT "-1-x5e3ac9a4f6e3b90"), NEW},
		{"something behind it", B3(TRACE "-" PARENT "-1-05e3ac9a4f6e3b90-"), NEW},
		{"no digit", B3("gbf92f3577b34da6a3ce929d0e0e4736-" PARENT "-1"), NEW},
	};

	CHECK(rows);
}

#define IDS(id)		   "X-B3-TraceId: " id "\nX-B3-SpanId: " PARENT "\n"
#define MULTI(id, s)	   "x-b3-traceid: " id "\nx-b3-spanid: S\nx-b3-parentspanid: " PARENT "\n" s
#define YES		   "x-b3-sampled: 1\n"
#define NO		   "x-b3-sampled: 0\n"
#define DEBUG		   "x-b3-flags: 1\n"
#define MULTI_NEW(s, flag) B3_NEW("x-b3-traceid: T\nx-b3-spanid: S\n" s, flag)

static void b3_in_several_headers(void **state)
{
	static const struct row rows[] = {
		{"undecided", IDS(TRACE), LONG_OUT(MULTI(TRACE, YES), "1")},
		{"sampled", IDS(TRACE) "X-B3-Sampled: 1\n", LONG_OUT(MULTI(TRACE, YES), "1")},
		{"as it was once written", IDS(TRACE) "X-B3-Sampled: false\n",
		 LONG_OUT(MULTI(TRACE, NO), "0")},
		{"as it was once written", IDS(TRACE) "X-B3-Sampled: true\n",
		 LONG_OUT(MULTI(TRACE, YES), "1")},
		{"not sampled", IDS(TRACE) "X-B3-Sampled: 0\n", LONG_OUT(MULTI(TRACE, NO), "0")},
		{"debug", IDS(TRACE) "X-B3-Flags: 1\n", LONG_OUT(MULTI(TRACE, DEBUG), "1")},
		{"debug counts more", IDS(TRACE) "X-B3-Sampled: 0\nX-B3-Flags: 1\n",
		 LONG_OUT(MULTI(TRACE, DEBUG), "1")},
		{"no flags", IDS(TRACE) "X-B3-Flags: 0\n", LONG_OUT(MULTI(TRACE, YES), "1")},
		{"with a parent", IDS(TRACE) "X-B3-ParentSpanId: 05e3ac9a4f6e3b90\n",
		 LONG_OUT(MULTI(TRACE, YES), "1")},
		{"short", IDS(SHORT), SHORT_OUT(MULTI(SHORT, YES), "1")},
		{"a decision alone", "X-B3-Sampled: 0\n", MULTI_NEW(NO, "2")},
		{"a decision alone", "X-B3-Sampled: 1\n", MULTI_NEW(YES, "3")},
		{"a flag alone", "X-B3-Flags: 1\n", MULTI_NEW(DEBUG, "3")},
		{"no decision", "X-B3-Sampled: 2\n", NEW},
		{"no span", "X-B3-TraceId: " TRACE "\n", NEW},
		{"no trace", "X-B3-SpanId: " PARENT "\n", NEW},
		{"a trace twice", IDS(TRACE) "X-B3-TraceId: " TRACE "\n", NEW},
		{"a bad id keeps the decision", "X-B3-TraceId: x\nX-B3-Sampled: 0\n",
		 MULTI_NEW(NO, "2")},
	};

	CHECK(rows);
	sent("X-B3-TraceId: 4BF92F3577B34DA6A3CE929D0E0E4736\nX-B3-SpanId: 00F067AA0BA902B7\n");
	assert_memory_equal(last.hex, TRACE, 32);
	assert_memory_equal(last.parent_text, PARENT, 16);
	assert_int_equal(last.decision, TRACE_UNDECIDED);
	sent(IDS(TRACE) "X-B3-Sampled: true\n");
	assert_int_equal(last.decision, TRACE_YES);
}

#define PLAIN(id) "x-trace-id: " id "\n"
#define PLAIN_OUT(hex, name, parent)                                                               \
	"traceparent: 00-" hex "-S-01\nx-trace-id: " name "\nx-span-id: S\n" parent
#define PARENT_IS(s) "x-parent-span-id: " s "\n"

static void ids_that_callers_choose(void **state)
{
	static char order[33];
	uint8_t id[16];
	const struct row rows[] = {
		{"32 digits", PLAIN(TRACE), PLAIN_OUT(TRACE, TRACE, "")},
		{"with a span", PLAIN(TRACE) "X-Span-Id: " PARENT "\n",
		 PLAIN_OUT(TRACE, TRACE, PARENT_IS(PARENT))},
		{"with a span that has a name", PLAIN(TRACE) "x-span-id: checkout.3\n",
		 PLAIN_OUT(TRACE, TRACE, PARENT_IS("checkout.3"))},
		{"with a span that has none", PLAIN(TRACE) "x-span-id: a b\n",
		 PLAIN_OUT(TRACE, TRACE, "")},
		{"with a span of zeros", PLAIN(TRACE) "x-span-id: 0000000000000000\n",
		 PLAIN_OUT(TRACE, TRACE, "")},
		{"in capitals", PLAIN("4BF92F3577B34DA6A3CE929D0E0E4736"),
		 PLAIN_OUT(TRACE, "4BF92F3577B34DA6A3CE929D0E0E4736", "")},
		{"16 digits", PLAIN(SHORT), PLAIN_OUT("0000000000000000" SHORT, SHORT, "")},
		{"a caller's parent is not passed on",
		 PLAIN(TRACE) "x-parent-span-id: " PARENT "\n", PLAIN_OUT(TRACE, TRACE, "")},
		{"not of an id's bytes", PLAIN("a b"), NEW},
		{"not of an id's bytes", PLAIN("a/b"), NEW},
		{"empty", PLAIN(""), NEW},
		{"too long", PLAIN(X64 "x"), NEW},
		{"twice", PLAIN("a") PLAIN("a"), NEW},
		{"a span alone", "x-span-id: " PARENT "\n", NEW},
	};

	CHECK(rows);
	sent(PLAIN("order-17"));
	trace_id_bytes("order-17", 8, id);
	trace_hex(order, id, 16);
	assert_memory_equal(last.hex, order, 32);
	assert_int_equal(last.text_len, 8);
	assert_false(last.random);
	assert_int_equal(last.decision, TRACE_UNDECIDED);
}

static void expect_alias(const char *lines, const char *alias)
{
	sent(lines);
	if (last.alias_len != strlen(alias) || memcmp(last.alias, alias, last.alias_len))
		fail_msg("%s: alias is '%.*s'", lines, last.alias_len, last.alias);
}

static void forms_that_disagree(void **state)
{
	static const struct row rows[] = {
		{"traceparent decides", PLAIN("order-17") VALID "x-span-id: s\n", PASSED},
		{"also on sampling",
		 TP("00-" TRACE "-" PARENT "-00") B3("d") IDS(OTHER) "X-B3-Sampled: 1\n",
		 LONG_OUT("b3: " TRACE "-S-0-" PARENT "\n" MULTI(TRACE, NO), "0")},
		{"then b3", PLAIN("a") IDS(OTHER) B3(TRACE "-" PARENT "-1"),
		 LONG_OUT("b3: " TRACE "-S-1-" PARENT "\n" MULTI(TRACE, YES), "1")},
		{"then its long form", PLAIN("a") IDS(TRACE), LONG_OUT(MULTI(TRACE, YES), "1")},
	};

	CHECK(rows);
	expect_alias(VALID, "");
	expect_alias(PLAIN("order-17"), "");
	expect_alias(VALID PLAIN(TRACE), "");
	expect_alias(VALID PLAIN("order-17"), "order-17");
	expect_alias(VALID B3(OTHER "-" PARENT "-1"), OTHER);
	expect_alias(VALID B3(TRACE "-" PARENT "-1") IDS(OTHER) PLAIN(OTHER), OTHER);
	expect_alias(VALID B3(OTHER "-" PARENT "-1") IDS(SHORT) PLAIN(X64),
		     OTHER "," SHORT "," X64);
	expect_alias(VALID B3(OTHER "-" PARENT "-1") IDS(ANOTHER) PLAIN(X64),
		     OTHER "," ANOTHER "," X64);
	assert_int_equal(last.alias_len, TRACE_ALIAS_MAX);
	expect_alias(TP("00-0000000000000000" SHORT "-" PARENT "-01") IDS(SHORT), "");
	assert_true(last.short_b3 && !last.text_len); /* each form as it came */
	expect_alias(IDS(SHORT) PLAIN("0000000000000000" SHORT), "");
	assert_int_equal(last.text_len, 0); /* as x-trace-id has it */
	expect_alias(IDS(SHORT) PLAIN("order-17"), "order-17");
	assert_int_equal(last.text_len, 16);
	expect_alias(B3("0") PLAIN("order-17"), "");
	assert_int_equal(last.decision, TRACE_NO);
	assert_memory_equal(last.text, "order-17", 8);
}

/* Applications pass on what they know of: any of the forms leads to the same trace, and who copies
 * them all is called by our span. */
static void what_applications_copy_stays_one_trace(void **state)
{
	static const char *const forms[] = {"traceparent: ", "x-trace-id: ", "x-b3-", "b3: "};
	char first[2048], some[2048], hex[32], span[16];

	sent(PLAIN("order-17") "b3: 1\nX-B3-Sampled: 1\nx-span-id: root\n");
	strcpy(first, raw);
	memcpy(hex, last.hex, sizeof(hex));
	memcpy(span, last.span_hex, sizeof(span));
	for (unsigned mask = 1; mask < 16; mask++) {
		some[0] = '\0';
		for (char *line = first, *end; *line; line = end + 1) {
			end = strchr(line, '\n');
			for (unsigned k = 0; k < 4; k++)
				if (mask >> k & 1 && !strncmp(line, forms[k], strlen(forms[k])))
					strncat(some, line, (size_t)(end + 1 - line));
		}
		sent(some);
		assert_memory_equal(last.hex, hex, sizeof(hex));
		assert_int_equal(last.alias_len, 0);
		assert_int_equal(last.decision, mask == 2 ? TRACE_UNDECIDED : TRACE_YES);
		assert_int_equal(last.text_len, mask & 2 ? 8 : 0);
		if (mask != 2)
			assert_memory_equal(last.parent_text, span, sizeof(span));
	}
}

static void a_long_tracestate_is_cut_at_its_end(void **state)
{
	static char lines[20000];
	const char *out;

	strcpy(lines, VALID);
	for (int i = 0; i < 28; i++)
		sprintf(lines + strlen(lines), "tracestate: k%d=" X256 "," X256 "=1\n", i);
	assert_null(strstr(sent(lines), "tracestate")); /* 56 members */
	strcpy(lines, VALID);
	for (int i = 0; i < 16; i++)
		sprintf(lines + strlen(lines), "tracestate: k%d=" X256 "," X256 "=1\n", i);
	out = sent(lines);
	assert_non_null(strstr(out, "tracestate: k0=xxx"));
	assert_non_null(strstr(out, ",k14=xxx"));
	assert_null(strstr(out, "k15="));
	for (const char *line = out; *line; line = strchr(line, '\n') + 1)
		assert_true(strchr(line, '\n') - line <= HTTP1_MAX_LINE);
	for (size_t more = 0; more < 2; more++) { /* and the space that we put there */
		strcpy(lines, VALID "tracestate:");
		for (size_t left = TRACE_STATE_MAX + more, n; left; left -= n) {
			n = left < 258 ? left : 258;
			sprintf(lines + strlen(lines), "a=%0*d%s", (int)n - 2 - (left > n), 1,
				left > n ? "," : "");
		}
		strcat(lines, "\n");
		assert_int_equal(!strstr(sent(lines), "tracestate"), more);
	}
}

/* --- whatever comes --- */

static const char *const pieces[] = {
	"traceparent",
	"tracestate",
	"b3",
	"X-B3-TraceId",
	"x-b3-spanid",
	"x-b3-ParentSpanId",
	"x-b3-sampled",
	"x-b3-flags",
	"x-trace-id",
	"x-span-id",
	"x-parent-span-id",
	"other",
	TRACE,
	OTHER,
	PARENT,
	SHORT,
	"00-" TRACE "-" PARENT "-01",
	"01-" OTHER "-" PARENT "-03-x",
	TRACE "-" PARENT "-d",
	SHORT "-" PARENT,
	"0",
	"1",
	"d",
	"true",
	"order-17",
	"foo=1,bar=2",
	"a@b=",
	M32,
	X64,
	"",
};

static size_t random_lines(uint64_t *random, char *out, size_t cap)
{
	static const char bytes[] = "0123456789abcdefgABCDEF-_.,=@ \t~\x80\xff:;";
	size_t n = 0, lines = random_below(random, 12);

	for (size_t i = 0; i < lines; i++) {
		size_t line = n, end;

		n += (size_t)snprintf(
			out + n, cap - n, "%s: %s%s\r\n", pieces[random_below(random, 12)],
			pieces[12 + random_below(random, 18)],
			random_below(random, 6) ? "" : pieces[random_below(random, 30)]);
		end = n - 2;
		while (!random_below(random, 3)) {
			size_t at = line + random_below(random, end - line);

			if (strchr(out + line, ':') < out + at)
				out[at] = bytes[random_below(random, sizeof(bytes) - 1)];
		}
	}
	return n;
}

static void whatever_comes_what_is_sent_on_is_valid(void **state)
{
	static char lines[16384], request[20000];
	static struct http1_head h;
	uint64_t random = 17;
	int parsed = 0;

	for (int i = 0; i < 40000; i++) {
		size_t n = random_lines(&random, lines, sizeof(lines)), len;
		const char *wrong, *copy;

		if (!trace_property_parse(&h, lines, n, request, sizeof(request), &len))
			continue;
		parsed++;
		copy = guarded(request, len, i & 1);
		wrong = trace_property(&h, copy);
		if (wrong)
			fail_msg("%s: %s", wrong, request);
	}
	assert_true(parsed > 20000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(traceparent),
		cmocka_unit_test(flags),
		cmocka_unit_test(tracestate),
		cmocka_unit_test(b3_in_one_header),
		cmocka_unit_test(b3_in_several_headers),
		cmocka_unit_test(ids_that_callers_choose),
		cmocka_unit_test(forms_that_disagree),
		cmocka_unit_test(what_applications_copy_stays_one_trace),
		cmocka_unit_test(a_long_tracestate_is_cut_at_its_end),
		cmocka_unit_test(whatever_comes_what_is_sent_on_is_valid),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
