/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ids of traces and spans. Callers choose trace ids freely: 1 to 64 of A-Z a-z 0-9 . _ -. W3C Trace
 * Context and OTLP know 16 bytes only, so each such id stands for 16 bytes, the same ones on every
 * host and in every version: used by the worker, and by meshd for spans that applications post.
 */
#ifndef LIB_TRACE_ID_H
#define LIB_TRACE_ID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRACE_ID_TEXT_MAX 64

/* Is it an id of a trace or a span as a caller may choose it? */
bool trace_id_usable(const char *s, size_t len);

/* The 16 bytes that a usable id stands for, never all zero: 32 hex digits those bytes, 16 hex
 * digits (B3's shorter ids) with eight zeros before them, either in any case and unless they are
 * all zero; anything else two hashes of 64 bits, FNV-1a from different beginnings, each through the
 * finalizer of MurmurHash3, in network order. */
void trace_id_bytes(const char *s, size_t len, uint8_t out[16]);

/* 2 * n digits in small letters, no NUL. */
void trace_hex(char *out, const uint8_t *in, size_t n);
/* n bytes from 2 * n digits; small: in small letters only. false: they are not, *out is undefined.
 */
bool trace_unhex(uint8_t *out, const char *digits, size_t n, bool small);

#endif
