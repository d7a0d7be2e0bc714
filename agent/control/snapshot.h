/*
 * The compiled configuration: one immutable, position-independent block in a sealed memfd that the
 * supervisor makes and every worker maps read-only. Offsets are from the start of the block; 0 is
 * "none". Endpoints are not in it: they change by the second and live in the BPF arrays.
 */
#ifndef AGENT_CONTROL_SNAPSHOT_H
#define AGENT_CONTROL_SNAPSHOT_H

#include <mesh/abi.h>
#include <stdint.h>
#include <stddef.h>

#define SNAPSHOT_MAGIC	0x706e736d /* "msnp" */
#define SNAPSHOT_FORMAT 1

struct snap_timeouts { /* milliseconds, 0: none */
	uint32_t connect, try, request, idle;
};

struct snap_service {
	uint32_t name;	   /* offset of a NUL-terminated string; 0: this id is not in use */
	uint32_t upstream; /* of the primary port; MESH_NONE while nobody listens */
	uint8_t protocol;  /* enum mesh_protocol, as declared */
	uint8_t policy;	   /* enum mesh_policy */
	uint8_t pad[2];
	struct snap_timeouts timeouts;
};

struct snapshot {
	uint32_t magic, format;
	uint64_t generation;	  /* counts up; the supervisor's */
	uint64_t revision;	  /* meshd's, of the configuration inside */
	uint32_t size;		  /* of the whole block */
	uint32_t nservices;	  /* services[] is indexed by service id */
	uint32_t services;	  /* offset of struct snap_service[nservices] */
	uint32_t nnames;	  /* by_name[] holds the ids in use, sorted by name */
	uint32_t by_name;	  /* offset of uint32_t[nnames] */
	uint32_t gateway_default; /* service id or MESH_NONE */
};

static inline const struct snap_service *snapshot_service(const struct snapshot *s, uint32_t id)
{
	const struct snap_service *v = (const void *)((const char *)s + s->services);

	return id < s->nservices && v[id].name ? &v[id] : NULL;
}

static inline const char *snapshot_string(const struct snapshot *s, uint32_t offset)
{
	return (const char *)s + offset;
}

/* The id of the service with that name (not NUL-terminated), or MESH_NONE. O(log n). */
uint32_t snapshot_find(const struct snapshot *s, const char *name, size_t len);

/* Checks that a block of `size` bytes is whole and consistent (offsets inside, strings terminated,
 * names sorted): the one place where a reader looks. 0 or -EINVAL. */
int snapshot_check(const void *block, size_t size);

#endif
