/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A meshd for the agent's telemetry, as a thread: it remembers the last batch as the real one does,
 * counts what it gets, and is in one of several moods. Header only; after cmocka.h.
 */
#ifndef TESTS_TELEMETRY_MESHD_H
#define TESTS_TELEMETRY_MESHD_H

#include "tests/unit/records_json.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum mood { TAKES, LOSES_ANSWERS, FAILS, REFUSES, IS_LATE, HANGS_UP, MOODS };

static struct {
	pthread_t thread;
	pthread_mutex_t lock;
	int fd, quit;
	_Atomic int mood;
	char control[64], answer[512]; /* more members of its answer */
	char epoch[32];
	uint64_t seq; /* of the last batch that was counted */
	uint64_t requests, spans, whys, tapped, lost_spans, lost_taps, series, duplicates, batches;
	uint64_t unsampled,
		records; /* of the spans: those nobody sampled; those that came as records */
	int layout;	 /* of records that it says it takes; 0: none */
	uint64_t last_time;
	char last_span[4096];
} meshd = {.lock = PTHREAD_MUTEX_INITIALIZER};

static inline uint64_t tapped_lost(const cJSON *list)
{
	uint64_t n = 0;
	const cJSON *v;

	cJSON_ArrayForEach (v, list)
		n += (uint64_t)json_num(v, "lost", 0);
	return n;
}

/* The spans of the record batches at p, to those that came as JSON. */
static inline void meshd_records(const char *p, size_t len, cJSON *spans)
{
	struct record_batch_view v;

	for (; len; p += v.head->size, len -= v.head->size) {
		if (!meshd.layout || record_batch_check(p, len, &v))
			abort();
		meshd.records += records_json(&v, spans);
	}
}

static inline void meshd_count(const cJSON *b)
{
	const cJSON *v, *spans = cJSON_GetObjectItem(b, "spans");
	const cJSON *tapped = cJSON_GetObjectItem(b, "tapped");

	cJSON_ArrayForEach (v, cJSON_GetObjectItem(b, "series"))
		meshd.requests += (uint64_t)json_num(v, "requests", 0);
	cJSON_ArrayForEach (v, spans) {
		char *text = cJSON_PrintUnformatted(v);

		meshd.unsampled += !json_bool(v, "sampled", 1);
		snprintf(meshd.last_span, sizeof(meshd.last_span), "%s", text);
		cJSON_free(text);
	}
	meshd.series += (uint64_t)cJSON_GetArraySize(cJSON_GetObjectItem(b, "series"));
	meshd.spans += (uint64_t)cJSON_GetArraySize(spans);
	meshd.whys += (uint64_t)cJSON_GetArraySize(cJSON_GetObjectItem(b, "whys"));
	meshd.lost_taps += tapped_lost(tapped);
	cJSON_ArrayForEach (v, tapped)
		meshd.tapped += cJSON_IsObject(cJSON_GetObjectItem(v, "span"));
	meshd.lost_spans = (uint64_t)json_num(cJSON_GetObjectItem(b, "lost"), "spans", 0);
	meshd.last_time = (uint64_t)json_num(b, "time", 0);
}

/* Takes a batch as ctl/meshd does: each (epoch, seq) once. */
static inline void meshd_batch(const char *body, size_t len)
{
	size_t json = strlen(body), at = json == len ? len : (json / 8 + 1) * 8;
	cJSON *b = json_parse(body, json, NULL);
	uint64_t seq = (uint64_t)json_num(b, "seq", 0);

	if (!b || !seq)
		abort();
	if (strcmp(meshd.epoch, json_str(b, "epoch", ""))) {
		snprintf(meshd.epoch, sizeof(meshd.epoch), "%s", json_str(b, "epoch", ""));
		meshd.seq = 0;
	}
	if (seq == meshd.seq) {
		meshd.duplicates++;
	} else {
		if (seq < meshd.seq)
			abort();
		meshd_records(body + at, len - at, cJSON_GetObjectItem(b, "spans"));
		meshd_count(b);
		meshd.batches++;
	}
	meshd.seq = seq;
	cJSON_Delete(b);
}

static inline void reply(int fd, int status, const char *body)
{
	char out[2048];
	int n = snprintf(out, sizeof(out),
			 "HTTP/1.1 %d X\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
			 status, strlen(body), body);

	if (send(fd, out, (size_t)n, MSG_NOSIGNAL) != n)
		return;
	shutdown(fd, SHUT_WR);
}

