/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Who may skip TCP: called by sockops.bpf.c when a connection is established and when it ends. The
 * active side alone decides, since it knows who calls whom; the passive side follows when it finds
 * the pair. So a connection from or to another host, and one of a stranger, costs a look-up.
 *
 * Sockets enter here and nowhere else, and leave by closing.
 */
#ifndef BPF_ENROLL_H
#define BPF_ENROLL_H

/* In the order in which a connection passes them. */
#include "bpf/enroll_who.bpf.h"
#include "bpf/enroll_may.bpf.h"
#include "bpf/enroll_enter.bpf.h"
#include "bpf/enroll_leave.bpf.h"

#endif
