/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A span of ours as JSON of opentelemetry-proto 1.x, by the proto3 mapping: ids in hex, enums as
 * integers, 64-bit integers as strings, keys in lowerCamelCase; names by the stable HTTP semantic
 * conventions.
 */
#ifndef MESHD_OTLP_ENCODE_H
#define MESHD_OTLP_ENCODE_H

#include "lib/buf.h"

#include <cjson/cJSON.h>

enum otlp_kind { OTLP_INTERNAL = 1, OTLP_SERVER, OTLP_CLIENT, OTLP_PRODUCER, OTLP_CONSUMER };

/* The attributes of the resource (whose span it is): {"attributes":[...]}. Equal resources give
 * equal text. */
void otlp_encode_resource(struct buf *b, const cJSON *span);
/* The span itself. 0, or -EINVAL: it has no ids or no times. */
int otlp_encode_span(struct buf *b, const cJSON *span);

#endif
