/* SPDX-License-Identifier: Apache-2.0 */
/* Code that ran once. What a start touches of a program and of its libraries (constructors, the
 * loading of BPF, relocation) stays in the resident memory of a daemon for good, though it never
 * runs again; the kernel takes such pages back only when memory is short. */
#ifndef LIB_CODE_H
#define LIB_CODE_H

#include <stddef.h>

/* Gives the code of this process back; what runs again is mapped again from the page cache, page by
 * page. Data is left alone; a breakpoint that a debugger has set before is lost. Returns the bytes
 * of address space that this was about; what the kernel refuses is not in it. */
size_t code_release(void);

#endif
