/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drawn traffic for test_proxy_random.c: what a request is, what becomes of it and what is in the
 * two bodies follows from its number; and either end of a connection, which sends and reads in
 * pieces of any size.
 */
#ifndef TESTS_RANDOM_TRAFFIC_H
#define TESTS_RANDOM_TRAFFIC_H

#include "proxy_rig.h"

#include <fcntl.h>

#define BATCH	 6 /* pipelined at most */
#define BODY_MAX 65536
#define ANSWER	 (2 * BODY_MAX + 4096)

enum framing { BY_LENGTH, BY_CHUNKS, BY_CLOSE, NO_CONTENT, FRAMINGS };
enum mood {
	CUT,	   /* closes in the middle of the answer */
	CUT_RST,   /* the same with a reset */
	MORE,	   /* sends another answer that nobody asked for */
	SILENT,	   /* closes instead of an answer */
	RUDE,	   /* closes when it has seen the head */
	EARLY,	   /* answers when it has seen the head, and closes */
	INTERIM,   /* 103 first */
	NONSENSE,  /* no HTTP */
	FAREWELL,  /* closes after the answer without saying so */
	HANGS,	   /* never answers */
	MOODS = 30 /* the rest: good */
};

struct plan {
	const char *method;
	enum framing request, answer;
	enum mood mood;
	size_t sent, got; /* bytes of the two bodies */
};

/* Either end of a connection. */
struct side {
	int fd; /* -1: free */
	char *in, *out;
	size_t nin, nout, at; /* at: of out, sent */
	bool stubborn;	      /* does not read for a while */
};

/* Of the draws. */
static uint64_t state;

static inline uint32_t draw(uint32_t n)
{
	state = state * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(state >> 33) % n;
}

static inline uint32_t mix(uint32_t x)
{
	x = (x ^ x >> 16) * 0x45d9f3bu;
	x = (x ^ x >> 16) * 0x45d9f3bu;
	return x ^ x >> 16;
}

static inline size_t log_uniform(uint32_t h)
{
	size_t top = (size_t)1 << h % 17;

	return h % 17 ? top / 2 + (h >> 8) % (top / 2) : 0;
}

static inline struct plan plan_of(uint32_t id)
{
	static const char *const methods[] = {"GET", "HEAD", "PUT", "POST", "POST", "DELETE"};
	struct plan p = {
		.method = methods[mix(id) % 6],
		.request = mix(id * 3) % 2 ? BY_LENGTH : BY_CHUNKS,
		.answer = mix(id * 5) % FRAMINGS,
		.mood = mix(id * 7) % MOODS,
		.got = log_uniform(mix(id * 11)),
	};

	if (p.method[0] == 'P')
		p.sent = log_uniform(mix(id * 13));
	if (p.mood == MORE)
		p.got %= 512;
	if (p.mood == MORE && p.answer == BY_CLOSE)
		p.answer = BY_LENGTH;
	return p;
}

static inline char body_byte(uint32_t id, size_t i)
{
	return (char)('a' + mix(id + (uint32_t)i * 31) % 26);
}

static inline size_t put_body(char *out, uint32_t id, size_t len, enum framing f)
{
	size_t n = 0, i = 0;

	while (f == BY_CHUNKS && i < len) {
		size_t chunk = 1 + mix(id + (uint32_t)i) % 5000;

		if (chunk > len - i)
			chunk = len - i;
		n += (size_t)sprintf(out + n, "%zx\r\n", chunk);
		for (size_t end = i + chunk; i < end; i++)
			out[n++] = body_byte(id, i);
		n += (size_t)sprintf(out + n, "\r\n");
	}
	for (; f != BY_CHUNKS && i < len; i++)
		out[n++] = body_byte(id, i);
	if (f == BY_CHUNKS)
		n += (size_t)sprintf(out + n, "0\r\n\r\n");
	return n;
}

/* Is there a whole body at `at`? Its bytes in the message, or 0: not yet. It must be that of id. */
static inline bool take_body(const char *at, size_t n, uint32_t id, size_t len, enum framing f,
			     size_t *used)
{
	size_t i = 0, pos = 0;

	while (f == BY_CHUNKS) {
		const char *nl = memchr(at + pos, '\n', n - pos);
		size_t chunk;

		if (!nl)
			return false;
		chunk = strtoul(at + pos, NULL, 16);
		pos = (size_t)(nl + 1 - at);
		if (n - pos < chunk + 2)
			return false;
		for (size_t k = 0; k < chunk; k++)
			assert_int_equal(at[pos + k], body_byte(id, i++));
		pos += chunk + 2;
		if (!chunk)
			break;
	}
	if (f != BY_CHUNKS) {
		if (n < len)
			return false;
		for (; i < len; i++)
			assert_int_equal(at[i], body_byte(id, i));
		pos = len;
	}
	assert_int_equal(i, len);
	*used = pos;
	return true;
}

static inline void side_open(struct side *s, int fd)
{
	/* less, and the kernel itself stalls: windows below a segment of loopback open by probes */
	int small = 32768 << draw(4);

	s->fd = fd;
	fcntl(fd, F_SETFL, O_NONBLOCK);
	if (!draw(3))
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	if (!draw(3))
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	s->nin = s->nout = s->at = 0;
	s->stubborn = false;
	if (!s->in)
		s->in = malloc(ANSWER * BATCH);
	if (!s->out)
		s->out = malloc(ANSWER * BATCH);
	assert_true(s->in && s->out);
}

static inline void side_close(struct side *s, bool rst)
{
	struct linger now = {.l_onoff = 1};

	if (rst)
		setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(s->fd);
	s->fd = -1;
}

/* A piece of what is to be sent. false: the connection is broken. */
static inline bool side_send(struct side *s, bool whole)
{
	size_t n = s->nout - s->at, piece = whole ? n : (size_t)1 << draw(17);
	ssize_t r;

	if (!n)
		return true;
	r = send(s->fd, s->out + s->at, piece < n ? piece : n, MSG_NOSIGNAL);
	if (r < 0)
		return errno == EAGAIN;
	s->at += (size_t)r;
	return true;
}

/* > 0 bytes, 0 end of stream, -EAGAIN, -errno. */
static inline ssize_t side_recv(struct side *s)
{
	size_t piece = (size_t)1 << draw(17), room = ANSWER * BATCH - s->nin - 1;
	ssize_t r = recv(s->fd, s->in + s->nin, piece < room ? piece : room, 0);

	if (r < 0)
		return -errno;
	s->nin += (size_t)r;
	s->in[s->nin] = '\0';
	return r;
}

static inline void side_drop(struct side *s, size_t n)
{
	memmove(s->in, s->in + n, s->nin - n + 1);
	s->nin -= n;
}

#endif
