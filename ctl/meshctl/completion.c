/* SPDX-License-Identifier: Apache-2.0 */
/* meshctl completion: scripts for bash, zsh and fish, made from the table of commands. Names of
 * services are asked for when they are needed. */
#include "ctl/meshctl/meshctl.h"

#include <stdio.h>
#include <string.h>

#define SERVICES_WORD "@services" /* in command.words: the names of the services */
#define SERVICES_CALL "$(meshctl get services -o name 2>/dev/null)"

static void print_words(const struct command *c)
{
	const char *w = c->words ? c->words : "", *at = strstr(w, SERVICES_WORD);

	if (at)
		printf("%.*s" SERVICES_CALL, (int)(at - w), w);
	else
		fputs(w, stdout);
}

static void print_flags(const struct command *c)
{
	for (const struct option_spec *o = c->options; o && o->name; o++)
		printf(" --%s", o->name);
	fputs(" --control --token-file --output --verbose --help", stdout);
}

static void print_names(const struct cli *cli)
{
	for (const struct command *c = cli->commands; c->name; c++)
		if (!c->hidden)
			printf("%s%s", c == cli->commands ? "" : " ", c->name);
}

/* Flags only where a dash was typed; behind "--" it is another program's business (the shell's
 * default). */
static void bash(const struct cli *cli)
{
	puts("_meshctl() {\n"
	     "\tlocal cur=${COMP_WORDS[COMP_CWORD]} cmd= words= flags= i\n"
	     "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
	     "\t\tcase ${COMP_WORDS[i]} in\n"
	     "\t\t--) return ;;\n"
	     "\t\t-c|-o|--control|--output|--token-file) ((i++)) ;;\n"
	     "\t\t-*) ;;\n"
	     "\t\t*) cmd=${COMP_WORDS[i]}; break ;;\n"
	     "\t\tesac\n"
	     "\tdone\n"
	     "\tcase ${COMP_WORDS[COMP_CWORD-1]} in\n"
	     "\t-o|--output) COMPREPLY=($(compgen -W 'table wide json name' -- \"$cur\")); return "
	     ";;\n"
	     "\t-f|--file|--token-file|--cgroup) return ;;\n"
	     "\tesac\n"
	     "\tcase $cmd in");
	fputs("\t'') words='", stdout);
	print_names(cli);
	puts("' flags='--control --token-file --output --verbose --help --version' ;;");
	for (const struct command *c = cli->commands; c->name; c++) {
		if (c->hidden)
			continue;
		printf("\t%s) words=\"", c->name);
		print_words(c);
		fputs("\" flags='", stdout);
		print_flags(c);
		puts("' ;;");
	}
	puts("\tesac\n"
	     "\t[[ $cur == -* ]] && words=$flags\n"
	     "\tCOMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
	     "}\n"
	     "complete -o default -F _meshctl meshctl");
}

static void zsh(const struct cli *cli)
{
	puts("#compdef meshctl\n"
	     "_meshctl() {\n"
	     "\tlocal -a commands\n"
	     "\tcommands=(");
	for (const struct command *c = cli->commands; c->name; c++)
		if (!c->hidden)
			printf("\t\t\"%s:%s\"\n", c->name, c->summary);
	puts("\t)\n"
	     "\tif ((CURRENT == 2)); then _describe command commands; return; fi\n"
	     "\tif ((${words[(I)--]} && ${words[(I)--]} < CURRENT)); then _normal; return; fi\n"
	     "\tcase $words[CURRENT-1] in\n"
	     "\t-o|--output) compadd table wide json name; return ;;\n"
	     "\t-f|--file|--token-file|--cgroup) _files; return ;;\n"
	     "\tesac\n"
	     "\tcase $words[2] in");
	for (const struct command *c = cli->commands; c->name; c++) {
		if (c->hidden)
			continue;
		printf("\t%s) compadd -- ", c->name);
		print_words(c);
		print_flags(c);
		puts(" ;;");
	}
	puts("\tesac\n"
	     "}\n"
	     "if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _meshctl; else compdef _meshctl "
	     "meshctl; fi");
}

/* In single quotes fish knows only \\ and \'. */
static void fish_quoted(const char *s)
{
	putchar('\'');
	for (; *s; s++) {
		if (*s == '\'' || *s == '\\')
			putchar('\\');
		putchar(*s);
	}
	putchar('\'');
}

static void fish_flags(const struct command *c)
{
	for (const struct option_spec *o = c->options; o && o->name; o++) {
		printf("complete -c meshctl -n '__fish_seen_subcommand_from %s' -l %s", c->name,
		       o->name);
		if (o->short_name)
			printf(" -s %c", o->short_name);
		if (o->arg)
			fputs(" -r", stdout);
		fputs(" -d ", stdout);
		fish_quoted(o->help);
		putchar('\n');
	}
}

static void fish(const struct cli *cli)
{
	puts("complete -c meshctl -f -n __fish_use_subcommand\n"
	     "complete -c meshctl -s o -l output -x -a 'table wide json name'\n"
	     "complete -c meshctl -s c -l control -x -d 'where meshd is'\n"
	     "complete -c meshctl -l token-file -r -d 'the token for writes'\n"
	     "complete -c meshctl -s v -l verbose -d 'say more'");
	for (const struct command *c = cli->commands; c->name; c++) {
		const char *at = c->words ? strstr(c->words, SERVICES_WORD) : NULL;

		if (c->hidden)
			continue;
		printf("complete -c meshctl -n __fish_use_subcommand -a %s -d ", c->name);
		fish_quoted(c->summary);
		putchar('\n');
		if (c->words)
			printf("complete -c meshctl -f -n '__fish_seen_subcommand_from %s' -a "
			       "'%.*s%s'\n",
			       c->name, (int)(at ? at - c->words : (long)strlen(c->words)),
			       c->words, at ? "(meshctl get services -o name 2>/dev/null)" : "");
		fish_flags(c);
	}
}

int cmd_completion(struct cli *cli)
{
	static const char *const shells[] = {"bash", "zsh", "fish"};
	static void (*const print[])(const struct cli *) = {bash, zsh, fish};

	for (int i = 0; i < 3; i++) {
		if (!strcmp(cli->argv[0], shells[i])) {
			print[i](cli);
			return EXIT_OK;
		}
	}
	return cli_no_such(cli, "completion for", cli->argv[0], shells, 3);
}
