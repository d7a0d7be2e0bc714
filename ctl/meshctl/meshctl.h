/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of meshctl share: one invocation (struct cli) and the table of commands. A command
 * writes data to stdout and everything else to stderr, and returns the exit code; nothing but
 * main() and a replaced process exits.
 */
#ifndef CTL_MESHCTL_H
#define CTL_MESHCTL_H

#include "lib/options.h"
#include "lib/token.h"

#include <stdbool.h>
#include <stddef.h>

enum output_format {
	OUTPUT_TABLE,
	OUTPUT_WIDE,
	OUTPUT_JSON,
	OUTPUT_NAME,
	OUTPUT_DOT, /* these two of graph alone */
	OUTPUT_SVG
};

struct cli {
	const struct command *command; /* what runs */
	const struct command
		*commands;   /* the table, for help and completion; ends with name == NULL */
	int argc;	     /* words behind the command's name */
	char **argv;	     /* ends with NULL */
	const char *control; /* "unix:PATH" or "http://HOST:PORT"; filled in by api.c when it was
				not given */
	const char *token_file;
	char token[TOKEN_MAX + 1]; /* "" when there is none */
	enum output_format format;
	bool verbose;
};

struct command {
	const char *name;
	const char *args;    /* for the usage line */
	const char *summary; /* one line */
	const char *details; /* more for its --help, or NULL */
	const char *words;   /* what may follow, for completion (see completion.c), or NULL */
	int min, max;	     /* number of words behind the name; max -1: any number */
	int (*run)(struct cli *cli);
	const struct option_spec *options; /* its own flags, or NULL */
	bool hidden;
	const char *formats; /* of -o, when it has its own: by blanks, the first is the default */
};

/* "meshctl: " and a message on stderr; control characters in it are masked. Returns EXIT_FAILED, to
 * be returned. */
__attribute__((format(printf, 1, 2))) int cli_fail(const char *fmt, ...);
/* The same for wrong usage, with a hint at the command's --help. Returns EXIT_USAGE. */
__attribute__((format(printf, 2, 3))) int cli_usage(const struct cli *cli, const char *fmt, ...);

/* Wrong usage too: "there is no WHAT WORD", and the nearest of the n words, or all of them. */
int cli_no_such(const struct cli *cli, const char *what, const char *word, const char *const *words,
		size_t n);

/* Has the command line from min to max words (max -1: any number)? EXIT_OK, or wrong usage. */
int cli_arity(const struct cli *cli, int min, int max);

/* A command of a command, as `set` in `split set S`; min and max count it too. */
struct subcommand {
	const char *name;
	int min, max;
	int (*run)(struct cli *cli);
};

/* Runs the one of n that the first word names. */
int cli_dispatch(struct cli *cli, const struct subcommand *subs, size_t n);

/* run.c */
extern const struct option_spec run_options[];
int cmd_run(struct cli *cli);
/* Started by a program that `run` runs: that one's MESH_SERVICE and so on are no flags of ours.
 * Before the flags are parsed. */
void run_forget_outer(void);
int cmd_exec(struct cli *cli);
/* get.c */
int cmd_get(struct cli *cli);
/* Shows one kind of thing, as `get KIND [NAME]` does. */
int get_show(struct cli *cli, const char *kind, const char *name);
/* describe.c */
int cmd_describe(struct cli *cli);
/* config_cmds.c */
extern const struct option_spec apply_options[], diff_options[];
int cmd_apply(struct cli *cli);
int cmd_diff(struct cli *cli);
int cmd_delete(struct cli *cli);
int cmd_history(struct cli *cli);
int cmd_rollback(struct cli *cli);
int cmd_lb(struct cli *cli);
/* split.c */
extern const struct option_spec split_options[];
int cmd_split(struct cli *cli);
/* breaker.c */
extern const struct option_spec drain_options[];
int cmd_breaker(struct cli *cli);
int cmd_drain(struct cli *cli);
/* chaos.c */
extern const struct option_spec chaos_options[];
int cmd_chaos(struct cli *cli);
/* why.c */
int cmd_why(struct cli *cli);
/* status.c */
int cmd_status(struct cli *cli);
int cmd_version(struct cli *cli);
/* check.c, probe_ends.c */
extern const struct option_spec check_options[];
int cmd_check(struct cli *cli);
int cmd_probe_server(struct cli *cli);
int cmd_probe_client(struct cli *cli);
/* stat.c, edges.c */
extern const struct option_spec stat_options[], edges_options[];
int cmd_stat(struct cli *cli);
int cmd_edges(struct cli *cli);
/* tap.c, log.c */
extern const struct option_spec tap_options[], log_options[];
int cmd_tap(struct cli *cli);
int cmd_log(struct cli *cli);
/* graph.c */
extern const struct option_spec graph_options[];
int cmd_graph(struct cli *cli);
/* top.c */
extern const struct option_spec top_options[];
int cmd_top(struct cli *cli);
/* trace.c */
extern const struct option_spec trace_options[];
int cmd_trace(struct cli *cli);
/* completion.c */
int cmd_completion(struct cli *cli);

#endif
