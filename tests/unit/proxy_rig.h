/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker's proxy without a kernel program or a supervisor: a child process runs the real event
 * loop over arrays that the test owns, in front of origins that the test plays itself. Header only,
 * for tests/unit/test_proxy*.c.
 */
#ifndef TESTS_PROXY_RIG_H
#define TESTS_PROXY_RIG_H

#include "agent/ipc.h"
#include "agent/proxy/downstream.h"
#include "agent/proxy/listener.h"
#include "agent/proxy/proxy.h"
#include "lib/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define RIG_NETNS   5 /* cookie of the one namespace that all is in */
#define RIG_ORIGINS 3
#define RIG_ROUTES  4
#define RIG_OTHER   RIG_ORIGINS /* one more origin: the endpoint of the service "other" */
#define RIG_WAIT_MS 5000	/* for what must happen; a test that waits that long fails */

struct rig {
	struct shared shared; /* as the supervisor sees it: all writable */
	struct mesh_upstream *upstreams;
	struct mesh_slots *slots;
	struct mesh_endpoint *endpoints;
	struct ring *ring;
	struct {
		struct snapshot head;
		struct snap_service service, other;
		uint32_t by_name[2];
		char name[8], other_name[8];
		struct snap_route route[RIG_ROUTES]; /* of svc; nroutes says how many count */
		struct snap_pair pair[RIG_ROUTES];
		char text[512];
		uint32_t ntext;
	} * snapshot;
	int origin[RIG_ORIGINS + 1]; /* listening sockets */
	uint16_t origin_port[RIG_ORIGINS + 1];
	uint16_t gateway_port, capture_port;
	uint16_t listener_port; /* a capture listener as in a workload's namespace; no connection to
				   it was captured */
	pid_t proxy;
	struct proxy *inside; /* its state, to look at */
};

struct rig_capture {
	struct watch watch;
	struct proxy *proxy;
	int fd;
};

static inline void *rig_shared(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_true(p != MAP_FAILED);
	return p;
}

static inline int rig_listen(uint16_t *port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 512), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	*port = ntohs(a.sin_port);
	return fd;
}

