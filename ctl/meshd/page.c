/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The web page: the files of ui/, taken into the binary as they are and packed. They load nothing
 * from anywhere else, and the Content-Security-Policy of every answer (request.c) holds them to
 * that.
 */
#include "ctl/meshd/api.h"

#include <string.h>

/* symbol, file under ui/, type */
#define FILES(F)                                                                                   \
	F(index, "index.html", "text/html")                                                        \
	F(style, "style.css", "text/css")                                                          \
	F(icon, "icon.svg", "image/svg+xml")                                                       \
	F(api, "api.js", "text/javascript")                                                        \
	F(banner, "banner.js", "text/javascript")                                                  \
	F(dom, "dom.js", "text/javascript")                                                        \
	F(format, "format.js", "text/javascript")                                                  \
	F(layout, "layout.js", "text/javascript")                                                  \
	F(main, "main.js", "text/javascript")                                                      \
	F(map, "map.js", "text/javascript")                                                        \
	F(plots, "plots.js", "text/javascript")                                                    \
	F(poll, "poll.js", "text/javascript")                                                      \
	F(service, "service.js", "text/javascript")                                                \
	F(services, "services.js", "text/javascript")                                              \
	F(state, "state.js", "text/javascript")                                                    \
	F(tap, "tap.js", "text/javascript")                                                        \
	F(theme, "theme.js", "text/javascript")                                                    \
	F(traces, "traces.js", "text/javascript")                                                  \
	F(viewport, "viewport.js", "text/javascript")                                              \
	F(waterfall, "waterfall.js", "text/javascript")                                            \
	F(dagre, "vendor/dagre.esm.js", "text/javascript")                                         \
	F(dagre_licence, "vendor/dagre.LICENSE", "text/plain")                                     \
	F(uplot, "vendor/uPlot.iife.min.js", "text/javascript")                                    \
	F(uplot_style, "vendor/uPlot.min.css", "text/css")                                         \
	F(uplot_licence, "vendor/uPlot.LICENSE", "text/plain")

#define EMBED(symbol, file, type)                                                                  \
	__asm__(".section .rodata\n"                                                               \
		"page_" #symbol ": .incbin \"ctl/meshd/ui/" file "\"\n"                            \
		"page_" #symbol "_packed: .incbin \"ui/" file ".gz\"\n"                            \
		"page_" #symbol "_end: .byte 0\n.previous\n");                                     \
	extern const char page_##symbol[], page_##symbol##_packed[], page_##symbol##_end[];
FILES(EMBED)

static const struct page_file {
	const char *name, *type, *data, *packed, *end;
} files[] = {
#define ROW(symbol, file, type)                                                                    \
	{file, type "; charset=utf-8", page_##symbol, page_##symbol##_packed, page_##symbol##_end},
	FILES(ROW)};

static void reply_file(struct request *r, const char *folder, const char *name)
{
	size_t n = strlen(folder);

	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
		const struct page_file *f = &files[i];
		struct static_file s = {f->type, f->data, f->packed, (size_t)(f->packed - f->data),
					(size_t)(f->end - f->packed)};

		if (!strncmp(f->name, folder, n) && !strcmp(f->name + n, name)) {
			reply_static(r, &s);
			return;
		}
	}
	reply_error(r, 404, NULL, "no such file");
}

void api_page(struct request *r)
{
	reply_file(r, "", "index.html");
}

void api_page_file(struct request *r)
{
	reply_file(r, "", r->arg[0]);
}

void api_page_vendor(struct request *r)
{
	reply_file(r, "vendor/", r->arg[0]);
}
