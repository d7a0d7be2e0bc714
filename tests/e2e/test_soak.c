/* SPDX-License-Identifier: Apache-2.0 */
/* Mixed traffic through two hops without one wrong byte: client -> relay -> origin, each its own
 * service and namespace. */
#include "tests/e2e/harness.h"

#include <sys/wait.h>

#define REQUESTS "20000" /* SOAK_REQUESTS in the environment: another number (make soak) */

static long counted(const char *source, const char *destination)
{
	return (long)metric("mesh_requests_total", source, destination, NULL);
}

static void no_byte_is_wrong_through_two_hops(void **state)
{
	const char *n = getenv("SOAK_REQUESTS");
	struct instance *origin, *relay, *client;
	char cmd[256];
	int status;

	n = n && *n ? n : REQUESTS;
	origin = instance_ready(
		instance_start("soak-b", "soak-b-1", "--netns", "origin --port 8000"));
	snprintf(cmd, sizeof(cmd), "relay --port 8000 --to %s", origin->address);
	relay = instance_ready(instance_start("soak-a", "soak-a-1", "--netns", cmd));
	snprintf(cmd, sizeof(cmd), "soakclient --to %s --requests %s", relay->address, n);
	client = instance_start("soak-client", "soak-client-1", "--netns", cmd);
	assert_int_equal(waitpid(client->run, &status, 0), client->run);
	client->run = 0;
	printf("%s", sh("cat " SCRATCH "/soak-client-1.log")->out);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	assert_true(origin_stat(origin, "requests") >= atol(n));
	assert_int_equal(origin_stat(origin, "bad"), 0);
	/* both hops went through the mesh, and every request was counted */
	eventually(3000, counted("source=\"soak-client\"", "destination=\"soak-a\"") >= atol(n));
	eventually(3000, counted("source=\"soak-a\"", "destination=\"soak-b\"") >= atol(n));
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(no_byte_is_wrong_through_two_hops),
	};

	return RUN(stories);
}