/* A connection as if the kernel had captured it on its way to upstream 0. */
static inline void rig_on_capture(struct watch *w, uint32_t events)
{
	struct rig_capture *c = (struct rig_capture *)w;
	struct mesh_origdst meant = {.upstream = 0, .workload = 7, .netns = RIG_NETNS};
	uint8_t peer[16] = {[10] = 0xff, [11] = 0xff, [12] = 10, [15] = 9};
	int fd = accept4(c->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	meant.ip[10] = meant.ip[11] = 0xff; /* 127.0.0.1 */
	meant.ip[12] = 127;
	meant.ip[15] = 1;
	(void)events;
	if (fd >= 0)
		downstream_new(c->proxy, fd, peer, &meant);
}

static inline void rig_child(struct rig *rig, int gateway, int capture, int listener)
{
	struct proxy *p = rig->inside;
	struct rig_capture *c = calloc(1, sizeof(*c));

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	p->shared = rig->shared;
	p->ring = rig->ring;
	p->snapshot = &rig->snapshot->head;
	p->ipc_fd = -1;
	p->netns = RIG_NETNS;
	c->proxy = p;
	c->fd = capture;
	if (proxy_init(p, 0, 1, 0x1234) || listener_add(p, gateway, 1, IPC_GATEWAY, 0) ||
	    listener_add(p, listener, 2, IPC_CAPTURE, RIG_NETNS + 1) ||
	    loop_add(&p->loop, &c->watch, capture, EPOLLIN, rig_on_capture))
		_exit(99);
	p->random = 0x9e3779b97f4a7c15; /* draws are the same in each run: nine of them prove
					   nothing about chance */
	signal(SIGPIPE, SIG_IGN);
	_exit(loop_run(&p->loop) ? 98 : 0);
}

static inline void rig_endpoint(struct rig *rig, unsigned i)
{
	struct mesh_endpoint *e = &rig->endpoints[i];

	e->seq = 2;
	e->gen = 1;
	e->ip[10] = e->ip[11] = 0xff;
	e->ip[12] = 127;
	e->ip[15] = 1;
	e->port = htons(rig->origin_port[i]);
	e->flags = MESH_EP_USED | MESH_EP_ALIVE;
	snprintf(e->id, sizeof(e->id), "origin-%u", i);
}

/* The slot table has the first n origins. */
static inline void rig_use(struct rig *rig, unsigned n)
{
	for (unsigned i = 0; i < MESH_SLOTS; i++)
		rig->slots->ep[i] = (uint16_t)(n ? i % n : 0);
	rig->slots->nendpoints = n;
	rig->slots->n = n ? MESH_SLOTS : 0;
}

static inline void rig_upstream(struct rig *rig, uint32_t id)
{
	rig->upstreams[id] = (struct mesh_upstream){.seq = 2, .service = id, .nsplit = 1};
	rig->upstreams[id].split[0].subset = id;
	rig->upstreams[id].split[0].upto = 65536;
	for (unsigned i = 0; i < MESH_VERSIONS; i++)
		rig->upstreams[id].version[i] = i ? MESH_NONE : id;
}

/* Version number `version` of svc is served by that origin alone. */
static inline void rig_version(struct rig *rig, uint32_t version, unsigned origin)
{
	const uint32_t subset = 100 + version;
	struct mesh_slots *t = (struct mesh_slots *)shared_slots(&rig->shared, subset);

	for (unsigned i = 0; i < MESH_SLOTS; i++)
		t->ep[i] = (uint16_t)origin;
	t->n = t->nendpoints = 1;
	rig->upstreams[0].version[version] = subset;
}

/* A string for the snapshot: its offset. */
static inline uint32_t rig_text(struct rig *rig, const char *s)
{
	uint32_t at = rig->snapshot->ntext;

	assert_true(at + strlen(s) + 1 <= sizeof(rig->snapshot->text));
	strcpy(rig->snapshot->text + at, s);
	rig->snapshot->ntext += (uint32_t)strlen(s) + 1;
	return (uint32_t)offsetof(typeof(*rig->snapshot), text) + at;
}

/* One more route of svc, tried after those before: by path prefix; it has all that the service
 * has. */
static inline struct snap_route *rig_route(struct rig *rig, const char *prefix)
{
	struct snap_service *s = &rig->snapshot->service;
	struct snap_route *r = &rig->snapshot->route[s->nroutes];

	assert_true(s->nroutes < RIG_ROUTES);
	*r = (struct snap_route){.match = {.path_kind = SNAP_PATH_PREFIX},
				 .timeouts = s->timeouts,
				 .retry = s->retry};
	r->match.path = rig_text(rig, prefix);
	s->routes = offsetof(typeof(*rig->snapshot), route);
	s->nroutes++;
	return r;
}

static inline void rig_other(struct rig *rig)
{
	struct mesh_slots *t = &rig->slots[1];

	t->n = MESH_SLOTS;
	t->nendpoints = 1;
	for (unsigned i = 0; i < MESH_SLOTS; i++)
		t->ep[i] = RIG_OTHER;
	rig->endpoints[RIG_OTHER].service = 1;
}

static inline void rig_services(struct rig *rig)
{
	for (unsigned i = 0; i < MESH_MAX_UPSTREAMS; i++)
		rig->upstreams[i].service = MESH_NONE;
	rig_upstream(rig, 0);
	rig_upstream(rig, 1);
	rig->snapshot = rig_shared(sizeof(*rig->snapshot));
	rig->snapshot->head = (struct snapshot){
		.magic = SNAPSHOT_MAGIC,
		.format = SNAPSHOT_FORMAT,
		.size = sizeof(*rig->snapshot),
		.nservices = 2,
		.services = offsetof(typeof(*rig->snapshot), service),
		.nnames = 2,
		.by_name = offsetof(typeof(*rig->snapshot), by_name),
		.gateway_default = MESH_NONE,
	};
	rig->snapshot->service = (struct snap_service){
		.name = offsetof(typeof(*rig->snapshot), name),
		.sampling = SNAP_ALL,
		.timeouts = {.connect = 1000, .try = 3000, .request = 15000, .idle = 60000},
		/* failed connections are made again at once, nothing else is; no breaker opens */
		.retry = {.attempts = 2,
			  .methods = 0x3ff & ~(1u << HTTP1_OTHER),
			  .causes = 1u << CAUSE_CONNECT_FAILED | 1u << CAUSE_CONNECT_TIMEOUT},
		.budget = {.percent_pm = 10000, .per_second = 1000},
		.breaker = {.error_pm = 10000,
			    .min_requests = UINT32_MAX,
			    .window_ms = 10000,
			    .open_ms = 1000,
			    .half_open = 1,
			    .probe_ms = 1000},
	};
	rig->snapshot->other = rig->snapshot->service;
	rig->snapshot->other.name = offsetof(typeof(*rig->snapshot), other_name);
	rig->snapshot->other.upstream = 1;
	rig->snapshot->by_name[0] = 1;
	strcpy(rig->snapshot->other_name, "other");
	strcpy(rig->snapshot->name, "svc");
}

/* Timeouts and policies may be changed in rig->snapshot before the first request. */
static inline struct rig *rig_start(void)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	int gateway, capture, listener;

	assert_non_null(rig);
	rig->upstreams = rig_shared(sizeof(struct mesh_upstream) * MESH_MAX_UPSTREAMS);
	rig->slots = rig_shared(sizeof(struct mesh_slots) * MESH_MAX_SUBSETS);
	rig->endpoints = rig_shared(sizeof(struct mesh_endpoint) * MESH_MAX_ENDPOINTS);
	rig->ring = rig_shared(RING_DATA + RING_SIZE);
	rig->shared = (struct shared){
		.ctl = rig_shared(sizeof(struct mesh_ctl)),
		.upstreams = rig->upstreams,
		.slots = rig->slots,
		.endpoints = rig->endpoints,
		.ep_stats = rig_shared(sizeof(struct mesh_ep_stat) * MESH_MAX_ENDPOINTS),
		.ep_inflight = rig_shared(sizeof(struct mesh_ep_inflight) * MESH_MAX_ENDPOINTS),
		.up_stats = rig_shared(sizeof(struct mesh_up_stat) * MESH_MAX_UPSTREAMS),
		.svc_stats = rig_shared(sizeof(struct mesh_svc_stat) * MESH_MAX_SERVICES),
		.svc_inflight = rig_shared(sizeof(struct mesh_svc_inflight) * MESH_MAX_SERVICES),
		.edges = rig_shared(sizeof(struct mesh_edge) * MESH_MAX_EDGES),
		.beats = rig_shared(sizeof(struct mesh_beats)),
		.origdst_fd = -1,
	};
	rig->inside = rig_shared(sizeof(*rig->inside));
	rig_services(rig);
	for (unsigned i = 0; i <= RIG_OTHER; i++) {
		rig->origin[i] = rig_listen(&rig->origin_port[i]);
		rig_endpoint(rig, i);
	}
	rig_use(rig, 1);
	rig_other(rig);
	gateway = rig_listen(&rig->gateway_port);
	capture = rig_listen(&rig->capture_port);
	listener = rig_listen(&rig->listener_port);
	rig->proxy = fork();
	assert_true(rig->proxy >= 0);
	if (!rig->proxy) {
		for (unsigned i = 0; i <= RIG_OTHER; i++)
			close(rig->origin[i]);
		rig_child(rig, gateway, capture, listener);
	}
	close(gateway);
	close(capture);
	close(listener);
	return rig;
}

