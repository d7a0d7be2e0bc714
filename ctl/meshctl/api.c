/* SPDX-License-Identifier: Apache-2.0 */
/* REST client of meshctl. The only file that knows where meshd is and what its refusals mean. */
#include "ctl/meshctl/api.h"
#include "ctl/meshctl/output.h"
#include "ctl/meshctl/text.h"
#include "lib/http.h"
#include "lib/json.h"
#include "lib/name.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define DEFAULT_SOCKET "/run/mesh/meshd.sock"
#define DEFAULT_URL    "http://127.0.0.1:15000"
#define TIMEOUT_MS     10000
#define SILENCE_MS     10000 /* a stream without a byte: meshd sends a comment every 3 s */

static bool connectable(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool ok;

	if (fd < 0)
		return false;
	strncpy(a.sun_path, path, sizeof(a.sun_path) - 1);
	ok = !connect(fd, (struct sockaddr *)&a, sizeof(a));
	close(fd);
	return ok;
}

static void read_token(struct cli *cli)
{
	const char *file = cli->token_file ? cli->token_file : TOKEN_DEFAULT_FILE;
	int err = token_read(file, cli->token);

	/* most hosts have no meshd, most users may not read its token */
	if (err && (cli->token_file || (err != -ENOENT && err != -EACCES)))
		cli_fail("cannot read the token from %s: %s; trying without", file,
			 token_error(err));
}

static void find_meshd(struct cli *cli)
{
	static bool done;

	if (done)
		return;
	done = true;
	if (!cli->control)
		cli->control = connectable(DEFAULT_SOCKET) ? "unix:" DEFAULT_SOCKET : DEFAULT_URL;
	if (strncmp(cli->control, "unix:", 5))
		read_token(cli);
}

static void explain_unreachable(struct cli *cli, int error, struct api_answer *a)
{
	a->code = error == -EMSGSIZE ? EXIT_FAILED : EXIT_UNREACHABLE;
	if (error == -EMSGSIZE)
		snprintf(a->error, sizeof(a->error),
			 "what meshd at %s answers is too large to be read (over %d MiB); ask for "
			 "less",
			 cli->control, HTTP_ANSWER_MAX >> 20);
	else if (error == -ETIMEDOUT)
		snprintf(a->error, sizeof(a->error),
			 "meshd at %s did not answer within %d s; look at its log", cli->control,
			 TIMEOUT_MS / 1000);
	else if (error == -EACCES)
		snprintf(a->error, sizeof(a->error),
			 "%s may not be opened by this user: use root or a member of its group, or "
			 "--control " DEFAULT_URL " (writes need --token-file then)",
			 cli->control);
	else
		snprintf(a->error, sizeof(a->error),
			 "meshd does not answer at %s: %s; start it (meshd, as root), or say "
			 "where it is with --control URL or unix:PATH",
			 cli->control,
			 error == -EHOSTUNREACH ? "no such host, or no route to it"
						: strerror(-error));
}

/* What is a parameter of a request is a flag for people. */
static void name_the_flag(char *error, size_t cap)
{
	char *at = strstr(error, " (?force=true");

	if (at)
		snprintf(at, cap - (size_t)(at - error), " (--force does it all the same)");
}

static void explain_refusal(struct cli *cli, const struct api_request *r, const cJSON *body,
			    struct api_answer *a)
{
	const char *text = json_str(body, "error", NULL), *field = json_str(body, "field", NULL);

	bool named = text && field && !strncmp(text, field, strlen(field));

	a->code = EXIT_FAILED;
	if (a->status == 401)
		snprintf(a->error, sizeof(a->error),
			 "meshd at %s does not let us write: it wants its token (--token-file, "
			 "default " TOKEN_DEFAULT_FILE
			 "), or its unix socket (--control unix:" DEFAULT_SOCKET ")",
			 cli->control);
	else if (text)
		snprintf(a->error, sizeof(a->error), "%s%s%s", field && !named ? field : "",
			 field && !named ? ": " : "", text);
	else
		snprintf(a->error, sizeof(a->error),
			 "%s %s at %s: status %d without an explanation; is it a meshd?", r->method,
			 r->path, cli->control, a->status);
	if (a->status == 409)
		name_the_flag(a->error, sizeof(a->error));
	text_mask(a->error);
}

/* Whatever the other side is, its words cannot steer the terminal: masked here, before anybody
 * prints them. meshd takes no control characters in, so nothing honest changes. */
void api_mask(cJSON *v)
{
	cJSON *item;

	if (v->string)
		text_mask(v->string);
	if (cJSON_IsString(v))
		text_mask(v->valuestring);
	cJSON_ArrayForEach (item, v)
		api_mask(item);
}

static void take(struct cli *cli, const struct api_request *r, const struct http_answer *h,
		 struct api_answer *a)
{
	a->json = json_parse(h->body, h->len, NULL);
	if (a->json)
		api_mask(a->json);
	a->status = h->status;
	memcpy(a->etag, h->etag, sizeof(a->etag));
	if (h->status < 200 || h->status > 299) {
		explain_refusal(cli, r, a->json, a);
	} else if (!a->json) {
		a->code = EXIT_FAILED;
		snprintf(a->error, sizeof(a->error),
			 "%s %s at %s: the answer is no JSON; is it a meshd?", r->method, r->path,
			 cli->control);
	}
}

