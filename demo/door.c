/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A door from this machine to a port of a virtual host: a socket that was opened outside goes on
 * listening there wherever it is taken, so whoever has the socket inside can pass on what comes.
 *
 *   door PORT CMD...       listens on 127.0.0.1:PORT and becomes CMD, with the socket in $DOOR
 *   door --serve PORT      inside: what comes to $DOOR goes to 127.0.0.1:PORT
 *
 * For the demo: no bound but that on threads, and whoever does not read holds his own up.
 */
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTIONS_MAX 64
#define IDLE_S		60 /* then it is closed */

struct way { /* of the bytes, in one direction */
	int from, to;
};

static struct sockaddr_in loopback(const char *port)
{
	return (struct sockaddr_in){.sin_family = AF_INET,
				    .sin_port = htons((uint16_t)atoi(port)),
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void pass(const struct way *w)
{
	char bytes[16384];
	ssize_t n, sent;

	while ((n = recv(w->from, bytes, sizeof(bytes), 0)) > 0)
		for (ssize_t at = 0; at < n; at += sent) {
			sent = send(w->to, bytes + at, (size_t)(n - at), MSG_NOSIGNAL);
			if (sent < 0) {
				shutdown(w->from, SHUT_RDWR);
				shutdown(w->to, SHUT_RDWR);
				return;
			}
		}
	shutdown(w->to, SHUT_WR);
}

static void *answers(void *arg)
{
	pass(arg);
	return NULL;
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t ended = PTHREAD_COND_INITIALIZER;
static int connections;

static void count(int by)
{
	pthread_mutex_lock(&lock);
	while (by > 0 && connections >= CONNECTIONS_MAX)
		pthread_cond_wait(&ended, &lock);
	connections += by;
	pthread_cond_signal(&ended);
	pthread_mutex_unlock(&lock);
}

static void *both_ways(void *arg)
{
	struct way *out = arg, back = {out->to, out->from};
	pthread_t other;

	if (!pthread_create(&other, NULL, answers, &back)) {
		pass(out);
		pthread_join(other, NULL);
	}
	close(out->from);
	close(out->to);
	free(out);
	count(-1);
	return NULL;
}

static void limit(int fd)
{
	struct timeval idle = {.tv_sec = IDLE_S};

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &idle, sizeof(idle));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &idle, sizeof(idle));
}

static void take(int fd, const struct sockaddr_in *to)
{
	struct way *w = malloc(sizeof(*w));
	int other = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	pthread_t t;

	count(1);
	if (w && other >= 0 && !connect(other, (const struct sockaddr *)to, sizeof(*to))) {
		*w = (struct way){fd, other};
		limit(fd);
		limit(other);
		if (!pthread_create(&t, NULL, both_ways, w)) {
			pthread_detach(t);
			return;
		}
	}
	count(-1);
	free(w);
	close(fd);
	if (other >= 0)
		close(other);
}

static int serve(const char *port)
{
	const char *door = getenv("DOOR");
	struct sockaddr_in to = loopback(port);
	int fd;

	if (!door)
		return 2;
	for (;;) {
		fd = accept4(atoi(door), NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0)
			take(fd, &to);
		else if (errno != EINTR && errno != ECONNABORTED)
			return 1;
	}
}

/* Without a socket the command runs all the same. */
int main(int argc, char **argv)
{
	struct sockaddr_in at;
	char number[16];
	int fd, on = 1;

	if (argc == 3 && !strcmp(argv[1], "--serve"))
		return serve(argv[2]);
	if (argc < 3) {
		fputs("usage: door PORT CMD... | door --serve PORT\n", stderr);
		return 2;
	}
	at = loopback(argv[1]);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fd >= 0 && !setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) &&
	    !bind(fd, (struct sockaddr *)&at, sizeof(at)) && !listen(fd, 16)) {
		snprintf(number, sizeof(number), "%d", fd);
		setenv("DOOR", number, 1);
	} else {
		fprintf(stderr, "door: cannot listen on 127.0.0.1:%s: %s\n", argv[1],
			strerror(errno));
	}
	execvp(argv[2], argv + 2);
	fprintf(stderr, "door: %s: %s\n", argv[2], strerror(errno));
	return 127;
}
