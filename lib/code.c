/* SPDX-License-Identifier: Apache-2.0 */
/* See code.h. */
#include "lib/code.h"

#include <link.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

/* Only what is executable and was never written: of that the file holds every byte. */
static int release(struct dl_phdr_info *info, size_t size, void *arg)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	size_t *released = arg;

	(void)size;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		uintptr_t begin = info->dlpi_addr + p->p_vaddr, end = begin + p->p_memsz;

		if (p->p_type != PT_LOAD || !(p->p_flags & PF_X) || p->p_flags & PF_W)
			continue;
		begin &= ~(page - 1);
		end = (end + page - 1) & ~(page - 1);
		if (!madvise((void *)begin, end - begin, MADV_DONTNEED))
			*released += end - begin;
	}
	return 0;
}

size_t code_release(void)
{
	size_t released = 0;

	dl_iterate_phdr(release, &released);
	return released;
}
