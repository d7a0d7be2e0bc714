/* SPDX-License-Identifier: Apache-2.0 */
/* The pure part of meshctl split: what was typed, and the merge patches that come of it. */
#ifndef CTL_MESHCTL_SPLIT_H
#define CTL_MESHCTL_SPLIT_H

#include <mesh/abi.h>
#include <cjson/cJSON.h>
#include <stddef.h>
#include <stdint.h>

#define SPLIT_ERROR_MAX 512

struct split_weights {
	unsigned n;
	char version[MESH_SPLITS][64];
	uint64_t weight[MESH_SPLITS];
};

/* "v1=90" and so on. 0, or -EINVAL and a sentence in error[SPLIT_ERROR_MAX]: what is wrong and, for
 * weights that do not sum to 100, which in the same proportions do. */
int split_parse(char *const *words, int n, struct split_weights *out, char *error);
/* The weights that sum to 100 and are nearest to the same proportions (largest remainder). Some
 * weight is not 0. */
void split_scale(struct split_weights *w);

struct split_header {
	char name[129]; /* in small letters */
	char value[1025];
	char version[64]; /* "": any */
	char route[64];	  /* what its route is called */
};

/* "NAME=VALUE", as split_parse(). version NULL: none. */
int split_header_parse(const char *word, const char *version, struct split_header *out,
		       char *error);

/* Patches as service_patch; arg is what the parsers gave. A route keeps what else somebody gave it,
 * but goes to the front. */
cJSON *split_set_patch(const cJSON *config, const void *weights);
cJSON *split_header_patch(const cJSON *config, const void *header);
/* header NULL: the split and the routes of all headers; else the route of this one. */
cJSON *split_clear_patch(const cJSON *config, const void *header);

#endif
