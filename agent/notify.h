/* SPDX-License-Identifier: Apache-2.0 */
/* Tells the service manager, if there is one, how we get on (sd_notify(3), $NOTIFY_SOCKET). */
#ifndef AGENT_NOTIFY_H
#define AGENT_NOTIFY_H

/* "READY=1", "STOPPING=1"; more than one separated by newlines. 0, also when nobody wants to know;
 * -errno. */
int notify_manager(const char *state);

#endif
