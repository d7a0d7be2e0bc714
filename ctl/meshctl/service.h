/* SPDX-License-Identifier: Apache-2.0 */
/* Is a service there at all, and changes of its configuration that lose nobody else's. */
#ifndef CTL_MESHCTL_SERVICE_H
#define CTL_MESHCTL_SERVICE_H

#include "ctl/meshctl/api.h"

/* EXIT_OK when it runs or is configured; else a message and the exit code. */
int service_need(struct cli *cli, const char *service);
/* Makes the merge patch from the configuration in force (NULL: there is none): a new object, empty
 * when there is nothing to change; NULL without memory. */
typedef cJSON *service_patch(const cJSON *config, const void *arg);

struct service_change {
	const char *service;
	service_patch *patch;
	const void *arg;
	bool force;	     /* also when meshd would rather not */
	const char *done;    /* what to say afterwards */
	const char *nothing; /* and when the patch is empty */
};

/* Reads, patches, and does it again when somebody else was faster. Returns the exit code. */
int service_change(struct cli *cli, const struct service_change *c);

#endif
