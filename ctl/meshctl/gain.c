/* SPDX-License-Identifier: Apache-2.0 */
/* See gain.h. */
#include "ctl/meshctl/gain.h"

#include "ctl/meshctl/words.h"
#include "lib/json.h"

#include <stdio.h>
#include <string.h>

static void print_why(const cJSON *a)
{
	const char *state = json_str(a, "state", "");

	if (!strcmp(json_str(a, "contest", ""), "running"))
		printf("half of the new connections skip TCP, until it is known which half is "
		       "faster");
	else if (!strcmp(state, "one-way"))
		printf("plain TCP, which is faster for small messages one way (%.0f in a row, of "
		       "%.0f bytes); a few connections are measured on",
		       json_num(a, "messagesInARow", 0), json_num(a, "messageBytes", 0));
	else if (!strcmp(state, "new-connections"))
		printf("plain TCP, which is faster for connections of few messages; a few are "
		       "measured on");
	else if (!strcmp(state, "by-tcp"))
		printf("plain TCP, since most of its streams went that way all the same; a few are "
		       "measured on");
	else if (!strcmp(state, "slower"))
		printf("plain TCP, which was faster in comparison; a few connections are measured "
		       "on");
	else if (!strcmp(state, "off"))
		printf("plain TCP: switched off for this service");
	else if (json_num(words_get(a, "connections"), "enrolled", 0) < 1)
		printf("plain TCP until its programs are known not to block");
	else
		printf("new connections skip TCP%s",
		       strcmp(json_str(a, "accelerate", ""), "on") ? "" : ": switched on");
}

static void print_one(const char *node, const cJSON *a)
{
	const cJSON *n = words_get(a, "connections"), *gain = words_get(a, "gain");

	printf("Speed     port %.0f on %s: ", json_num(a, "port", 0), node);
	print_why(a);
	printf("; of all, %.0f did, %.0f did not for comparison", json_num(n, "enrolled", 0),
	       json_num(n, "control", 0));
	if (json_num(n, "unfit", 0) > 0)
		printf(", %.0f could not (programs that block, or not known yet)",
		       json_num(n, "unfit", 0));
	if (gain)
		printf("; %.2f x the bytes a second (%.2f to %.2f)", json_num(gain, "ratio", 0),
		       json_num(gain, "low", 0), json_num(gain, "high", 0));
	putchar('\n');
}

#define each_of(agents, service, agent, a)                                                         \
	cJSON_ArrayForEach (agent, words_get(agents, "agents"))                                    \
		cJSON_ArrayForEach (a, words_get(agent, "gains"))                                  \
			if (!strcmp(json_str(a, "service", ""), service))

void gain_print(const cJSON *agents, const char *service)
{
	const cJSON *agent, *a;

	each_of(agents, service, agent, a) print_one(json_str(agent, "node", "?"), a);
}

cJSON *gain_json(const cJSON *agents, const char *service)
{
	cJSON *list = cJSON_CreateArray(), *v;
	const cJSON *agent, *a;

	each_of(agents, service, agent, a)
	{
		v = cJSON_Duplicate(a, true);
		cJSON_AddStringToObject(v, "node", json_str(agent, "node", "?"));
		if (!cJSON_AddItemToArray(list, v))
			cJSON_Delete(v);
	}
	return list;
}
