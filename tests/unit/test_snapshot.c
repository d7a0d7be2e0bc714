/* SPDX-License-Identifier: Apache-2.0 */
/* What meshd says becomes a checked configuration, and that a sealed block which workers can trust.
 */
#include "tests/unit/snapshot_rig.h"

static void names_policies_and_timeouts_arrive(void **state)
{
	const struct snapshot *s;
	const struct snap_service *v;
	uint64_t size;
	uint32_t id;
	int fd;

	configure("{'revision':9,'services':["
		  "{'service':'zeta','protocol':'tcp'},"
		  "{'service':'alpha','loadBalancer':{'policy':'random'},"
		  "'timeouts':{'try':'250ms','request':'1m'}},"
		  "{'service':'alph'}],'endpoints':[]}");
	fd = compile("zeta", &size);
	s = map(fd, size);
	assert_int_equal(s->generation, 7);
	assert_int_equal(s->revision, 9);
	assert_int_equal(s->nnames, 3);
	id = snapshot_find(s, "alpha/rest", 5);
	v = snapshot_service(s, id);
	assert_non_null(v);
	assert_string_equal(snapshot_string(s, v->name), "alpha");
	assert_int_equal(v->policy, MESH_LB_RANDOM);
	assert_int_equal(v->timeouts.connect, 1000);
	assert_int_equal(v->timeouts.try, 250);
	assert_int_equal(v->timeouts.request, 60000);
	assert_int_equal(v->timeouts.idle, 60000);
	assert_int_equal(v->upstream, MESH_NONE);
	assert_int_equal(s->gateway_default, snapshot_find(s, "zeta", 4));
	assert_int_equal(snapshot_service(s, s->gateway_default)->protocol, MESH_PROTO_TCP);
	assert_int_equal(snapshot_find(s, "alphabet", 8), MESH_NONE);
	assert_int_equal(snapshot_find(s, "al", 2), MESH_NONE);
	assert_int_equal(snapshot_find(s, "", 0), MESH_NONE);
	assert_int_not_equal(snapshot_find(s, "alph", 4), id);
	munmap((void *)s, size);
	close(fd);
}

static void an_empty_configuration_is_a_valid_snapshot(void **state)
{
	const struct snapshot *s;
	uint64_t size;
	int fd = compile("nobody", &size);

	s = map(fd, size);
	assert_int_equal(s->nnames, 0);
	assert_int_equal(s->gateway_default, MESH_NONE);
	assert_int_equal(snapshot_find(s, "x", 1), MESH_NONE);
	munmap((void *)s, size);
	close(fd);
}

