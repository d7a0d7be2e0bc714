/* SPDX-License-Identifier: Apache-2.0 */
/* See session.h. Two conversations that do not wait for each other: watch (in) and report (out). */
#include "agent/control/session.h"

#include "lib/http.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/token.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define COALESCE_MS		  8	/* and a tick of the timer wheel: 10 ms at most */
#define REPORT_MS		  5000	/* even without a change */
#define WATCH_TIMEOUT		  40000 /* meshd answers after 30 s at the latest */
#define CALL_TIMEOUT		  5000
#define GOODBYE_TIMEOUT		  2000
#define BACKOFF_LEAST		  100
#define BACKOFF_MOST		  5000
#define REASON_MAX		  200 /* of meshd's words in our log */

#define container(p, type, field) ((type *)((char *)(p)-offsetof(type, field)))

enum conversation { WATCH, REPORT };

struct session {
	struct loop *loop;
	struct http_client *http;
	struct session_ops ops;
	char *control, *node, *file, *token_file; /* node is escaped for a path */
	char token[TOKEN_MAX + 1];
	struct timer watch_timer, report_timer;
	uint32_t watch_backoff, report_backoff; /* ms, 0: the last call went well */
	bool watching, reporting, changed, leaving;
	bool away;	 /* nobody was there the last time, and that was said */
	bool refused[2]; /* by enum conversation: the last answer was of no use, as was said */
	bool spoken;	 /* meshd has answered as we wish */
	uint64_t revision;
	uint64_t serial; /* of what was ordered by hand, as last taken from meshd; 0: from nobody */
	uint64_t taps;	 /* of the list of taps, likewise */
	char store[64];	 /* meshd's epoch, of the configuration in force */
	char *error;
	void (*goodbye)(void *arg);
	void *goodbye_arg;
};

static void watch_start(struct session *s);
static void report_start(struct session *s);

/* Doubles, and takes a random point of the upper half, so that a thousand agents do not come back
 * at once. */
static uint32_t next_wait(uint32_t *backoff)
{
	uint32_t r;

	*backoff = !*backoff			 ? BACKOFF_LEAST
		   : *backoff * 2 > BACKOFF_MOST ? BACKOFF_MOST
						 : *backoff * 2;
	if (getrandom(&r, sizeof(r), GRND_NONBLOCK) != sizeof(r))
		r = (uint32_t)*backoff;
	return *backoff / 2 + r % (*backoff / 2 + 1);
}

static void read_token(struct session *s)
{
	const char *file = s->token_file ? s->token_file : TOKEN_DEFAULT_FILE;
	int err = token_read(file, s->token);

	/* by default there may be none: meshd is elsewhere, or has not run yet */
	if (err && (s->token_file || (err != -ENOENT && err != -EACCES)) && !s->refused[REPORT])
		log_warn("cannot use the token file %s: %s", file, token_error(err));
}

static const char *const subject[] = {
	[WATCH] = "question for the configuration", [REPORT] = "state"};

/* The reason in meshd's answer; the log makes it printable. */
static void reason(const struct http_answer *a, char out[REASON_MAX])
{
	cJSON *body = json_parse(a->body, a->len, NULL);
	const char *text = json_str(body, "error", "without a reason; is it a meshd?");

	snprintf(out, REASON_MAX, "%s", text);
	cJSON_Delete(body);
}

/* Nobody there concerns both conversations, an answer that we cannot use only its own. */
static void say_bad(struct session *s, enum conversation which, const struct http_answer *a)
{
	bool token = a->status == 401;
	char why[REASON_MAX];

	if (a->error) {
		if (!s->away)
			log_warn("meshd at %s is not reachable (%s): going on with the last "
				 "configuration",
				 s->control, strerror(-a->error));
		s->away = true;
		return;
	}
	if (token)
		read_token(s); /* meshd makes it at its own first start, which may have come after
				  ours */
	if (!s->refused[which]) {
		reason(a, why);
		log_warn("meshd at %s answers %d to our %s: %s%s", s->control, a->status,
			 subject[which], why, token ? "; is --token-file right?" : "");
	}
	s->refused[which] = true;
	s->away = false;
}

