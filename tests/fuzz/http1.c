/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzer of the HTTP/1 parser and of what is read of traces: the properties of http1_property.h
 * and, of what is a request, of trace_property.h for whatever it is given. `make
 * fuzz` builds it with clang's libFuzzer; without -DLIBFUZZER it is a program of its own that
 * replays the files it is given and then mutates them for some seconds: http1 [-s SECONDS]
 * [FILE...].
 */
#include "tests/fuzz/http1_property.h"
#include "tests/fuzz/trace_property.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *trace_of(const char *data, size_t size)
{
	static struct http1_head h;
	const char *wrong = NULL;
	char *copy = portion(data, size);

	http1_head_init(&h);
	if (http1_request_parse(&h, copy, size, PROPERTY_MAX_HEAD) == HTTP1_DONE)
		wrong = trace_property(&h, copy);
	free(copy);
	return wrong;
}

/* The seed of the splits comes from the data, so that an input fails each time or never. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t seed = size;
	const char *wrong;

	for (size_t i = 0; i < size; i++)
		seed = seed * 31 + data[i];
	wrong = http1_property((const char *)data, size, seed);
	if (!wrong)
		wrong = trace_of((const char *)data, size);
	if (wrong) {
		fprintf(stderr, "http1: %s\n", wrong);
		abort();
	}
	return 0;
}

#ifndef LIBFUZZER
#define MAX_INPUT  20000
#define MAX_INPUTS 64

struct input {
	size_t n;
	uint8_t bytes[MAX_INPUT];
};

static struct input inputs[MAX_INPUTS];
static size_t ninputs;

static int load(const char *path)
{
	FILE *f = fopen(path, "rb");

	if (!f || ninputs == MAX_INPUTS) {
		fprintf(stderr, "http1: %s: %s\n", path, f ? "too many files" : strerror(errno));
		if (f)
			fclose(f);
		return -1;
	}
	inputs[ninputs].n = fread(inputs[ninputs].bytes, 1, MAX_INPUT, f);
	fclose(f);
	LLVMFuzzerTestOneInput(inputs[ninputs].bytes, inputs[ninputs].n);
	ninputs++;
	return 0;
}

/* A part of one input laid over another at a random place, then single bytes changed. */
static void mutate(struct input *out, uint64_t *random)
{
	const struct input *from = &inputs[random_below(random, ninputs)];
	size_t at, start, n;

	*out = inputs[random_below(random, ninputs)];
	at = random_below(random, out->n + 1);
	start = random_below(random, from->n + 1);
	n = random_below(random, from->n - start + 1);
	n = n < MAX_INPUT - at ? n : MAX_INPUT - at;
	if (random_below(random, 2)) {
		memcpy(out->bytes + at, from->bytes + start, n);
		out->n = out->n > at + n ? out->n : at + n;
	}
	for (size_t i = random_below(random, 4); i > 0 && out->n; i--)
		out->bytes[random_below(random, out->n)] = (uint8_t)random_next(random);
}

int main(int argc, char **argv)
{
	static struct input input;
	uint64_t random = 0x9e3779b97f4a7c15ULL;
	unsigned long rounds = 0;
	time_t end, seconds = 10;
	int c;

	while ((c = getopt(argc, argv, "s:")) != -1) {
		if (c != 's')
			return 2;
		seconds = atol(optarg);
	}
	for (; optind < argc; optind++)
		if (load(argv[optind]) < 0)
			return EXIT_FAILURE;
	if (!ninputs)
		ninputs = 1; /* the empty input */
	for (end = time(NULL) + seconds; time(NULL) < end; rounds++) {
		mutate(&input, &random);
		LLVMFuzzerTestOneInput(input.bytes, input.n);
	}
	printf("http1: %lu inputs, every property held\n", rounds);
	return EXIT_SUCCESS;
}
#endif
