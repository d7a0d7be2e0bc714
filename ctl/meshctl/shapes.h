/* SPDX-License-Identifier: Apache-2.0 */
/* Lists that meshctl makes from several answers of meshd: routes and faults. Pure. */
#ifndef CTL_MESHCTL_SHAPES_H
#define CTL_MESHCTL_SHAPES_H

#include <cjson/cJSON.h>

/* configs: the answer of GET /api/config. service: that one only, or NULL for all. The results are
 * new; NULL without memory. */

/* {"routes":[{"service","index",...the route...}, ...,
 * {"service","index","default":true,"split"?}]}: routes in their order, from index 1, and the last
 * line of each service for what no route takes. Services that have neither routes nor a split are
 * left out. */
cJSON *shape_routes(const cJSON *configs, const char *service);
/* faults: the answer of GET /api/faults, whose items come first; then those of routes, with
 * "route": {"faults":[{"service","route"?,"delay"?,"abort"?,"leftMs"?}]}. A route without a name is
 * "#" and its index. */
cJSON *shape_faults(const cJSON *faults, const cJSON *configs, const char *service);

#endif