static inline void meshd_telemetry(int fd, const char *body, size_t len)
{
	char answer[1024];
	int mood = meshd.mood;

	pthread_mutex_lock(&meshd.lock);
	if (!meshd.layout && strlen(body) < len)
		mood = REFUSES; /* an older one cannot read that */
	if (mood == TAKES || mood == LOSES_ANSWERS || mood == IS_LATE)
		meshd_batch(body, len);
	snprintf(answer, sizeof(answer), "{\"success\":true,\"records\":%d%s}", meshd.layout,
		 meshd.answer);
	pthread_mutex_unlock(&meshd.lock);
	if (mood == IS_LATE)
		poll(NULL, 0, 250);
	if (mood == TAKES || mood == IS_LATE)
		reply(fd, 200, answer);
	else if (mood == FAILS)
		reply(fd, 500, "{\"error\":\"no disk\"}");
	else if (mood == REFUSES)
		reply(fd, 400, "{\"error\":\"no\"}");
}

/* One question: the body behind its head. */
static inline void serve(int fd)
{
	static _Alignas(8) char in[9 << 20], body[9 << 20]; /* where records are aligned */
	size_t len = 0, want = SIZE_MAX;
	char *end = NULL, *length;

	while (len < sizeof(in) - 1 && len < want) {
		ssize_t n = recv(fd, in + len, sizeof(in) - 1 - len, 0);

		if (n <= 0)
			return;
		len += (size_t)n;
		in[len] = 0;
		if (end || !(end = strstr(in, "\r\n\r\n")))
			continue;
		if (strcasestr(in, "Expect: 100-continue"))
			send(fd, "HTTP/1.1 100 Continue\r\n\r\n", 25, MSG_NOSIGNAL);
		length = strcasestr(in, "Content-Length: ");
		want = (size_t)(end + 4 - in) + (length ? strtoul(length + 16, NULL, 10) : 0);
	}
	if (!strncmp(in, "POST /api/telemetry", 19)) {
		memcpy(body, end + 4, len - (size_t)(end + 4 - in) + 1);
		meshd_telemetry(fd, body, len - (size_t)(end + 4 - in));
	} else {
		reply(fd, !strncmp(in, "PUT", 3) ? 200 : 503, "{\"success\":true}");
	}
}

static inline void *meshd_run(void *arg)
{
	const struct timeval patience = {.tv_usec = 100000};

	for (;;) {
		struct pollfd p[2] = {{.fd = meshd.fd, .events = POLLIN},
				      {.fd = meshd.quit, .events = POLLIN}};
		int fd;

		if (poll(p, 2, -1) < 0 || p[1].revents)
			return NULL;
		fd = accept4(meshd.fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			continue;
		/* who has connected may be waiting for what the test waits for */
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
		if (meshd.mood != HANGS_UP)
			serve(fd);
		close(fd);
	}
}

static int quit_pipe[2];

static inline void meshd_start(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(in);

	memset(&meshd.mood, 0, sizeof(meshd) - offsetof(__typeof__(meshd), mood));
	meshd.layout = RECORD_LAYOUT;
	meshd.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(meshd.fd, (struct sockaddr *)&in, len), 0);
	assert_int_equal(listen(meshd.fd, 64), 0);
	assert_int_equal(getsockname(meshd.fd, (struct sockaddr *)&in, &len), 0);
	snprintf(meshd.control, sizeof(meshd.control), "http://127.0.0.1:%u", ntohs(in.sin_port));
	assert_int_equal(pipe(quit_pipe), 0);
	meshd.quit = quit_pipe[0];
	assert_int_equal(pthread_create(&meshd.thread, NULL, meshd_run, NULL), 0);
}

static inline void meshd_stop(void)
{
	close(quit_pipe[1]);
	pthread_join(meshd.thread, NULL);
	close(quit_pipe[0]);
	close(meshd.fd);
}

/* A number of its, as of now. */
#define meshd_has(member)                                                                          \
	({                                                                                         \
		pthread_mutex_lock(&meshd.lock);                                                   \
		uint64_t v_ = meshd.member;                                                        \
		pthread_mutex_unlock(&meshd.lock);                                                 \
		v_;                                                                                \
	})

static inline void meshd_answers(const char *more)
{
	pthread_mutex_lock(&meshd.lock);
	snprintf(meshd.answer, sizeof(meshd.answer), "%s", more);
	pthread_mutex_unlock(&meshd.lock);
}

#endif
