/* SPDX-License-Identifier: Apache-2.0 */
/* See answer.h. */
#include "agent/proxy/answer.h"
#include "agent/proxy/codec_http1.h"
#include "agent/proxy/downstream.h"
#include "agent/proxy/proxy.h"
#include "agent/proxy/timeout.h"
#include "agent/proxy/why.h"

static const struct {
	uint16_t status;
	const char *text;
} answers[CAUSE_MAX] = {
	[CAUSE_BREAKER_OPEN] = {503, "Service unavailable"},
	[CAUSE_NO_ENDPOINT] = {503, "the service has no endpoint"},
	[CAUSE_NO_HEALTHY_ENDPOINT] = {503, "the service has no healthy endpoint"},
	[CAUSE_NO_ROUTE] = {404, "no service is meant by this host and path"},
	[CAUSE_BULKHEAD_FULL] = {503, "too many requests to the service at once"},
	[CAUSE_CONNECT_FAILED] = {503, "the endpoint could not be connected to"},
	[CAUSE_CONNECT_TIMEOUT] = {504, "the endpoint did not accept the connection in time"},
	[CAUSE_TRY_TIMEOUT] = {504, "the endpoint did not answer in time"},
	[CAUSE_REQUEST_TIMEOUT] = {504, "no endpoint answered in time"},
	[CAUSE_UPSTREAM_RESET] = {502, "the endpoint closed the connection before it had answered"},
	[CAUSE_UPSTREAM_PROTOCOL] = {502, "the endpoint's answer is not valid HTTP"},
	[CAUSE_BAD_REQUEST] = {400, "bad request"},
	[CAUSE_HEADER_TOO_LARGE] = {431, "the request's head is too large"},
	[CAUSE_BODY_TOO_LARGE] = {413, "the request's body is too large"},
	[CAUSE_RETRY_BUDGET] = {503, "the retry budget is used up"},
	[CAUSE_FAULT_INJECTED] = {503, "injected fault"},
	[CAUSE_DRAINING] = {503, "the proxy is draining"},
	[CAUSE_DENIED] = {403, "denied"},
	[CAUSE_MAX_FORWARDS] = {405, "the mesh does not answer TRACE"},
};

static bool without_body(const struct http1_head *h)
{
	return h->framing == HTTP1_NO_BODY || (h->framing == HTTP1_LENGTH && !h->content_length);
}

void answer_locally(struct exchange *ex, enum mesh_cause cause, uint16_t status, const char *text)
{
	struct conn *down = &ex->down->conn;
	bool keep = ex->request.keep_alive && without_body(&ex->request) && ex->request.size &&
		    !ex->proxy->draining;
	const char *service = NULL;
	const struct snap_service *s;
	size_t cap, n = 0;
	char *out;

	ex->local = true;
	ex->cause = (uint8_t)cause;
	ex->status = status ? status : answers[cause].status;
	why_record(ex);
	s = ex->proxy->snapshot ? snapshot_service(ex->proxy->snapshot, ex->service) : NULL;
	if (s)
		service = snapshot_string(ex->proxy->snapshot, s->name);
	out = conn_compose(down, &cap);
	if (out)
		n = codec_answer(ex, text ? text : answers[cause].text, service, keep, out, cap);
	if (!n) {
		exchange_over(ex, FATE_RESET);
		return;
	}
	conn_composed(down, n);
	conn_release(down);
	timeout_answer(ex);
	ex->state = EX_ANSWER;
	ex->response.keep_alive = keep;
}
