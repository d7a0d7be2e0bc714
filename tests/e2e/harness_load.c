/* SPDX-License-Identifier: Apache-2.0 */
/* See harness.h: load by bench/load.c, and what became of its requests. */
#include "tests/e2e/harness_impl.h"

static struct load *loads;
static unsigned nloads;

struct load *load_start(const char *service, const char *flags_fmt, ...)
{
	struct load *l = calloc(1, sizeof(*l));
	char flags[1024], cmd[1280], id[32];
	va_list ap;

	assert_non_null(l);
	va_start(ap, flags_fmt);
	vsnprintf(flags, sizeof(flags), flags_fmt, ap);
	va_end(ap);
	snprintf(id, sizeof(id), "load-%u", nloads++);
	snprintf(l->path, sizeof(l->path), SCRATCH "/%s.shots", id);
	snprintf(cmd, sizeof(cmd), "exec load --out %s %s", l->path, flags);
	l->next = loads;
	loads = l;
	if (service)
		l->run = instance_start(service, id, "--netns", cmd + strlen("exec "));
	else
		l->pid = spawn(id, cmd);
	return l;
}

static void read_shots(struct load *l, FILE *f)
{
	size_t cap = 0;
	struct shot s;

	while (fscanf(f, "%lu %lu %d %d %23s %31s", &s.start_us, &s.took_us, &s.status, &s.tries,
		      s.cause, s.instance) == 6) {
		if (l->n == cap) {
			cap = cap ? cap * 2 : 4096;
			l->shots = realloc(l->shots, cap * sizeof(*l->shots));
			assert_non_null(l->shots);
		}
		l->shots[l->n++] = s;
	}
}

void load_end(struct load *l)
{
	FILE *f;

	reap(l->run ? &l->run->run : &l->pid, SIGTERM);
	f = fopen(l->path, "re");
	if (!f)
		fail_msg("%s: %s", l->path, strerror(errno));
	read_shots(l, f);
	fclose(f);
	if (!l->n)
		fail_msg("no request was made");
}

void loads_end(void)
{
	for (struct load *l; (l = loads);) {
		loads = l->next;
		if (l->pid)
			reap(&l->pid, SIGKILL);
		free(l->shots);
		free(l);
	}
}

static bool is_in(const struct shot *s, uint64_t from_us, uint64_t to_us)
{
	return s->start_us >= from_us && s->start_us < to_us;
}

size_t load_count(const struct load *l, uint64_t from_us, uint64_t to_us)
{
	size_t n = 0;

	for (size_t i = 0; i < l->n; i++)
		n += is_in(&l->shots[i], from_us, to_us);
	return n;
}

size_t load_ok(const struct load *l, uint64_t from_us, uint64_t to_us)
{
	size_t n = 0;

	for (size_t i = 0; i < l->n; i++)
		n += is_in(&l->shots[i], from_us, to_us) && l->shots[i].status == 200;
	return n;
}

size_t load_cause(const struct load *l, uint64_t from_us, uint64_t to_us, const char *cause)
{
	size_t n = 0;

	for (size_t i = 0; i < l->n; i++) {
		const struct shot *s = &l->shots[i];

		n += s->start_us >= from_us && s->start_us + s->took_us < to_us &&
		     (!cause || !strcmp(s->cause, cause));
	}
	return n;
}

size_t load_by(const struct load *l, uint64_t from_us, uint64_t to_us, const char *instance)
{
	size_t n = 0;

	for (size_t i = 0; i < l->n; i++)
		n += is_in(&l->shots[i], from_us, to_us) && !strcmp(l->shots[i].instance, instance);
	return n;
}

static int compare(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

uint64_t load_quantile(const struct load *l, uint64_t from_us, uint64_t to_us, unsigned thousandth)
{
	uint64_t *took = calloc(l->n + 1, sizeof(*took)), q;
	size_t n = 0;

	assert_non_null(took);
	for (size_t i = 0; i < l->n; i++)
		if (is_in(&l->shots[i], from_us, to_us))
			took[n++] = l->shots[i].took_us;
	qsort(took, n, sizeof(*took), compare);
	q = n ? took[(n - 1) * thousandth / 1000] : 0;
	free(took);
	return q;
}
