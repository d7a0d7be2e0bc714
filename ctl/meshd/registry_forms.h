/* SPDX-License-Identifier: Apache-2.0 */
/* The forms of registrations and of agents' states; only registry.c uses them. */
#ifndef MESHD_REGISTRY_FORMS_H
#define MESHD_REGISTRY_FORMS_H

#include "ctl/meshd/registry.h"

extern const struct schema registry_register_form;
extern const struct schema registry_agent_form;

#endif
