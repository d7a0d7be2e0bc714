/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meshd: the control daemon. Reads flags, takes what needs privileges, drops them, runs the loop
 * until a signal says otherwise. All else is in meshd.c.
 */
#include "ctl/meshd/meshd.h"
#include "ctl/meshd/startup.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "lib/options.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define DEFAULT_CONFIG "/etc/mesh/conf.d"
#define FDS	       4096

static struct {
	const char *listen, *socket, *state, *config, *user, *allow_host, *log_format, *log_level,
		*otlp_endpoint, *otlp_header;
	const char *trace_size, *trace_age, *trace_query;
	uint64_t trace_bytes, trace_age_ms;
	bool insecure_writes;
} flags;

static const struct option_spec options[] = {
	{"listen", 0, "ADDR:PORT", "127.0.0.1:15000",
	 "where to serve the REST API and the web page", &flags.listen},
	{"socket", 0, "PATH", "/run/mesh/meshd.sock", "unix socket; who may open it needs no token",
	 &flags.socket},
	{"state", 0, "DIR", "/var/lib/mesh", "configuration, history, registrations, token",
	 &flags.state},
	{"config", 0, "DIR", DEFAULT_CONFIG, "*.json files applied at start and on SIGHUP",
	 &flags.config},
	{"user", 0, "NAME", NULL, "whom to become (mesh, else nobody)", &flags.user},
	{"allow-host", 0, "NAMES", NULL, "more names, by commas, under which clients may call",
	 &flags.allow_host},
	{"otlp-endpoint", 0, "URL", NULL,
	 "where spans are exported to with OTLP/HTTP, such as http://127.0.0.1:4318",
	 &flags.otlp_endpoint},
	{"otlp-header", 0, "NAME=VALUE", NULL, "more headers of the export, by commas",
	 &flags.otlp_header},
	{"trace-size", 0, "BYTES", "256MiB", "of the files of traces; the oldest go then",
	 &flags.trace_size},
	{"trace-age", 0, "TIME", "168h", "how long traces are kept", &flags.trace_age},
	{"trace-query", 0, "keep|strip", "keep", "query strings in traces, logs, taps and export",
	 &flags.trace_query},
	{"log-format", 0, "text|json", "text", "form of the log on stderr", &flags.log_format},
	{"log-level", 0, "LEVEL", "info", "debug, info, warn or error", &flags.log_level},
	{"insecure-writes", 0, NULL, NULL, "writes from loopback addresses need no token", NULL,
	 &flags.insecure_writes},
	{NULL},
};

static const struct program program = {
	.name = "meshd",
	.usage = "[FLAGS]",
	.summary = "Control daemon of sockmesh: registry, configuration, REST API.",
	.options = options,
};

struct signals {
	struct watch watch;
	struct loop *loop;
	struct meshd *meshd;
};

static void on_signal(struct watch *w, uint32_t events)
{
	struct signals *s = (struct signals *)w; /* its first member */
	struct signalfd_siginfo i;

	while (read(w->fd, &i, sizeof(i)) == sizeof(i)) {
		if (i.ssi_signo == SIGHUP)
			meshd_reload(s->meshd);
		else
			s->loop->stop = true;
	}
}

static int signals_open(struct signals *s, struct loop *l)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	signal(SIGPIPE, SIG_IGN);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	s->loop = l;
	return loop_add(l, &s->watch, fd, EPOLLIN, on_signal);
}

/* Enough for every connection that server.h admits. */
static void raise_fd_limit(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) < 0 || r.rlim_cur >= FDS)
		return;
	r.rlim_cur = r.rlim_max < FDS ? r.rlim_max : FDS;
	if (setrlimit(RLIMIT_NOFILE, &r) < 0)
		log_warn("cannot raise the limit of open files: %s", strerror(errno));
}

static int open_store(struct meshd_options *o, const struct identity *id, char *why, size_t cap)
{
	int r = startup_act_as(id, true, why, cap);

	if (!r)
		r = store_open(flags.state, &o->store, why, cap);
	return r ? r : startup_act_as(id, false, why, cap);
}

/* Everything that needs privileges, then none. The socket file comes last: it cannot be removed
 * once they are gone. */