/* The proxy must still be alive: a sanitizer's complaint would have ended it. */
static inline void rig_stop(struct rig *rig)
{
	int status;

	assert_int_equal(waitpid(rig->proxy, &status, WNOHANG), 0);
	kill(rig->proxy, SIGKILL);
	assert_int_equal(waitpid(rig->proxy, &status, 0), rig->proxy);
	for (unsigned i = 0; i <= RIG_OTHER; i++)
		close(rig->origin[i]);
	munmap(rig->upstreams, sizeof(struct mesh_upstream) * MESH_MAX_UPSTREAMS);
	munmap(rig->slots, sizeof(struct mesh_slots) * MESH_MAX_SUBSETS);
	munmap(rig->endpoints, sizeof(struct mesh_endpoint) * MESH_MAX_ENDPOINTS);
	munmap(rig->ring, RING_DATA + RING_SIZE);
	munmap(rig->snapshot, sizeof(*rig->snapshot));
	munmap(rig->inside, sizeof(*rig->inside));
	free(rig);
}

static inline void rig_bound(int fd)
{
	struct timeval tv = {.tv_sec = RIG_WAIT_MS / 1000};

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)), 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)), 0);
}

static inline int rig_connect(uint16_t port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	a.sin_port = htons(port);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	rig_bound(fd);
	return fd;
}

