/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meshctl: what people type. This file has the table of commands and finds the one that is meant;
 * each command is a function in the file of its group. Flags may stand anywhere before "--".
 */
#include "ctl/meshctl/meshctl.h"
#include "ctl/meshctl/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OPTIONS_MAX  24
#define COMMANDS_MAX 48

#define FORMATS	     "table wide json name"

static const char default_output[] = "table";
static const char *opt_control, *opt_token_file, *opt_output;
static bool opt_verbose;

static const struct option_spec global_options[] = {
	{"control", 'c', "URL", NULL,
	 "where meshd is: http://HOST:PORT or unix:PATH (default: /run/mesh/meshd.sock, else "
	 "http://127.0.0.1:15000)",
	 &opt_control, NULL},
	{"token-file", 0, "FILE", NULL, "the token for writes (default: /var/lib/mesh/token)",
	 &opt_token_file, NULL},
	{"output", 'o', "FORMAT", default_output, "table, wide, json or name", &opt_output, NULL},
	{"verbose", 'v', NULL, NULL, "say more on stderr", NULL, &opt_verbose},
	{0},
};

static int cmd_help(struct cli *cli);

static const struct command commands[] = {
	{"run", "--service S [flags] -- CMD...", "run a program as an instance of a service",
	 "Makes the cgroup ROOT/mesh/SERVICE/INSTANCE, waits until the mesh captures its "
	 "connections, runs CMD in the\nforeground, passes signals on, ends what CMD left running, "
	 "removes the cgroup, exits with CMD's status.\nCMD finds MESH_SERVICE, MESH_INSTANCE, "
	 "MESH_VERSION and, with --netns, MESH_ADDRESS in its environment.",
	 NULL, 1, -1, cmd_run, run_options, false},
	{"status", "", "the whole mesh on one screen; exit 1 when something is not well", NULL,
	 NULL, 0, 0, cmd_status, NULL, false},
	{"check", "[--pre] [--wait 60s]", "prove that the mesh works on this host",
	 "Every line is something that was tried or read from the kernel, not what was configured. "
	 "Exit 1 when a check\nfails, 3 when meshd cannot be reached.",
	 NULL, 0, 0, cmd_check, check_options, false},
	{"get", "services|endpoints|routes|breakers|faults|agents|config [NAME]",
	 "list things, or one of them",
	 "NAME is that of a service, or of an agent's node. routes: one line each, in the order "
	 "in which they are tried;\nwhat none of them takes goes by the last line. faults: those "
	 "of meshctl chaos, with the time left, and those of\nroutes.",
	 "services endpoints routes breakers faults agents config,@services", 1, 2, cmd_get, NULL,
	 false},
	{"describe", "service S", "everything about one service", NULL, "service,@services", 2, 2,
	 cmd_describe, NULL, false},
	{"apply", "-f FILE|- [--dry-run] [--force]",
	 "put configuration in force: one object or a list",
	 "All of it is validated before any of it is applied, and nothing is overwritten that "
	 "somebody else changes meanwhile.",
	 NULL, 0, 0, cmd_apply, apply_options, false},
	{"diff", "-f FILE|-", "what apply would change; exit 1 when there is a difference", NULL,
	 NULL, 0, 0, cmd_diff, diff_options, false},
	{"delete", "S", "delete the configuration of a service (it gets the defaults)", NULL,
	 "@services", 1, 1, cmd_delete, NULL, false},
	{"history", "S", "the revisions of a service's configuration", NULL, "@services", 1, 1,
	 cmd_history, NULL, false},
	{"rollback", "S REVISION", "put an older revision in force again", NULL, "@services", 2, 2,
	 cmd_rollback, NULL, false},
	{"lb", "set S p2c|least-request|round-robin|random", "choose the load balancing policy",
	 NULL, "set,@services,p2c least-request round-robin random", 3, 3, cmd_lb, NULL, false},
	{"split",
	 "set S VERSION=PERCENT... | header S NAME=VALUE VERSION | show S | clear S [NAME=VALUE]",
	 "divide requests among the versions of a service",
	 "set: every request goes to one of the versions, by weight; the weights sum to 100. "
	 "header: requests with\nthis header go to that version, whatever the weights are "
	 "(a route, before all others). clear: removes\nwhat set and header did, or what header "
	 "did for one of them. A version without endpoints is refused\nunless --force is given.\n"
	 "  meshctl split set backend v1=90 v2=10\n"
	 "  meshctl split header backend x-user-group=beta v2",
	 "set header show clear,@services", 2, -1, cmd_split, split_options, false},
	{"breaker", "show [S] | open|close|reset S [ENDPOINT]",
	 "look at circuit breakers, or hold them by hand",
	 "open: requests are refused (an endpoint: gets none) until close or reset. close: they "
	 "are let through,\nwhatever fails. reset: forgets what was counted, and goes on by "
	 "itself. "
	 "What is held stays so until reset or\nuntil the endpoint is gone; a restart of meshd and "
	 "agent ends it.",
	 "show open close reset,@services,@endpoints", 1, 3, cmd_breaker, NULL, false},
	{"drain", "S ENDPOINT [--undo]", "no new requests for an endpoint; running ones finish",
	 NULL, "@services,@endpoints", 2, 2, cmd_drain, drain_options, false},
	{"chaos", "delay S 500ms | abort S [--status 503] | reset [S]",
	 "make requests slow or fail, for some time",
	 "delay: requests wait that long. abort: they are answered by the mesh. Both at once are "
	 "possible; the same\nagain replaces it. Each ends by itself, and is gone after a restart "
	 "of anything. reset: now, without S for all\nservices.\n"
	 "  meshctl chaos delay backend 500ms --percent 10 --for 5m",
	 "delay abort reset,@services", 1, 3, cmd_chaos, chaos_options, false},
	{"why", "ID", "why the mesh answered a request by itself",
	 "ID is the x-request-id or x-trace-id of the answer. Answers that the mesh made (they "
	 "have "
	 "an x-mesh-cause)\nare explained: the last 10,000 of 15 minutes.",
	 NULL, 1, 1, cmd_why, NULL, false},
	{"stat", "[S] [--window 1m] [--source NAME]",
	 "rate, errors and latency of services, or of one",
	 "Of one service: by caller, and by version. An error is a status of 500 and above, or no "
	 "answer.\n"
	 "  meshctl stat backend --window 5m",
	 "@services", 0, 1, cmd_stat, stat_options, false},
	{"top", "[--window 10s] [--interval 1s] [--once]", "the services as a live table",
	 "q or Ctrl-C ends it. n, r, e, 5 and 9 sort by name, rate, errors, p50 and p99, once more "
	 "turns it round. What is\nno terminal gets the table once.\n"
	 "  meshctl top --window 1m",
	 NULL, 0, 0, cmd_top, top_options, false},
	{"edges", "[--window 1m]", "who calls whom: rate, errors, latency, breaker, split",
	 "Of a TCP service a request is a connection, and its latency the time of connect().\n"
	 "  meshctl edges --window 10m -o wide",
	 NULL, 0, 0, cmd_edges, edges_options, false},
	{"graph", "[-o dot|json|svg] [--window 1m]", "the map of calls, to be drawn",
	 "svg stands for itself: wider lines have more requests, red ones more errors; the rest is "
	 "in tooltips.\n"
	 "  meshctl graph -o svg >mesh.svg\n"
	 "  meshctl graph | dot -Tpng >mesh.png",
	 NULL, 0, 0, cmd_graph, graph_options, false, "dot json svg"},
	{"trace", "list [--service S] [--min 100ms] [--error] [--since 10m] | show ID",
	 "the traces that were kept, or one of them as a waterfall",
	 "show: a line a span, as far as it goes below its parent, with a bar for when it was "
	 "under "
	 "way; tries are lines\nof their own where there were several or something went wrong (-o "
	 "wide: always). ID may be any form in which the\ncaller sent it.\n"
	 "  meshctl trace list --service backend --min 100ms\n"
	 "  meshctl trace show 4bf92f3577b34da6a3ce929d0e0e4736",
	 "list show,@traces", 1, 2, cmd_trace, trace_options, false},
	{"tap", "[S] [--source NAME] [--error] [--min 100ms] [--trace ID] [-n N]",
	 "requests as they pass, a line each, until Ctrl-C",
	 "They are chosen where they pass, sampled or not; with -o json each is a JSON object in "
	 "one line. What is too much\nat a time is left out and counted. Here an error is a status "
	 "of 400 "
	 "and above, or no answer.\n"
	 "  meshctl tap backend --error",
	 "@services", 0, 1, cmd_tap, tap_options, false},
	{"log", "[S] [--trace ID] [--since 10m] [-n N] [-f]",
	 "the last requests, a line each, from meshd's traces",
	 "What was sampled, and whatever failed or was slow; -f goes on with what passes. With -o "
	 "json each is a JSON\nobject in one line.\n"
	 "  meshctl log --trace 4bf92f3577b34da6a3ce929d0e0e4736",
	 "@services", 0, 1, cmd_log, log_options, false},
	{"version", "", "versions of meshctl, meshd and the agents", NULL, NULL, 0, 0, cmd_version,
	 NULL, false},
	{"completion", "bash|zsh|fish", "a completion script for your shell",
	 "bash: source <(meshctl completion bash)\nzsh:  source <(meshctl completion zsh)\nfish: "
	 "meshctl completion fish | source",
	 "bash zsh fish", 1, 1, cmd_completion, NULL, false},
	{"help", "[COMMAND]", "this list, or help for a command", NULL, NULL, 0, 1, cmd_help, NULL,
	 false},
	{"__exec", "", "", NULL, NULL, 2, -1, cmd_exec, NULL, true},
	{"__probe-server", "", "", NULL, NULL, 0, 0, cmd_probe_server, NULL, true},
	{"__probe-client", "", "", NULL, NULL, 1, 1, cmd_probe_client, NULL, true},
	{0},
};

