/* SPDX-License-Identifier: Apache-2.0 */
/* The two ends of the request that `meshctl check` makes, as hidden commands of meshctl
 * (probe_ends.c):
 * __probe-server: listens on a free port of 127.0.0.1, prints the port, answers every request, ends
 * with its stdin.
 * __probe-client PORT: asks until an answer came through the mesh, then prints one line of JSON:
 *   {"captured":bool,"instance":TEXT,"millis":N,"error":TEXT}; error: "" or why the last try
 * failed. */
#ifndef CTL_MESHCTL_PROBE_H
#define CTL_MESHCTL_PROBE_H

#define PROBE_CAPTURED_WITHIN_MS 2000 /* a new server is known 100 ms after listen() */

#endif
