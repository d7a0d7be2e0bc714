/* SPDX-License-Identifier: Apache-2.0 */
/* See supervisor_gateway.h. */
#include "agent/supervisor_gateway.h"
#include "agent/supervisor.h"

#include "lib/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define GATEWAY_LISTENER 0	    /* id; those of namespaces start at 1 */
#define COVERED_LISTENER UINT32_MAX /* of the first; the others count down */
#define KEPT_LISTENER	 (COVERED_LISTENER - GATEWAYS_COVERED) /* likewise */
#define AGAIN_MS	 100
/* Who has met the old listener is in its queue by then: also one from afar, whose first answer was
 * lost (TCP repeats it after a second). */
#define HANDSHAKE_MS 1500

void gateway_init(struct gateway *g)
{
	*g = (struct gateway){.fd = -1};
}

static void take_covered(struct supervisor *s)
{
	struct gateway *g = &s->gateway;
	int fd;

	while (g->ncovered < GATEWAYS_COVERED) {
		fd = takeover_covered(&s->takeover, s->own_netns, &s->cfg->gateway);
		if (fd < 0)
			return;
		g->covered[g->ncovered++] = fd;
	}
}

int gateway_start(struct supervisor *s)
{
	const struct addr *at = &s->cfg->gateway;
	struct gateway *g = &s->gateway;

	if (!s->cfg->gateway_on)
		return 0;
	g->fd = takeover_listener(&s->takeover, true, s->own_netns, at);
	g->due = g->fd < 0 && workers_old_ones(&s->workers);
	if (g->fd >= 0)
		take_covered(s);
	return g->fd >= 0 || g->due ? 0 : start_listener("gateway", "--gateway", at, &g->fd);
}

int gateway_tell(struct supervisor *s)
{
	struct workers *ws = &s->workers;
	struct gateway *g = &s->gateway;
	int err = g->fd < 0 ? 0
			    : workers_listener(ws, GATEWAY_LISTENER, IPC_GATEWAY, s->own_netns,
					       g->fd);

	for (uint32_t i = 0; !err && i < g->ncovered; i++)
		err = workers_listener(ws, COVERED_LISTENER - i, IPC_GATEWAY, s->own_netns,
				       g->covered[i]);
	return err;
}

/* Shared only where one of before is in the way: with others it is no port of ours. */
static int open_beside(struct supervisor *s)
{
	const struct addr *at = &s->cfg->gateway;
	struct takeover *t = &s->takeover;
	int *fd = &s->gateway.fd, err = start_listen(at, false, fd);

	if (err != -EADDRINUSE || !takeover_share(t, s->own_netns, at->port, true))
		return err;
	err = start_listen(at, true, fd);
	(void)takeover_share(t, s->own_netns, at->port, false);
	return err;
}

const struct addr *gateway_at(const struct supervisor *s)
{
	const struct gateway *g = &s->gateway;
	const struct takeover_listener *kept =
		g->nkept ? takeover_gateway(&s->takeover, s->own_netns, 0) : NULL;

	if (kept)
		return &kept->at;
	return s->cfg->gateway_on && !g->due ? &s->cfg->gateway : NULL;
}

const char *gateway_error(const struct supervisor *s, char text[GATEWAY_ERROR_MAX])
{
	char at[ADDR_TEXT_MAX];

	if (!s->gateway.error)
		return NULL;
	snprintf(text, GATEWAY_ERROR_MAX, "cannot listen on %s for the gateway: %s",
		 addr_format(&s->cfg->gateway, at), strerror(-s->gateway.error));
	return text;
}

/* They stay the takeover's: ours may have to be opened beside them (open_beside()). */
static void keep_old(struct supervisor *s)
{
	struct gateway *g = &s->gateway;
	const struct takeover_listener *l;

	while ((l = takeover_gateway(&s->takeover, s->own_netns, g->nkept)) &&
	       !workers_listener(&s->workers, KEPT_LISTENER - g->nkept, IPC_GATEWAY, s->own_netns,
				 l->fd))
		g->nkept++;
}

static void leave_old(struct supervisor *s)
{
	struct gateway *g = &s->gateway;

	while (g->nkept)
		workers_listener_gone(&s->workers, KEPT_LISTENER - --g->nkept);
	if (s->retired || !s->taking_over) /* else retire() does it */
		takeover_forget_gateways(&s->takeover);
}

static void failed(struct supervisor *s, int err)
{
	char text[GATEWAY_ERROR_MAX], at[ADDR_TEXT_MAX];

	s->gateway.again_ns = s->loop.now_ns + AGAIN_MS * 1000000ULL;
	if (s->gateway.error == err)
		return;
	if (!s->gateway.error)
		keep_old(s);
	s->gateway.error = err;
	log_error("%s; until that is possible %s%s", gateway_error(s, text),
		  s->gateway.nkept ? "it is at " : "there is none",
		  s->gateway.nkept ? addr_format(gateway_at(s), at) : "");
	session_changed(s->session);
}

static void is_open(struct supervisor *s)
{
	struct gateway *g = &s->gateway;
	char text[ADDR_TEXT_MAX];

	g->due = false;
	g->open_ns = s->loop.now_ns;
	if (g->error)
		log_info("the gateway listens on %s", addr_format(&s->cfg->gateway, text));
	g->error = 0;
	session_changed(s->session);
}

void gateway_go_on(struct supervisor *s)
{
	struct gateway *g = &s->gateway;
	int err;

	if (!g->due || !s->settled || s->loop.now_ns < g->again_ns)
		return;
	err = open_beside(s);
	if (err) {
		failed(s, err);
		return;
	}
	is_open(s);
	take_covered(s);
	err = gateway_tell(s);
	if (err)
		log_error("nobody accepts for the gateway: %s", strerror(-err));
	leave_old(s);
}

bool gateway_has_moved(const struct supervisor *s)
{
	const struct gateway *g = &s->gateway;

	return !g->open_ns || s->loop.now_ns >= g->open_ns + HANDSHAKE_MS * 1000000ULL;
}

void gateway_close(struct supervisor *s)
{
	struct gateway *g = &s->gateway;

	if (g->fd >= 0)
		close(g->fd);
	while (g->ncovered)
		close(g->covered[--g->ncovered]);
	gateway_init(g);
}
