/* SPDX-License-Identifier: Apache-2.0 */
/* What meshd leaves to whom before it drops its privileges: real users, real files. Needs root. */
#include "ctl/meshd/startup.h"
#include "tests/unit/meshd_dir.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cmocka.h>

static struct test_dir dir;
static char state_dir[80], sock[80];
static int listener = -1;
static const char *const files[] = {"meshd.db",	 "meshd.db-wal",     "telemetry.db",
				    "traces.db", "telemetry.db-wal", "spans.ring"};

static int setup(void **state)
{
	test_dir_make(&dir);
	assert_int_equal(chmod(dir.path, 0755), 0);
	snprintf(state_dir, sizeof(state_dir), "%s/state", dir.path);
	snprintf(sock, sizeof(sock), "%s/sock", dir.path);
	return 0;
}

static int teardown(void **state)
{
	char file[160];

	if (listener >= 0)
		close(listener);
	listener = -1;
	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
		snprintf(file, sizeof(file), "%s/%s", state_dir, files[i]);
		unlink(file);
	}
	rmdir(state_dir);
	test_dir_remove(&dir);
	return 0;
}

static void start_as(const char *user, struct identity *id)
{
	char why[256];

	if (getuid() != 0) {
		print_message("needs root: meshd becomes another user\n");
		skip();
	}
	assert_int_equal(startup_identity(user, id, why, sizeof(why)), 0);
	assert_int_equal(startup_state(state_dir, id, why, sizeof(why)), 0);
	listener = startup_unix(sock, id, why, sizeof(why));
	assert_true(listener >= 0);
}

static void assert_owned(const char *path, uid_t uid, gid_t gid, mode_t mode)
{
	struct stat st;

	assert_int_equal(lstat(path, &st), 0);
	assert_int_equal(st.st_uid, uid);
	assert_int_equal(st.st_gid, gid);
	assert_int_equal(st.st_mode & 07777, mode);
}

/* In a child: 0 or the errno. */
static int try_files(int flags)
{
	char file[160];

	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
		snprintf(file, sizeof(file), "%s/%s", state_dir, files[i]);
		if (open(file, flags | O_CLOEXEC, 0640) < 0)
			return errno;
	}
	return 0;
}

static int try_connect(void)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(un.sun_path, sizeof(un.sun_path), "%s", sock);
	return connect(fd, (struct sockaddr *)&un, sizeof(un)) < 0 ? errno : 0;
}

/* The exit status of a child that has become meshd and opens its files. */
static int meshd_opens_its_files(const struct identity *id)
{
	char why[256];
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid)
		_exit(startup_act_as(id, true, why, sizeof(why)) || try_files(O_RDWR | O_CREAT) ||
		      startup_act_as(id, false, why, sizeof(why)) ||
		      startup_drop(id, why, sizeof(why)) || try_files(O_RDWR));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

/* Some other process of a user, with that user's groups and no more: is it kept out? */
static bool is_kept_out(const char *user)
{
	const struct passwd *p = getpwnam(user);
	int status;
	pid_t pid;

	assert_non_null(p);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid)
		_exit(setgroups(0, NULL) || setgid(p->pw_gid) || setuid(p->pw_uid) ||
		      try_files(O_RDONLY) != EACCES || try_connect() != EACCES);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return !status;
}

static void who_else_is_nobody_neither_connects_nor_reads_the_state(void **state)
{
	struct identity id;

	start_as("nobody", &id);
	assert_true(id.shared);
	assert_owned(sock, 0, 0, 0660);
	assert_owned(state_dir, 0, id.gid, 0770);
	assert_null(getgrgid(id.gid));
	assert_int_equal(meshd_opens_its_files(&id), 0);
	assert_true(is_kept_out("nobody"));
}

static void a_user_of_its_own_owns_the_state_and_its_group_connects(void **state)
{
	const struct passwd *p;
	struct identity id;

	start_as("daemon", &id);
	p = getpwnam("daemon");
	assert_non_null(p);
	assert_false(id.shared);
	assert_owned(sock, 0, p->pw_gid, 0660);
	assert_owned(state_dir, p->pw_uid, p->pw_gid, 0750);
	assert_int_equal(meshd_opens_its_files(&id), 0);
	assert_true(is_kept_out("nobody"));
}

/* A host on which the user mesh was made later. */
static void the_state_changes_hands_with_the_user(void **state)
{
	struct identity id;

	start_as("nobody", &id);
	assert_int_equal(meshd_opens_its_files(&id), 0);
	close(listener);
	start_as("daemon", &id);
	assert_int_equal(meshd_opens_its_files(&id), 0);
	close(listener);
	start_as("nobody", &id);
	assert_int_equal(meshd_opens_its_files(&id), 0);
	assert_true(is_kept_out("daemon"));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(who_else_is_nobody_neither_connects_nor_reads_the_state),
		T(a_user_of_its_own_owns_the_state_and_its_group_connects),
		T(the_state_changes_hands_with_the_user),
	};

	return cmocka_run_group_tests_name("meshd startup", tests, NULL, NULL);
}
