/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request and its answer, or one tunnel: route, try, answer, record. What happens to it is
 * decided here; how it looks as bytes is the codec's business (codec_http1.h), whom it goes to is
 * balance.h's, which connection carries it is upstream.h's.
 *
 *   state       waits for                          next
 *   EX_DETECT   first bytes, of either side        EX_HEAD, EX_TUNNEL
 *   EX_HEAD     the whole head of the request      EX_DELAY, EX_QUEUE, EX_TRY,
 *                                                  EX_ANSWER
 *   EX_DELAY    the end of an injected delay       EX_TRY, EX_ANSWER
 *   EX_QUEUE    a connection to the service        EX_TRY, EX_ANSWER
 *   EX_TRY      the head of the endpoint's answer  EX_BODY, EX_TUNNEL (101), EX_BACKOFF,
 *                                                  EX_QUEUE, EX_ANSWER
 *   EX_BACKOFF  the time for another try           EX_QUEUE, EX_TRY, EX_ANSWER
 *   EX_BODY     the end of the answer's body       over
 *   EX_ANSWER   our own answer to be sent          over
 *   EX_TUNNEL   both sides to finish               over
 */
#ifndef PROXY_EXCHANGE_H
#define PROXY_EXCHANGE_H

#include "agent/control/snapshot.h"
#include "agent/proxy/breaker.h"
#include "agent/proxy/bulkhead.h"
#include "agent/proxy/http1.h"
#include "agent/proxy/pump.h"
#include "agent/proxy/trace.h"
#include "agent/telemetry/ring.h"

#include <mesh/abi.h>

struct proxy;
struct downstream;
struct upconn;

enum exchange_state {
	EX_DETECT,
	EX_HEAD,
	EX_DELAY,
	EX_QUEUE,
	EX_TRY,
	EX_BACKOFF,
	EX_BODY,
	EX_ANSWER,
	EX_TUNNEL,
};

/* What becomes of the caller's connection when the exchange is over. */
enum exchange_fate {
	FATE_NONE,  /* not over yet */
	FATE_KEEP,  /* the next request may come */
	FATE_CLOSE, /* closed in good order */
	FATE_RESET, /* cut: the caller must not take what it got for the whole */
};

#define EXCHANGE_TRIES	 3 /* to connect what is not, or not yet, a request */
#define EXCHANGE_AVOIDED 4 /* endpoints that have failed it, as many as are remembered */
#define REQUEST_ID_MAX	 128

/* What the configuration says of this request beside timeouts and retries. Copies: a snapshot may
 * be replaced while the exchange runs. */
struct routed {
	struct snap_split split; /* the route's; n of 0: the service's own */
	struct snap_fault fault; /* the route's */
	uint32_t fallback;	 /* enum snap_fallback, of the split in force */
	uint32_t mirror_version, mirror_share;
	uint32_t name_len; /* of the route's name, exchange.route */
};

/* The session that a request belongs to, see sticky.h. */
struct sticky {
	bool is_set;
	char issued[17]; /* the value of the cookie that its answer is to set; "": none */
	uint64_t key;
	char cookie[132]; /* its name */
};

/* An endpoint that was asked, and did not answer, or not well. */
struct tried {
	uint32_t endpoint, gen;
	uint16_t status;
	uint8_t cause; /* enum mesh_cause */
	uint8_t times;
};
#define EXCHANGE_TRIED 4 /* as many as are remembered */

