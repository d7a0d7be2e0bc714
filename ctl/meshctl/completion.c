/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meshctl completion: scripts for bash, zsh and fish, made from the table of commands. What may
 * stand at each place behind a command comes from its `words`: places are separated by commas,
 * candidates by spaces; "@services" are the names of the services, "@endpoints" those of the
 * endpoints of the service just before, "@traces" the ids of the latest traces, asked for when they
 * are needed.
 */
#include "ctl/meshctl/meshctl.h"

#include <stdio.h>
#include <string.h>

#define GLOBAL_FLAGS "--control --token-file --output --verbose --help"
#define PLACE_MAX    256

/* The n-th place of words into out[PLACE_MAX], with the calls put in for the names that are asked
 * for: LAST is how the script says the word before. False: there is no such place. */
static bool place(const char *words, unsigned n, const char *last, char *out)
{
	size_t len;

	while (words && n--) {
		words = strchr(words, ',');
		words += words != NULL;
	}
	if (!words)
		return false;
	len = strcspn(words, ",");
	if (len == 9 && !strncmp(words, "@services", len))
		snprintf(out, PLACE_MAX, "(meshctl get services -o name 2>/dev/null)");
	else if (len == 10 && !strncmp(words, "@endpoints", len))
		snprintf(out, PLACE_MAX, "(meshctl get endpoints %s -o name 2>/dev/null)", last);
	else if (len == 7 && !strncmp(words, "@traces", len))
		snprintf(out, PLACE_MAX, "(meshctl trace list -o name 2>/dev/null)");
	else
		snprintf(out, PLACE_MAX, "%.*s", (int)len, words);
	return true;
}

static void print_flags(const struct command *c)
{
	for (const struct option_spec *o = c->options; o && o->name; o++)
		printf(" --%s", o->name);
	fputs(" " GLOBAL_FLAGS, stdout);
}

/* All flags that take the word behind them, as a pattern of the shell's case. */
static void print_valued(const struct cli *cli, const char *between)
{
	printf("-c%s-o%s--control%s--output%s--token-file", between, between, between, between);
	for (const struct command *c = cli->commands; c->name; c++) {
		for (const struct option_spec *o = c->options; o && o->name; o++) {
			bool before = false;

			for (const struct command *d = cli->commands; d != c && !before; d++)
				for (const struct option_spec *p = d->options; p && p->name; p++)
					before = before || !strcmp(p->name, o->name);
			if (o->arg && !before && o->short_name)
				printf("%s-%c", between, o->short_name);
			if (o->arg && !before)
				printf("%s--%s", between, o->name);
		}
	}
}

static void print_names(const struct cli *cli)
{
	for (const struct command *c = cli->commands; c->name; c++)
		if (!c->hidden)
			printf("%s%s", c == cli->commands ? "" : " ", c->name);
}

/* A case of the shell for each command that has formats of its own. */
static void print_formats(const struct cli *cli, const char *before, const char *after)
{
	for (const struct command *c = cli->commands; c->name; c++)
		if (c->formats)
			printf("\n\t\t%s) %s%s%s ;;", c->name, before, c->formats, after);
}

/* Flags only where a dash was typed; behind "--" it is another program's business (the shell's
 * default). bash makes words of their own of "=" in --flag=value. */
static void bash(const struct cli *cli)
{
	char words[PLACE_MAX];

	fputs("_meshctl() {\n"
	      "\tlocal cur=${COMP_WORDS[COMP_CWORD]} cmd= last= words= flags= place=0 i\n"
	      "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
	      "\t\tcase ${COMP_WORDS[i]} in\n"
	      "\t\t--) return ;;\n"
	      "\t\t",
	      stdout);
	print_valued(cli, "|");
	fputs(") [[ ${COMP_WORDS[i + 1]} == = ]] && ((i++)); ((i++)) ;;\n"
	      "\t\t-*) ;;\n"
	      "\t\t*) if [[ $cmd ]]; then last=${COMP_WORDS[i]}; ((place++)); else "
	      "cmd=${COMP_WORDS[i]}; fi ;;\n"
	      "\t\tesac\n"
	      "\tdone\n"
	      "\tcase ${COMP_WORDS[COMP_CWORD-1]} in\n"
	      "\t-o|--output) case $cmd in",
	      stdout);
	print_formats(cli, "words='", "'");
	puts("\n\t\t*) words='table wide json name' ;;\n"
	     "\t\tesac\n"
	     "\t\tCOMPREPLY=($(compgen -W \"$words\" -- \"$cur\")); return ;;\n"
	     "\t-f|--file|--token-file|--cgroup) return ;;\n"
	     "\tesac\n"
	     "\tcase $cmd in");
	fputs("\t'') words='", stdout);
	print_names(cli);
	puts("' flags='" GLOBAL_FLAGS " --version' ;;");
	for (const struct command *c = cli->commands; c->name; c++) {
		if (c->hidden)
			continue;
		printf("\t%s) flags='", c->name);
		print_flags(c);
		fputs("'", stdout);
		for (unsigned n = 0; place(c->words, n, "\"$last\"", words); n++)
			printf("\n\t\t((place == %u)) && words=%s%s%s", n,
			       words[0] == '(' ? "$" : "'", words, words[0] == '(' ? "" : "'");
		puts(" ;;");
	}
	puts("\tesac\n"
	     "\t[[ $cur == -* ]] && words=$flags\n"
	     "\tCOMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
	     "}\n"
	     "complete -o default -F _meshctl meshctl");
}

