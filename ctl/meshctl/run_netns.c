/* SPDX-License-Identifier: Apache-2.0 */
/* Network namespaces for `run --netns`, through iproute2. Called by run.c; changes nothing but
 * mesh0 and its ports. */
#include "ctl/meshctl/run_netns.h"
#include "ctl/meshctl/spawn.h"
#include "ctl/meshctl/text.h"
#include "lib/buf.h"
#include "lib/json.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* Beside the namespaces themselves; holds the number that was given out last. */
#define LOCK_DIR  "/run/mesh"
#define LOCK_FILE LOCK_DIR "/netns.lock"
#define NETNS_DIR "/run/netns" /* of iproute2 */

unsigned run_netns_next_free(const uint16_t *used, size_t count, unsigned last)
{
	static uint8_t taken[65536 / 8];

	memset(taken, 0, sizeof(taken));
	for (size_t i = 0; i < count; i++)
		taken[used[i] / 8] |= 1u << (used[i] % 8);
	if (last < NETNS_FIRST - 1 || last > NETNS_LAST)
		last = NETNS_FIRST - 1;
	for (unsigned i = 0, n = last; i <= NETNS_LAST - NETNS_FIRST; i++) {
		n = n >= NETNS_LAST ? NETNS_FIRST : n + 1;
		if (!(taken[n / 8] & (1u << (n % 8))))
			return n;
	}
	return 0;
}

unsigned run_netns_number(const char *address)
{
	unsigned a, b;
	char rest;

	if (sscanf(address, "10.201.%3u.%3u%c", &a, &b, &rest) != 2 || a > 255 || b > 255)
		return 0;
	return a * 256 + b;
}

