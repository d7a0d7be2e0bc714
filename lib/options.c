/* SPDX-License-Identifier: Apache-2.0 */
/* See options.h. */
#include "lib/options.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void options_usage(const struct program *p, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "%s: ", p->name);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, " (see %s --help)\n", p->name);
	exit(EXIT_USAGE);
}

/* "-o, --output FORMAT", as the help shows it. */
static int flag_text(const struct option_spec *o, char *out, size_t cap)
{
	char short_form[8] = "    ";

	if (o->short_name)
		snprintf(short_form, sizeof(short_form), "-%c, ", o->short_name);
	return snprintf(out, cap, "%s--%s%s%s", short_form, o->name, o->arg ? " " : "",
			o->arg ? o->arg : "");
}

static void print_flag(const struct option_spec *o, int width)
{
	char left[64];

	flag_text(o, left, sizeof(left));
	printf("  %-*s  %s", width, left, o->help);
	if (o->arg && o->fallback && *o->fallback)
		printf(" (%s)", o->fallback);
	putchar('\n');
}

static const struct option_spec builtins[] = {
	{.name = "help", .short_name = 'h', .help = "this help"},
	{.name = "version", .help = "the version of this program"},
	{0},
};

static const struct option_spec *find(const struct option_spec *o, const char *name, size_t len)
{
	while (o->name && !(strlen(o->name) == len && !memcmp(o->name, name, len)))
		o++;
	return o->name ? o : NULL;
}

static void print_help(const struct program *p)
{
	int width = 0;

	for (const struct option_spec *o = p->options; o->name; o++) {
		int n = flag_text(o, NULL, 0);

		width = n > width ? n : width;
	}
	printf("Usage: %s %s\n%s\n\n", p->name, p->usage, p->summary);
	for (const struct option_spec *o = p->options; o->name; o++)
		print_flag(o, width);
	for (const struct option_spec *o = builtins; o->name; o++)
		if (!find(p->options, o->name, strlen(o->name)))
			print_flag(o, width);
	puts("Every flag can also be given in the environment: --some-name as MESH_SOME_NAME.");
}

static const char *from_environment(const struct option_spec *o)
{
	char name[64];
	const char *v;
	size_t n = (size_t)snprintf(name, sizeof(name), "MESH_%s", o->name);

	if (n >= sizeof(name))
		return NULL;
	for (char *c = name; *c; c++)
		*c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
	v = getenv(name);
	return v && *v ? v : NULL;
}

static bool environment_switch(const struct program *p, const struct option_spec *o, const char *v)
{
	if (!strcmp(v, "1") || !strcmp(v, "true") || !strcmp(v, "yes") || !strcmp(v, "on"))
		return true;
	if (!strcmp(v, "0") || !strcmp(v, "false") || !strcmp(v, "no") || !strcmp(v, "off"))
		return false;
	options_usage(p, "--%s from the environment is neither on nor off: %s", o->name, v);
}

static void set_defaults(const struct program *p)
{
	for (const struct option_spec *o = p->options; o->name; o++) {
		const char *v = from_environment(o);

		if (o->arg)
			*o->value = v ? v : o->fallback;
		else
			*o->set = v && environment_switch(p, o, v);
	}
}

static const struct option_spec *find_short(const struct program *p, char c)
{
	const struct option_spec *o = p->options;

	while (o->name && o->short_name != c)
		o++;
	return o->name ? o : NULL;
}

static void builtin(const struct program *p, const char *flag)
{
	if (!strcmp(flag, "--help") || !strcmp(flag, "-h")) {
		print_help(p);
	} else if (!strcmp(flag, "--version")) {
		printf("%.*s %s\n", (int)strcspn(p->name, " "), p->name, MESH_VERSION);
	} else {
		options_usage(p, "unknown flag %s", flag);
	}
	exit(fflush(stdout) ? EXIT_FAILED : EXIT_OK);
}

/* Takes the flag at argv[i], and its value; returns the index behind them. */
static int take_flag(const struct program *p, int argc, char **argv, int i)
{
	const char *flag = argv[i], *name = flag + 2, *value = NULL;
	const struct option_spec *o;
	size_t len;

	if (flag[1] == '-') {
		len = strcspn(name, "=");
		o = find(p->options, name, len);
		value = name[len] ? name + len + 1 : NULL;
	} else {
		len = 0;
		o = find_short(p, flag[1]);
		value = flag[2] ? flag + 2 : NULL;
	}
	if (!o)
		builtin(p, flag);
	if (!o->arg) {
		if (value)
			options_usage(p, "--%s takes no value", o->name);
		*o->set = true;
		return i + 1;
	}
	if (!value) {
		if (++i == argc)
			options_usage(p, "--%s needs a value: %s", o->name, o->arg);
		value = argv[i];
	}
	*o->value = value;
	return i + 1;
}

static bool is_flag(const char *word)
{
	return word[0] == '-' && word[1];
}

int options_parse(const struct program *p, int argc, char **argv)
{
	int i = 1;

	set_defaults(p);
	while (i < argc && is_flag(argv[i])) {
		if (!strcmp(argv[i], "--"))
			return i + 1;
		i = take_flag(p, argc, argv, i);
	}
	return i;
}

int options_parse_mixed(const struct program *p, int argc, char **argv)
{
	int i = 1, words = 0;

	set_defaults(p);
	while (i < argc) {
		if (!strcmp(argv[i], "--")) {
			i++;
			break;
		}
		if (is_flag(argv[i]))
			i = take_flag(p, argc, argv, i);
		else
			argv[++words] = argv[i++];
	}
	while (i < argc)
		argv[++words] = argv[i++];
	return words;
}
