/* SPDX-License-Identifier: Apache-2.0 */
/* process_* of exposition.h. */
#include "lib/exposition.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#define FDS_MAX 4096 /* that are looked at one by one */

static double seconds(const struct timeval *t)
{
	return (double)t->tv_sec + (double)t->tv_usec / 1e6;
}

/* /proc/self/fd is closed to a process that has dropped its privileges. */
static unsigned open_fds(rlim_t limit)
{
	int most = limit < FDS_MAX ? (int)limit : FDS_MAX;
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (d && readdir(d))
		n++;
	if (d) {
		closedir(d);
		return n > 3 ? n - 3 : 0; /* ".", ".." and the directory itself */
	}
	for (int fd = 0; fd < most; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void memory(struct buf *out)
{
	unsigned long size = 0, resident = 0;
	double page = (double)sysconf(_SC_PAGESIZE);
	FILE *f = fopen("/proc/self/statm", "re");

	if (f && fscanf(f, "%lu %lu", &size, &resident) != 2)
		size = resident = 0;
	if (f)
		fclose(f);
	exposition_single(out, "process_resident_memory_bytes", "gauge", "Resident memory.",
			  (double)resident * page);
	exposition_single(out, "process_virtual_memory_bytes", "gauge", "Virtual memory.",
			  (double)size * page);
}

void exposition_process(struct buf *out, double started)
{
	struct rlimit files = {0};
	struct rusage u = {0};

	getrusage(RUSAGE_SELF, &u);
	getrlimit(RLIMIT_NOFILE, &files);
	exposition_single(out, "process_cpu_seconds_total", "counter", "CPU time, user and system.",
			  seconds(&u.ru_utime) + seconds(&u.ru_stime));
	memory(out);
	exposition_single(out, "process_start_time_seconds", "gauge",
			  "Start, in seconds since 1970.", started);
	exposition_single(out, "process_open_fds", "gauge", "Open descriptors.",
			  open_fds(files.rlim_cur));
	exposition_single(out, "process_max_fds", "gauge", "Limit of open descriptors.",
			  (double)files.rlim_cur);
}