static void the_block_can_no_longer_be_written(void **state)
{
	uint64_t size;
	int fd = compile(NULL, &size);

	assert_int_equal(pwrite(fd, "x", 1, 0), -1);
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_true(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
	close(fd);
}

/* --- what a worker may read of a block that passed --- */

static size_t eaten; /* so that reading is not optimised away */

static void eat(const struct snapshot *s, uint32_t offset)
{
	eaten += offset ? strlen(snapshot_string(s, offset)) : 0;
}

static void eat_pairs(const struct snapshot *s, uint32_t n, uint32_t offset)
{
	for (uint32_t i = 0; i < n; i++) {
		eat(s, snapshot_pairs(s, offset)[i].name);
		eat(s, snapshot_pairs(s, offset)[i].value);
	}
}

static void eat_route(const struct snapshot *s, const struct snap_route *way)
{
	uint32_t version[MESH_VERSIONS] = {0};

	eat(s, way->name);
	eat(s, way->match.path);
	eat(s, way->match.method);
	eat_pairs(s, way->match.nheaders, way->match.headers);
	eat_pairs(s, way->match.nqueries, way->match.queries);
	for (uint32_t i = 0; i < way->split.n; i++)
		version[way->split.to[i].version]++;
	eaten += version[way->mirror_version];
}

static void eat_all(const struct snapshot *s)
{
	for (uint32_t i = 0; i < s->nservices; i++) {
		const struct snap_service *v = snapshot_service(s, i);

		if (!v)
			continue;
		eat(s, v->name);
		eat(s, v->sticky.header);
		eat(s, v->sticky.cookie);
		for (uint32_t j = 0; j < v->nroutes; j++)
			eat_route(s, &snapshot_routes(s, v)[j]);
	}
	for (uint32_t i = snapshot_find(s, "b", 1); i != MESH_NONE; i = MESH_NONE)
		assert_non_null(snapshot_service(s, i));
}

/* Is refused, or is harmless to read. Memory of exactly its size: the sanitizer sees the rest. */
static bool refused(const char *block, size_t size)
{
	if (snapshot_check(block, size))
		return true;
	eat_all((const struct snapshot *)block);
	return false;
}

static const struct snapshot *everything(uint64_t *size)
{
	const struct snapshot *s;
	int fd;

	configure("{'revision':1,'services':[{'service':'a','sticky':{'header':'x-user'},"
		  "'split':{'v1':90,'v2':10},'routes':[{'name':'r','match':{'path':{'exact':'/a'},"
		  "'method':'GET','headers':{'x-a':'1','x-b':'2'},'query':{'q':'1'}},"
		  "'split':{'v2':100},'mirror':{'version':'v3','percent':10},"
		  "'fault':{'abort':{'status':503}}},{'match':{'path':{'template':'/{a}'}}}]},"
		  "{'service':'b','sticky':{'cookie':'c'}}],'endpoints':["
		  "{'service':'a','id':'x','address':'192.0.2.1','port':80}],"
		  "'faults':[{'service':'b','delay':{'durationMs':5},'leftMs':60000}]}");
	fd = compile(NULL, size);
	s = map(fd, *size);
	close(fd);
	return s;
}

static void a_block_that_was_tampered_with_is_refused(void **state)
{
	static const unsigned char flips[] = {0xff, 0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80};
	uint64_t size;
	const struct snapshot *s = everything(&size);
	char *copy = malloc(size);
	int n = 0;

	assert_non_null(copy);
	memcpy(copy, s, size);
	assert_false(refused(copy, size));
	for (size_t len = 0; len < size; len++) {
		char *cut = malloc(len ? len : 1);

		assert_non_null(cut);
		memcpy(cut, s, len);
		assert_int_equal(snapshot_check(cut, len), -EINVAL);
		free(cut);
	}
	for (size_t i = 0; i < size; i++)
		for (size_t f = 0; f < sizeof(flips); f++) {
			memcpy(copy, s, size);
			copy[i] ^= (char)flips[f];
			n += refused(copy, size);
		}
	assert_true(n > 1000);
	free(copy);
	munmap((void *)s, size);
}

static void whatever_stands_in_a_block_it_is_safe_to_check(void **state)
{
	uint64_t size, x = 88172645463325252ULL;
	const struct snapshot *s = everything(&size);
	char *copy = malloc(size);
	int passed = 0;

	assert_non_null(copy);
	for (int round = 0; round < 50000; round++) {
		memcpy(copy, s, size);
		for (int i = 0; i <= round % 3; i++) {
			uint32_t value;

			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			/* a small number, an offset that is nearly right, anything */
			value = round % 5 == 0	 ? (uint32_t)(x >> 32) % 70
				: round % 5 == 1 ? (uint32_t)(x >> 32)
						 : (uint32_t)(x >> 32) % ((uint32_t)size + 16);
			memcpy(copy + x % (size / 4) * 4, &value, sizeof(value));
		}
		passed += !refused(copy, size);
	}
	assert_in_range(passed, 100, 49900); /* both happen */
	free(copy);
	munmap((void *)s, size);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		story(names_policies_and_timeouts_arrive),
		story(an_empty_configuration_is_a_valid_snapshot),
		story(the_block_can_no_longer_be_written),
		story(a_block_that_was_tampered_with_is_refused),
		story(whatever_stands_in_a_block_it_is_safe_to_check),
	};

	return cmocka_run_group_tests_name("snapshot", tests, NULL, NULL);
}
