/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What spans cost meshd that come as records, without a network: to check a batch, to record it and
 * to decide, to list a span, and to find one that is not listed. Prints CPU time; asserts nothing.
 */
#include "ctl/meshd/traces/traces.h"
#include "lib/clock.h"
#include "lib/http.h"
#include "lib/options.h"
#include "lib/record_batch.h"

#include <mesh/abi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BATCHES	      64
#define RECORDS	      900 /* of a batch: it has 256 KiB at most */

#define BODY	      8 /* batches */
#define SECONDS	      300

#define POST_EVERY_MS 100 /* as agents do */

static const char *opt_dir, *opt_hops, *opt_control, *opt_pid, *opt_rate, *opt_seconds;
static const struct option_spec options[] = {
	{"dir", 0, "DIR", "/var/tmp", "where a directory for the files is made", &opt_dir},
	{"hops", 0, "N", "1", "spans of a trace", &opt_hops},
	{"control", 0, "URL", NULL, "post them to that meshd instead, and", &opt_control},
	{"pid", 0, "PID", NULL, "tell its CPU time", &opt_pid},
	{"rate", 0, "N", "0", "post so many spans a second, not as many as it takes", &opt_rate},
	{"seconds", 0, "N", "20", "so long", &opt_seconds},
	{0},
};
static const struct program program = {"recording", "[flags]",
				       "what spans that come as records cost meshd", options};

static struct record_batch *writer;
static void *batch[BATCHES];
static struct record_batch_view view[BATCHES];
static unsigned hops;
static uint64_t spans;

static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

_Noreturn static void die(const char *what)
{
	fprintf(stderr, "recording: %s\n", what);
	exit(1);
}

/* Numbers that look drawn, and the same in each run. */
static uint64_t mix(uint64_t v)
{
	v = (v ^ v >> 31) * 0x9e3779b97f4a7c15ULL;
	return v ^ v >> 29;
}

static void add_record(void)
{
	static const char text[] = "GET/api/items/4711backend:800123456789abcdef0123456789abcdef";
	struct {
		struct record r;
		struct record_try tried;
		char text[64];
	} w = {.r = {.size = sizeof(w),
		     .kind = RECORD_REQUEST,
		     .tries = 1,
		     .ntries = 1,
		     .flags = RECORD_TRACED | RECORD_SAMPLED,
		     .start_ns = (uint32_t)spans * 1000ull,
		     .duration_ns = 1000000 + mix(spans) % 1000000,
		     .status = 200,
		     .method_len = 3,
		     .path_len = 15,
		     .host_len = 10,
		     .request_id_len = 32},
	       .tried = {.status = 200, .duration_us = 500}};
	struct span_names n = {.source = "frontend",
			       .service = "backend",
			       .instance = "backend-4711",
			       .version = "v1",
			       .node = "n"};
	uint64_t trace[2] = {mix(spans / hops), mix(spans / hops + 1)}, id = mix(~spans);

	memcpy(w.r.trace_id, trace, 16);
	memcpy(w.r.span_id, &id, 8);
	memcpy(w.text, text, sizeof(text) - 1);
	if (record_batch_add(writer, &w.r, &n))
		die("a batch is full");
	spans++;
}

static void make_batches(void)
{
	size_t len;

	for (int i = 0; i < BATCHES; i++) {
		for (int k = 0; k < RECORDS; k++)
			add_record();
		free(batch[i]);
		if (record_batch_take(writer, (int64_t)clock_wall_ms() * 1000000, &batch[i], &len))
			die("no memory");
	}
}

static void check_batches(void)
{
	for (int i = 0; i < BATCHES; i++)
		if (record_batch_check(batch[i], RECORD_BATCH_SIZE, &view[i]))
			die("a batch is none");
}

static void each(const char *what, uint64_t ns, uint64_t n)
{
	printf("%-44s %9.1f ns each, %llu of them\n", what, n ? (double)ns / (double)n : 0,
	       (unsigned long long)n);
}