struct exchange {
	struct proxy *proxy;
	struct downstream *down;
	struct upconn *up; /* NULL between tries */
	struct timer timer;
	uint8_t state, fate;
	uint8_t cause;	     /* enum mesh_cause of a local answer */
	uint8_t tries;	     /* but not those on connections that had gone stale */
	uint8_t begun;	     /* all of them; wraps */
	uint8_t failure;     /* enum mesh_cause of the last try, while another one is to be made */
	uint16_t flags;	     /* enum record_flags that are settled on the way */
	uint8_t buffers;     /* that it holds, as its upstream's share was told */
	bool request_sent;   /* all of it */
	bool request_waited; /* sending it over the connection took more than one go */
	bool request_cut;    /* the endpoint takes no more of it, but may still answer */
	bool reused;	     /* this try's connection had served before */
	bool was_idle;	     /* this try's connection was there before the request: pooled, or
				opened early */
	bool fresh;	     /* the next try wants a new connection: pooled ones have gone stale */
	bool local;	     /* the answer is ours */
	bool reusable;	     /* the endpoint's connection can serve again */
	bool keep_client;    /* the caller was told that its connection stays */
	bool timed_body;     /* the timer watches the body */
	bool client_gone;
	uint8_t ntried;
	uint8_t nlog;
	bool trying;	/* the last of the log has not ended */
	bool mirrored;	/* it was drawn whether it is */
	bool impatient; /* it was not waited for the last try for as long as it usually takes */
	struct breaker_pass pass, try_pass; /* of the service, of this try's endpoint */
	struct bulkhead_place place;
	struct bulkhead_seat seat;
	uint8_t bulkhead;			     /* enum mesh_bulkhead_reason: what was full */
	bool woken;				     /* in EX_QUEUE: it is its turn */
	struct exchange *next_queued, **prev_queued; /* prev is NULL while it does not wait */
	uint32_t avoid[EXCHANGE_AVOIDED];
	uint32_t navoid;
	uint16_t status;
	uint16_t fault_status;	 /* to be answered with by an injected fault; 0: none */
	uint32_t fault_delay_ms; /* injected */
	uint32_t subset; /* chosen by the first try, kept by the others; MESH_NONE: not yet */
	uint32_t service, upstream, endpoint; /* MESH_NONE: not known */
	uint32_t gen;
	struct mesh_upstream target; /* copy of the upstream at routing time */
	struct snap_timeouts timeouts;
	struct snap_retry retry;
	struct routed routed;
	uint32_t path_skip;	/* the gateway's prefix: bytes of `path` not passed on */
	uint32_t keep_alive_ms; /* what the endpoint says of idle connections; 0: nothing */
	uint64_t start_ns;	/* first byte of the request */
	uint64_t waiting_ns; /* the request timeout runs from here: first try, or the end of a long
				upload */
	uint64_t delay_ns;   /* an injected delay began */
	uint64_t try_ns;     /* this try began */
	uint64_t sent_ns; /* the try timeout runs from here: as try_ns, or the end of a long upload
			   */
	uint64_t head_ns; /* the answer's head was whole; 0: it never was */
	uint64_t upstream_ns; /* from sent_ns, or connect() if that came later, to head_ns; 0 while
				 the request is not sent */
	uint64_t progress_ns; /* a byte of a body moved */
	struct pump request_body, response_body;
	char request_id[REQUEST_ID_MAX];
	uint16_t request_id_len, method_len, path_len, host_len;
	struct trace trace;
	struct tried tried[EXCHANGE_TRIED];
	struct record_try log[RECORD_TRIES]; /* the first of them */
	struct sticky sticky;		     /* when routed */
	char route[MESH_NAME_MAX];	     /* its name, as much as fits */
	char text[RECORD_TEXT_MAX]; /* method, path, host: for the record, when the head is gone */
	struct http1_head request, response;
};

/* In state EX_HEAD. NULL without memory. */
struct exchange *exchange_new(struct downstream *d);

/* The request's head is whole: ex->request is filled, its bytes are unread in the caller's buffer.
 * Routes it and begins the first try, or prepares an answer. */
void exchange_request(struct exchange *ex);
/* It is routed, and may go on: the first try, unless something stands against it now. */
void exchange_admit(struct exchange *ex);
/* The request's head is malformed. */
void exchange_bad_request(struct exchange *ex);
/* The request cannot be taken to its end, and no endpoint is to blame: our own answer, with that
 * status and text (0, NULL: those of the cause), and the end of the caller's connection. */
void exchange_refuse(struct exchange *ex, enum mesh_cause cause, uint16_t status, const char *text);
/* The try under way has failed: another one, or our own answer. */
void exchange_try_failed(struct exchange *ex, enum mesh_cause cause);

/* It is over as soon as exchange_run is back in control. */
static inline void exchange_over(struct exchange *ex, enum exchange_fate fate)
{
	ex->fate = (uint8_t)fate;
}

/* Does what can be done. Returns true when it is over and freed: then down->fate says what becomes
 * of the connection. */
bool exchange_run(struct exchange *ex);
/* Ends it at once: the caller is gone. Frees. */
void exchange_abort(struct exchange *ex);

#endif
