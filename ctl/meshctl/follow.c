/* SPDX-License-Identifier: Apache-2.0 */
/* See follow.h. Called by tap.c and log.c. */
#include "ctl/meshctl/follow.h"
#include "ctl/meshctl/api.h"
#include "ctl/meshctl/sse.h"
#include "lib/json.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define AGAIN_MS 500 /* between two attempts to reach a meshd that has gone */

struct state {
	struct follow *follow;
	struct sse sse;
	int stop_fd;
	bool open, ever, ended; /* a stream is open; one was; a callback has ended it */
	bool alien;		/* what came is no stream of events */
};

static uint64_t count_of(const cJSON *lost)
{
	double n = json_num(lost, "count", 0);

	return n > 0 && n < 1e15 ? (uint64_t)n : 0;
}

static int on_event(const char *event, const char *data, size_t len, void *arg)
{
	struct state *s = arg;
	cJSON *v = json_parse(data, len, NULL);
	int r = 0;

	if (v)
		api_mask(v);
	if (!strcmp(event, "lost"))
		s->follow->lost += count_of(v);
	else if (!strcmp(event, "message") && cJSON_IsObject(v))
		r = s->follow->request(s->follow, v);
	else if (!strcmp(event, "message"))
		s->follow->unreadable++;
	cJSON_Delete(v);
	return r;
}

/* With the first bytes meshd has the tap: what passes from now on is seen. */
static int on_bytes(const char *data, size_t len, void *arg)
{
	struct state *s = arg;
	int r = 0;

	if (!s->open) {
		s->alien = len && data[0] != ':' && !(data[0] >= 'a' && data[0] <= 'z');
		if (s->alien)
			return -EPROTO;
		s->open = true;
		r = s->follow->opened(s->follow, s->ever);
		s->ever = true;
	}
	if (!r)
		r = sse_feed(&s->sse, data, len);
	if (fflush(stdout))
		r = -EPIPE;
	s->ended = s->ended || r;
	return r;
}

/* True: a signal has come. */
static bool wait_for_stop(int fd, int ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, ms) > 0;
}

static int stop_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	if (sigprocmask(SIG_BLOCK, &set, NULL))
		return -1;
	return signalfd(-1, &set, SFD_CLOEXEC);
}

/* One stream, from its beginning to its end. */
static void stream_once(struct cli *cli, struct state *s, struct api_answer *a)
{
	s->open = false;
	sse_reset(&s->sse);
	api_stream(cli, s->follow->path, s->stop_fd, on_bytes, s, a);
	if (s->open && !s->ended && !wait_for_stop(s->stop_fd, 0))
		cli_fail("meshd has ended the stream; trying to reach it again (Ctrl-C ends)");
}

int follow_run(struct cli *cli, struct follow *f)
{
	struct state s = {.follow = f, .stop_fd = stop_signals()};
	struct api_answer a = {0};
	int rc = EXIT_OK;

	if (s.stop_fd < 0)
		return cli_fail("cannot wait for signals: %s", strerror(errno));
	sse_init(&s.sse, on_event, &s);
	do {
		api_done(&a);
		stream_once(cli, &s, &a);
	} while (s.ever && !s.ended && !s.alien && !wait_for_stop(s.stop_fd, AGAIN_MS));
	if (s.alien)
		rc = cli_fail("GET %s at %s: the answer is no stream of events; is it a meshd?",
			      f->path, cli->control);
	else if (!s.ever && a.code != EXIT_OK)
		rc = api_report(&a);
	f->unreadable += s.sse.dropped;
	api_done(&a);
	sse_done(&s.sse);
	close(s.stop_fd);
	return rc;
}
