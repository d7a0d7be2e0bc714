/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP/1 parser on generated input, with fixed seeds and a fixed number of rounds: valid
 * messages come back as they were made, whole and in random portions; mutated ones never break the
 * properties of tests/fuzz/http1_property.h.
 */
#include "http1_harness.h"

#define MESSAGES   3000
#define MUTATIONS  5
#define MAX_FIELDS 20

static const char token[] =
	"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.!#$%&'*+^`|~";
static const char text[] = "abc XYZ\t019;,=\"\\()<>@:/?[]{}\x80\xff";

/* What was made, to compare with what was understood. */
struct message {
	char bytes[8192];
	size_t n, head;
	unsigned int nfields;
	struct {
		char name[40], value[80];
	} fields[MAX_FIELDS];
	enum http1_framing framing;
	size_t body; /* without chunk framing */
	bool keep_alive, request;
};

static void add(struct message *m, const char *s, size_t n)
{
	assert_true(m->n + n <= sizeof(m->bytes));
	memcpy(m->bytes + m->n, s, n);
	m->n += n;
}

static void add_text(struct message *m, const char *s)
{
	add(m, s, strlen(s));
}

static void random_word(uint64_t *random, const char *alphabet, size_t min, size_t max, char *out)
{
	size_t n = min + random_below(random, max - min + 1);

	for (size_t i = 0; i < n; i++)
		out[i] = alphabet[random_below(random, strlen(alphabet))];
	out[n] = '\0';
}

static void trim(char *s)
{
	size_t n = strlen(s), skip = strspn(s, " \t");

	while (n > skip && strchr(" \t", s[n - 1]))
		n--;
	memmove(s, s + skip, n - skip);
	s[n - skip] = '\0';
}

static void add_field(struct message *m, uint64_t *random, const char *name, const char *value)
{
	static const char *const spaces[] = {"", " ", "\t", " \t "};

	assert_true(m->nfields < MAX_FIELDS);
	snprintf(m->fields[m->nfields].name, sizeof(m->fields[0].name), "%s", name);
	snprintf(m->fields[m->nfields].value, sizeof(m->fields[0].value), "%s", value);
	trim(m->fields[m->nfields++].value);
	add_text(m, name);
	add_text(m, ":");
	add_text(m, spaces[random_below(random, 4)]);
	add_text(m, value);
	add_text(m, spaces[random_below(random, 4)]);
	add_text(m, "\r\n");
}

static void add_random_fields(struct message *m, uint64_t *random)
{
	char name[40], value[80];

	for (size_t i = random_below(random, 8); i > 0; i--) {
		random_word(random, token, 1, 30, name + 1);
		name[0] = 'q'; /* no header with a meaning */
		random_word(random, text, 0, 70, value);
		add_field(m, random, name, value);
	}
}

static void add_framing(struct message *m, uint64_t *random)
{
	char value[24];

	m->framing = (enum http1_framing)random_below(random, 3);
	m->body = m->framing == HTTP1_NO_BODY ? 0 : random_below(random, 100);
	if (m->framing == HTTP1_CHUNKED) {
		add_field(m, random, "Transfer-Encoding", "chunked");
	} else if (m->framing == HTTP1_LENGTH) {
		snprintf(value, sizeof(value), "%zu", m->body);
		add_field(m, random, "Content-Length", value);
	}
}

static void add_body(struct message *m, uint64_t *random)
{
	char piece[128];
	size_t left = m->body;

	while (m->framing == HTTP1_CHUNKED && left) {
		size_t n = 1 + random_below(random, left);

		snprintf(piece, sizeof(piece),
			 random_below(random, 2) ? "%zx\r\n" : "%04zX ;ext=\"a b\"\r\n", n);
		add_text(m, piece);
		memset(piece, '\r', n);
		add(m, piece, n);
		add_text(m, "\r\n");
		left -= n;
	}
	if (m->framing == HTTP1_CHUNKED)
		add_text(m, random_below(random, 2) ? "0\r\n\r\n"
						    : "00;x\r\nX-Sum: 1\r\nTrails:\r\n\r\n");
	memset(piece, '\n', sizeof(piece));
	if (m->framing == HTTP1_LENGTH)
		add(m, piece, m->body);
}

static void make_message(struct message *m, uint64_t *random)
{
	char word[64];

	m->n = m->nfields = 0;
	m->request = random_below(random, 2);
	if (m->request) {
		random_word(random, "ABCXYZ-", 1, 9, word);
		add_text(m, word);
		random_word(random, "abc/?&=%20.~:@!", 0, 60, word);
		add_text(m, " /");
		add_text(m, word);
		add_text(m, " HTTP/1.1\r\n");
	} else {
		add_text(m, random_below(random, 2) ? "HTTP/1.1 200 OK\r\n" : "HTTP/1.1 500\r\n");
	}
	add_random_fields(m, random);
	if (m->request)
		add_field(m, random, "hOst", "a.b:80");
	m->keep_alive = random_below(random, 2);
	add_field(m, random, "Connection", m->keep_alive ? "x" : "x, Close");
	add_framing(m, random);
	add_random_fields(m, random);
	add_text(m, "\r\n");
	m->head = m->n;
	add_body(m, random);
}