static void say_good(struct session *s, enum conversation which)
{
	if (s->away)
		log_info("meshd at %s is back", s->control);
	if (s->refused[which])
		log_info("meshd at %s takes our %s again", s->control, subject[which]);
	s->away = s->refused[which] = false;
	s->spoken = true;
}

/* --- in: configuration --- */

static void refuse(struct session *s, const char *from, const char *why)
{
	free(s->error);
	s->error = strdup(why);
	log_error("configuration from %s refused, the old one stays: %s", from, why);
	session_changed(s);
}

/* 0 when it is in force now. */
static int apply(struct session *s, const char *from, const char *text, size_t len)
{
	char why[CONFIGURATION_ERROR_MAX];
	struct configuration c;
	int err = configuration_parse(text, len, &c, why);

	if (err) {
		refuse(s, from, why);
		return err;
	}
	s->revision = c.revision;
	snprintf(s->store, sizeof(s->store), "%s", c.epoch);
	free(s->error);
	s->error = NULL;
	s->ops.configure(s->ops.arg, &c);
	configuration_done(&c);
	return 0;
}

static int write_kept(const struct session *s, const char *text, size_t len)
{
	char tmp[4200];
	int fd, err = 0;

	snprintf(tmp, sizeof(tmp), "%s.tmp", s->file);
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	for (size_t done = 0; done < len && !err;) {
		ssize_t n = write(fd, text + done, len - done);

		if (n < 0 && errno != EINTR)
			err = -errno;
		done += n > 0 ? (size_t)n : 0;
	}
	if (!err && fsync(fd) < 0)
		err = -errno;
	if (close(fd) < 0 && !err)
		err = -errno;
	if (!err && rename(tmp, s->file) < 0)
		err = -errno;
	if (err)
		unlink(tmp);
	return err;
}

/* Keeps what is to outlive us: a fault must not, and neither must a command that meshd itself
 * forgets. */
static int save(const struct session *s, cJSON *root)
{
	static const char *const passing[] = {"faults", "hands", "serial", "taps", "tapSerial"};
	char *text;
	int err;

	for (size_t i = 0; i < sizeof(passing) / sizeof(*passing); i++)
		cJSON_DeleteItemFromObjectCaseSensitive(root, passing[i]);
	text = cJSON_PrintUnformatted(root);
	err = text ? write_kept(s, text, strlen(text)) : -ENOMEM;
	cJSON_free(text);
	return err;
}

/* The whole of a regular file into *out (the caller's). 0 or -errno. */
static int read_file(const char *path, char **out, size_t *len)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC), err = 0;
	char *text = NULL;
	struct stat st;
	ssize_t n = 0;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		err = -errno;
	else if (!S_ISREG(st.st_mode) || st.st_size > HTTP_ANSWER_MAX)
		err = -EINVAL;
	else if (!(text = malloc((size_t)st.st_size + 1)))
		err = -ENOMEM;
	for (*len = 0; !err && (n = read(fd, text + *len, (size_t)st.st_size - *len)) > 0;)
		*len += (size_t)n;
	if (n < 0)
		err = -errno;
	close(fd);
	if (err)
		free(text);
	else
		*out = text;
	return err;
}

static void load(struct session *s)
{
	char *text = NULL;
	size_t len = 0;
	int err = read_file(s->file, &text, &len);

	if (err == -ENOENT)
		return;
	if (err) {
		log_warn("cannot read the last configuration from %s: %s", s->file, strerror(-err));
		return;
	}
	if (!apply(s, s->file, text, len))
		log_info("configuration of revision %llu taken from %s",
			 (unsigned long long)s->revision, s->file);
	free(text);
}

static void watch_again(struct timer *t)
{
	watch_start(container(t, struct session, watch_timer));
}

static uint64_t serial_of(const cJSON *root, const char *key)
{
	double n = json_num(root, key, 0);

	return n > 0 && n <= JSON_WHOLE_MAX ? (uint64_t)n : 0;
}

/* Whoever opens a tap waits for it: agents hear of it here, and not with their next batch. */
static void take_taps(struct session *s, const cJSON *root)
{
	uint64_t serial = serial_of(root, "tapSerial");

	if (serial == s->taps)
		return;
	s->taps = serial;
	if (s->ops.taps)
		s->ops.taps(s->ops.arg, cJSON_GetObjectItemCaseSensitive(root, "taps"), serial);
}