int api_call(struct cli *cli, const struct api_request *r, struct api_answer *a)
{
	struct http_call call = {
		.method = r->method,
		.path = r->path,
		.if_match = r->if_match,
		.if_none_match = r->if_none_match,
		.timeout_ms = TIMEOUT_MS,
	};
	struct http_answer h = {0};
	struct spinner spinner;
	char *body = NULL;

	*a = (struct api_answer){0};
	find_meshd(cli);
	call.base = cli->control;
	call.token = cli->token[0] ? cli->token : NULL;
	if (r->body) {
		body = cJSON_PrintUnformatted(r->body);
		if (!body) {
			strcpy(a->error, "out of memory");
			return a->code = EXIT_FAILED;
		}
		call.body = body;
		call.body_len = strlen(body);
	}
	spinner_start(&spinner, "waiting for meshd");
	if (http_call(&call, &h))
		explain_unreachable(cli, h.error, a);
	else
		take(cli, r, &h, a);
	spinner_stop(&spinner);
	http_answer_done(&h);
	cJSON_free(body);
	return a->code;
}

int api_stream(struct cli *cli, const char *path, int stop_fd,
	       int (*take_piece)(const char *data, size_t len, void *arg), void *arg,
	       struct api_answer *a)
{
	const struct api_request r = {.method = "GET", .path = path};
	const struct http_taker taker = {
		.take = take_piece, .arg = arg, .stop_fd = stop_fd, .idle_ms = SILENCE_MS};
	struct http_call call = {.method = "GET", .path = path, .timeout_ms = TIMEOUT_MS};
	struct http_answer h = {0};

	*a = (struct api_answer){0};
	find_meshd(cli);
	call.base = cli->control;
	call.token = cli->token[0] ? cli->token : NULL;
	http_stream(&call, &taker, &h);
	if (h.error && h.error != -ECANCELED)
		explain_unreachable(cli, h.error, a);
	else if (!h.error && h.status != 200)
		take(cli, &r, &h, a);
	else if (!h.error)
		a->status = h.status;
	http_answer_done(&h);
	return a->code;
}

void api_done(struct api_answer *a)
{
	cJSON_Delete(a->json);
	a->json = NULL;
}

int api_report(const struct api_answer *a)
{
	if (a->code != EXIT_OK)
		cli_fail("%s", a->error);
	return a->code;
}

int api_get(struct cli *cli, const char *path, cJSON **out)
{
	struct api_answer a;
	int rc;

	api_call(cli, &(struct api_request){.method = "GET", .path = path}, &a);
	rc = api_report(&a);
	if (rc == EXIT_OK) {
		*out = a.json;
		a.json = NULL;
	}
	api_done(&a);
	return rc;
}

double api_agent_workers(const cJSON *agent)
{
	return json_num(agent, "workersAnswering", json_num(agent, "workers", 0));
}

int api_path(struct cli *cli, const char *prefix, const char *name, const char *suffix, char *out)
{
	char escaped[NAME_LEN_MAX * 3 + 8];

	if (!name_valid(name) || http_escape(name, escaped, sizeof(escaped)))
		return cli_usage(cli, "%s is no name: a name is " NAME_WHAT, name);
	snprintf(out, API_PATH_MAX, "%s%s%s", prefix, escaped, suffix);
	return EXIT_OK;
}

int api_path_id(struct cli *cli, char *out, const char *key, const char *id)
{
	char escaped[API_ID_MAX * 3 + 8];
	size_t len = strlen(out), n = strlen(id);
	bool ok = n && n <= API_ID_MAX && strcmp(id, ".") && strcmp(id, "..");

	for (const char *p = id; *p; p++)
		ok = ok && *p > ' ' && *p < 0x7f;
	if (!ok || http_escape(id, escaped, sizeof(escaped)))
		return cli_usage(cli, "%s is no id: an id is 1 to %d letters, digits and signs", id,
				 API_ID_MAX);
	snprintf(out + len, API_PATH_MAX - len, "%s%s%s%s", key ? "?" : "/", key ? key : "",
		 key ? "=" : "", escaped);
	return EXIT_OK;
}

void api_warn(const struct api_answer *a)
{
	const cJSON *w;

	cJSON_ArrayForEach (w, cJSON_GetObjectItemCaseSensitive(a->json, "warnings"))
		if (cJSON_IsString(w))
			cli_fail("warning: %s", w->valuestring);
}

int api_write(struct cli *cli, const struct api_request *r, const char *done, const char *missing)
{
	struct api_answer a;
	int rc;

	api_call(cli, r, &a);
	api_warn(&a);
	if (a.code != EXIT_OK)
		rc = a.status == 404 && missing ? cli_fail("%s", missing) : api_report(&a);
	else if (cli->format == OUTPUT_JSON)
		rc = output_json(a.json);
	else if (cli->format == OUTPUT_NAME)
		rc = EXIT_OK;
	else
		rc = puts(done) < 0 ? EXIT_FAILED : EXIT_OK;
	api_done(&a);
	return rc;
}