static int prepare(struct meshd_options *o, const struct addr *at, char *why, size_t cap)
{
	struct identity id;
	int r = startup_identity(flags.user, &id, why, cap);

	if (!r)
		r = startup_state(flags.state, &id, why, cap);
	if (!r)
		r = o->tcp_fd = startup_tcp(at, why, cap);
	if (r >= 0)
		r = auth_token_load(&o->auth, flags.state, id.change ? id.file_gid : (gid_t)-1, why,
				    cap);
	if (!r)
		r = open_store(o, &id, why, cap);
	if (!r)
		r = o->unix_fd = startup_unix(flags.socket, &id, why, cap);
	if (r >= 0)
		r = startup_drop(&id, why, cap);
	if (!r && id.shared)
		log_warn("meshd runs as nobody, as other programs do, which can stop it. Give it "
			 "a user of its own: useradd --system --no-create-home mesh");
	return r;
}

static int run(struct loop *l, struct signals *s, const struct addr *at)
{
	struct meshd_options o = {
		.config_dir = flags.config,
		.state_dir = flags.state,
		.trace_size = flags.trace_bytes,
		.trace_age_ms = flags.trace_age_ms,
		.strip_queries = !strcmp(flags.trace_query, "strip"),
		.config_required = strcmp(flags.config, DEFAULT_CONFIG) != 0,
		.auth = {.insecure_writes = flags.insecure_writes, .allow_hosts = flags.allow_host},
		.otlp = {.endpoint = flags.otlp_endpoint, .headers = flags.otlp_header},
		.tcp_fd = -1,
		.unix_fd = -1,
	};
	char why[512];
	int r = prepare(&o, at, why, sizeof(why));

	if (!r)
		r = meshd_new(l, &o, &s->meshd, why, sizeof(why));
	if (r) {
		log_error("%s", why);
		return EXIT_FAILED;
	}
	log_info("meshd " MESH_VERSION " serves %s and %s, revision %llu", flags.listen,
		 flags.socket, (unsigned long long)store_revision(s->meshd->store));
	r = loop_run(l);
	if (r)
		log_error("the event loop failed: %s", strerror(-r));
	l->stop = false;
	meshd_free(&s->meshd);
	unlink(flags.socket); /* may fail: the directory can be root's. A file left behind is
				 replaced at the next start */
	log_info("meshd ends");
	return r ? EXIT_FAILED : EXIT_OK;
}

/* "1048576", "64KiB", "256MiB" or "1GiB". 0 or -EINVAL. */
static int size_parse(const char *s, uint64_t *bytes)
{
	static const char *const units[] = {"", "KiB", "MiB", "GiB"};
	size_t digits = strspn(s, "0123456789");

	if (!digits || digits > 12)
		return -EINVAL;
	for (unsigned i = 0; i < sizeof(units) / sizeof(*units); i++)
		if (!strcmp(s + digits, units[i])) {
			*bytes = strtoull(s, NULL, 10) << (10 * i);
			return 0;
		}
	return -EINVAL;
}

int main(int argc, char **argv)
{
	enum log_level level = LOG_LEVEL_INFO;
	struct signals signals = {0};
	struct loop loop;
	struct addr at;
	int r, words = options_parse(&program, argc, argv);

	if (words < argc)
		options_usage(&program, "unexpected argument: %s", argv[words]);
	if (addr_parse(flags.listen, &at))
		options_usage(&program, "--listen takes ADDRESS:PORT, not %s", flags.listen);
	if (size_parse(flags.trace_size, &flags.trace_bytes) || flags.trace_bytes < TRACES_SIZE_MIN)
		options_usage(&program, "--trace-size takes a size from 1MiB on, as 256MiB, not %s",
			      flags.trace_size);
	if (duration_parse(flags.trace_age, &flags.trace_age_ms) || !flags.trace_age_ms)
		options_usage(&program, "--trace-age takes a time, as 168h, not %s",
			      flags.trace_age);
	if (strcmp(flags.trace_query, "keep") && strcmp(flags.trace_query, "strip"))
		options_usage(&program, "--trace-query takes keep or strip, not %s",
			      flags.trace_query);
	if (strcmp(flags.log_format, "text") && strcmp(flags.log_format, "json"))
		options_usage(&program, "--log-format takes text or json, not %s",
			      flags.log_format);
	if (log_level_parse(flags.log_level, &level))
		options_usage(&program, "--log-level takes debug, info, warn or error, not %s",
			      flags.log_level);
	log_init("meshd", !strcmp(flags.log_format, "json"), level);
	raise_fd_limit();
	r = loop_init(&loop);
	if (!r)
		r = signals_open(&signals, &loop);
	if (r) {
		log_error("cannot make the event loop: %s", strerror(-r));
		return EXIT_FAILED;
	}
	r = run(&loop, &signals, &at);
	close(signals.watch.fd);
	loop_done(&loop);
	return r;
}