/* 0 when it was taken, or was nothing new. */
static int watch_take(struct session *s, const struct http_answer *a)
{
	cJSON *root = json_parse(a->body, a->len, NULL);
	uint64_t serial = serial_of(root, "serial");
	bool same = serial == s->serial && configuration_is(a->body, a->len, s->revision, s->store);
	int err = 0, kept;

	take_taps(s, root);
	if (!same)
		err = apply(s, "meshd", a->body, a->len);
	if (!same && !err) {
		s->serial = serial;
		kept = save(s, root);
		if (kept)
			log_warn("cannot keep the configuration in %s: %s", s->file,
				 strerror(-kept));
		session_changed(s);
	}
	cJSON_Delete(root);
	return err;
}

static void watch_done(const struct http_answer *a, void *arg)
{
	struct session *s = arg;

	s->watching = false;
	if (s->leaving)
		return;
	if (a->error || a->status != 200) {
		if (a->error != -ETIMEDOUT || s->watch_backoff)
			say_bad(s, WATCH, a);
		if (a->status == 400) /* it may be an older one in place of another */
			s->taps = 0;
		timer_arm(s->loop, &s->watch_timer, next_wait(&s->watch_backoff), watch_again);
		return;
	}
	say_good(s, WATCH);
	s->watch_backoff = 0;
	if (watch_take(s, a)) /* asking again at once would give the same */
		timer_arm(s->loop, &s->watch_timer, BACKOFF_MOST, watch_again);
	else
		watch_start(s);
}

static void watch_start(struct session *s)
{
	char path[512], epoch[200], taps[40] = "";
	struct http_call c = {
		.method = "GET", .base = s->control, .path = path, .timeout_ms = WATCH_TIMEOUT};

	if (s->watching || s->leaving)
		return;
	if (http_escape(s->store, epoch, sizeof(epoch)))
		*epoch = 0;
	if (s->taps) /* a meshd that knows of no taps would refuse it */
		snprintf(taps, sizeof(taps), "&taps=%llu", (unsigned long long)s->taps);
	snprintf(path, sizeof(path), "/api/watch?revision=%llu&serial=%llu&node=%s&epoch=%s%s",
		 (unsigned long long)s->revision, (unsigned long long)s->serial, s->node, epoch,
		 taps);
	c.token = *s->token ? s->token : NULL;
	s->watching = !http_client_start(s->http, &c, watch_done, s);
	if (!s->watching)
		timer_arm(s->loop, &s->watch_timer, next_wait(&s->watch_backoff), watch_again);
}

/* --- out: state --- */

static void report_again(struct timer *t)
{
	report_start(container(t, struct session, report_timer));
}

static void report_done(const struct http_answer *a, void *arg)
{
	struct session *s = arg;

	s->reporting = false;
	if (s->leaving) /* the timer is the farewell's now */
		return;
	if (a->error || a->status / 100 != 2) {
		say_bad(s, REPORT, a);
		timer_arm(s->loop, &s->report_timer, next_wait(&s->report_backoff), report_again);
		return;
	}
	say_good(s, REPORT);
	s->report_backoff = 0;
	timer_arm(s->loop, &s->report_timer, s->changed ? COALESCE_MS : REPORT_MS, report_again);
	if (s->watch_backoff) { /* meshd is there again: no need to wait */
		s->watch_backoff = 0;
		timer_cancel(s->loop, &s->watch_timer);
		watch_start(s);
	}
}

static void report_start(struct session *s)
{
	char path[300], *body;
	struct http_call c = {
		.method = "PUT", .base = s->control, .path = path, .timeout_ms = CALL_TIMEOUT};

	if (s->reporting || s->leaving)
		return;
	body = s->ops.state(s->ops.arg);
	snprintf(path, sizeof(path), "/api/agents/%s", s->node);
	c.token = *s->token ? s->token : NULL;
	c.body = body;
	c.body_len = body ? strlen(body) : 0;
	s->changed = false;
	s->reporting = body && !http_client_start(s->http, &c, report_done, s);
	free(body);
	if (!s->reporting)
		timer_arm(s->loop, &s->report_timer, next_wait(&s->report_backoff), report_again);
}

