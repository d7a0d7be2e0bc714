/* SPDX-License-Identifier: Apache-2.0 */
/* The stream of GET /api/tap as a client reads it, over the daemon of meshd_rig.h. Header only. */
#ifndef TESTS_MESHD_STREAM_H
#define TESTS_MESHD_STREAM_H

#include "tests/unit/meshd_rig.h"

#include <poll.h>

static char stream[1 << 20]; /* what was read of the one that was opened last */
static size_t streamed;

static inline int connect_tcp(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET,
				 .sin_port = htons((uint16_t)port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	return fd;
}

/* Asks, and reads until the stream has begun. */
static inline int open_stream(const char *query)
{
	char text[256];
	int fd = connect_tcp(),
	    n = snprintf(text, sizeof(text), "GET /api/tap%s HTTP/1.1\r\nHost: localhost\r\n\r\n",
			 query);

	assert_int_equal(write(fd, text, (size_t)n), n);
	streamed = 0;
	stream[0] = '\0';
	return fd;
}

/* Until the text is there; false: the stream has ended before, or it takes more than ms. */
static inline bool stream_has(int fd, const char *text, int ms)
{
	uint64_t end = clock_mono_ns() + (uint64_t)ms * 1000000;
	struct pollfd p = {.fd = fd, .events = POLLIN};
	ssize_t n;

	while (!strstr(stream, text)) {
		if (clock_mono_ns() > end || poll(&p, 1, 100) < 0)
			return false;
		if (!p.revents)
			continue;
		n = read(fd, stream + streamed, sizeof(stream) - 1 - streamed);
		if (n <= 0)
			return false;
		streamed += (size_t)n;
		stream[streamed] = '\0';
	}
	return true;
}

/* Of the one tap that is open. */
static inline uint64_t tap_id(void)
{
	cJSON *v;
	uint64_t id;

	assert_int_equal(call("GET", "/api/watch", NULL), 200);
	v = json_parse(answer.body, answer.len, NULL);
	id = (uint64_t)json_num(cJSON_GetArrayItem(cJSON_GetObjectItem(v, "taps"), 0), "tap", 0);
	cJSON_Delete(v);
	return id;
}

#endif
