/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests by rate, errors and duration (RED): what agents count, second by second, in windows that
 * can be asked for. Called by the handlers of /api/telemetry, /api/metrics, /api/graph and
 * /metrics. Single-threaded, but for the thread that brings the database's log into its file.
 *
 * A series is (source, destination, protocol, version, outcome). What a batch counts goes into
 * three tiers at once: buckets of 1 s for 10 minutes (memory), 10 s for 3 hours and 5 min for 14
 * days (DIR/telemetry.db). Batches are kept in a journal there, in one transaction with their
 * number, until every tier has them: after kill -9 nothing that was taken is missing and nothing is
 * there twice. Without a disk that works it goes on in memory, and says so.
 *
 * now_ms and times of batches are wall clock: they say into which bucket something goes. Clocks may
 * jump; what counts is never lost by that, it may only stand at another time.
 */
#ifndef MESHD_RED_H
#define MESHD_RED_H

#include "lib/buf.h"
#include "lib/histogram.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RED_SERIES_MAX	 16384 /* more: the longest unused goes; of those in use see red_counts */
#define RED_SERVICES_MAX 4096
#define RED_AGENTS_MAX	 1024 /* processes of agents whose last number is remembered */
#define RED_BATCH_MAX	 8192 /* series in a batch */
#define RED_FUTURE_MS	 2000 /* what claims to be later than that counts as of now */
#define RED_KEEP_S	 (14 * 86400u)

struct red;

enum red_protocol { RED_HTTP, RED_TCP, RED_PROTOCOLS };
enum red_outcome { RED_OK, RED_CLIENT_ERROR, RED_ERROR, RED_NONE, RED_OUTCOMES };
extern const char *const red_protocol_words[]; /* as in docs/telemetry.md, the last one NULL */
extern const char *const red_outcome_words[];

/* Strings of at most 63 bytes, as the batch says them. */
struct red_key {
	const char *source, *destination, *version;
	enum red_protocol protocol;
	enum red_outcome outcome;
};

struct red_sum {
	uint64_t requests, errors, sum_us, bytes_in, bytes_out;
	struct histogram_sparse histogram;
};
void red_sum_done(struct red_sum *s);
/* 0, or -ENOMEM: the histogram is not whole, the numbers are. */
int red_sum_add(struct red_sum *into, const struct red_sum *from);

struct red_delta {
	struct red_key key;
	struct red_sum sum;
};

/* What the agent dropped; totals of its epoch. */
enum red_lost {
	RED_LOST_RING,
	RED_LOST_SERIES,
	RED_LOST_SPANS,
	RED_LOST_TAPPED,
	RED_LOST_WHYS,
	RED_LOSSES
};
extern const char *const red_lost_words[];

struct red_batch {
	const char *node, *epoch;
	uint64_t seq, time_ms;
	uint64_t lost[RED_LOSSES];
	const struct red_delta *deltas;
	size_t n;
};

/* dir NULL: memory only. A database that cannot be used is put aside (.corrupt) or done without:
 * see red_error(). 0 or -ENOMEM. */
int red_new(const char *dir, uint64_t now_ms, struct red **out);
/* Writes what is not written yet. NULL is fine. */
void red_free(struct red **r);

/* Was this one taken before? */
bool red_seen(const struct red *r, const char *node, const char *epoch, uint64_t seq);
/* Counts a batch. 0; -EALREADY: it was taken before, nothing was counted again; -ENOMEM: nothing
 * was counted. */
int red_take(struct red *r, const struct red_batch *b, uint64_t now_ms);
/* Work that is due, in small steps; call it every RED_TICK_MS. */
#define RED_TICK_MS 100
void red_tick(struct red *r, uint64_t now_ms);

/* Why the database is not in use or the last write failed; "" when all is well. */
const char *red_error(const struct red *r);

/* --- what was counted ---------------------------------------------------------------- */

