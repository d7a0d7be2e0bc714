/* SPDX-License-Identifier: Apache-2.0 */
/* See harness.h: the REST API, commands, metrics. */
#include "tests/e2e/harness_impl.h"
#include "lib/http.h"
#include "tests/bench/net.h"

#include <fcntl.h>
#include <sys/wait.h>

#define KEPT	   65536
#define CONFIGURED 16

int api_status;

static cJSON *kept[KEPT];
static size_t nkept;
static char configured[CONFIGURED][64]; /* by the story */
static size_t nconfigured;

/* --- REST --------------------------------------------------------------------------------------
 */

cJSON *api(const char *method, const char *path, const char *body)
{
	struct http_call call = {.method = method,
				 .base = "unix:" MESHD_SOCKET,
				 .path = path,
				 .body = body,
				 .body_len = body ? strlen(body) : 0};
	struct http_answer a;
	cJSON *v = NULL;

	api_status = http_call(&call, &a) ? -1 : a.status;
	if (api_status > 0)
		v = json_parse(a.body, a.len, NULL);
	http_answer_done(&a);
	if (v && nkept == KEPT)
		api_end();
	if (v)
		kept[nkept++] = v;
	return v;
}

void api_end(void)
{
	while (nkept)
		cJSON_Delete(kept[--nkept]);
}

/* The revision that every agent runs, -1 without one. */
static double agents_revision(void)
{
	const cJSON *all = cJSON_GetObjectItem(api("GET", "/api/agents", NULL), "agents"), *a;
	double least = -1;

	cJSON_ArrayForEach (a, all) {
		double r = json_num(a, "configRevision", 0);

		if (!strcmp(json_str(a, "status", ""), "live") && (least < 0 || r < least))
			least = r;
	}
	return least;
}

void settled(void)
{
	double latest = json_num(api("GET", "/health", NULL), "revision", 0);

	eventually(10000, agents_revision() >= latest);
}

const char *breaker_state(const char *service)
{
	char path[96];
	const cJSON *all, *b;

	snprintf(path, sizeof(path), "/api/breakers/%s", service);
	all = cJSON_GetObjectItem(api("GET", path, NULL), "breakers");
	cJSON_ArrayForEach (b, all)
		if (cJSON_IsNull(cJSON_GetObjectItem(b, "endpoint")))
			return json_str(b, "state", "");
	return "";
}

void configure(const char *service, const char *json_fmt, ...)
{
	char path[128], body[4096];
	const cJSON *v;
	va_list ap;
	size_t i;

	va_start(ap, json_fmt);
	vsnprintf(body, sizeof(body), json_fmt, ap);
	va_end(ap);
	snprintf(path, sizeof(path), "/api/config/%s?force=true", service);
	v = api("PUT", path, body);
	if (api_status != 200)
		fail_msg("configuration of %s: %d, %s", service, api_status,
			 json_str(v, "error", ""));
	for (i = 0; i < nconfigured && strcmp(configured[i], service); i++)
		;
	if (i == nconfigured && i < CONFIGURED)
		snprintf(configured[nconfigured++], sizeof(configured[0]), "%s", service);
	settled();
}

void configure_end(void)
{
	char path[128];

	while (nconfigured) {
		snprintf(path, sizeof(path), "/api/config/%s", configured[--nconfigured]);
		api("DELETE", path, NULL);
	}
	api("DELETE", "/api/faults", NULL);
}

/* --- commands ----------------------------------------------------------------------------------
 */

static void read_file(const char *path, char *out, size_t cap)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, out, cap - 1);

	out[n > 0 ? n : 0] = 0;
	if (fd >= 0)
		close(fd);
}

struct output *sh(const char *fmt, ...)
{
	static struct output o;
	char text[8192], cmd[8400];
	va_list ap;
	int status;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (setenv("E2E_COMMAND", text, 1))
		fail_msg("setenv: %s", strerror(errno));
	snprintf(cmd, sizeof(cmd),
		 "exec timeout -k 5 60 sh -c \"$E2E_COMMAND\" >" SCRATCH "/stdout 2>" SCRATCH
		 "/stderr </dev/null");
	status = system(cmd);
	o.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	read_file(SCRATCH "/stdout", o.out, sizeof(o.out));
	read_file(SCRATCH "/stderr", o.err, sizeof(o.err));
	return &o;
}

bool have_program(const char *name)
{
	char cmd[256];

	snprintf(cmd, sizeof(cmd), "PATH=$PATH:/usr/sbin:/sbin; command -v %s >/dev/null 2>&1",
		 name);
	return !system(cmd);
}

/* --- what others count -------------------------------------------------------------------------
 */

static long ask_origin(const struct instance *i, const char *path, const char *what)
{
	struct client *c = call_directly(i->address);
	cJSON *v;
	long n;

	if (get(c, "%s", path) != 200)
		fail_msg("%s of %s does not answer", i->id, i->service);
	v = json_parse(c->body, c->body_len, NULL);
	n = (long)json_num(v, what, -1);
	cJSON_Delete(v);
	hang_up(c);
	return n;
}

long origin_stat(const struct instance *i, const char *what)
{
	return ask_origin(i, "/__stats", what);
}

long origin_seen(const struct instance *i, uint64_t from_us, uint64_t to_us)
{
	char path[96];

	snprintf(path, sizeof(path), "/__stats?from=%lu&to=%lu", from_us, to_us);
	return ask_origin(i, path, "seen");
}

void origin_set(const struct instance *i, const char *mode)
{
	char path[256];

	snprintf(path, sizeof(path), "/__set?%s", mode);
	(void)ask_origin(i, path, "requests");
}

double metric(const char *name, ...)
{
	struct client *c = call_directly(ADMIN_ADDRESS);
	size_t len = strlen(name);
	double sum = -1;

	if (get(c, "/metrics") != 200)
		fail_msg("/metrics does not answer");
	for (char *line = c->body, *next; line && *line; line = next) {
		const char *text;
		bool all = !strncmp(line, name, len) && (line[len] == '{' || line[len] == ' ');
		va_list ap;

		next = strchr(line, '\n');
		if (next)
			*next++ = 0;
		va_start(ap, name);
		while ((text = va_arg(ap, const char *)))
			all = all && strstr(line, text);
		va_end(ap);
		if (all && strrchr(line, ' '))
			sum = (sum < 0 ? 0 : sum) + strtod(strrchr(line, ' '), NULL);
	}
	hang_up(c);
	return sum;
}
