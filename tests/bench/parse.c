/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nanoseconds per message head, for typical requests and responses: the best of several rounds,
 * whole heads in one buffer. Run by hand (build/tests/bench/parse) before and after a change to the
 * parser.
 */
#include "agent/proxy/http1.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ROUNDS 15
#define TURNS  100000

static const char small_request[] = "GET /api/items?id=42 HTTP/1.1\r\n"
				    "Host: backend:8080\r\n"
				    "User-Agent: curl/7.88.1\r\n"
				    "Accept: */*\r\n"
				    "\r\n";

static const char service_request[] =
	"POST /v1/orders/7f3a9c/items HTTP/1.1\r\n"
	"Host: orders.internal:8080\r\n"
	"User-Agent: python-requests/2.31.0\r\n"
	"Accept-Encoding: gzip, deflate, br\r\n"
	"Accept: application/json\r\n"
	"Connection: keep-alive\r\n"
	"Content-Type: application/json\r\n"
	"Content-Length: 348\r\n"
	"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n"
	"x-request-id: 6f1b1ba0-5f0e-4bcb-9d8f-2d6f0c8c2a11\r\n"
	"x-forwarded-for: 10.201.0.7\r\n"
	"\r\n";

static const char browser_request[] =
	"GET /shop/list?category=shoes&page=3&sort=price HTTP/1.1\r\n"
	"Host: shop.example.com\r\n"
	"Connection: keep-alive\r\n"
	"Cache-Control: max-age=0\r\n"
	"Upgrade-Insecure-Requests: 1\r\n"
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
	"Chrome/120.0.0.0 "
	"Safari/537.36\r\n"
	"Accept: "
	"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
	"Sec-Fetch-Site: same-origin\r\n"
	"Sec-Fetch-Mode: navigate\r\n"
	"Sec-Fetch-User: ?1\r\n"
	"Sec-Fetch-Dest: document\r\n"
	"Referer: https://shop.example.com/shop/list?category=shoes&page=2\r\n"
	"Accept-Encoding: gzip, deflate, br\r\n"
	"Accept-Language: en-US,en;q=0.9,de;q=0.8\r\n"
	"Cookie: session=9f8e7d6c5b4a39281706f5e4d3c2b1a0; theme=dark; cart=3; consent=yes; "
	"ab=variant-b\r\n"
	"\r\n";

static const char response[] = "HTTP/1.1 200 OK\r\n"
			       "Server: nginx/1.22.1\r\n"
			       "Date: Mon, 01 Jan 2024 12:00:00 GMT\r\n"
			       "Content-Type: application/json; charset=utf-8\r\n"
			       "Content-Length: 1234\r\n"
			       "Connection: keep-alive\r\n"
			       "Vary: Accept-Encoding\r\n"
			       "Cache-Control: no-store\r\n"
			       "ETag: \"65a1b2c3-4d2\"\r\n"
			       "\r\n";

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static enum http1_result parse(struct http1_head *h, const char *data, size_t len, bool is_response)
{
	http1_head_init(h);
	if (is_response)
		return http1_response_parse(h, data, len, 65536, HTTP1_GET);
	return http1_request_parse(h, data, len, 65536);
}

static int measure(const char *what, const char *data, size_t len, bool is_response)
{
	static struct http1_head h;
	double best = 0;

	for (int round = 0; round < ROUNDS; round++) {
		double start = now_ns();
		double ns;

		for (int i = 0; i < TURNS; i++)
			if (parse(&h, data, len, is_response) != HTTP1_DONE)
				return -1;
		ns = (now_ns() - start) / TURNS;
		if (!round || ns < best)
			best = ns;
	}
	printf("%-10s %5zu bytes %3u headers %7.1f ns/head %6.2f GB/s\n", what, len, h.nheaders,
	       best, (double)len / best);
	return 0;
}

int main(void)
{
	if (measure("small", small_request, sizeof(small_request) - 1, false) ||
	    measure("service", service_request, sizeof(service_request) - 1, false) ||
	    measure("browser", browser_request, sizeof(browser_request) - 1, false) ||
	    measure("response", response, sizeof(response) - 1, true)) {
		fputs("parse: a head was refused\n", stderr);
		return EXIT_FAILURE;
	}
	return EXIT_SUCCESS;
}
