/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What end-to-end tests stand on: the daemons on a virtual host of their own, programs started by
 * `meshctl run`, callers that are workloads, HTTP clients, the REST API, the command line. Whatever
 * a story starts or opens is ended and freed after it, and what helpers cannot do fails the story:
 * tests check nothing but the product.
 */
#ifndef TESTS_E2E_HARNESS_H
#define TESTS_E2E_HARNESS_H

#include "lib/clock.h"
#include "lib/json.h"
#include "tests/bench/h1.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define PRINTF(a, b) __attribute__((format(printf, a, b)))

/* --- a test program: int main(void) { return STORIES(first, second); } --------------------------
 */

/* The daemons run from the first story to the last; a story that kills them starts them again. */
#define STORY(fn)                                                                                  \
	{                                                                                          \
#fn, story_run, NULL, story_end, (void *)(fn)                                      \
	}
#define RUN(stories) cmocka_run_group_tests(stories, harness_start, harness_stop)
int harness_start(void **state);
int harness_stop(void **state);
void story_run(void **state);
int story_end(void **state);
/* Ends the story as skipped and says why. */
__attribute__((noreturn)) void story_skip(const char *why);

/* On an emulated machine (tests/kernels) all takes many times as long: so much longer are waits. */
static inline unsigned slowness(void)
{
	return getenv("MESH_EMULATED") ? 10 : 1;
}
/* Polls until the condition holds; fails after ms. */
#define eventually(ms, cond)                                                                       \
	do {                                                                                       \
		for (uint64_t until_ = mono_ms() + (ms)*slowness();;) {                            \
			bool late_ = mono_ms() > until_; /* it is looked at after that, too */     \
                                                                                                   \
			if (cond)                                                                  \
				break;                                                             \
			if (late_)                                                                 \
				fail_msg("not within %d ms: %s", (int)(ms), #cond);                \
			usleep(2000);                                                              \
		}                                                                                  \
	} while (0)
static inline uint64_t mono_ms(void)
{
	return clock_mono_ns() / 1000000;
}
static inline uint64_t now_us(void)
{
	return clock_mono_ns() / 1000;
}

/* --- daemons ------------------------------------------------------------------------------------
 */

/* Of a daemon; most of it is the kernel's, which looks at programs. */
#define START_MS	60000
#define MESHD_ADDRESS	"127.0.0.1:15000"
#define GATEWAY_ADDRESS "127.0.0.1:8080"
#define ADMIN_ADDRESS	"127.0.0.1:15020"
#define MESHD_SOCKET	"/run/mesh/meshd.sock"
#define SCRATCH		"/run/e2e" /* the virtual host's own */

extern pid_t meshd_pid, agent_pid; /* 0: not running */

void meshd_start(void);		     /* returns when /health answers */
void agent_start(const char *flags); /* returns when /readyz says so; flags may be "" */
/* Sends sig and reaps; of an agent that is killed, its workers are killed, too. How it ended, as
 * waitpid tells. */
int meshd_stop(int sig);
int agent_stop(int sig);
/* Kills the agent and lets its workers live. */
void agent_orphan(void);
/* Starts another agent beside the one that runs, which becomes agent_pid; returns at once. The pid
 * of the one before is the caller's to reap. */
pid_t agent_succeed(const char *flags);
/* Returns when /readyz says so. */
void agent_wait(void);
/* Bytes of the agents' log, and has it this in a line from that place on? */
long agent_log_size(void);
bool agent_logged(long from, const char *text);
/* Fills pids[] with the agent's workers; how many. */
int agent_workers(pid_t *pids, int max);
/* With all workers that there are, whoever started them. */
int all_workers(pid_t *pids, int max);
/* Kills all workers; returns when they are gone. */
void workers_kill(void);

/* --- programs ------------------------------------------------------------------------------------
 */

/* Starts CMD by sh, which it should replace (exec); build/ and build/tests/bench/ are in its PATH.
 * Output to SCRATCH/NAME.log. */
pid_t spawn(const char *name, const char *cmd);
/* Ends a process of ours and reaps it: sig, then SIGKILL after 20 s. Its wait status. */
int reap(pid_t *pid, int sig);

struct instance {
	struct instance *next;
	char service[64], id[64];
	char ip[48], address[64]; /* "1.2.3.4", "1.2.3.4:80"; when it is in the registry */
	int port;
	pid_t run; /* meshctl run; 0 when it was ended */
};
/* `meshctl run --service S --instance ID FLAGS -- CMD`. Does not wait. */
struct instance *instance_start(const char *service, const char *id, const char *flags,
				const char *cmd);
/* Waits until the registry has it, healthy, and fills in its address. Returns i. */
struct instance *instance_ready(struct instance *i);
/* The program's pid (not meshctl's), 0 when there is none. */
pid_t instance_pid(const struct instance *i);
/* SIGKILL to the program; returns when meshctl run has ended too. */
void instance_kill(struct instance *i);
/* What origin counted (connections, open, requests, posts, bytes, bad, cancelled, checks), asked
 * without the mesh. */
long origin_stat(const struct instance *i, const char *what);
/* How it is to answer from now on (origin.c, /__set); "": as in the beginning. */
void origin_set(const struct instance *i, const char *mode);
/* Requests that arrived in that time (now_us). */
long origin_seen(const struct instance *i, uint64_t from_us, uint64_t to_us);

/* --- workloads that do as they are told ---------------------------------------------------------
 */

/* A workload that does what the test tells it over a unix socket. */
struct caller {
	struct caller *next;
	char path[64];
	int listener, fd; /* fd: to the program, -1 until it has come */
	struct instance *run;
	uint64_t dialed_ns; /* when its last connect() was called */
};
/* `meshctl run --service S --instance ID FLAGS -- PROGRAM PATH`, and waits until the program has
 * connected to the unix socket at PATH (SOCK_SEQPACKET). */
struct caller *driven_start(const char *service, const char *id, const char *flags,
			    const char *program);
/* One that makes connections for the test (bench/dialer.c). */
struct caller *caller_start(const char *service, const char *flags);
/* A connected blocking socket made by the caller, or -errno. */
int caller_dial(struct caller *c, const char *address);

/* --- load ----------------------------------------------------------------------------------------
 */

struct shot {			      /* one request */
	uint64_t start_us, took_us;   /* from when it was due */
	int status, tries;	      /* status 0: no answer */
	char cause[24], instance[32]; /* "-": none */
};
struct load {
	struct load *next;
	char path[96];
	pid_t pid;	      /* 0: ended, */
	struct instance *run; /* or this one's */
	struct shot *shots;   /* when it has ended, in the order of the answers */
	size_t n;
};
/* Starts bench/load.c with FLAGS (--to ADDR --rate N ...): as a workload of that service in its own
 * network namespace, or, service NULL, as nobody's. */
PRINTF(2, 3) struct load *load_start(const char *service, const char *flags_fmt, ...);
/* Stops it when it has not ended by itself, and reads what became of the requests. */
void load_end(struct load *l);
/* Of those that were due in that time: how many, how many of them with status 200, the
 * latency that so many thousandths of them do not exceed (0 when there is none). */
size_t load_count(const struct load *l, uint64_t from_us, uint64_t to_us);
size_t load_ok(const struct load *l, uint64_t from_us, uint64_t to_us);
uint64_t load_quantile(const struct load *l, uint64_t from_us, uint64_t to_us, unsigned thousandth);
/* Of those that were due and answered in that time: how many, of one cause unless it is NULL. */
size_t load_cause(const struct load *l, uint64_t from_us, uint64_t to_us, const char *cause);
/* As load_count, answered by that instance. */
size_t load_by(const struct load *l, uint64_t from_us, uint64_t to_us, const char *instance);

/* --- HTTP by hand
 * --------------------------------------------------------------------------------- */

struct client { /* one connection and its last answer */
	struct client *next;
	int fd;
	char in[1 << 17];
	size_t at, len;
	int status;   /* -1: none came */
	int interims; /* 1xx before it */
	char head[1 << 16];
	struct h1_head h;
	struct h1_body b;
	char *body; /* NUL-terminated */
	size_t body_len, body_cap;
	bool whole; /* the body came to its end */
};
struct client *call(struct caller *who, const char *address);
struct client *call_directly(const char *address); /* not from a workload */
struct client *gateway(void);
void hang_up(struct client *c); /* early; the end of the story does it too */
/* A service of two origins, with ids a and b; a connection to the gateway, by which they answer. */
struct client *two_origins(const char *service, struct instance **a, struct instance **b);

PRINTF(2, 3) void say(struct client *c, const char *fmt, ...);
void say_bytes(struct client *c, const void *p, size_t n);
/* Reads one answer (method "HEAD": without a body). Its status, or -1 when the connection ended or
 * nothing came for 10 s. */
int answer(struct client *c, const char *method);
/* GET target, with a Host header; its status. */
PRINTF(2, 3) int get(struct client *c, const char *target_fmt, ...);
/* The same with another header, "NAME: VALUE". */
int get_with(struct client *c, const char *header, const char *target);
/* A header of the last answer, NUL-terminated, "" when it has none. Valid until the next call but
 * three. */
const char *header(const struct client *c, const char *name);
/* Did the other side close (nothing but the end came within ms)? */
bool hung_up(struct client *c, unsigned ms);
/* Exactly n bytes from the connection, whatever they are. How many came within 10 s. */
size_t take(struct client *c, void *out, size_t n);

/* --- control plane -----------------------------------------------------------------------------
 */

/* REST over the unix socket. The answer's JSON lives until the end of the story; NULL when there is
 * none. */
extern int api_status;
cJSON *api(const char *method, const char *path, const char *body);
int healthy(const char *service); /* healthy endpoints in the registry */
/* What the registry says of it: "healthy" ...; "" when it is not there. */
const char *endpoint_status(const char *service, const char *id);
/* Of the service's breaker: "closed" ...; "" when there is none. */
const char *breaker_state(const char *service);
/* PUT of a service's configuration, which the end of the story deletes. Fails the story when it is
 * refused. Returns when the agent has it. */
PRINTF(2, 3) void configure(const char *service, const char *json_fmt, ...);
/* Waits until the agents run the latest configuration. */
void settled(void);
bool registered(const char *service, const char *id);

/* --- commands ------------------------------------------------------------------------------------
 */

struct output {
	int status; /* exit status; 128 + signal */
	char out[1 << 17], err[1 << 14];
};
/* Runs a command by sh, for at most 60 s. The result lives until the next command. */
PRINTF(1, 2) struct output *sh(const char *fmt, ...);
bool have_program(const char *name);

/* --- metrics of the agent -----------------------------------------------------------------------
 */

/* Sum of the samples of `name` whose labels contain each of the given texts (up to a NULL); -1 when
 * there is none. */
double metric(const char *name, ...) __attribute__((sentinel));

#endif
