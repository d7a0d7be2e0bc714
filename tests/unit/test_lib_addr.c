/* SPDX-License-Identifier: Apache-2.0 */
/* lib/addr, durations and wall-clock text of lib/clock, lib/cgroup. */
#include "lib/addr.h"
#include "lib/cgroup.h"
#include "lib/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void addresses_are_read_and_written(void **state)
{
	static const char *const cases[][2] = {
		{"1.2.3.4:80", "1.2.3.4:80"},
		{":80", "0.0.0.0:80"},
		{"80", "0.0.0.0:80"},
		{"[::1]:80", "[::1]:80"},
		{"[FD00:201::5]:1", "[fd00:201::5]:1"},
		{"0.0.0.0:0", "0.0.0.0:0"},
		{"[::]:65535", "[::]:65535"},
		{"[::ffff:1.2.3.4]:9", "1.2.3.4:9"},
		{"[1111:2222:3333:4444:5555:6666:7777:8888]:65535",
		 "[1111:2222:3333:4444:5555:6666:7777:8888]:65535"},
	};
	char text[ADDR_TEXT_MAX];
	struct addr a;

	for (size_t i = 0; i < COUNT(cases); i++) {
		assert_int_equal(addr_parse(cases[i][0], &a), 0);
		assert_string_equal(addr_format(&a, text), cases[i][1]);
	}
}

static void bad_addresses_are_refused_and_nothing_is_changed(void **state)
{
	static const char *const bad[] = {
		"",
		"x",
		"1.2.3.4",
		"1.2.3.4:",
		"1.2.3.4:65536",
		"1.2.3.4:-1",
		"1.2.3:80",
		"::1:80",
		"[::1]",
		"[::1]80",
		"host:80",
		"1.2.3.4:80 ",
		" 1.2.3.4:80",
		"[::1:80",
		"::1]:80",
		"1.2.3.4:080000",
		"01.2.3.4:80",
		"[1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc]:1",
	};
	struct addr a = {.port = 7}, before = a;

	for (size_t i = 0; i < COUNT(bad); i++) {
		print_message("%s\n", bad[i]);
		assert_int_equal(addr_parse(bad[i], &a), -EINVAL);
		assert_memory_equal(&a, &before, sizeof(a));
	}
	assert_int_equal(addr_parse_ip("localhost", a.ip), -EINVAL);
}

static void address_classes(void **state)
{
	uint8_t ip[16];

	assert_int_equal(addr_parse_ip("127.8.0.1", ip), 0);
	assert_true(addr_is_v4(ip) && addr_is_loopback(ip) && !addr_is_any(ip));
	assert_int_equal(addr_parse_ip("[::1]", ip), 0);
	assert_true(!addr_is_v4(ip) && addr_is_loopback(ip) && !addr_is_any(ip));
	assert_int_equal(addr_parse_ip("::", ip), 0);
	assert_true(!addr_is_v4(ip) && !addr_is_loopback(ip) && addr_is_any(ip));
	assert_int_equal(addr_parse_ip("0.0.0.0", ip), 0);
	assert_true(addr_is_v4(ip) && !addr_is_loopback(ip) && addr_is_any(ip));
	assert_int_equal(addr_parse_ip("10.0.0.1", ip), 0);
	assert_true(addr_is_v4(ip) && !addr_is_loopback(ip) && !addr_is_any(ip));
}

static void kernel_form_and_back(void **state)
{
	struct sockaddr_storage ss;
	struct addr a, b;

	assert_int_equal(addr_parse("10.1.2.3:8080", &a), 0);
	assert_int_equal(addr_to_sockaddr(&a, &ss), sizeof(struct sockaddr_in));
	assert_int_equal(ss.ss_family, AF_INET);
	assert_int_equal(((struct sockaddr_in *)&ss)->sin_port, htons(8080));
	assert_int_equal(addr_from_sockaddr(&ss, &b), 0);
	assert_memory_equal(a.ip, b.ip, 16);
	assert_int_equal(a.port, b.port);

	assert_int_equal(addr_parse("[fd00::1]:1", &a), 0);
	assert_int_equal(addr_to_sockaddr(&a, &ss), sizeof(struct sockaddr_in6));
	assert_int_equal(addr_from_sockaddr(&ss, &b), 0);
	assert_memory_equal(a.ip, b.ip, 16);

	ss.ss_family = AF_UNIX;
	assert_int_equal(addr_from_sockaddr(&ss, &b), -EAFNOSUPPORT);
}

