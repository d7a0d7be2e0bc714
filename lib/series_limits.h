/* SPDX-License-Identifier: Apache-2.0 */
/* What one series of a batch of telemetry sums up to at most (docs/telemetry.md). An agent cuts it
 * there; meshd refuses what is above, with all of its batch. No sum of a batch overflows. */
#ifndef LIB_SERIES_LIMITS_H
#define LIB_SERIES_LIMITS_H

#include <stdint.h>

#define SERIES_COUNT_MAX  UINT32_MAX   /* requests */
#define SERIES_AMOUNT_MAX (1ULL << 48) /* bytes, microseconds */

#endif