static struct http_call post_of(const struct session *s, const char *path,
				const struct session_body *body, uint32_t timeout_ms)
{
	return (struct http_call){.method = "POST",
				  .base = s->control,
				  .path = path,
				  .token = *s->token ? s->token : NULL,
				  .pieces = body->pieces,
				  .npieces = body->n,
				  .timeout_ms = timeout_ms};
}

void session_post_now(struct session *s, const char *path, const struct session_body *body,
		      uint32_t timeout_ms, struct http_answer *a)
{
	struct http_call c = post_of(s, path, body, timeout_ms ? timeout_ms : 1);

	http_call(&c, a);
}

void session_post_cancel(struct session *s, const void *arg)
{
	http_client_cancel(s->http, arg);
}

int session_post(struct session *s, const char *path, const struct session_body *body,
		 void (*done)(const struct http_answer *a, void *arg), void *arg)
{
	struct http_call c = post_of(s, path, body, CALL_TIMEOUT);

	return s->leaving ? -ESHUTDOWN : http_client_start(s->http, &c, done, arg);
}

/* While meshd is away the back-off decides when the next attempt is. */
void session_changed(struct session *s)
{
	if (s->changed || s->leaving)
		return;
	s->changed = true;
	if (!s->reporting && !s->report_backoff)
		timer_arm(s->loop, &s->report_timer, COALESCE_MS, report_again);
}

static void goodbye_done(const struct http_answer *a, void *arg)
{
	struct session *s = arg;

	s->goodbye(s->goodbye_arg);
}

static void goodbye_failed(struct timer *t)
{
	struct session *s = container(t, struct session, report_timer);

	s->goodbye(s->goodbye_arg);
}

void session_goodbye(struct session *s, void (*done)(void *arg), void *arg)
{
	char path[300];
	struct http_call c = {.method = "DELETE",
			      .base = s->control,
			      .path = path,
			      .timeout_ms = GOODBYE_TIMEOUT};

	s->leaving = true;
	s->goodbye = done;
	s->goodbye_arg = arg;
	timer_cancel(s->loop, &s->watch_timer);
	timer_cancel(s->loop, &s->report_timer);
	snprintf(path, sizeof(path), "/api/agents/%s", s->node);
	c.token = *s->token ? s->token : NULL;
	if (!session_connected(s) || http_client_start(s->http, &c, goodbye_done, s))
		timer_arm(s->loop, &s->report_timer, 0, goodbye_failed);
}

/* --- life --- */

void session_reload(struct session *s)
{
	read_token(s);
	if (!s->reporting) {
		s->report_backoff = 0;
		report_start(s);
	}
}

static int take_config(struct session *s, const struct session_config *cfg)
{
	char node[256];

	if (http_escape(cfg->node, node, sizeof(node)))
		return -ENAMETOOLONG;
	s->control = strdup(cfg->control);
	s->node = strdup(node);
	s->token_file = cfg->token_file ? strdup(cfg->token_file) : NULL;
	if (asprintf(&s->file, "%s/config.json", cfg->run_dir) < 0)
		s->file = NULL;
	return s->control && s->node && s->file ? 0 : -ENOMEM;
}

int session_new(struct loop *l, const struct session_config *cfg, const struct session_ops *ops,
		struct session **out)
{
	struct session *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return -ENOMEM;
	s->loop = l;
	s->ops = *ops;
	err = take_config(s, cfg);
	if (!err)
		err = http_client_new(l, &s->http);
	if (err) {
		session_free(&s);
		return err;
	}
	read_token(s);
	*out = s; /* state() may ask for the revision from here on */
	load(s);
	watch_start(s);
	session_changed(s);
	return 0;
}

void session_free(struct session **sp)
{
	struct session *s = *sp;

	if (!s)
		return;
	timer_cancel(s->loop, &s->watch_timer);
	timer_cancel(s->loop, &s->report_timer);
	http_client_free(&s->http);
	free(s->control);
	free(s->node);
	free(s->file);
	free(s->token_file);
	free(s->error);
	free(s);
	*sp = NULL;
}

uint64_t session_revision(const struct session *s)
{
	return s ? s->revision : 0;
}

const char *session_error(const struct session *s)
{
	return s ? s->error : NULL;
}

bool session_connected(const struct session *s)
{
	return s && s->spoken && !s->away && !s->refused[REPORT];
}
