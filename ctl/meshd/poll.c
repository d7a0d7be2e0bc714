/* SPDX-License-Identifier: Apache-2.0 */
/* See poll.h. */
#include "ctl/meshd/meshd.h"
#include "lib/clock.h"

#include <errno.h>
#include <string.h>

#define BODY_MAX (STORE_TEXT_MAX + (6u << 20)) /* below HTTP_ANSWER_MAX of who asks */

void poll_init(struct poll_hub *h)
{
	*h = (struct poll_hub){.last = &h->first};
}

void poll_done(struct poll_hub *h)
{
	if (h->response)
		MHD_destroy_response(h->response);
	h->response = NULL;
}

static int add_config(void *arg, const char *service, const char *text, uint64_t revision)
{
	struct buf *b = arg;

	buf_comma(b);
	buf_str(b, text);
	return 0;
}

static void taps_tell(const struct meshd *m, struct buf *b)
{
	cJSON *list = cJSON_CreateArray();
	char *text;

	tap_list(m->taps, list);
	text = cJSON_PrintUnformatted(list);
	buf_printf(b, "%s,\"tapSerial\":%llu", text ? text : "[]",
		   (unsigned long long)tap_serial(m->taps));
	cJSON_free(text);
	cJSON_Delete(list);
}

static struct MHD_Response *response_make(struct meshd *m)
{
	cJSON *endpoints = registry_registered(m->registry);
	char *list = endpoints ? cJSON_PrintUnformatted(endpoints) : NULL, *text;
	struct MHD_Response *p = NULL;
	struct buf b;
	size_t len;

	buf_init(&b, BODY_MAX);
	buf_printf(&b, "{\"revision\":%llu,\"serial\":%llu,\"epoch\":\"%s\",\"services\":[",
		   (unsigned long long)store_revision(m->store), (unsigned long long)m->serial,
		   store_epoch(m->store));
	if (!b.failed && list && !store_config_each(m->store, add_config, &b)) {
		buf_printf(&b, "],\"endpoints\":");
		buf_str(&b, list);
		buf_str(&b, ",\"faults\":");
		faults_tell(&m->faults, m->loop->now_ns / 1000000, &b);
		buf_str(&b, ",\"drains\":");
		drains_tell(&m->drains, &b);
		buf_str(&b, ",\"hands\":");
		hands_tell(&m->hands, &b);
		buf_str(&b, ",\"taps\":");
		taps_tell(m, &b);
		buf_char(&b, '}');
		len = b.len;
		text = buf_take(&b);
		p = text ? response_json(text, len) : NULL;
	}
	buf_done(&b);
	cJSON_free(list);
	cJSON_Delete(endpoints);
	return p;
}

static void answer(struct request *r)
{
	struct meshd *m = r->meshd;
	struct poll_hub *h = &m->hub;
	uint64_t revision = store_revision(m->store), now_ms = m->loop->now_ns / 1000000;
	bool aged = m->faults.number && now_ms - h->made_ms > POLL_FRESH_MS;
	bool same =
		h->revision == revision && h->serial == m->serial && h->taps == tap_serial(m->taps);

	if (!h->response || !same || aged) {
		poll_done(h);
		h->response = response_make(m);
		h->revision = revision;
		h->serial = m->serial;
		h->taps = tap_serial(m->taps);
		h->made_ms = now_ms;
	}
	if (h->response)
		reply_shared(r, h->response);
	else
		reply_json(r, 500, NULL);
}

void poll_handle(struct request *r)
{
	struct meshd *m = r->meshd;
	struct poll_hub *h = &m->hub;
	const char *epoch = request_query(r, "epoch"), *node = request_query(r, "node");
	uint64_t revision, serial, taps;

	if (r->resumed) {
		answer(r);
		return;
	}
	if (request_number(r, "revision", 0, &revision) ||
	    request_number(r, "serial", m->serial, &serial) ||
	    request_number(r, "taps", tap_serial(m->taps), &taps))
		return;
	if (node && !name_valid(node)) {
		reply_error(r, 400, "node", "must be " NAME_WHAT);
		return;
	}
	if (revision != store_revision(m->store) || serial != m->serial ||
	    taps != tap_serial(m->taps) || (epoch && strcmp(epoch, store_epoch(m->store))) ||
	    h->ending) {
		answer(r);
		return;
	}
	if (h->waiting >= POLL_MAX) {
		reply_error(r, 503, NULL, "%d agents wait already", POLL_MAX);
		return;
	}
	r->deadline_ms = clock_mono_ns() / 1000000 + POLL_MS;
	r->next = NULL;
	*h->last = r;
	h->last = &r->next;
	h->waiting++;
	request_suspend(r);
}

static void wake_first(struct poll_hub *h)
{
	struct request *r = h->first;

	h->first = r->next;
	if (!h->first)
		h->last = &h->first;
	h->waiting--;
	request_resume(r);
}

void poll_wake(struct poll_hub *h)
{
	while (h->first)
		wake_first(h);
}

void poll_sweep(struct poll_hub *h, uint64_t now_ms)
{
	while (h->first && h->first->deadline_ms <= now_ms)
		wake_first(h);
}