/* The connection that the proxy makes to origin i. */
static inline int rig_accept(struct rig *rig, unsigned i)
{
	struct pollfd p = {.fd = rig->origin[i], .events = POLLIN};
	int fd;

	assert_int_equal(poll(&p, 1, RIG_WAIT_MS), 1);
	fd = accept4(rig->origin[i], NULL, NULL, SOCK_CLOEXEC);
	assert_true(fd >= 0);
	rig_bound(fd);
	return fd;
}

static inline void rig_send(int fd, const char *s)
{
	size_t n = strlen(s);

	assert_int_equal(send(fd, s, n, MSG_NOSIGNAL), n);
}

/* Reads until `end` was seen (or the peer closed) into out, NUL-terminated. Returns the length. */
static inline size_t rig_read_until(int fd, const char *end, char *out, size_t cap)
{
	size_t n = 0;

	out[0] = '\0';
	while (n + 1 < cap) {
		ssize_t r = recv(fd, out + n, end ? 1 : cap - n - 1, 0);

		if (r < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			fail_msg("nothing came for %d ms; so far: %s", RIG_WAIT_MS, out);
		if (r <= 0)
			break;
		n += (size_t)r;
		out[n] = '\0';
		if (end && n >= strlen(end) && !strcmp(out + n - strlen(end), end))
			break;
	}
	return n;
}

/* What was written down first: of an exchange that ended, or, if `why`, of an answer of the mesh's
 * own. */
static inline const struct record *rig_record(const struct rig *rig, bool why)
{
	uint64_t at = 0;

	for (int i = 0; i < RIG_WAIT_MS; i++) {
		const struct record *r = (void *)((char *)rig->ring + RING_DATA + at);

		if (__atomic_load_n(&rig->ring->head, __ATOMIC_ACQUIRE) == at)
			poll(NULL, 0, 1);
		else if (why == (r->kind == RECORD_WHY))
			return r;
		else
			at += r->size;
	}
	fail_msg("nothing was written down");
	return NULL;
}

static inline const struct record *rig_first_record(const struct rig *rig)
{
	return rig_record(rig, false);
}

static inline void rig_expect_closed(int fd)
{
	char c;
	ssize_t r = recv(fd, &c, 1, 0);

	assert_true(r == 0 || (r < 0 && errno != EAGAIN));
}

#define GET "GET /svc/a HTTP/1.1\r\nHost: h\r\n\r\n"

static char text[65536];

static inline int start(void **state)
{
	*state = rig_start();
	return 0;
}

static inline int stop(void **state)
{
	rig_stop(*state);
	return 0;
}

/* Reads a head at the origin, answers with `answer`. */
static inline void serve(int fd, const char *answer)
{
	rig_read_until(fd, "\r\n\r\n", text, sizeof(text));
	rig_send(fd, answer);
}

static inline void expect_answer(int fd, const char *status, const char *body)
{
	rig_read_until(fd, "\r\n\r\n", text, sizeof(text));
	assert_non_null(strstr(text, status));
	if (!*body)
		return;
	rig_read_until(fd, body, text, sizeof(text));
	assert_string_equal(text, body);
}

/* GET on c, which makes the proxy connect to origin 0: that connection. */
static inline int get_accepted(struct rig *rig, int c)
{
	rig_send(c, GET);
	return rig_accept(rig, 0);
}

/* Reads a request at the origin's o; its answer arrives at c. */
static inline void expect_served(int o, int c)
{
	serve(o, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
	expect_answer(c, "200 OK", "x");
}

/* An answer that the mesh made itself, whole; it is in text. */
static inline void expect_refusal(int fd, const char *status, const char *cause)
{
	char line[64];

	rig_read_until(fd, "}\n", text, sizeof(text));
	assert_ptr_equal(strstr(text, "HTTP/1.1 "), text);
	assert_memory_equal(text + 9, status, 3);
	snprintf(line, sizeof(line), "x-mesh-cause: %s\r\n", cause);
	assert_non_null(strstr(text, line));
}

#endif