/* The lock belongs to the open file: it goes when the process does. Descriptor or -errno. */
static int lock(void)
{
	int fd;

	if (mkdir(LOCK_DIR, 0755) && errno != EEXIST)
		return -errno;
	fd = open(LOCK_FILE, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	while (flock(fd, LOCK_EX)) {
		if (errno != EINTR) {
			int rc = -errno;

			close(fd);
			return rc;
		}
	}
	return fd;
}

static unsigned last_number(int lock_fd)
{
	char text[16];
	ssize_t n = pread(lock_fd, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	return strtoul(text, NULL, 10);
}

static void remember(int lock_fd, unsigned number)
{
	if (ftruncate(lock_fd, 0) || dprintf(lock_fd, "%u\n", number) < 0)
		return; /* only a hint where to look first */
}

static void describe(char *error, const char *what, const char *text)
{
	snprintf(error, NETNS_ERROR_MAX, "%s: %.*s", what, (int)strcspn(text, "\n"), text);
	text_mask(error);
}

/* ip -batch; in a namespace when it is not NULL. Every line of `batch` is one command. */
static int ip_batch(const char *netns, const char *batch, char *error)
{
	const char *in_ns[] = {"ip", "-n", netns, "-batch", "-", NULL};
	const char *here[] = {"ip", "-batch", "-", NULL};
	struct spawn_result r;
	int rc = spawn_run(netns ? in_ns : here, batch, &r);

	if (rc) {
		describe(error, "ip (iproute2)", strerror(-rc));
		return rc;
	}
	if (r.status) {
		describe(error, "ip", *r.err ? r.err : "failed without a message");
		rc = -EIO;
	}
	spawn_result_done(&r);
	return rc;
}

/* The ports of the bridge as an array, each with "ifname" and "ifalias". NULL: there is no bridge.
 * The caller deletes it. */
static cJSON *bridge_ports(void)
{
	const char *exists[] = {"ip", "link", "show", "dev", NETNS_BRIDGE, NULL};
	const char *ports[] = {"ip", "-j", "link", "show", "master", NETNS_BRIDGE, NULL};
	struct spawn_result r;
	cJSON *list = NULL;

	if (spawn_run(exists, NULL, &r))
		return NULL;
	if (!r.status) {
		spawn_result_done(&r);
		if (spawn_run(ports, NULL, &r))
			return NULL;
		list = r.status ? NULL : json_parse(r.out, strlen(r.out), NULL);
		if (!list) /* no port: some versions print nothing at all */
			list = cJSON_CreateArray();
	}
	spawn_result_done(&r);
	return list;
}

static unsigned pick_number(const cJSON *ports, int lock_fd)
{
	unsigned count = cJSON_GetArraySize(ports), n = 0;
	uint16_t *used = calloc(count + 1, sizeof(*used));
	const cJSON *p;

	if (!used)
		return 0;
	cJSON_ArrayForEach (p, ports) {
		unsigned number = run_netns_number(json_str(p, "ifalias", ""));

		if (number)
			used[n++] = number;
	}
	n = run_netns_next_free(used, n, last_number(lock_fd));
	free(used);
	return n;
}

static bool have_ipv6(void)
{
	char off = '1';
	int fd = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return false;
	if (read(fd, &off, 1) != 1)
		off = '1';
	close(fd);
	return off == '0';
}

static void plan(struct run_netns *n, unsigned number, bool ipv6)
{
	snprintf(n->port, sizeof(n->port), "mesh-%u", number);
	snprintf(n->address, sizeof(n->address), "10.201.%u.%u", number / 256, number % 256);
	n->address6[0] = '\0';
	if (ipv6)
		snprintf(n->address6, sizeof(n->address6), "fd00:201::%x", number);
}

/* The bridge has an address of its own: otherwise it would take a port's, and change it when that
 * port goes. */
static void host_commands(struct buf *b, const struct run_netns *n, bool bridge)
{
	if (bridge) {
		buf_str(b, "link add " NETNS_BRIDGE " address 02:00:0a:c9:00:01 type bridge\n"
			   "addr add 10.201.0.1/16 dev " NETNS_BRIDGE "\n");
		if (n->address6[0])
			buf_str(b, "addr add fd00:201::1/64 dev " NETNS_BRIDGE " nodad\n");
		buf_str(b, "link set " NETNS_BRIDGE " up\n");
	}
	buf_printf(b, "netns add %s\n", n->name);
	buf_printf(b, "link add %s type veth peer name eth0 netns %s\n", n->port, n->name);
	buf_printf(b, "link set %s alias %s\n", n->port, n->address);
	buf_printf(b, "link set %s master " NETNS_BRIDGE " up\n", n->port);
}

static void inner_commands(struct buf *b, const struct run_netns *n)
{
	buf_str(b, "link set lo up\n");
	buf_printf(b, "addr add %s/16 dev eth0\n", n->address);
	if (n->address6[0])
		buf_printf(b, "addr add %s/64 dev eth0 nodad\n", n->address6);
	buf_str(b, "link set eth0 up\nroute add default via 10.201.0.1\n");
	if (n->address6[0])
		buf_str(b, "route add default via fd00:201::1\n");
}

/* Best effort, step by step: what does not exist needs no removal. */
static int tear_down(const struct run_netns *n, char *error)
{
	char batch[NETNS_NAME_MAX + 64], ignored[NETNS_ERROR_MAX];
	cJSON *ports;
	int rc = 0;

	snprintf(batch, sizeof(batch), "link del %s\n", n->port);
	if (n->port[0])
		ip_batch(NULL, batch, ignored); /* gone already when the namespace is */
	snprintf(batch, sizeof(batch), "netns del %s\n", n->name);
	if (!access(n->path, F_OK))
		rc = ip_batch(NULL, batch, error);
	ports = bridge_ports();
	if (ports && !cJSON_GetArraySize(ports)) {
		int rc2 = ip_batch(NULL, "link del " NETNS_BRIDGE "\n", error);

		rc = rc ? rc : rc2;
	}
	cJSON_Delete(ports);
	return rc;
}

/* The lock by which sweep() knows that a namespace has an owner. */
static int own(struct run_netns *n, char *error)
{
	n->fd = open(n->path, O_RDONLY | O_CLOEXEC);
	if (n->fd >= 0 && !flock(n->fd, LOCK_EX | LOCK_NB))
		return 0;
	describe(error, n->path, strerror(errno));
	if (n->fd >= 0)
		close(n->fd);
	return -EBUSY;
}

static bool left_over(const char *name)
{
	char path[sizeof(NETNS_DIR) + NAME_MAX + 2];
	bool free;
	int fd;

	if (strncmp(name, "mesh-", 5) || !strchr(name, ':'))
		return false;
	snprintf(path, sizeof(path), NETNS_DIR "/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	free = fd >= 0 && !flock(fd, LOCK_EX | LOCK_NB);
	if (fd >= 0)
		close(fd);
	return free;
}

/* Only the name goes: what a killed run's program has left running keeps its network. */
static void sweep(void)
{
	char ignored[NETNS_ERROR_MAX];
	struct dirent *e;
	struct buf batch;
	DIR *d = opendir(NETNS_DIR);

	if (!d)
		return;
	buf_init(&batch, 1 << 20);
	while ((e = readdir(d)))
		if (left_over(e->d_name))
			buf_printf(&batch, "netns del %s\n", e->d_name);
	closedir(d);
	if (batch.len && !batch.failed)
		ip_batch(NULL, batch.data, ignored);
	buf_done(&batch);
}

static int build(struct run_netns *n, int lock_fd, char *error)
{
	char ignored[NETNS_ERROR_MAX];
	cJSON *ports = bridge_ports();
	unsigned number = pick_number(ports, lock_fd);
	struct buf host, inner;
	int rc;

	if (!number) {
		cJSON_Delete(ports);
		snprintf(error, NETNS_ERROR_MAX, "no address is free in 10.201.0.0/16");
		return -EADDRNOTAVAIL;
	}
	plan(n, number, have_ipv6());
	remember(lock_fd, number);
	buf_init(&host, 4096);
	buf_init(&inner, 4096);
	host_commands(&host, n, !ports);
	inner_commands(&inner, n);
	rc = host.failed || inner.failed ? -ENOMEM : ip_batch(NULL, host.data, error);
	if (!rc)
		rc = ip_batch(n->name, inner.data, error);
	if (!rc)
		rc = own(n, error);
	if (rc)
		tear_down(n, ignored);
	buf_done(&host);
	buf_done(&inner);
	cJSON_Delete(ports);
	return rc;
}

int run_netns_create(struct run_netns *n, const char *service, const char *instance, char *error)
{
	int lock_fd = lock(), rc;

	*n = (struct run_netns){.fd = -1};
	if (lock_fd < 0) {
		describe(error, LOCK_FILE, strerror(-lock_fd));
		return lock_fd;
	}
	snprintf(n->name, sizeof(n->name), "mesh-%s:%s", service, instance);
	snprintf(n->path, sizeof(n->path), NETNS_DIR "/%s", n->name);
	sweep();
	if (!access(n->path, F_OK)) { /* the same names under another --cgroup */
		describe(error, n->path, "an instance of this name has it");
		rc = -EBUSY;
	} else {
		rc = build(n, lock_fd, error);
	}
	if (rc)
		n->name[0] = '\0';
	close(lock_fd);
	return rc;
}

int run_netns_destroy(struct run_netns *n, char *error)
{
	int lock_fd, rc;

	if (!n->name[0])
		return 0;
	lock_fd = lock();
	if (lock_fd < 0) {
		describe(error, LOCK_FILE, strerror(-lock_fd));
		return lock_fd;
	}
	rc = tear_down(n, error);
	close(n->fd);
	close(lock_fd);
	n->name[0] = '\0';
	return rc;
}
