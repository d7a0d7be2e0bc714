/* SPDX-License-Identifier: Apache-2.0 */
/* What of the splice programs this kernel can run: for whoever loads an object that has them. */
#ifndef AGENT_KERNEL_SPLICE_FIT_H
#define AGENT_KERNEL_SPLICE_FIT_H

struct bpf_object;

/*
 * Before the object is loaded: leaves the stream verdict out (autoload off) where the kernel lacks
 * what it needs. It looks at sequence numbers by way of a function that Linux has since 6.2;
 * without it, bytes that TCP sent twice would be delivered twice. 0 or -errno.
 */
int splice_fit(struct bpf_object *obj);

#endif