static void durations_are_read(void **state)
{
	static const struct {
		const char *text;
		uint64_t ms;
	} good[] = {
		{"1h30m", 5400000}, {"500ms", 500},
		{"2s", 2000},	    {"250us", 1},
		{"1001us", 2},	    {"0s", 0},
		{"0us", 0},	    {"1s500ms", 1500},
		{"1m", 60000},	    {"24000h", 86400000000},
	};
	static const char *const bad[] = {
		"",
		"5",
		"s",
		"1",
		"1x",
		"1.5s",
		"-1s",
		"1s ",
		" 1s",
		"1s1m",
		"1s1s",
		"1 s",
		"1S",
		"24001h",
		"24000h1us",
		"99999999999999h",
		"999999999999999999999s",
		"1sm",
		"1hs",
	};
	uint64_t ms = 77;

	for (size_t i = 0; i < COUNT(bad); i++) {
		print_message("'%s'\n", bad[i]);
		assert_int_equal(duration_parse(bad[i], &ms), -EINVAL);
		assert_int_equal(ms, 77);
	}
	for (size_t i = 0; i < COUNT(good); i++) {
		assert_int_equal(duration_parse(good[i].text, &ms), 0);
		assert_int_equal(ms, good[i].ms);
	}
}

static void durations_are_written_as_they_are_read(void **state)
{
	static const struct {
		uint64_t ms;
		const char *text;
	} cases[] = {{0, "0s"},		 {1, "1ms"},	{1500, "1s500ms"},
		     {5400000, "1h30m"}, {60000, "1m"}, {3600001, "1h1ms"}};
	char text[32];
	uint64_t back;

	for (size_t i = 0; i < COUNT(cases); i++) {
		assert_string_equal(duration_format(cases[i].ms, text), cases[i].text);
		assert_int_equal(duration_parse(text, &back), 0);
		assert_int_equal(back, cases[i].ms);
	}
	assert_true(strlen(duration_format(UINT64_MAX, text)) < 32);
}

static void wall_clock_is_iso_8601(void **state)
{
	char text[CLOCK_ISO_MAX];

	assert_string_equal(clock_iso(0, text), "1970-01-01T00:00:00.000Z");
	assert_string_equal(clock_iso(1764000000123, text), "2025-11-24T16:00:00.123Z");
	assert_int_equal(strlen(clock_iso(UINT64_MAX, text)), 24);
}

static void cgroup_id_is_the_inode(void **state)
{
	char root[4096], small[2];
	struct stat st;
	uint64_t id;
	int r = cgroup_root(root, sizeof(root));

	assert_int_equal(cgroup_id("/proc", &id), -EINVAL);
	assert_int_equal(cgroup_id("/nonexistent", &id), -ENOENT);
	if (r == -ENOENT) {
		print_message("no cgroup2 is mounted here\n");
		skip();
	}
	assert_int_equal(r, 0);
	assert_int_equal(cgroup_root(small, sizeof(small)), -ENAMETOOLONG);
	assert_int_equal(cgroup_id(root, &id), 0);
	assert_int_equal(stat(root, &st), 0);
	assert_int_equal(id, st.st_ino);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_are_read_and_written),
		cmocka_unit_test(bad_addresses_are_refused_and_nothing_is_changed),
		cmocka_unit_test(address_classes),
		cmocka_unit_test(kernel_form_and_back),
		cmocka_unit_test(durations_are_read),
		cmocka_unit_test(durations_are_written_as_they_are_read),
		cmocka_unit_test(wall_clock_is_iso_8601),
		cmocka_unit_test(cgroup_id_is_the_inode),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
