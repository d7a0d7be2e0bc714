/* SPDX-License-Identifier: Apache-2.0 */
/* Messages of meshctl: one line each, on stderr. Called by every command. */
#include "ctl/meshctl/meshctl.h"
#include "ctl/meshctl/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SUBCOMMANDS_MAX 8

static void say(const char *fmt, va_list ap)
{
	char line[2048];

	vsnprintf(line, sizeof(line), fmt, ap);
	fprintf(stderr, "meshctl: %s", text_mask(line));
}

int cli_fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return EXIT_FAILED;
}

int cli_usage(const struct cli *cli, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(fmt, ap);
	va_end(ap);
	fprintf(stderr, " (see meshctl %s --help)\n", cli->command->name);
	return EXIT_USAGE;
}

int cli_no_such(const struct cli *cli, const char *what, const char *word, const char *const *words,
		size_t n)
{
	const char *near = text_nearest(word, words, n);
	char all[256] = "";

	if (near)
		return cli_usage(cli, "there is no %s %s; did you mean %s?", what, word, near);
	for (size_t i = 0; i < n; i++) {
		size_t len = strlen(all);

		snprintf(all + len, sizeof(all) - len, "%s%s", i ? ", " : "", words[i]);
	}
	return cli_usage(cli, "there is no %s %s; there are: %s", what, word, all);
}

int cli_arity(const struct cli *cli, int min, int max)
{
	if (cli->argc < min)
		return cli_usage(cli, "something is missing: meshctl %s %s", cli->command->name,
				 cli->command->args);
	if (max >= 0 && cli->argc > max)
		return cli_usage(cli, "too many words, from %s on", cli->argv[max]);
	return EXIT_OK;
}

int cli_dispatch(struct cli *cli, const struct subcommand *subs, size_t n)
{
	const char *names[SUBCOMMANDS_MAX];
	size_t i;
	int rc;

	for (i = 0; i < n && strcmp(subs[i].name, cli->argv[0]); i++)
		names[i] = subs[i].name;
	if (i == n)
		return cli_no_such(cli, cli->command->name, cli->argv[0], names, n);
	rc = cli_arity(cli, subs[i].min, subs[i].max);
	return rc ? rc : subs[i].run(cli);
}
