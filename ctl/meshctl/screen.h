/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole terminal for one program: the alternate screen, keys without Enter, nothing left behind
 * whatever ends it (a key, a signal, Ctrl-Z). Used by top. One at a time.
 */
#ifndef CTL_MESHCTL_SCREEN_H
#define CTL_MESHCTL_SCREEN_H

#include <stddef.h>

enum screen_key {
	SCREEN_NONE, /* the time is over */
	SCREEN_RESIZED,
	SCREEN_END, /* the terminal has gone */
	SCREEN_UP = 256,
	SCREEN_DOWN,
	SCREEN_PAGE_UP,
	SCREEN_PAGE_DOWN,
}; /* others are characters */

/* 0, or -errno: stdin and stdout are no terminal that can do this. From here on SIGINT, SIGTERM,
 * SIGHUP and SIGQUIT restore it and end the program (SIGINT with exit status 0). */
int screen_open(void);
/* Puts everything back. Harmless when it is not open. */
void screen_close(void);
void screen_size(unsigned *columns, unsigned *rows);
/* Shows text from the upper left corner; what does not fit is cut off. Colours (ESC [ ... m) take
 * no room. Lines end with \n. */
void screen_draw(const char *text);
/* Waits for a key, at most ms. */
int screen_wait(int ms);

/* As screen_draw() writes it for so many columns and rows: new, the caller frees; NULL without
 * memory. */
char *screen_text(const char *text, unsigned columns, unsigned rows);

#endif
