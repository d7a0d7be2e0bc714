/* SPDX-License-Identifier: Apache-2.0 */
/* See recorder.h: the file. */
#include "ctl/meshd/traces/recorder_impl.h"
#include "lib/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAGE  4096 /* the file's head */
#define ALIGN 64   /* entries begin at multiples of it */
#define FORM  1
#define MAGIC "meshd spans.ring"

struct file_head {
	char magic[16];
	uint32_t form, layout; /* RECORD_LAYOUT */
	uint64_t size;	       /* of the file */
	uint64_t id;
};

struct entry_head {
	uint64_t id;  /* the file's; drawn, so that nobody can send something that looks like us */
	uint64_t sum; /* of the rest of the head and of the batch */
	uint64_t at, came_ms;
	uint32_t size, records; /* of the batch */
};

/* --- sums ---------------------------------------------------------------------------- */

static uint64_t turn(uint64_t v, unsigned n)
{
	return v << n | v >> (64 - n);
}

static uint64_t word(const char *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

/* Four sums side by side, which a CPU adds at once: what is torn is found, not what is forged.
 * len: a multiple of 8. */
static uint64_t sum_add(uint64_t sum, const void *data, size_t len)
{
	const uint64_t k = 0x9e3779b97f4a7c15ULL;
	uint64_t s[4] = {sum, sum ^ k, sum + k, ~sum};
	const char *p = data;

	for (; len >= 32; len -= 32, p += 32)
		for (int i = 0; i < 4; i++)
			s[i] = turn((s[i] ^ word(p + 8 * i)) * k, 29);
	for (; len >= 8; len -= 8, p += 8)
		s[0] = turn((s[0] ^ word(p)) * k, 29);
	return (turn(s[0], 7) ^ turn(s[1], 19) ^ turn(s[2], 31) ^ s[3]) * k;
}

static uint64_t entry_sum(const struct entry_head *h, const void *batch)
{
	struct entry_head copy = *h;

	copy.sum = 0;
	return sum_add(sum_add(h->id, &copy, sizeof(copy)), batch, h->size);
}

/* --- entries ------------------------------------------------------------------------- */

static uint32_t bits_size(uint32_t records)
{
	return (records + 63) / 64 * 8;
}

uint32_t file_entry(uint32_t records, uint32_t size)
{
	uint32_t all = (uint32_t)sizeof(struct entry_head) + bits_size(records) + size;

	return (all + ALIGN - 1) / ALIGN * ALIGN;
}

static off_t place(const struct recorder *r, uint64_t at)
{
	return (off_t)(PAGE + at % r->cap);
}

static int read_all(const struct recorder *r, void *to, size_t len, off_t at)
{
	ssize_t n = pread(r->fd, to, len, at);

	return n < 0 ? -errno : (size_t)n == len ? 0 : -EIO;
}

int file_write(struct recorder *r, const struct record_batch_view *v, uint64_t at, uint64_t came_ms)
{
	static const uint8_t none[BITS_MAX];
	struct entry_head h = {.id = r->id,
			       .at = at,
			       .came_ms = came_ms,
			       .size = v->head->size,
			       .records = v->head->records};
	struct iovec parts[] = {
		{&h, sizeof(h)}, {(void *)none, bits_size(h.records)}, {(void *)v->head, h.size}};
	size_t len = parts[0].iov_len + parts[1].iov_len + parts[2].iov_len;
	ssize_t n;

	h.sum = entry_sum(&h, v->head);
	n = pwritev(r->fd, parts, 3, place(r, at));
	return n < 0 ? -errno : (size_t)n == len ? 0 : -EIO;
}

int file_zero(struct recorder *r, uint64_t at, uint32_t len)
{
	static const char none[64 << 10];

	while (len) {
		uint32_t part = len < sizeof(none) ? len : (uint32_t)sizeof(none);
		ssize_t n = pwrite(r->fd, none, part, place(r, at));

		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		at += (uint64_t)n;
		len -= (uint32_t)n;
	}
	return 0;
}

int file_bits_write(struct recorder *r, const struct recorder_batch *b, const uint8_t *bits)
{
	size_t len = bits_size(b->n);
	ssize_t n = pwrite(r->fd, bits, len, place(r, b->at) + (off_t)sizeof(struct entry_head));

	return n < 0 ? -errno : (size_t)n == len ? 0 : -EIO;
}

int file_bits_read(struct recorder *r, const struct recorder_batch *b, uint8_t *bits)
{
	return read_all(r, bits, bits_size(b->n),
			place(r, b->at) + (off_t)sizeof(struct entry_head));
}

int file_read(struct recorder *r, const struct recorder_batch *b, uint32_t from, void *to,
	      uint32_t len)
{
	return read_all(r, to, len,
			place(r, b->at) + (off_t)sizeof(struct entry_head) + bits_size(b->n) +
				from);
}

/* --- what is in it ------------------------------------------------------------------- */

struct found {
	uint64_t at;
};

struct scan {
	char *entry; /* room for one */
	struct found *found;
	size_t n, cap;
};

/* Is there an entry at that place? It is in s->entry then; *size is its own. */
static bool look(struct recorder *r, struct scan *s, uint64_t pos, uint32_t *size)
{
	struct entry_head *h = (void *)s->entry;
	struct record_batch_view v;
	const char *batch;

	if (pos + sizeof(*h) > r->cap || read_all(r, h, sizeof(*h), place(r, pos)) ||
	    h->id != r->id || h->at % r->cap != pos || h->at > UINT64_MAX / 2 ||
	    h->size > RECORD_BATCH_SIZE || h->size % 8 || h->records > RECORD_BATCH_MAX)
		return false;
	*size = file_entry(h->records, h->size);
	if (pos + *size > r->cap ||
	    read_all(r, h + 1, bits_size(h->records) + h->size, place(r, pos) + (off_t)sizeof(*h)))
		return false;
	batch = s->entry + sizeof(*h) + bits_size(h->records);
	return entry_sum(h, batch) == h->sum && !record_batch_check(batch, h->size, &v) &&
	       v.head->size == h->size && v.head->records == h->records;
}

static int note(struct scan *s, uint64_t at)
{
	struct found *more;

	if (s->n == s->cap) {
		s->cap = s->cap ? s->cap * 2 : 256;
		more = realloc(s->found, s->cap * sizeof(*more));
		if (!more)
			return -ENOMEM;
		s->found = more;
	}
	s->found[s->n++].at = at;
	return 0;
}

/* Every place where one may begin; of most of the file nothing but that is read. */
static int find_all(struct recorder *r, struct scan *s)
{
	static const size_t step = 64 << 10;
	char *piece = malloc(step);
	uint32_t size = 0;
	int err = piece ? 0 : -ENOMEM;

	for (uint64_t from = 0, skip = 0; !err && from < r->cap; from += step) {
		ssize_t n = pread(r->fd, piece, step, place(r, from));

		for (uint64_t i = 0; !err && n > 0 && i + 8 <= (uint64_t)n; i += ALIGN) {
			if (from + i < skip || word(piece + i) != r->id ||
			    !look(r, s, from + i, &size))
				continue;
			err = note(s, ((const struct entry_head *)s->entry)->at);
			skip = from + i + size;
		}
	}
	free(piece);
	return err;
}

static int by_at(const void *x, const void *y)
{
	const struct found *a = x, *b = y;

	return (a->at > b->at) - (a->at < b->at);
}

int file_each(struct recorder *r, void (*fn)(struct recorder *, const struct record_batch_view *,
					     uint64_t, uint64_t, const uint8_t *))
{
	struct scan s = {.entry = malloc(sizeof(struct entry_head) + BITS_MAX + RECORD_BATCH_SIZE)};
	int err = s.entry ? find_all(r, &s) : -ENOMEM;
	const struct entry_head *h = (const void *)s.entry;
	struct record_batch_view v;
	uint32_t size;

	if (s.n)
		qsort(s.found, s.n, sizeof(*s.found), by_at);
	for (size_t i = 0; i < s.n && !err; i++) {
		const uint8_t *bits = (const uint8_t *)(h + 1);

		if (look(r, &s, s.found[i].at % r->cap, &size) && h->at == s.found[i].at &&
		    !record_batch_check(bits + bits_size(h->records), h->size, &v))
			fn(r, &v, h->at, h->came_ms, bits);
	}
	free(s.found);
	free(s.entry);
	return err;
}

/* --- the file ------------------------------------------------------------------------ */

/* Room for all of it is taken now: the disk cannot be full in the middle of it later. */
static int begin(struct recorder *r, uint64_t size)
{
	struct file_head h = {.magic = MAGIC, .form = FORM, .layout = RECORD_LAYOUT, .size = size};
	int err;

	if (getrandom(&r->id, sizeof(r->id), 0) != sizeof(r->id))
		return -EIO;
	h.id = r->id |= 1; /* never 0, which is what an empty file is full of */
	if (ftruncate(r->fd, 0))
		return -errno;
	err = posix_fallocate(r->fd, 0, (off_t)size);
	if (err)
		return -err;
	return pwrite(r->fd, &h, sizeof(h), 0) == sizeof(h) ? 0 : -EIO;
}

/* The size of one of ours; 0: it is none, or nothing can be read from it. */
static uint64_t recognize(struct recorder *r)
{
	struct file_head h;
	struct stat st;

	if (fstat(r->fd, &st) || read_all(r, &h, sizeof(h), 0) ||
	    memcmp(h.magic, MAGIC, sizeof(h.magic)) || h.form != FORM ||
	    h.layout != RECORD_LAYOUT || h.size <= PAGE || (uint64_t)st.st_size != h.size || !h.id)
		return 0;
	r->id = h.id;
	return h.size;
}

static void count_unlisted(struct recorder *r, const struct record_batch_view *v, uint64_t at,
			   uint64_t came_ms, const uint8_t *bits)
{
	const struct record *rec;

	for (uint32_t i = 0, next = 0; (rec = record_batch_next(v, &next)); i++)
		if (rec->flags & RECORD_TRACED && !(bits[i / 8] >> i % 8 & 1))
			(*(recorded_flags(rec) & RECORDED_KEPT ? &r->counts.kept_lost
							       : &r->counts.other_lost))++;
}

/* Its entries cannot stay where they are in a file of another size. */
static void say_gone(struct recorder *r, uint64_t was, uint64_t size)
{
	r->cap = was - PAGE;
	(void)file_each(r, count_unlisted); /* what is read of it until there is no memory */
	r->cap = size - PAGE;
	log_warn("%s begins anew with %llu KiB in place of %llu (--trace-size): %llu spans that "
		 "were not listed are gone",
		 r->path, (unsigned long long)size >> 10, (unsigned long long)was >> 10,
		 (unsigned long long)(r->counts.kept_lost + r->counts.other_lost));
}

/* Damaged, cut, or of another meshd: what is in it cannot be read. */
static void say_strange(const struct recorder *r)
{
	struct stat st;

	if (!fstat(r->fd, &st) && st.st_size)
		log_warn("%s is not what this meshd writes: it begins anew, spans that were not "
			 "listed are gone",
			 r->path);
}

static int open_fd(struct recorder *r, const char *file, bool make)
{
	struct stat st;

	r->fd = open(file, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | (make ? O_CREAT : 0),
		     0600);
	if (r->fd < 0)
		return -errno;
	if (fstat(r->fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	r->dev = st.st_dev;
	r->ino = st.st_ino;
	return 0;
}

int file_open(struct recorder *r, const char *dir, uint64_t size, bool make)
{
	uint64_t was;
	int err;

	if (snprintf(r->path, sizeof(r->path), "%s/" RECORDER_FILE, dir) >= (int)sizeof(r->path))
		return -ENAMETOOLONG;
	err = open_fd(r, r->path, make);
	r->cap = size - PAGE;
	was = err ? 0 : recognize(r);
	if (was && was != size)
		say_gone(r, was, size);
	if (!err && !was)
		say_strange(r);
	if (!err && was != size) {
		err = begin(r, size);
		if (err)
			(void)unlink(r->path); /* a part of the disk would be held for nothing */
	}
	if (err)
		file_close(r);
	return err;
}

void file_close(struct recorder *r)
{
	if (r->fd >= 0)
		close(r->fd);
	r->fd = -1;
}

bool recorder_moved(const struct recorder *r)
{
	struct stat st;

	return lstat(r->path, &st) || st.st_dev != r->dev || st.st_ino != r->ino ||
	       (uint64_t)st.st_size != r->cap + PAGE;
}