static void print_overview(FILE *out)
{
	fputs("Usage: meshctl COMMAND [flags]\nTalks to a sockmesh.\n\n", out);
	for (const struct command *c = commands; c->name; c++)
		if (!c->hidden)
			fprintf(out, "  %-11s %s\n", c->name, c->summary);
	fputs("\nFlags for every command:\n"
	      "  -c, --control URL    where meshd is (default: its unix socket, else "
	      "http://127.0.0.1:15000)\n"
	      "      --token-file F   the token for writes (default: /var/lib/mesh/token)\n"
	      "  -o, --output FORMAT  table, wide, json or name\n"
	      "  -v, --verbose        say more on stderr\n"
	      "      --help           help for the command\n"
	      "Exit: 0 done, 1 failed or check not passed, 2 wrong usage, 3 meshd not reachable.\n",
	      out);
}

static const struct command *find_command(const char *name)
{
	for (const struct command *c = commands; c->name; c++)
		if (!strcmp(c->name, name))
			return c;
	return NULL;
}

static int unknown_command(const char *name)
{
	const char *names[COMMANDS_MAX], *near;
	size_t n = 0;

	for (const struct command *c = commands; c->name; c++)
		if (!c->hidden)
			names[n++] = c->name;
	near = text_nearest(name, names, n);
	if (near)
		cli_fail("there is no command %s; did you mean %s?", name, near);
	else
		cli_fail("there is no command %s; meshctl help lists them", name);
	return EXIT_USAGE;
}

