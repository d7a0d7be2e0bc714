/* SPDX-License-Identifier: Apache-2.0 */
/* See record.h. */
#include "lib/record.h"

#include <string.h>

#define NS_MAX	   (1ULL << 60) /* 36 years */
#define BYTES_MAX  (1ULL << 50)
#define STATUS_MAX 999

static const char *const cause_names[CAUSE_MAX] = {
	[CAUSE_NONE] = "",
	[CAUSE_BREAKER_OPEN] = "breaker-open",
	[CAUSE_NO_ENDPOINT] = "no-endpoint",
	[CAUSE_NO_HEALTHY_ENDPOINT] = "no-healthy-endpoint",
	[CAUSE_NO_ROUTE] = "no-route",
	[CAUSE_BULKHEAD_FULL] = "bulkhead-full",
	[CAUSE_CONNECT_FAILED] = "connect-failed",
	[CAUSE_CONNECT_TIMEOUT] = "connect-timeout",
	[CAUSE_TRY_TIMEOUT] = "try-timeout",
	[CAUSE_REQUEST_TIMEOUT] = "request-timeout",
	[CAUSE_UPSTREAM_RESET] = "upstream-reset",
	[CAUSE_UPSTREAM_PROTOCOL] = "upstream-protocol",
	[CAUSE_BAD_REQUEST] = "bad-request",
	[CAUSE_HEADER_TOO_LARGE] = "header-too-large",
	[CAUSE_BODY_TOO_LARGE] = "body-too-large",
	[CAUSE_RETRY_BUDGET] = "retry-budget",
	[CAUSE_FAULT_INJECTED] = "fault-injected",
	[CAUSE_DRAINING] = "draining",
	[CAUSE_DENIED] = "denied",
	[CAUSE_MAX_FORWARDS] = "max-forwards",
};

const char *cause_name(uint32_t cause)
{
	return cause < CAUSE_MAX && cause_names[cause] ? cause_names[cause] : "";
}

static void cut(uint64_t *v, uint64_t most)
{
	if (*v > most)
		*v = most;
}

void record_no_nul(char *text, size_t len)
{
	for (char *p = text; (p = memchr(p, 0, len - (size_t)(p - text)));)
		*p = '?';
}

void record_trim(struct record *rec)
{
	if (rec->status > STATUS_MAX)
		rec->status = 0;
	cut(&rec->start_ns, NS_MAX);
	cut(&rec->duration_ns, NS_MAX);
	cut(&rec->head_ns, rec->duration_ns);
	cut(&rec->upstream_ns, rec->duration_ns);
	cut(&rec->bytes_in, BYTES_MAX);
	cut(&rec->bytes_out, BYTES_MAX);
	record_no_nul((char *)record_text(rec), record_text_len(rec));
	for (uint32_t i = 0; i < rec->ntries; i++) {
		struct record_try *t = &((struct record_try *)(rec + 1))[i];

		if (t->status > STATUS_MAX)
			t->status = 0;
	}
}

bool record_is_trim(const struct record *rec)
{
	for (uint32_t i = 0; i < rec->ntries; i++)
		if (record_tries(rec)[i].status > STATUS_MAX)
			return false;
	return rec->status <= STATUS_MAX && rec->start_ns <= NS_MAX && rec->duration_ns <= NS_MAX &&
	       rec->head_ns <= rec->duration_ns && rec->upstream_ns <= rec->duration_ns &&
	       rec->bytes_in <= BYTES_MAX && rec->bytes_out <= BYTES_MAX &&
	       !memchr(record_text(rec), 0, record_text_len(rec));
}
