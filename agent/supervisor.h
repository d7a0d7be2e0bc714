/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The supervisor: the one place where kernel, discovery, registry, workers, control session and
 * telemetry meet. Runs as root on one thread and one loop. main.c fills the configuration; the
 * other supervisor_*.c are its parts.
 */
#ifndef AGENT_SUPERVISOR_H
#define AGENT_SUPERVISOR_H

#include "agent/control/session.h"
#include "agent/discovery/discovery.h"
#include "agent/kernel/kernel.h"
#include "agent/kernel/sockdiag.h"
#include "agent/leave.h"
#include "agent/registry/registry.h"
#include "agent/supervisor_accelerate.h"
#include "agent/supervisor_coverage.h"
#include "agent/supervisor_gain.h"
#include "agent/supervisor_gateway.h"
#include "agent/supervisor_health.h"
#include "agent/supervisor_tcp.h"
#include "agent/supervisor_telemetry.h"
#include "agent/supervisor_why.h"
#include "agent/supervisor_workers.h"
#include "agent/takeover.h"
#include "agent/telemetry/accesslog.h"
#include "agent/telemetry/admin.h"
#include "agent/telemetry/metrics.h"
#include "lib/addr.h"
#include "lib/loop.h"

#include <stdbool.h>
#include <stdint.h>

struct agent_config {
	const char *control; /* "http://ADDR:PORT" or "unix:PATH" */
	const char *cgroup;  /* NULL: the cgroup2 root */
	const char *node, *run_dir, *user, *token_file, *access_log;
	const char *gateway_default; /* NULL: none */
	int accelerate;		     /* enum service_accelerate: what a service with "auto" gets */
	int accelerate_mode;	     /* enum mesh_splice_mode; -1: what the trials say */
	uint32_t workers;
	uint32_t drain_ms;	/* what runs may take so long when its worker is to end */
	bool unobserved;	/* --telemetry off: for who measures what telemetry costs */
	uint32_t trace_limit;	/* traces that may begin to be sampled a second; 0: all */
	uint64_t trace_slow_ns; /* a request that takes longer is kept as a span, sampled or not */
	uint16_t listener_port;
	bool gateway_on, admin_on;
	bool upgrade; /* take over from the agent that runs */
	struct addr gateway, admin;
};

struct supervisor {
	const struct agent_config *cfg;
	struct loop loop;
	struct kernel *kernel;
	const struct kernel_arrays *arrays;
	struct registry *registry;
	struct discovery discovery;
	struct workers workers;
	struct health health;
	struct coverage_watch coverage;
	struct gain_watch gain;
	struct telemetry telemetry;
	struct acceleration acceleration;
	struct gateway gateway;
	struct tcp tcp;
	struct metrics *metrics;
	struct admin *admin;
	struct accesslog *accesslog;
	struct session *session;
	struct watch on_signal;
	struct timer beat, drain, reconcile;
	int signal_fd, lock_fd, snapshot_fd;
	uint32_t answering; /* workers, as of the last beat */
	uint64_t generation, own_netns;
	uint64_t revision; /* of the configuration that all workers work by */
	char epoch[17];	   /* of this process, for meshd */
	uint32_t uid, gid;
	uint64_t started_ms;		   /* wall clock */
	uint64_t stopping_ns;		   /* 0: not stopping */
	bool in_kernel[MESH_MAX_SERVICES]; /* the kernel was told of it */
	bool contested[MESH_MAX_SERVICES]; /* it was said that others have its addresses */
	uint64_t begun_ns;		   /* discovery */
	uint64_t retry_ns;		   /* after a flush that failed: not before this */
	bool flush_failed, farewell;
	bool adopting; /* what an agent before us has left is in force, and not looked at yet */
	bool settled;  /* our own is */
	uint64_t unswept_ns; /* since then what is left of another version captures nothing; 0: that
				is gone */
	uint64_t names_hash[MESH_MAX_SERVICES]; /* of what the next one is told; 0: nothing yet */

	struct leave leave;
	struct takeover takeover;
	int rendezvous;	  /* RUN_DIR/workers */
	int admin_fd;	  /* ours for the successor */
	int given_fd;	  /* the predecessor's */
	bool taking_over; /* there are workers of before */
	bool retired;	  /* they were told to drain */
	bool cold;	  /* they work by other maps than ours */
	uint64_t cold_ns; /* since when nobody is captured for them */
	bool leaving;	  /* others serve on */
	bool told_ready;  /* the service manager knows */
	bool up;	  /* the start is over */
};

