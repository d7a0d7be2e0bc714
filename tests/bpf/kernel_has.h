/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel that runs has, and how slow it is, for tests of what depends on it. */
#ifndef TESTS_BPF_KERNEL_HAS_H
#define TESTS_BPF_KERNEL_HAS_H

#include <bpf/btf.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* A struct's field of that name; false also when there is no BTF. */
__attribute__((unused)) static bool kernel_has_field(const char *type, const char *field)
{
	struct btf *btf = btf__load_vmlinux_btf();
	int id = btf ? btf__find_by_name_kind(btf, type, BTF_KIND_STRUCT) : -1;
	const struct btf_type *t = id < 0 ? NULL : btf__type_by_id(btf, (__u32)id);
	bool found = false;

	for (int i = 0; t && i < btf_vlen(t); i++)
		found |= !strcmp(btf__name_by_offset(btf, btf_members(t)[i].name_off), field);
	btf__free(btf);
	return found;
}

/* Whether it counts what redirect has queued for a socket. Without, FIONREAD can never be right:
 * qualification says off. */
__attribute__((unused)) static bool kernel_counts_its_queue(void)
{
	return kernel_has_field("sk_psock", "msg_tot_len");
}

/* On an emulated machine (tests/kernels) all takes many times as long: so much longer are waits. */
__attribute__((unused)) static int kernel_patience(void)
{
	return getenv("MESH_EMULATED") ? 5 : 1;
}

#endif