static void join_options(const struct command *c, struct option_spec out[OPTIONS_MAX])
{
	size_t n = 0;

	for (const struct option_spec *o = c ? c->options : NULL; o && o->name; o++)
		out[n++] = *o;
	for (const struct option_spec *o = global_options; o->name; o++)
		out[n++] = *o;
	out[n] = (struct option_spec){0};
}

/* Does this flag take the word behind it as its value? Flags of all commands count: the command is
 * not known yet. */
static bool takes_next(const char *flag)
{
	struct option_spec all[OPTIONS_MAX];
	const struct command *c = commands;

	if (strchr(flag, '=') || (flag[1] != '-' && flag[2]))
		return false;
	for (; c->name; c++) {
		join_options(c, all);
		for (const struct option_spec *o = all; o->name; o++) {
			bool same = flag[1] == '-' ? !strcmp(flag + 2, o->name)
						   : flag[1] == o->short_name;

			if (same && o->arg)
				return true;
		}
	}
	return false;
}

/* The first word that is neither a flag nor a flag's value. */
static const char *command_word(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--"))
			return NULL;
		if (argv[i][0] != '-' || !argv[i][1])
			return argv[i];
		if (takes_next(argv[i]))
			i++;
	}
	return NULL;
}

static void parse(const struct command *c, int argc, char **argv, int *words)
{
	struct option_spec all[OPTIONS_MAX];
	char name[64], summary[1024];
	struct program p = {.name = name, .summary = summary, .options = all};

	join_options(c, all);
	snprintf(name, sizeof(name), "meshctl%s%s", c ? " " : "", c ? c->name : "");
	snprintf(summary, sizeof(summary), "%s%s%s", c ? c->summary : "",
		 c && c->details ? "\n" : "", c && c->details ? c->details : "");
	p.usage = c ? c->args : "COMMAND [flags]";
	*words = options_parse_mixed(&p, argc, argv);
}

