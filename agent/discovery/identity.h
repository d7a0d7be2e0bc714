/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who a cgroup is, by its path (what `meshctl run` makes) and by the environment of its first
 * process. Pure, but for identity_read_environ. What a process says about itself is checked
 * (lib/name.h): it becomes names in metrics and in paths.
 */
#ifndef AGENT_DISCOVERY_IDENTITY_H
#define AGENT_DISCOVERY_IDENTITY_H

#include <mesh/abi.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct identity {
	char service[MESH_NAME_MAX]; /* "": nobody that we know */
	char instance[MESH_ID_MAX];  /* "": not said */
	char version[MESH_NAME_MAX]; /* "": not said */
	uint8_t protocol;	     /* enum mesh_protocol */
	uint16_t port;		     /* 0: not said */
	uint32_t weight;	     /* lib/weight.h; 0: not said */
};

/* A path that ends in mesh/SERVICE/INSTANCE: fills those two. */
bool identity_from_path(const char *path, struct identity *out);
/* An environment block (NUL-separated): fills what it says in MESH_SERVICE, MESH_INSTANCE,
 * MESH_VERSION, MESH_PROTOCOL, MESH_PORT and MESH_WEIGHT, ignoring values that make no sense. True
 * if it names a service. */
bool identity_from_environ(const char *env, size_t len, struct identity *out);
/* /proc/PID/environ through the above. */
bool identity_read_environ(int pid, struct identity *out);
/* The path names service and instance, the environment the rest (when it is about the same
 * service); without such a path the environment names all. False: nobody. */
bool identity_merge(const struct identity *path, const struct identity *env, int pid,
		    struct identity *out);
/* The path of a cgroup as it is shown: its end is cut to `cap` bytes, and what is no UTF-8 or would
 * steer a terminal is '?'. Who may make a cgroup may call it anything but a line feed, and of who
 * reports such a name meshd takes nothing. */
void identity_path_text(const char *path, char *out, size_t cap);

#endif