/* One record a batch and a second, so that all of them are listed at once. */
static void list_some(struct traces *t)
{
	uint64_t begin, ns = 0;
	size_t len;

	for (uint64_t i = 1; i <= 4000; i++) {
		struct record_batch_view v;
		void *data;

		add_record();
		if (record_batch_take(writer, 0, &data, &len) || record_batch_check(data, len, &v))
			die("no memory");
		begin = cpu_ns();
		if (traces_take_records(t, &v, 1, i * 1000) || traces_list_due(t, i * 1000))
			die(traces_error(t));
		ns += cpu_ns() - begin;
		free(data);
		traces_sweep(t, i * 1000);
	}
	each("list one that comes alone", ns, 4000);
}

/* As of a node that samples 900 a second: a batch each 100 ms, and what is due each second. */
static void list_in_time(struct traces *t)
{
	uint64_t record = 0, list = 0, begin, now_ms = 10000000;
	struct traces_counts before, after;
	struct record_batch_view v;
	size_t len;
	void *data;

	traces_count(t, &before);
	for (int i = 0; i < 10 * SECONDS; i++, now_ms += 100) {
		for (int k = 0; k < 90; k++)
			add_record();
		if (record_batch_take(writer, (int64_t)clock_wall_ms() * 1000000, &data, &len) ||
		    record_batch_check(data, len, &v))
			die("no memory");
		begin = cpu_ns();
		if (traces_take_records(t, &v, 1, now_ms))
			die(traces_error(t));
		record += cpu_ns() - begin;
		free(data);
		begin = cpu_ns();
		while (i % 10 == 9 && traces_list_due(t, now_ms))
			;
		list += cpu_ns() - begin;
	}
	traces_count(t, &after);
	each("record one of a batch of 90", record, 900 * SECONDS);
	each("list one of a second's", list, after.listed - before.listed);
}

static void record_many(struct traces *t, const char *what)
{
	uint64_t check = 0, take = 0, begin;

	for (int round = 0; round < 10; round++) {
		make_batches();
		begin = cpu_ns();
		check_batches();
		check += cpu_ns() - begin;
		begin = cpu_ns();
		if (traces_take_records(t, view, BATCHES, 20000000))
			die(traces_error(t));
		take += cpu_ns() - begin;
	}
	each("check a record", check, 10ull * BATCHES * RECORDS);
	each(what, take, 10ull * BATCHES * RECORDS);
}

static void ask(struct traces *t, const char *what, struct traces_filter f)
{
	uint64_t begin = clock_mono_ns();
	struct traces_counts before, after;
	struct buf b;

	f.until_ms = INT64_MAX;
	f.limit = f.limit ? f.limit : TRACES_LIST;
	traces_count(t, &before);
	if (traces_list(t, &f, &b))
		die(traces_error(t));
	traces_count(t, &after);
	printf("%-44s %9.1f ms, %llu spans were listed for it%s\n", what,
	       (double)(clock_mono_ns() - begin) / 1e6,
	       (unsigned long long)(after.listed - before.listed),
	       strstr(b.data, "\"complete\":false") ? ", not complete" : "");
	buf_done(&b);
}

static void ask_all(struct traces *t)
{
	ask(t, "a list of the newest", (struct traces_filter){.error = -1});
	ask(t, "the same again", (struct traces_filter){.error = -1});
	ask(t, "a list of 1000", (struct traces_filter){.error = -1, .limit = 1000});
	ask(t, "those of a service", (struct traces_filter){.error = -1, .service = "backend"});
	ask(t, "those with an error: none", (struct traces_filter){.error = 1});
	ask(t, "those of another service: none",
	    (struct traces_filter){.error = -1, .service = "other"});
	ask(t, "the slow ones", (struct traces_filter){.error = -1, .min_us = 1990000 / 1000});
}

/* --- a meshd ----------------------------------------------------------------------------- */

/* Of the process: user and system. */
static uint64_t pid_cpu_ns(void)
{
	char path[64], line[1024] = "";
	unsigned long long user = 0, system = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/stat", opt_pid);
	f = fopen(path, "re");
	if (!f || !fgets(line, sizeof(line), f) || !strrchr(line, ')') ||
	    sscanf(strrchr(line, ')') + 1, "%*s %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu",
		   &user, &system) != 2)
		die("no such process");
	fclose(f);
	return (user + system) * (1000000000ull / (uint64_t)sysconf(_SC_CLK_TCK));
}

