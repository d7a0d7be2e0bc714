/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Holds idle connections: --used made one request each, --unused never sent a byte. Prints
 * "holding" when all are there, checks at the end of stdin that every used one still answers, and
 * says so.
 */
#include "lib/options.h"
#include "tests/bench/net.h"

#include <string.h>
#include <sys/time.h>

static const char *opt_to, *opt_path, *opt_used, *opt_unused;
static const struct option_spec options[] = {
	{"to", 't', "ADDR:PORT", NULL, "where the service is", &opt_to},
	{"path", 0, "PATH", "/", "what to ask for", &opt_path},
	{"used", 'u', "N", "8000", "connections that made one request", &opt_used},
	{"unused", 0, "N", "0", "connections that sent nothing", &opt_unused},
	{0},
};
static const struct program program = {"idle", "--to ADDR:PORT [flags]", "holds idle connections",
				       options};

/* One request, one answer (its head and body fit one read or a few). false when it failed. */
static bool ask(int fd)
{
	char text[2048], in[8192];
	int n = snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", opt_path,
			 opt_to);

	return send(fd, text, (size_t)n, MSG_NOSIGNAL) == n && recv(fd, in, sizeof(in), 0) > 12 &&
	       !memcmp(in, "HTTP/1.1 200", 12);
}

static int open_all(int *fds, long used, long unused)
{
	const struct timeval patience = {.tv_sec = 10};
	struct addr a = net_addr(opt_to);

	for (long i = 0; i < used + unused; i++) {
		fds[i] = net_connect(&a, 0);
		if (fds[i] < 0 ||
		    setsockopt(fds[i], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) ||
		    (i < used && !ask(fds[i]))) {
			fprintf(stderr, "idle: connection %ld failed\n", i);
			return -1;
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	long used, unused, alive = 0;
	char c;
	int *fds;

	(void)options_parse(&program, argc, argv);
	if (!opt_to)
		options_usage(&program, "--to is missing");
	used = strtol(opt_used, NULL, 10);
	unused = strtol(opt_unused, NULL, 10);
	fds = calloc((size_t)(used + unused) + 1, sizeof(*fds));
	net_raise_nofile();
	if (!fds || open_all(fds, used, unused))
		return 1;
	printf("holding %ld\n", used + unused);
	fflush(stdout);
	while (read(0, &c, 1) > 0)
		;
	for (long i = 0; i < used; i++)
		alive += ask(fds[i]);
	printf("%ld of %ld still answer\n", alive, used);
	return alive != used;
}
