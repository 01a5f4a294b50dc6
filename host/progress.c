/* SPDX-License-Identifier: MIT */
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "progress.h"

#define FIRST_MS 1000
#define AGAIN_MS 100

/* Go to the beginning of the line; clear the rest of it. */
#define BEGIN "\r"
#define END "\033[K"

static struct {
	char bytes[256];
	size_t len;
} line;

/* A signal's handler draws the line, since the program may block meanwhile; but not while it is `busy`. */
static volatile sig_atomic_t busy, changed, shown;
static timer_t timer;
static bool armed;

static void write_out(const char *bytes, size_t len)
{
	ssize_t n = write(STDERR_FILENO, bytes, len);

	(void)n; /* nobody has to see it */
}

static void on_timer(int sig)
{
	(void)sig;
	if (busy || !changed)
		return;
	changed = 0;
	shown = 1;
	write_out(line.bytes, line.len);
}

/* Whether there is a terminal, which can also remove a line. */
static bool is_wanted(void)
{
	const char *no_color = getenv("NO_COLOR"), *kind = getenv("TERM");

	if (!isatty(STDERR_FILENO) || (no_color && *no_color))
		return false;

	return kind && *kind && strcmp(kind, "dumb") != 0;
}

static bool arm(void)
{
	int sig = SIGRTMIN + 4;
	struct sigaction act = { .sa_handler = on_timer, .sa_flags = SA_RESTART };
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = sig };
	struct itimerspec span = {
		.it_value = { .tv_sec = FIRST_MS / 1000, .tv_nsec = FIRST_MS % 1000 * 1000000 },
		.it_interval.tv_nsec = AGAIN_MS * 1000000,
	};
	sigset_t unblock;

	if (!is_wanted() || timer_create(CLOCK_MONOTONIC, &event, &timer) < 0)
		return false;
	sigaction(sig, &act, NULL);
	sigemptyset(&unblock);
	sigaddset(&unblock, sig);
	sigprocmask(SIG_UNBLOCK, &unblock, NULL);
	timer_settime(timer, 0, &span, NULL);

	return true;
}

/* Take as much of a text as a line has room for. Bytes that are no printable ASCII become question marks. */
static void set_line(const char *text)
{
	struct winsize size = { .ws_col = 80 };
	size_t room = sizeof line.bytes - sizeof BEGIN - sizeof END, len = 0;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col == 0)
		size.ws_col = 80;
	if (room > size.ws_col - 1u)
		room = size.ws_col - 1u;
	memcpy(line.bytes, BEGIN, sizeof BEGIN - 1);
	len = sizeof BEGIN - 1;
	for (size_t i = 0; text[i] && i < room; i++)
		line.bytes[len++] = text[i] >= ' ' && text[i] < 0x7f ? text[i] : '?';
	memcpy(line.bytes + len, END, sizeof END - 1);
	line.len = len + sizeof END - 1;
}

void progress_pause(void)
{
	busy++;
	if (!shown)
		return;
	write_out(BEGIN END, sizeof BEGIN END - 1);
	shown = 0;
	changed = 1; /* it is drawn again afterwards */
}

void progress_go_on(void)
{
	busy--;
}

void progress_say(const char *text)
{
	static bool unwanted;

	if (unwanted)
		return;
	if (!text && armed) {
		timer_delete(timer);
		armed = false;
		progress_pause();
		changed = 0;
		progress_go_on();
		return;
	}
	if (!text)
		return;
	busy++;
	set_line(text);
	changed = 1;
	busy--;
	if (!armed)
		armed = arm();
	unwanted = !armed;
}