static void post(uint64_t seq, const void *const *batches, int n, char *body)
{
	struct http_answer a;
	size_t len = (size_t)snprintf(body, 256,
				      "{\"node\":\"n\",\"epoch\":\"e%d\",\"seq\":%llu,\"time\":1}",
				      (int)getpid(), (unsigned long long)seq) /
			     8 * 8 +
		     8;

	memset(body + strlen(body), 0, len - strlen(body));
	for (int i = 0; i < n; i++) {
		const struct record_batch_head *h = batches[i];

		memcpy(body + len, h, h->size);
		len += h->size;
	}
	if (http_call(&(struct http_call){.method = "POST",
					  .base = opt_control,
					  .path = "/api/telemetry",
					  .body = body,
					  .body_len = len,
					  .timeout_ms = 5000},
		      &a) ||
	    a.status != 200)
		die("meshd refuses");
	http_answer_done(&a);
}

static int post_all(void)
{
	char *body = malloc(256 + BODY * RECORD_BATCH_SIZE);
	uint64_t begin = pid_cpu_ns(), n = 0;

	if (!body)
		die("no memory");
	for (uint64_t seq = 1; seq <= 400; seq++) {
		if (seq % BODY == 1)
			make_batches();
		post(seq, (const void *const *)batch + (seq - 1) % BODY * BODY, BODY, body);
		n += BODY * RECORDS;
	}
	each("receive, check and record one", pid_cpu_ns() - begin, n);
	free(body);
	return 0;
}

/* As many as an agent samples of what comes; against the same without spans (--rate 0.1) that is
 * what they cost. */
static int post_at_rate(double rate, double seconds)
{
	uint64_t begin = pid_cpu_ns(), from = clock_mono_ns(), n = 0, seq;
	char *body = malloc(256 + RECORD_BATCH_SIZE);
	double turns = seconds * 1000 / POST_EVERY_MS;

	if (!body || rate * POST_EVERY_MS / 1000 > RECORDS)
		die("no memory, or too many a second");
	for (seq = 1; (double)seq <= turns; seq++) {
		uint64_t due = from + seq * POST_EVERY_MS * 1000000ull, now = clock_mono_ns();
		double all = rate * (double)seq * POST_EVERY_MS / 1000;
		size_t len;
		void *one;

		while ((double)n < all) {
			add_record();
			n++;
		}
		if (!record_batch_take(writer, (int64_t)clock_wall_ms() * 1000000, &one, &len)) {
			post(seq, (const void *const *)&one, 1, body);
			free(one);
		} else {
			post(seq, NULL, 0, body);
		}
		if (now < due)
			usleep((useconds_t)((due - now) / 1000));
	}
	free(body);
	each("CPU of a second", (pid_cpu_ns() - begin), (uint64_t)seconds);
	each("receive, record and list one", pid_cpu_ns() - begin, n);
	return 0;
}

int main(int argc, char **argv)
{
	struct traces_options o = {0};
	char dir[256], cmd[300];
	struct traces *t;
	uint64_t begin;

	options_parse(&program, argc, argv);
	hops = (unsigned)atoi(opt_hops);
	spans = opt_control ? (uint64_t)getpid() << 32 : 0; /* others than those of before */
	if (!hops || record_batch_new("n", &writer))
		die("no memory, or no number of hops");
	if (opt_control && atof(opt_rate) > 0)
		return post_at_rate(atof(opt_rate), atof(opt_seconds));
	if (opt_control)
		return post_all();
	snprintf(dir, sizeof(dir), "%s/recording-XXXXXX", opt_dir);
	o.dir = mkdtemp(dir);
	if (!o.dir || traces_new(&o, &t))
		die("no directory, or no memory");
	list_some(t);
	list_in_time(t);
	record_many(t, "record one, the file being new");
	record_many(t, "record one");
	begin = clock_mono_ns();
	traces_free(&t);
	if (traces_new(&o, &t))
		die("no memory");
	printf("%-44s %9.1f ms\n", "end and start", (double)(clock_mono_ns() - begin) / 1e6);
	ask_all(t);
	traces_free(&t);
	record_batch_free(&writer);
	for (int i = 0; i < BATCHES; i++)
		free(batch[i]);
	snprintf(cmd, sizeof(cmd), "rm -r '%s'", dir);
	return system(cmd) ? 1 : 0;
}
