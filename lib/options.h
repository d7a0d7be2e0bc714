/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Command-line flags from one table: --name VALUE, --name=VALUE, else $MESH_NAME (dashes as
 * underscores), else the default. --help and --version work everywhere. What is not in the table is
 * a usage error: one line on stderr that names the flag and points to --help, exit code 2.
 */
#ifndef LIB_OPTIONS_H
#define LIB_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_UNREACHABLE = 3 };

struct option_spec {
	const char *name; /* without the dashes */
	char short_name;  /* 0: none */
	const char *arg;  /* what the help calls its value; NULL: a switch */
	const char *fallback;
	const char *help;
	const char **value; /* for a flag with a value: where it goes (points into argv, environ or
			       fallback) */
	bool *set;	    /* for a switch */
};

struct program {
	const char *name, *usage, *summary;
	const struct option_spec *options; /* ends with name == NULL */
};

/* Parses flags up to the first word that is not one, or "--" (which is passed over). Returns the
 * index of the first word left; does not return after --help, --version (exit 0) or an error (exit
 * 2). */
int options_parse(const struct program *p, int argc, char **argv);
/* As above, but flags may also stand behind words (meshctl): words are moved to the front; returns
 * how many there are in argv[1..]. Everything after "--" counts as words. */
int options_parse_mixed(const struct program *p, int argc, char **argv);
/* Prints "NAME: message" and how to get help on stderr, exits 2. */
__attribute__((format(printf, 2, 3), noreturn)) void options_usage(const struct program *p,
								   const char *fmt, ...);

#endif
