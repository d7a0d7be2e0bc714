/* SPDX-License-Identifier: Apache-2.0 */
/* See tunnel.h. */
#include "agent/proxy/tunnel.h"
#include "agent/proxy/admission.h"
#include "agent/proxy/downstream.h"
#include "agent/proxy/proxy.h"
#include "agent/proxy/retry.h"
#include "agent/proxy/route.h"
#include "agent/proxy/timeout.h"
#include "agent/proxy/try.h"
#include "agent/proxy/upstream.h"

void tunnel_detect(struct exchange *ex)
{
	ex->state = EX_DETECT;
	ex->upstream = ex->down->upstream;
	/* a breaker's probe waits until it is known what would be probed with */
	if (route_tunnel(ex) && breaker_is_closed(ex->proxy, ex->service) &&
	    try_connect(ex) == TRY_STARTED)
		timeout_connect(ex);
	else
		timeout_detect(ex);
}

static void refuse(struct exchange *ex, enum mesh_cause cause)
{
	ex->cause = (uint8_t)cause;
	exchange_over(ex, FATE_RESET);
}

/* The endpoint could not be reached. When nobody can, a caller that turns out to speak HTTP is
 * still told so. */
static void try_another(struct exchange *ex)
{
	retry_avoid(ex);
	try_end(ex, TRY_FAILED);
	if (ex->tries < EXCHANGE_TRIES && try_connect(ex) == TRY_STARTED)
		timeout_connect(ex);
	else if (ex->state == EX_DETECT)
		timeout_detect(ex);
	else
		refuse(ex, CAUSE_CONNECT_FAILED);
}

void tunnel_due(struct exchange *ex)
{
	if (!ex->up && ex->state == EX_DETECT)
		tunnel_begin(ex);
	else if (!ex->up)
		exchange_over(ex, FATE_RESET);
	else if (ex->up->conn.connecting)
		try_another(ex);
}

bool tunnel_spoken_to(const struct exchange *ex)
{
	return ex->up && !ex->up->conn.error && ex->up->conn.readable;
}

void tunnel_detect_on(struct exchange *ex)
{
	while (ex->up && ex->up->conn.error)
		try_another(ex);
}

/* Bytes of no known meaning are not kept waiting for others to end. */
static enum mesh_cause connect_now(struct exchange *ex)
{
	switch (try_connect(ex)) {
	case TRY_STARTED:
		return CAUSE_NONE;
	case TRY_NO_ROOM:
		ex->bulkhead = MESH_BULKHEAD_PENDING;
		return CAUSE_BULKHEAD_FULL;
	default:
		return CAUSE_NO_ENDPOINT;
	}
}

void tunnel_begin(struct exchange *ex)
{
	enum mesh_cause cause;

	pump_init(&ex->request_body, PUMP_RAW, 0);
	pump_init(&ex->response_body, PUMP_RAW, 0);
	ex->state = EX_TUNNEL;
	cause = ex->service == MESH_NONE ? CAUSE_NO_ENDPOINT : admission_begin(ex);
	if (cause == CAUSE_NONE && !ex->up)
		cause = connect_now(ex);
	if (cause == CAUSE_NONE)
		timeout_connect(ex);
	else
		refuse(ex, cause);
}

/* One direction. Returns true when it is over. */
static bool run_tunnel_side(struct exchange *ex, struct pump *p, struct conn *from, struct conn *to)
{
	switch (pump_run(p, from, to)) {
	case PUMP_DONE:
		conn_shutdown(to);
		return true;
	case PUMP_AGAIN:
		downstream_again(ex->down);
		return false;
	case PUMP_WAIT:
		return false;
	default:
		exchange_over(ex, FATE_RESET);
		return false;
	}
}

void tunnel_run(struct exchange *ex)
{
	struct conn *down = &ex->down->conn;
	bool there, back;

	while (ex->up && ex->up->conn.error && ex->up->conn.connecting)
		try_another(ex);
	if (!ex->up)
		return;
	if (!ex->up->conn.connecting) { /* how long it is used is the two ends' business */
		if (!ex->status && !ex->upstream_ns)
			ex->upstream_ns = ex->proxy->loop.now_ns - ex->up->begun_ns;
		try_settled(ex);
		admission_settled(ex);
	}
	there = run_tunnel_side(ex, &ex->request_body, down, &ex->up->conn);
	back = run_tunnel_side(ex, &ex->response_body, &ex->up->conn, down);
	if (ex->fate == FATE_RESET || !there || !back)
		return;
	try_end(ex, TRY_SPENT);
	exchange_over(ex, FATE_CLOSE);
}
