/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers that go on: see reply_stream() in server.h. While there is nothing to read the connection
 * is suspended, which also means that libmicrohttpd does not look at it: a watch of our own sees
 * the client go.
 */
#include "ctl/meshd/server.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <sys/socket.h>

#define PIECE_MAX   (8 * 1024)	 /* less than the memory of a connection leaves */
#define SENDING_MAX (128 * 1024) /* in the kernel: who reads slowly is not to read old news */

static ssize_t on_read(void *cls, uint64_t pos, char *out, size_t cap)
{
	struct request *r = cls;
	long n = r->left ? -1 : r->stream.read(r->stream.arg, out, cap);

	request_lives(r); /* what was read before has gone out */
	if (r->left)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	if (n < 0)
		return MHD_CONTENT_READER_END_OF_STREAM;
	if (!n) {
		request_suspend(r);
		r->pausing = true;
	}
	return n;
}

void stream_wake(struct request *r)
{
	if (!r->streaming || !r->pausing)
		return;
	r->pausing = false;
	request_resume(r);
}

/* Also when only its sending side is closed: who follows a stream has nothing more to say, and has
 * no reason to close it but its own end. */
static void on_leave(struct watch *w, uint32_t events)
{
	struct request *r = (struct request *)((char *)w - offsetof(struct request, leaves));

	r->left = true;
	shutdown(w->fd, SHUT_RDWR); /* ends a write that waits for room */
	loop_del(server_loop(r->server), w);
	stream_wake(r);
}

/* Settings that fail cost no more than what they are for. A peer that has vanished without a word
 * is noticed by what it does not acknowledge. */
static void watch_client(struct request *r)
{
	const union MHD_ConnectionInfo *i =
		MHD_get_connection_info(r->mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
	unsigned ms = SERVER_CLIENT_S * 1000;
	int bytes = SENDING_MAX;

	if (!i)
		return;
	setsockopt(i->connect_fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
	if (!r->local)
		setsockopt(i->connect_fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms));
	if (loop_add(server_loop(r->server), &r->leaves, i->connect_fd, EPOLLRDHUP, on_leave))
		r->leaves.fd = -1; /* it is noticed by the next thing that is sent */
}

struct MHD_Response *stream_response(struct request *r, const struct stream *s)
{
	r->stream = *s;
	r->streaming = true;
	r->leaves.fd = -1;
	watch_client(r);
	return MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, PIECE_MAX, on_read, r, NULL);
}

void stream_done(struct request *r)
{
	if (!r->streaming)
		return;
	r->streaming = false;
	loop_del(server_loop(r->server), &r->leaves);
	r->stream.gone(r->stream.arg);
}