/* Is it one of these words? */
static bool among(const char *words, const char *word)
{
	size_t n = strlen(word);

	for (; words && *words; words += strcspn(words, " "), words += *words == ' ')
		if (!strncmp(words, word, n) && (words[n] == ' ' || !words[n]))
			return true;
	return false;
}

/* What a command has of its own comes before what the environment says for all. */
static int parse_format(struct cli *cli)
{
	static const char *const names[] = {"table", "wide", "json", "name", "dot", "svg"};
	const char *formats = cli->command->formats, *environment = getenv("MESH_OUTPUT"),
		   *word = opt_output;
	bool asked = word != default_output && word != environment;
	char first[16];

	if (formats && !asked && !among(formats, word)) {
		snprintf(first, sizeof(first), "%.*s", (int)strcspn(formats, " "), formats);
		word = first;
	}
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!strcmp(word, names[i]) && among(formats ? formats : FORMATS, word)) {
			cli->format = i;
			return EXIT_OK;
		}
	}
	return formats ? cli_usage(cli, "-o %s: one of %s", opt_output, formats)
		       : cli_usage(cli, "-o %s: table, wide, json or name", opt_output);
}

static int check_control(struct cli *cli)
{
	if (!cli->control || !strncmp(cli->control, "unix:/", 6) ||
	    !strncmp(cli->control, "http://", 7))
		return EXIT_OK;
	return cli_usage(cli, "--control %s: http://HOST:PORT or unix:/PATH", cli->control);
}

static int cmd_help(struct cli *cli)
{
	char *argv[] = {"meshctl", "--help", NULL};
	const struct command *c;
	int words;

	if (!cli->argc) {
		print_overview(stdout);
		return EXIT_OK;
	}
	c = find_command(cli->argv[0]);
	if (!c || c->hidden)
		return unknown_command(cli->argv[0]);
	parse(c, 2, argv, &words); /* prints and exits */
	return EXIT_OK;
}

static int run_command(const struct command *c, int argc, char **argv)
{
	struct cli cli = {.command = c, .commands = commands};
	int words, rc;

	if (c->run != cmd_exec)
		run_forget_outer();
	parse(c, argc, argv, &words);
	cli.argc = words - 1; /* argv[1] is the command itself */
	cli.argv = argv + 2;
	argv[words + 1] = NULL;
	cli.control = opt_control;
	cli.token_file = opt_token_file;
	cli.verbose = opt_verbose;
	rc = parse_format(&cli);
	if (rc == EXIT_OK)
		rc = check_control(&cli);
	if (rc == EXIT_OK)
		rc = cli_arity(&cli, c->min, c->max);
	if (rc == EXIT_OK)
		rc = c->run(&cli);
	return rc;
}

int main(int argc, char **argv)
{
	const char *word = command_word(argc, argv);
	const struct command *c;
	int words, rc;

	if (!word) {
		for (int i = 1; i < argc; i++) {
			if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
				print_overview(stdout);
				return EXIT_OK;
			}
		}
		parse(NULL, argc, argv, &words); /* --version, wrong flags: exits */
		print_overview(stderr);
		return EXIT_USAGE;
	}
	c = find_command(word);
	rc = c ? run_command(c, argc, argv) : unknown_command(word);
	if (fflush(stdout) && rc == EXIT_OK)
		rc = cli_fail("cannot write to stdout");
	return rc;
}