#define SUPERVISOR_GRACE_MS 20000 /* workers whose supervisor left wait so long for the next */

/* Runs until SIGTERM or SIGINT. Logs what goes wrong, leaves nothing behind. The exit code. */
int supervisor_run(const struct agent_config *cfg);

/* supervisor_start.c: what must hold before anything is touched. Each returns 0 or -errno after it
 * logged one line that says what is missing and what to do. */
int start_check(const struct agent_config *cfg);
/* remedy: what to do when another agent has it. */
int start_lock(const struct agent_config *cfg, const char *remedy, int *fd);
int start_user(const struct agent_config *cfg, uint32_t *uid, uint32_t *gid);
/* A listening socket. shared: with others of ours on that port, who allow it for the moment. 0 or
 * -errno. */
int start_listen(const struct addr *a, bool shared, int *fd);
/* The same; the address stands in the message. */
int start_listener(const char *what, const char *flag, const struct addr *a, int *fd);

/* supervisor_record.c: what a worker has recorded. */
void supervisor_record(const struct record *rec, void *arg);
/* Requests or tunnels that found no room in their ring. */
void supervisor_counted(const struct tally_sum *sum, void *arg);

/* supervisor_serve.c, in this order, gateway_start() in between. 0 or -errno. */
int serve_begin(struct supervisor *s); /* finds the workers of an agent before */
int serve_start(struct supervisor *s);

/* supervisor_handover.c: from one supervisor to the next. 0 or -errno, logged where said. */
int handover_lock(struct supervisor *s);  /* start_lock(), after the running agent left; logs */
int handover_admin(struct supervisor *s); /* admin_fd: the old listener or a new one; logs */
/* Becomes the supervisor of the workers that are there. Before ours start. */
int handover_begin(struct supervisor *s);
void handover_forget_dead(struct supervisor *s, void (*died)(void *arg, uint32_t worker));
int handover_inherited(void *arg, uint64_t netns, int family);
/* After each round in which everything was published. */
void handover_go_on(struct supervisor *s);
/* The service manager learns that we are ready, once. */
void handover_tell_ready(struct supervisor *s);
/* Goes, and lets the workers wait for a successor. */
void handover_leave(struct supervisor *s);
/* Do workers serve on when this process ends? What they need stays then. */
bool handover_others_serve(const struct supervisor *s);

/* supervisor_publish.c: the registry's sink, into the arrays and maps of the kernel. */
void publish_sink(struct supervisor *s, struct registry_sink *sink);
int publish_services(struct supervisor *s); /* a new snapshot to all workers; 0 or -errno */

/* supervisor_adopt.c: what an agent before us has left in the kernel becomes ours. Begin: before
 * anything is put into the registry. Settle: in each round until `settled`; false: nothing may be
 * written yet. */
void adopt_begin(struct supervisor *s);
bool adopt_settle(struct supervisor *s);
/* So long after that: what another version has left goes. */
void adopt_sweep(struct supervisor *s, uint64_t after_ms);

/* supervisor.c, for supervisor_serve.c: reads the workers' rings now; arg: the supervisor. */
void supervisor_drain(void *arg);

/* supervisor.c, for supervisor_adopt.c: into the maps with it. */
bool supervisor_flush(struct supervisor *s);

/* supervisor_state.c: what meshd and /metrics are told. */
char *state_json(struct supervisor *s);		      /* the caller frees; NULL without memory */
void *state_metrics_begin(void *arg, bool exemplars); /* as in struct admin_ops */
bool state_metrics_part(void *arg, void *text, struct buf *out);
void state_metrics_end(void *text);
bool state_ready(void *arg, const char **why);

/* supervisor_breakers.c */
const char *endpoint_status_name(uint32_t status);		/* of enum endpoint_status bits */
void breaker_json(struct buf *b, const struct breaker_view *v); /* members of an object */
void breakers_json(struct supervisor *s, struct buf *b);	/* a list */
void breakers_metrics(struct supervisor *s, struct buf *out);

#endif