static void zsh(const struct cli *cli)
{
	char words[PLACE_MAX];

	puts("#compdef meshctl\n"
	     "_meshctl() {\n"
	     "\tlocal cmd= last= place=0 i\n"
	     "\tlocal -a commands\n"
	     "\tcommands=(");
	for (const struct command *c = cli->commands; c->name; c++)
		if (!c->hidden)
			printf("\t\t\"%s:%s\"\n", c->name, c->summary);
	fputs("\t)\n"
	      "\tfor ((i = 2; i < CURRENT; i++)); do\n"
	      "\t\tcase $words[i] in\n"
	      "\t\t--) _normal; return ;;\n"
	      "\t\t",
	      stdout);
	print_valued(cli, "|");
	fputs(") ((i++)) ;;\n"
	      "\t\t-*) ;;\n"
	      "\t\t*) if [[ -n $cmd ]]; then last=$words[i]; ((place++)); else cmd=$words[i]; fi "
	      ";;\n"
	      "\t\tesac\n"
	      "\tdone\n"
	      "\tcase $words[CURRENT-1] in\n"
	      "\t-o|--output) case $cmd in",
	      stdout);
	print_formats(cli, "compadd ", "; return");
	puts("\n\t\tesac\n"
	     "\t\tcompadd table wide json name; return ;;\n"
	     "\t-f|--file|--token-file|--cgroup) _files; return ;;\n"
	     "\tesac\n"
	     "\tif [[ -z $cmd && $PREFIX != -* ]]; then _describe command commands; return; fi\n"
	     "\tif [[ $PREFIX == -* ]]; then\n"
	     "\t\tcase $cmd in");
	for (const struct command *c = cli->commands; c->name; c++) {
		if (c->hidden)
			continue;
		printf("\t\t%s) compadd --", c->name);
		print_flags(c);
		puts(" ;;");
	}
	puts("\t\t*) compadd -- " GLOBAL_FLAGS " --version ;;\n"
	     "\t\tesac\n"
	     "\t\treturn\n"
	     "\tfi\n"
	     "\tcase $cmd:$place in");
	for (const struct command *c = cli->commands; c->name; c++)
		for (unsigned n = 0; !c->hidden && place(c->words, n, "\"$last\"", words); n++)
			printf("\t%s:%u) compadd -- %s%s ;;\n", c->name, n,
			       words[0] == '(' ? "$" : "", words);
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

/* __meshctl_at CMD:N: is the N-th word behind CMD being typed? */
static void fish_place(const struct cli *cli)
{
	fputs("function __meshctl_at\n"
	      "\tset -l cmd ''; set -l place 0; set -l skip 0; set -g __meshctl_last ''\n"
	      "\tset -l tokens (commandline -opc)\n"
	      "\tset -e tokens[1]\n"
	      "\tfor w in $tokens\n"
	      "\t\tif test $skip = 1\n"
	      "\t\t\tset skip 0\n"
	      "\t\t\tcontinue\n"
	      "\t\tend\n"
	      "\t\tswitch $w\n"
	      "\t\t\tcase ",
	      stdout);
	print_valued(cli, " ");
	puts("\n\t\t\t\tset skip 1\n"
	     "\t\t\tcase '-*'\n"
	     "\t\t\tcase '*'\n"
	     "\t\t\t\tif test -n \"$cmd\"\n"
	     "\t\t\t\t\tset place (math $place + 1)\n"
	     "\t\t\t\t\tset -g __meshctl_last $w\n"
	     "\t\t\t\telse\n"
	     "\t\t\t\t\tset cmd $w\n"
	     "\t\t\t\tend\n"
	     "\t\tend\n"
	     "\tend\n"
	     "\ttest \"$cmd:$place\" = $argv[1]\n"
	     "end");
}

static void fish(const struct cli *cli)
{
	char words[PLACE_MAX];

	fish_place(cli);
	puts("complete -c meshctl -f -n __fish_use_subcommand\n"
	     "complete -c meshctl -s o -l output -x -a 'table wide json name'\n"
	     "complete -c meshctl -s c -l control -x -d 'where meshd is'\n"
	     "complete -c meshctl -l token-file -r -d 'the token for writes'\n"
	     "complete -c meshctl -s v -l verbose -d 'say more'");
	for (const struct command *c = cli->commands; c->name; c++) {
		if (c->hidden)
			continue;
		printf("complete -c meshctl -n __fish_use_subcommand -a %s -d ", c->name);
		fish_quoted(c->summary);
		putchar('\n');
		for (unsigned n = 0; place(c->words, n, "$__meshctl_last", words); n++)
			printf("complete -c meshctl -f -n '__meshctl_at %s:%u' -a '%s'\n", c->name,
			       n, words);
		if (c->formats)
			printf("complete -c meshctl -n '__fish_seen_subcommand_from %s' -s o -l "
			       "output -x "
			       "-a '%s'\n",
			       c->name, c->formats);
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
