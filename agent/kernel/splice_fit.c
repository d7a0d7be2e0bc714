/* SPDX-License-Identifier: Apache-2.0 */
/* See splice_fit.h. */
#include "agent/kernel/splice_fit.h"

#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>

int splice_fit(struct bpf_object *obj)
{
	struct bpf_program *p = bpf_object__find_program_by_name(obj, "mesh_splice_verdict");
	struct btf *btf = btf__load_vmlinux_btf();
	int id;

	if (!btf)
		return -errno;
	id = btf__find_by_name_kind(btf, "bpf_cast_to_kern_ctx", BTF_KIND_FUNC);
	btf__free(btf);
	return p && id < 0 ? bpf_program__set_autoload(p, false) : 0;
}
