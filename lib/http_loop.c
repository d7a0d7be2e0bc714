/* SPDX-License-Identifier: Apache-2.0 */
/* See http.h: calls on a loop, by libcurl's multi socket interface. */
#include "lib/http_impl.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct http_client {
	struct loop *loop;
	CURLM *multi;
	struct call *calls;
	struct timer timer;
	struct watch kick;  /* an eventfd: "now" without waiting for a tick of the timer wheel */
	bool in_done, dead; /* a callback is running; it has freed the client */
};

struct socket_watch {
	struct watch watch;
	struct http_client *client;
};

static void call_free(struct call *c)
{
	*c->prev = c->next;
	if (c->next)
		c->next->prev = c->prev;
	curl_multi_remove_handle(c->client->multi, c->easy);
	http_call_end(c);
	free(c);
}

static void client_destroy(struct http_client *hc)
{
	while (hc->calls)
		call_free(hc->calls);
	curl_multi_cleanup(hc->multi);
	timer_cancel(hc->loop, &hc->timer);
	if (hc->kick.fd >= 0) {
		int fd = hc->kick.fd;

		loop_del(hc->loop, &hc->kick);
		close(fd);
	}
	free(hc);
}

/* Delivers what is finished. A callback may start calls and may free the client. */
static void deliver(struct http_client *hc)
{
	struct http_answer answer;
	struct call *c = NULL;
	CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(hc->multi, &left))) {
		void (*done)(const struct http_answer *, void *);
		void *arg;

		if (m->msg != CURLMSG_DONE ||
		    curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &c))
			continue;
		http_call_answer(c, m->data.result, &answer);
		done = c->done;
		arg = c->arg;
		call_free(c);
		hc->in_done = true;
		done(&answer, arg);
		hc->in_done = false;
		http_answer_done(&answer);
		if (hc->dead) {
			client_destroy(hc);
			return;
		}
	}
}

static void act(struct http_client *hc, curl_socket_t fd, int events)
{
	int running;

	curl_multi_socket_action(hc->multi, fd, events, &running);
	deliver(hc);
}

static void on_timer(struct timer *t)
{
	act((struct http_client *)((char *)t - offsetof(struct http_client, timer)),
	    CURL_SOCKET_TIMEOUT, 0);
}

static void on_kick(struct watch *w, uint32_t events)
{
	uint64_t n;

	if (read(w->fd, &n, sizeof(n)) == sizeof(n))
		act((struct http_client *)((char *)w - offsetof(struct http_client, kick)),
		    CURL_SOCKET_TIMEOUT, 0);
}

static void on_socket(struct watch *w, uint32_t events)
{
	struct socket_watch *sw = (struct socket_watch *)w;
	int bits = (events & EPOLLIN ? CURL_CSELECT_IN : 0) |
		   (events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
		   (events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);

	act(sw->client, w->fd, bits); /* may free sw */
}

static int timer_changed(CURLM *m, long ms, void *arg)
{
	struct http_client *hc = arg;
	uint64_t one = 1;

	timer_cancel(hc->loop, &hc->timer);
	if (ms > 0)
		timer_arm(hc->loop, &hc->timer, (uint64_t)ms, on_timer);
	else if (ms == 0 && write(hc->kick.fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		return -1;
	return 0;
}

static int socket_changed(CURL *e, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
	struct http_client *hc = arg;
	struct socket_watch *sw = socket_arg;
	uint32_t events =
		(what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);

	if (what == CURL_POLL_REMOVE) {
		if (sw)
			loop_del(hc->loop, &sw->watch);
		free(sw);
		return 0;
	}
	if (sw)
		return loop_mod(hc->loop, &sw->watch, events) ? -1 : 0;
	sw = calloc(1, sizeof(*sw));
	if (!sw)
		return -1;
	sw->client = hc;
	if (loop_add(hc->loop, &sw->watch, fd, events, on_socket)) {
		free(sw);
		return -1;
	}
	curl_multi_assign(hc->multi, fd, sw);
	return 0;
}

int http_client_new(struct loop *l, struct http_client **out)
{
	struct http_client *hc = calloc(1, sizeof(*hc));
	int fd, r = 0;

	if (!hc)
		return -ENOMEM;
	hc->loop = l;
	hc->kick.fd = -1;
	hc->multi = curl_multi_init();
	fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (fd < 0)
		r = -errno;
	else if (!hc->multi)
		r = -ENOMEM;
	if (!r)
		r = loop_add(l, &hc->kick, fd, EPOLLIN, on_kick);
	if (r && fd >= 0)
		close(fd);
	if (!r && (curl_multi_setopt(hc->multi, CURLMOPT_SOCKETFUNCTION, socket_changed) ||
		   curl_multi_setopt(hc->multi, CURLMOPT_SOCKETDATA, hc) ||
		   curl_multi_setopt(hc->multi, CURLMOPT_TIMERFUNCTION, timer_changed) ||
		   curl_multi_setopt(hc->multi, CURLMOPT_TIMERDATA, hc)))
		r = -ENOMEM;
	if (r) {
		client_destroy(hc);
		return r;
	}
	*out = hc;
	return 0;
}

void http_client_free(struct http_client **c)
{
	struct http_client *hc = *c;

	*c = NULL;
	if (hc && hc->in_done)
		hc->dead = true;
	else if (hc)
		client_destroy(hc);
}

int http_client_start(struct http_client *hc, const struct http_call *h,
		      void (*done)(const struct http_answer *a, void *arg), void *arg)
{
	struct call *c = malloc(sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	r = http_call_begin(c, h);
	if (r) {
		free(c);
		return r;
	}
	c->client = hc;
	c->done = done;
	c->arg = arg;
	c->next = hc->calls;
	c->prev = &hc->calls;
	if (c->next)
		c->next->prev = &c->next;
	hc->calls = c;
	if (curl_multi_add_handle(hc->multi, c->easy)) {
		call_free(c);
		return -ENOMEM;
	}
	return 0;
}

void http_client_cancel(struct http_client *hc, const void *arg)
{
	struct call *next;

	for (struct call *c = hc->calls; c; c = next) {
		next = c->next;
		if (c->arg == arg)
			call_free(c);
	}
}
