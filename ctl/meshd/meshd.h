/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon as a whole: made by main.c (and by tests), used by the handlers. Everything in it
 * lives as long as the daemon.
 */
#ifndef MESHD_MESHD_H
#define MESHD_MESHD_H

#include "ctl/meshd/auth.h"
#include "ctl/meshd/drains.h"
#include "ctl/meshd/faults.h"
#include "ctl/meshd/hands.h"
#include "ctl/meshd/otlp/otlp.h"
#include "ctl/meshd/poll.h"
#include "ctl/meshd/red/red.h"
#include "ctl/meshd/registry.h"
#include "ctl/meshd/server.h"
#include "ctl/meshd/splits.h"
#include "ctl/meshd/store.h"
#include "ctl/meshd/tap.h"
#include "ctl/meshd/traces/traces.h"
#include "ctl/meshd/whys.h"
#include "ctl/meshd/works.h"
#include "lib/loop.h"

struct meshd_options {
	struct store *store; /* open; the daemon's from then on, also on error */
	struct auth auth;
	const char *config_dir;	 /* NULL: no files */
	bool config_required;	 /* it must be there */
	const char *state_dir;	 /* for the files of telemetry; NULL: it is kept in memory only */
	uint64_t trace_size;	 /* bytes, 0: TRACES_SIZE */
	uint64_t trace_age_ms;	 /* 0: TRACES_AGE_MS */
	bool strip_queries;	 /* see strip.h */
	struct otlp_config otlp; /* endpoint NULL: nothing is exported */
	int tcp_fd, unix_fd;	 /* listening, or -1; the daemon's from then on, also on error */
};

struct meshd {
	struct loop *loop;
	struct store *store;
	struct registry *registry;
	struct poll_hub hub;
	struct server *server;
	struct meshd_options options;
	struct timer tick;
	uint64_t last_revision; /* that agents were told of */
	/* what was ordered by hand */
	struct faults faults;
	struct drains drains;
	struct hands hands;
	struct timer faults_end; /* of the next fault to end */
	uint64_t serial;	 /* of the last order; grows, also from one start to the next */
	struct tap_hub *taps;
	struct otlp *otlp; /* NULL: nothing is exported */
	struct traces *traces;
	struct red *red;
	struct timer list_tick; /* what of traces is due */
	struct timer red_tick;
	struct splits splits;
	struct works works;
	struct whys *whys;
	uint64_t whys_dropped; /* too long to be kept */
	uint64_t started_ns;
	double started_wall_s;
	bool last_reload_ok;
	char reload_error[512]; /* "" while last_reload_ok */
};

/* 0, or -errno with a line for people in why. The files of --config are applied; an error in them
 * is kept in reload_error and does not stop the daemon. */
int meshd_new(struct loop *l, const struct meshd_options *o, struct meshd **out, char *why,
	      size_t cap);
/* Ends: accepts nothing more, answers whoever waits, gives the rest two seconds. NULL is fine. */
void meshd_free(struct meshd **m);
/* Applies the files of --config again; logs what came of it. */
void meshd_reload(struct meshd *m);
/* Tells the waiting agents when the revision is another than the last they heard of. */
void meshd_changed(struct meshd *m);

/* Something ordered by hand has changed: a new serial for it, and the waiting agents are told. */
uint64_t meshd_ordered(struct meshd *m);

/* The agent of that node has ended or begun anew: faults by hand do not outlive that. */
void meshd_agent_restarted(struct meshd *m, const char *node);

extern const struct route api_routes[];

#endif
