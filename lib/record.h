/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a worker notes down of a request or a tunnel, in one piece: the record from which everything
 * comes that is measured and shown. It goes through a ring to the supervisor
 * (agent/telemetry/ring.h) and, when its span is kept, as it is to meshd (lib/record_batch.h).
 * Variable in length, 8-byte aligned, in the byte order of its host. Whoever reads one that another
 * process wrote checks it first.
 */
#ifndef LIB_RECORD_H
#define LIB_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Changes with whatever is in struct record and struct record_try, and with what it means; the
 * other byte order is another layout. */
#define RECORD_LAYOUT_NUMBER 1
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define RECORD_LAYOUT RECORD_LAYOUT_NUMBER
#else
#define RECORD_LAYOUT (RECORD_LAYOUT_NUMBER + 10000)
#endif

#define RECORD_TEXT_MAX 832 /* bytes of text behind a record: longer fields are cut */
#define RECORD_TRIES	8   /* tries in a record; of more the last ones are not in it */
#define TRACE_TEXT_MAX	64  /* bytes of an id as a caller chose it */
#define TRACE_ALIAS_MAX 130 /* bytes of other trace ids: two of 32 and one of 64, commas */

enum record_kind {
	RECORD_REQUEST = 1,
	RECORD_TUNNEL = 2,
	RECORD_WHY = 3, /* what explains one of them (agent/telemetry/ring.h), never in a batch */
};

enum record_flags {
	RECORD_LOCAL = 1,	/* the answer was made by the mesh; cause says why */
	RECORD_GATEWAY = 2,	/* came in through the gateway */
	RECORD_CLIENT_GONE = 4, /* the caller left before the answer was whole */
	RECORD_REUSED = 8,	/* on a pooled upstream connection */
	RECORD_DELAYED = 16,	/* by a fault that was injected */
	RECORD_ABORTED = 32,	/* likewise */
	RECORD_NO_BUDGET = 64,	/* another try was due, and the budget had nothing left for it */
	RECORD_TRACED = 128,	/* it has a trace id and a span id */
	RECORD_SAMPLED = 256,	/* its span is to be kept whatever became of it */
	RECORD_ROOT = 512,	/* the caller named no trace: this one began here */
	RECORD_SLOW = 1024,	/* slow enough to be kept for that; said by the agent, in a batch */
};

/* Why the mesh itself answered. The names (cause_name) are in the contract: header, log, metric,
 * span. */
enum mesh_cause {
	CAUSE_NONE,
	CAUSE_BREAKER_OPEN,
	CAUSE_NO_ENDPOINT,
	CAUSE_NO_HEALTHY_ENDPOINT,
	CAUSE_NO_ROUTE,
	CAUSE_BULKHEAD_FULL,
	CAUSE_CONNECT_FAILED,
	CAUSE_CONNECT_TIMEOUT,
	CAUSE_TRY_TIMEOUT,
	CAUSE_REQUEST_TIMEOUT,
	CAUSE_UPSTREAM_RESET,
	CAUSE_UPSTREAM_PROTOCOL,
	CAUSE_BAD_REQUEST,
	CAUSE_HEADER_TOO_LARGE,
	CAUSE_BODY_TOO_LARGE,
	CAUSE_RETRY_BUDGET,
	CAUSE_FAULT_INJECTED,
	CAUSE_DRAINING,
	CAUSE_DENIED,
	CAUSE_MAX_FORWARDS, /* the caller let it go no further (RFC 9110 7.6.2) */
	CAUSE_MAX,
};
/* "" for CAUSE_NONE and for anything out of range. */
const char *cause_name(uint32_t cause);

/* One try of a request, an event of its span. */
struct record_try {
	uint32_t endpoint, gen; /* MESH_NONE: none could be chosen */
	uint32_t start_us,
		duration_us; /* from the record's start; to the answer's head or the failure */
	uint16_t status;     /* of its answer, 0: none */
	uint8_t cause;	     /* enum mesh_cause, CAUSE_NONE: with an answer, or the caller left */
	uint8_t reused;	     /* on a connection that had served before */
	uint32_t pad;
};

/* Followed by record_try[ntries] and the text. Trace: ids as bytes, in the order in which W3C
 * writes them. What the caller chose freely is text beside them: `trace` the trace id when it is
 * not 32 hex digits in small letters (trace_id is then what it is mapped to, lib/trace_id.h),
 * `alias` other trace ids that came with the same request (at most three, a comma between them),
 * `parent` the id of the caller's span when it is not 16 hex digits. */
struct record {
	uint32_t size; /* of all of it, a multiple of 8 */
	uint8_t kind, cause, tries, ntries;
	uint16_t flags; /* enum record_flags */
	uint8_t trace_id[16], span_id[8];
	uint8_t parent_id[8]; /* zero: none, or `parent` */
	uint64_t start_ns; /* CLOCK_MONOTONIC: first byte of the request / accept() of a tunnel */
	uint64_t duration_ns; /* to the last byte of the answer / to the end of the tunnel */
	uint64_t head_ns;     /* from start to the end of the answer's head; 0 for tunnels */
	uint64_t upstream_ns; /* of that, spent waiting for the endpoint */
	uint64_t bytes_in, bytes_out; /* body bytes from and to the caller */
	uint32_t caller;	      /* workload id, or MESH_NONE */
	uint32_t service;	      /* service id, or MESH_NONE: no route */
	uint32_t upstream;	      /* or MESH_NONE */
	uint32_t endpoint;	      /* index, or MESH_NONE: none was chosen */
	uint32_t endpoint_gen;
	uint16_t status;  /* HTTP status sent to the caller; 0: none (tunnel, caller gone before) */
	uint8_t bulkhead; /* enum mesh_bulkhead_reason: what was full */
	uint8_t pad;
	/* text: these, one behind the other */
	uint16_t method_len, path_len, host_len, request_id_len, trace_len, alias_len, parent_len;
};

/* The largest record. */
#define RECORD_SIZE_MAX                                                                            \
	(sizeof(struct record) + RECORD_TRIES * sizeof(struct record_try) + RECORD_TEXT_MAX + 8)

static inline const struct record_try *record_tries(const struct record *rec)
{
	return (const struct record_try *)(rec + 1);
}
static inline const char *record_text(const struct record *rec)
{
	return (const char *)(record_tries(rec) + rec->ntries);
}

/* Bytes of its text: what its lengths add up to. */
static inline size_t record_text_len(const struct record *rec)
{
	return (size_t)rec->method_len + rec->path_len + rec->host_len + rec->request_id_len +
	       rec->trace_len + rec->alias_len + rec->parent_len;
}

/* Does what it says of itself fit into `size` bytes? Of those at least sizeof(struct record) can be
 * read. */
static inline bool record_fits(const struct record *rec, size_t size)
{
	return rec->ntries <= RECORD_TRIES && rec->trace_len <= TRACE_TEXT_MAX &&
	       rec->alias_len <= TRACE_ALIAS_MAX && rec->parent_len <= TRACE_TEXT_MAX &&
	       sizeof(*rec) + rec->ntries * sizeof(struct record_try) + record_text_len(rec) <=
		       size;
}
/* Of one that fits: makes good what no request has, and what would spoil sums or JSON: a status of
 * four digits, times and sizes beyond all measure, NUL in a text. */
void record_trim(struct record *rec);
/* Would record_trim() leave it as it is? */
bool record_is_trim(const struct record *rec);
/* NUL becomes '?': a head has no such byte, and what is written as JSON must not have one. */
void record_no_nul(char *text, size_t len);

#endif
