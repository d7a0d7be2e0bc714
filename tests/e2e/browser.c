/* SPDX-License-Identifier: Apache-2.0 */
/* See browser.h. The protocol: JSON objects that end with a zero byte; ours go to the browser's
 * descriptor 3, its come from its 4. */
#include "tests/e2e/browser.h"
#include "lib/buf.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>

#define PROFILE	    SCRATCH "/chromium"
#define MESSAGE_MAX (64u << 20)
#define PATIENCE_MS 20000
#define TEXTS	    8

static struct {
	pid_t pid;
	int to, from;
	struct buf in, complaints;
	int last_id;
	bool interrupted; /* something was not loaded, and not by the page's fault */
	char session[64], target[64], base[256];
} browser = {.to = -1, .from = -1};

static void complain(const char *what, const char *text, const char *where)
{
	buf_printf(&browser.complaints, "%s: %s %s\n", what, text, where);
}

/* --- the process --------------------------------------------------------------------- */

static void in_child(int commands, int answers)
{
	/* first out of the way of what they become */
	int in = fcntl(commands, F_DUPFD, 10), out = fcntl(answers, F_DUPFD, 10);
	int log = open(SCRATCH "/chromium.log", O_WRONLY | O_CREAT | O_APPEND, 0644);

	if (in < 0 || out < 0 || log < 0 || dup2(in, 3) < 0 || dup2(out, 4) < 0 ||
	    dup2(log, 1) < 0 || dup2(log, 2) < 0)
		_exit(126);
	setpgid(0, 0);
	setenv("HOME", SCRATCH, 1);
	setenv("TMPDIR", SCRATCH, 1); /* what it leaves there when it is killed */
	/* the virtual host is the sandbox: Chromium's own does not run as root */
	execlp("chromium", "chromium", "--headless=new", "--no-sandbox", "--disable-gpu",
	       "--remote-debugging-pipe", "--user-data-dir=" PROFILE, "--no-first-run",
	       "--disable-background-networking", "--disable-component-update", "--disable-sync",
	       "--disable-default-apps", "--disable-extensions", "--disable-breakpad",
	       "--hide-scrollbars", "--force-device-scale-factor=1", "about:blank", NULL);
	_exit(127);
}

static void start(void)
{
	int commands[2], answers[2];

	if (pipe2(commands, O_CLOEXEC) || pipe2(answers, O_CLOEXEC))
		fail_msg("pipe: %s", strerror(errno));
	browser.pid = fork();
	if (browser.pid == 0)
		in_child(commands[0], answers[1]);
	close(commands[0]);
	close(answers[1]);
	browser.to = commands[1];
	browser.from = answers[0];
	buf_init(&browser.in, MESSAGE_MAX);
	buf_init(&browser.complaints, 1 << 20);
}

void browser_end(void)
{
	if (!browser.pid)
		return;
	kill(-browser.pid, SIGKILL);
	waitpid(browser.pid, NULL, 0);
	browser.pid = 0;
	close(browser.to);
	close(browser.from);
	buf_done(&browser.in);
	buf_done(&browser.complaints);
	browser.session[0] = 0;
}

void browser_need(void)
{
	if (!have_program("chromium"))
		story_skip("chromium is not installed");
}

/* --- messages ------------------------------------------------------------------------ */

static const cJSON *in(const cJSON *v, const char *a, const char *b)
{
	v = cJSON_GetObjectItemCaseSensitive(v, a);
	return b ? cJSON_GetObjectItemCaseSensitive(v, b) : v;
}

static void note_console(const cJSON *params)
{
	const char *type = json_str(params, "type", "");
	const cJSON *first = cJSON_GetArrayItem(in(params, "args", NULL), 0);

	if (!strcmp(type, "error") || !strcmp(type, "assert"))
		complain("console", json_str(first, "value", json_str(first, "description", "?")),
			 "");
}

