/* SPDX-License-Identifier: Apache-2.0 */
/* See screen.h. Signal handlers call only what may be called there: write, tcsetattr, _exit. */
#include "ctl/meshctl/screen.h"
#include "lib/buf.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#define TEXT_MAX (4u << 20)
#define ENTER	 "\033[?1049h\033[?25l\033[?7l" /* the other screen, no cursor, no wrapping */
#define LEAVE	 "\033[?7h\033[?25h\033[?1049l"

static struct termios before;
static volatile sig_atomic_t open_now, resized;

static void put(const char *s, size_t n)
{
	while (n) {
		ssize_t done = write(STDOUT_FILENO, s, n);

		if (done < 0 && errno != EINTR && errno != EAGAIN)
			return;
		s += done > 0 ? done : 0;
		n -= done > 0 ? (size_t)done : 0;
	}
}

static void enter(void)
{
	struct termios raw = before;

	/* Ctrl-C and Ctrl-Z stay signals */
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	put(ENTER, sizeof(ENTER) - 1);
	open_now = 1;
}

static void leave(void)
{
	if (!open_now)
		return;
	open_now = 0;
	put(LEAVE, sizeof(LEAVE) - 1);
	tcsetattr(STDIN_FILENO, TCSANOW, &before);
}

static void on_end(int sig)
{
	leave();
	_exit(sig == SIGINT ? 0 : 128 + sig);
}

static void on_resize(int sig)
{
	resized = 1;
}

/* Ctrl-Z: the shell gets its terminal as it was, and we ours when we go on. */
static void on_suspend(int sig)
{
	int saved = errno;

	leave();
	raise(SIGSTOP);
	enter();
	resized = 1;
	errno = saved;
}

static int handle(int sig, void (*fn)(int))
{
	struct sigaction sa = {.sa_handler = fn};

	sigfillset(&sa.sa_mask);
	return sigaction(sig, &sa, NULL) ? -errno : 0;
}

int screen_open(void)
{
	static const int ends[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
	const char *term = getenv("TERM");
	int r = 0;

	if (!isatty(STDOUT_FILENO) || tcgetattr(STDIN_FILENO, &before))
		return -ENOTTY;
	if (!term || !*term || !strcmp(term, "dumb"))
		return -ENOTTY;
	for (size_t i = 0; !r && i < sizeof(ends) / sizeof(ends[0]); i++)
		r = handle(ends[i], on_end);
	if (!r)
		r = handle(SIGWINCH, on_resize);
	if (!r)
		r = handle(SIGTSTP, on_suspend);
	if (!r)
		enter();
	return r;
}

void screen_close(void)
{
	leave();
}

void screen_size(unsigned *columns, unsigned *rows)
{
	struct winsize w = {0};

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w))
		w.ws_col = 0;
	*columns = w.ws_col ? w.ws_col : 80;
	*rows = w.ws_row ? w.ws_row : 24;
}

/* Length of an escape sequence of colour at s, 0: it is none. */
static size_t colour_len(const char *s)
{
	size_t n = 2;

	if (s[0] != '\033' || s[1] != '[')
		return 0;
	n += strspn(s + n, "0123456789;");
	return s[n] == 'm' ? n + 1 : 0;
}

/* A line, its colours, and the rest of the row empty. Returns what is behind it. */
static const char *put_row(struct buf *b, const char *s, unsigned columns)
{
	unsigned used = 0;

	while (*s && *s != '\n') {
		size_t n = colour_len(s);

		if (n) {
			buf_add(b, s, n);
			s += n;
			continue;
		}
		n = 1;
		while (((unsigned char)s[n] & 0xc0) == 0x80)
			n++;
		if (used++ < columns)
			buf_add(b, s, n);
		s += n;
	}
	buf_str(b, "\033[0m\033[K");
	return *s ? s + 1 : s;
}

char *screen_text(const char *text, unsigned columns, unsigned rows)
{
	struct buf b;

	buf_init(&b, TEXT_MAX);
	buf_str(&b, "\033[H");
	for (unsigned r = 0; r < rows && *text; r++) {
		buf_str(&b, r ? "\r\n" : "");
		text = put_row(&b, text, columns);
	}
	buf_str(&b, "\033[J");
	return buf_take(&b);
}

void screen_draw(const char *text)
{
	unsigned columns, rows;
	char *out;

	screen_size(&columns, &rows);
	out = screen_text(text, columns, rows);
	if (out && open_now)
		put(out, strlen(out));
	free(out);
}

static int decode(const char *s, size_t n)
{
	static const struct {
		const char *bytes;
		int key;
	} list[] = {{"\033[A", SCREEN_UP},	 {"\033OA", SCREEN_UP},
		    {"\033[B", SCREEN_DOWN},	 {"\033OB", SCREEN_DOWN},
		    {"\033[5~", SCREEN_PAGE_UP}, {"\033[6~", SCREEN_PAGE_DOWN}};

	for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++)
		if (n == strlen(list[i].bytes) && !memcmp(s, list[i].bytes, n))
			return list[i].key;
	return s[0] == '\033' ? SCREEN_NONE : (unsigned char)s[0];
}

int screen_wait(int ms)
{
	struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
	char bytes[16];
	ssize_t n;
	int r = resized ? 0 : poll(&p, 1, ms);

	if (resized) {
		resized = 0;
		return SCREEN_RESIZED;
	}
	if (r <= 0)
		return SCREEN_NONE;
	n = read(STDIN_FILENO, bytes, sizeof(bytes));
	if (n < 0 && errno == EINTR)
		return SCREEN_NONE;
	return n <= 0 ? SCREEN_END : decode(bytes, (size_t)n);
}
