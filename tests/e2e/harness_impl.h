/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files of the harness; not for tests. */
#ifndef TESTS_E2E_HARNESS_IMPL_H
#define TESTS_E2E_HARNESS_IMPL_H

#include "tests/e2e/harness.h"

#include <limits.h>

extern char harness_root[PATH_MAX];

/* Connects without a caller; NULL when nobody is there. */
struct client *client_try(const char *address);
void clients_end(void); /* frees clients and callers */
void answer_show(void); /* prints what the story's last answer was */
void loads_end(void);
void configure_end(void); /* takes back what the story configured */
void api_end(void);	  /* frees the story's JSON */

#endif