static void note_entry(const cJSON *entry)
{
	const char *text = json_str(entry, "text", "?");

	if (strcmp(json_str(entry, "level", ""), "error"))
		return;
	/* Interfaces come and go with every workload; Chromium gives up what is under way then. */
	if (strstr(text, "net::ERR_NETWORK_CHANGED"))
		browser.interrupted = true;
	else
		complain(json_str(entry, "source", "log"), text, json_str(entry, "url", ""));
}

static void note_request(const cJSON *params)
{
	const char *url = json_str(in(params, "request", NULL), "url", "");

	if (strncmp(url, browser.base, strlen(browser.base)) && strncmp(url, "data:", 5) &&
	    strcmp(url, "about:blank"))
		complain("foreign request", url, "");
}

static void note(const cJSON *message)
{
	const char *method = json_str(message, "method", "");
	const cJSON *params = in(message, "params", NULL);

	if (!strcmp(method, "Runtime.consoleAPICalled"))
		note_console(params);
	else if (!strcmp(method, "Runtime.exceptionThrown"))
		complain("exception",
			 json_str(in(params, "exceptionDetails", "exception"), "description", "?"),
			 "");
	else if (!strcmp(method, "Log.entryAdded"))
		note_entry(in(params, "entry", NULL));
	else if (!strcmp(method, "Network.requestWillBeSent"))
		note_request(params);
}

/* The next whole message, NULL when none comes until then. The caller deletes it. */
static cJSON *receive(uint64_t until)
{
	for (;;) {
		struct pollfd p = {.fd = browser.from, .events = POLLIN};
		char chunk[65536], *end;
		uint64_t now = mono_ms();
		ssize_t n;

		end = browser.in.len ? memchr(browser.in.data, 0, browser.in.len) : NULL;
		if (end) {
			size_t len = (size_t)(end - browser.in.data);
			cJSON *v = json_parse(browser.in.data, len, NULL);

			memmove(browser.in.data, end + 1, browser.in.len - len - 1);
			browser.in.len -= len + 1;
			if (v)
				return v;
			continue;
		}
		if (now >= until || poll(&p, 1, (int)(until - now)) <= 0)
			return NULL;
		n = read(browser.from, chunk, sizeof(chunk));
		if (n <= 0)
			fail_msg("chromium ended; see " SCRATCH "/chromium.log");
		buf_add(&browser.in, chunk, (size_t)n);
		if (browser.in.failed)
			fail_msg("chromium says too much at once");
	}
}

static void transmit(const char *method, cJSON *params)
{
	cJSON *v = cJSON_CreateObject();
	char *text;

	cJSON_AddNumberToObject(v, "id", ++browser.last_id);
	cJSON_AddStringToObject(v, "method", method);
	cJSON_AddItemToObject(v, "params", params ? params : cJSON_CreateObject());
	if (browser.session[0])
		cJSON_AddStringToObject(v, "sessionId", browser.session);
	text = cJSON_PrintUnformatted(v);
	cJSON_Delete(v);
	assert_non_null(text);
	for (size_t at = 0, len = strlen(text) + 1; at < len;) {
		ssize_t n = write(browser.to, text + at, len - at);

		if (n <= 0)
			fail_msg("chromium does not listen: %s", strerror(errno));
		at += (size_t)n;
	}
	cJSON_free(text);
}

/* Sends and waits for the answer, which the caller deletes; takes over params. */
static cJSON *command(const char *method, cJSON *params)
{
	uint64_t until = mono_ms() + PATIENCE_MS * slowness();
	cJSON *v;

	transmit(method, params);
	while ((v = receive(until))) {
		if ((int)json_num(v, "id", 0) == browser.last_id) {
			if (in(v, "error", NULL))
				fail_msg("%s: %s", method,
					 json_str(in(v, "error", NULL), "message", "?"));
			return v;
		}
		note(v);
		cJSON_Delete(v);
	}
	fail_msg("chromium does not answer to %s", method);
	return NULL;
}