struct red_window {
	/* asked for */
	uint64_t window_s, step_s;    /* step 0: chosen */
	const char *service;	      /* the destination; NULL: all */
	const char *source, *version; /* NULL: any */
	/* found: [from_s, to_ms], in points of step_s that begin at multiples of it; the first and
	 * the last are parts. resolution_s: of the tier that holds the oldest of it */
	uint64_t from_s, to_ms, resolution_s;
};
#define RED_POINTS_MAX 1500

/* Fills in what is asked for and not said, and what will be found; the step becomes a multiple of
 * the resolution. 0; -ERANGE: more than RED_POINTS_MAX points, or longer than RED_KEEP_S. */
int red_window_plan(const struct red *r, struct red_window *w, uint64_t now_ms);

/* A question, answered in parts that take a few milliseconds each: a fortnight of everything is a
 * gigabyte. What happens meanwhile is in the parts that are still to come. */
struct red_query;

/* All of the window, by (source, destination, protocol, version). */
struct red_group {
	char source[64], destination[64], version[64];
	enum red_protocol protocol;
	struct red_sum sum;
};
#define RED_GROUPS_MAX 16384 /* of more, source and version are "other" */

/* Of one service by points, or (w->service NULL) of all by groups. The strings of *w stay the
 * caller's, and are needed until the end. 0 or -ENOMEM. */
int red_query_new(struct red *r, const struct red_window *w, struct red_query **out);
void red_query_free(struct red_query **q);
/* 1: there is more to be read; 0: that was all; -EIO: something cannot be read (red_error()) and is
 * missing; -ENOMEM. */
int red_query_step(struct red_query *q);

/* After the last step; the query's. */
const struct red_window *red_query_window(const struct red_query *q);
size_t red_window_points(const struct red_window *w);
const struct red_sum *red_query_points(const struct red_query *q); /* red_window_points() */
const struct red_sum *red_query_total(const struct red_query *q);
const struct red_group *red_query_groups(const struct red_query *q, size_t *n); /* in order */

/* Has anybody called it, or has it called? */
bool red_knows(const struct red *r, const char *service);
/* The part of the window in which the service (NULL: any) can have been called, in seconds: from
 * its first request on when that is younger than the window. More than 0. */
double red_covered_s(const struct red *r, const struct red_window *w, const char *service);

/* --- for /metrics -------------------------------------------------------------------- */

struct red_service_now {
	const char *service;
	uint64_t requests, errors;     /* since meshd began: they only grow */
	double p50_ms, p95_ms, p99_ms; /* of the last minute; 0 without a request */
};
/* Calls fn for each destination until it returns non-zero, which is then returned. 0, -ENOMEM. */
int red_services(struct red *r, uint64_t now_ms,
		 int (*fn)(void *arg, const struct red_service_now *s), void *arg);

struct red_agent {
	const char *node, *epoch;
	uint64_t seq, lost[RED_LOSSES];
	uint64_t batches, duplicates, missing; /* missing: numbers that were passed over */
};
/* The last process of each node. */
int red_agents(const struct red *r, int (*fn)(void *arg, const struct red_agent *a), void *arg);

struct red_counts {
	uint64_t batches, duplicates;
	uint64_t evicted;   /* series that went because others came */
	uint64_t folded;    /* records of series for which there was no room: they are counted with
			       source and version "other" */
	uint64_t dropped;   /* records that could not be kept at all: too old, or no memory */
	uint64_t shifted;   /* batches from the future, counted as of now */
	uint64_t unwritten; /* batches that the database did not take: gone if meshd is killed */
	uint64_t failures;  /* of the database */
	unsigned series, services;
	size_t memory_bytes, disk_bytes, log_bytes; /* log: of the database, not yet in its file */
	uint64_t since_s[3];			    /* the oldest that is kept of each tier */
	bool durable;				    /* the database works */
};
void red_count(const struct red *r, struct red_counts *c);

#endif
