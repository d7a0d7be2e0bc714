/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The web page: the files of ui/, taken into the binary as they are. They load nothing from
 * anywhere else, and the Content-Security-Policy of every answer (request.c) holds them to that.
 */
#include "ctl/meshd/api.h"

#define EMBED(name, file)                                                                          \
	__asm__(".section .rodata\n" #name "_begin: .incbin \"" file "\"\n" #name                  \
		"_end: .byte 0\n.previous\n");                                                     \
	extern const char name##_begin[], name##_end[]

EMBED(page_html, "ctl/meshd/ui/index.html");
EMBED(page_js, "ctl/meshd/ui/page.js");
EMBED(page_css, "ctl/meshd/ui/page.css");

void api_page(struct request *r)
{
	reply_static(r, "text/html; charset=utf-8", page_html_begin,
		     (size_t)(page_html_end - page_html_begin));
}

void api_page_script(struct request *r)
{
	reply_static(r, "text/javascript; charset=utf-8", page_js_begin,
		     (size_t)(page_js_end - page_js_begin));
}

void api_page_style(struct request *r)
{
	reply_static(r, "text/css; charset=utf-8", page_css_begin,
		     (size_t)(page_css_end - page_css_begin));
}