static void order(const char *method, cJSON *params)
{
	cJSON_Delete(command(method, params));
}

static cJSON *with(const char *key, const char *value)
{
	cJSON *v = cJSON_CreateObject();

	cJSON_AddStringToObject(v, key, value);
	return v;
}

/* --- the page ------------------------------------------------------------------------ */

static void attach(void)
{
	static const char *const domains[] = {"Page.enable", "Runtime.enable", "Log.enable",
					      "Network.enable"};
	cJSON *v = command("Target.createTarget", with("url", "about:blank")), *params;

	snprintf(browser.target, sizeof(browser.target), "%s",
		 json_str(in(v, "result", NULL), "targetId", ""));
	cJSON_Delete(v);
	params = with("targetId", browser.target);
	cJSON_AddBoolToObject(params, "flatten", true);
	v = command("Target.attachToTarget", params);
	snprintf(browser.session, sizeof(browser.session), "%s",
		 json_str(in(v, "result", NULL), "sessionId", ""));
	cJSON_Delete(v);
	for (size_t i = 0; i < sizeof(domains) / sizeof(*domains); i++)
		order(domains[i], NULL);
	params = cJSON_CreateObject(); /* nobody looks at it, and it shall not know */
	cJSON_AddBoolToObject(params, "enabled", true);
	order("Emulation.setFocusEmulationEnabled", params);
	order("Page.bringToFront", NULL);
}

void page_resize(int width, int height)
{
	cJSON *v = cJSON_CreateObject();

	cJSON_AddNumberToObject(v, "width", width);
	cJSON_AddNumberToObject(v, "height", height);
	cJSON_AddNumberToObject(v, "deviceScaleFactor", 1);
	cJSON_AddBoolToObject(v, "mobile", false);
	order("Emulation.setDeviceMetricsOverride", v);
}

static void load(const char *url)
{
	browser.interrupted = false;
	order("Page.navigate", with("url", url));
	page_awaits(PATIENCE_MS, "location.href === '%s' && document.readyState === 'complete'",
		    url);
}

void page_open(const char *url, int width, int height)
{
	const char *path = strchr(strstr(url, "//") + 2, '/');
	uint64_t until = mono_ms() + PATIENCE_MS * slowness();

	if (!browser.pid)
		start();
	if (browser.session[0]) {
		browser.session[0] = 0;
		order("Target.closeTarget", with("targetId", browser.target));
	}
	snprintf(browser.base, sizeof(browser.base), "%.*s", (int)(path ? path + 1 - url : 0), url);
	attach();
	page_resize(width, height);
	do {
		buf_reset(&browser.complaints);
		order("Page.navigate", with("url", "about:blank"));
		load(url);
	} while (browser.interrupted && mono_ms() < until);
}

static const char *evaluate(const char *expression)
{
	static char texts[TEXTS][8192];
	static unsigned turn;
	char *out = texts[turn++ % TEXTS];
	cJSON *params = with("expression", expression), *v;
	const cJSON *value, *thrown;

	cJSON_AddBoolToObject(params, "returnByValue", true);
	cJSON_AddBoolToObject(params, "awaitPromise", true);
	v = command("Runtime.evaluate", params);
	value = in(in(v, "result", "result"), "value", NULL);
	thrown = in(in(v, "result", "exceptionDetails"), "exception", NULL);
	if (thrown)
		snprintf(out, sizeof(texts[0]), "%s", json_str(thrown, "description", "exception"));
	else
		snprintf(out, sizeof(texts[0]), "%s",
			 cJSON_IsString(value) ? value->valuestring : "");
	cJSON_Delete(v);
	return out;
}