static bool slice_is(const struct message *m, struct http1_slice s, const char *want)
{
	return s.len == strlen(want) && !memcmp(m->bytes + s.at, want, s.len);
}

static void check_understood(const struct message *m, const struct http1_head *h)
{
	bool until_close = !m->request && m->framing == HTTP1_NO_BODY;

	assert_int_equal(h->size, m->head);
	assert_int_equal(h->nheaders, m->nfields);
	for (unsigned int i = 0; i < m->nfields; i++) {
		assert_true(slice_is(m, h->headers[i].name, m->fields[i].name));
		assert_true(slice_is(m, h->headers[i].value, m->fields[i].value));
	}
	assert_int_equal(h->framing, until_close ? HTTP1_UNTIL_CLOSE : m->framing);
	assert_int_equal(h->keep_alive, m->keep_alive && !until_close);
	if (m->framing == HTTP1_LENGTH)
		assert_int_equal(h->content_length, m->body);
}

static void check_chunked(const struct message *m)
{
	struct http1_chunked c;
	size_t n = m->n - m->head;
	size_t used;

	http1_chunked_init(&c);
	assert_int_equal(http1_chunked_feed(&c, guarded(m->bytes + m->head, n, true), n, &used),
			 HTTP1_DONE);
	assert_int_equal(used, n);
	assert_int_equal(c.data, m->body);
}

static void check_property(const struct message *m, const char *what, uint64_t seed)
{
	const char *wrong = http1_property(m->bytes, m->n, seed);

	if (wrong)
		fail_msg("%s, seed %llx: %s", what, (unsigned long long)seed, wrong);
}

static void generated_messages_come_back_as_they_were_made(void **state)
{
	static struct message m;
	static struct http1_head h;
	uint64_t random = 0x5eed5eed;

	for (int i = 0; i < MESSAGES; i++) {
		uint64_t seed = random;

		make_message(&m, &random);
		http1_head_init(&h);
		if (head_parse(&h, guarded(m.bytes, m.n, true), m.n, HARNESS_HEAD,
			       m.request ? HARNESS_REQUEST : HTTP1_GET) != HTTP1_DONE)
			fail_msg("seed %llx: %s", (unsigned long long)seed,
				 h.reason ? h.reason : "more");
		check_understood(&m, &h);
		if (m.framing == HTTP1_CHUNKED)
			check_chunked(&m);
		check_property(&m, "message", seed);
	}
}

/* Some bytes overwritten, doubled, removed, or cut off; biased towards bytes that mean something.
 */
static void mutate(struct message *m, uint64_t *random)
{
	static const char bytes[] = "\r\n\t :;,0159afAFHTP/*\x7f\x80\x01[]%";

	for (size_t i = 1 + random_below(random, 3); i > 0 && m->n > 1; i--) {
		size_t at = random_below(random, m->n);
		size_t len = 1 + random_below(random, m->n - at < 12 ? m->n - at : 12);

		switch (random_below(random, 5)) {
		case 0:
			m->bytes[at] = (char)random_next(random);
			break;
		case 1:
			m->bytes[at] = bytes[random_below(random, sizeof(bytes))];
			break;
		case 2:
			memmove(m->bytes + at, m->bytes + at + len, m->n - at - len);
			m->n -= len;
			break;
		case 3:
			if (m->n + len > sizeof(m->bytes))
				break;
			memmove(m->bytes + at + len, m->bytes + at, m->n - at);
			m->n += len;
			break;
		default:
			m->n = random_below(random, 4) ? m->n : at;
		}
	}
}

static void mutated_messages_keep_the_properties(void **state)
{
	static struct message made, m;
	uint64_t random = 0xfeedbeef;

	for (int i = 0; i < MESSAGES; i++) {
		make_message(&made, &random);
		for (int k = 0; k < MUTATIONS; k++) {
			uint64_t seed = random;

			m = made;
			mutate(&m, &random);
			check_property(&m, "head", seed);
			if (m.n > made.head) { /* the body alone, for chunks */
				memmove(m.bytes, m.bytes + made.head, m.n - made.head);
				m.n -= made.head;
				check_property(&m, "body", seed);
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(generated_messages_come_back_as_they_were_made),
		cmocka_unit_test(mutated_messages_keep_the_properties),
	};

	return cmocka_run_group_tests_name("http1 on generated input", tests, NULL, NULL);
}