const char *page_text(const char *fmt, ...)
{
	char inner[4096], outer[4200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(inner, sizeof(inner), fmt, ap);
	va_end(ap);
	snprintf(outer, sizeof(outer), "(async () => String(await (%s) ?? ''))()", inner);
	return evaluate(outer);
}

bool page_is(const char *fmt, ...)
{
	char inner[4096], outer[4200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(inner, sizeof(inner), fmt, ap);
	va_end(ap);
	snprintf(outer, sizeof(outer), "String(Boolean(%s))", inner);
	return !strcmp(evaluate(outer), "true");
}

void page_awaits(unsigned ms, const char *fmt, ...)
{
	uint64_t until = mono_ms() + ms * slowness();
	char expression[4096];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(expression, sizeof(expression), fmt, ap);
	va_end(ap);
	while (!page_is("%s", expression)) {
		if (mono_ms() > until)
			fail_msg("not within %u ms: %s\nat %s, %s:\n%s\n%s", ms, expression,
				 page_text("location.href"), page_text("document.visibilityState"),
				 page_text("document.body.innerText.slice(0, 2000)"),
				 page_complaints());
		usleep(10000);
	}
}

static const struct key {
	const char *name;
	int code;
	const char *text;
} keys[] = {
	{"Tab", 9, NULL},      {"Enter", 13, "\r"},	 {"Escape", 27, NULL},
	{"End", 35, NULL},     {"Home", 36, NULL},	 {"ArrowLeft", 37, NULL},
	{"ArrowUp", 38, NULL}, {"ArrowRight", 39, NULL}, {"ArrowDown", 40, NULL},
};

void page_key(const char *name)
{
	static const char *const halves[] = {"keyDown", "keyUp"};
	bool shift = !strncmp(name, "Shift+", 6);
	const struct key *k = keys;

	name += shift ? 6 : 0;
	while (k < keys + sizeof(keys) / sizeof(*keys) && strcmp(k->name, name))
		k++;
	assert_true(k < keys + sizeof(keys) / sizeof(*keys));
	for (int i = 0; i < 2; i++) {
		cJSON *v = with("type", halves[i]);

		cJSON_AddStringToObject(v, "key", name);
		cJSON_AddStringToObject(v, "code", name);
		cJSON_AddNumberToObject(v, "windowsVirtualKeyCode", k->code);
		cJSON_AddNumberToObject(v, "modifiers", shift ? 8 : 0);
		if (k->text && !i)
			cJSON_AddStringToObject(v, "text", k->text);
		order("Input.dispatchKeyEvent", v);
	}
}

void page_click(const char *selector)
{
	static const char *const halves[] = {"mousePressed", "mouseReleased"};
	double x, y;

	eventually(PATIENCE_MS, page_is("document.querySelector('%s')", selector));
	if (sscanf(page_text("(e => (e.scrollIntoView({ block: 'center' }), e = "
			     "e.getBoundingClientRect(), "
			     "`${e.x + e.width / 2} ${e.y + e.height / "
			     "2}`))(document.querySelector('%s'))",
			     selector),
		   "%lf %lf", &x, &y) != 2)
		fail_msg("%s is nowhere", selector);
	for (int i = 0; i < 2; i++) {
		cJSON *v = with("type", halves[i]);

		cJSON_AddNumberToObject(v, "x", x);
		cJSON_AddNumberToObject(v, "y", y);
		cJSON_AddStringToObject(v, "button", "left");
		cJSON_AddNumberToObject(v, "clickCount", 1);
		order("Input.dispatchMouseEvent", v);
	}
}

void page_prefers(const char *scheme)
{
	cJSON *v = cJSON_CreateObject(), *feature = with("name", "prefers-color-scheme");

	cJSON_AddStringToObject(feature, "value", scheme);
	cJSON_AddItemToArray(cJSON_AddArrayToObject(v, "features"), feature);
	order("Emulation.setEmulatedMedia", v);
}

const char *page_complaints(void)
{
	(void)page_is("true"); /* what was said before that has been heard by then */
	buf_add(&browser.complaints, "", 1);
	browser.complaints.len--;
	return browser.complaints.data;
}
