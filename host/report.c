/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "progress.h"
#include "report.h"

int report_to_runtime;

struct text {
	char bytes[4096];
	size_t len;
};

static void add(struct text *t, const char *s)
{
	size_t n = strlen(s);

	if (n > sizeof t->bytes - t->len)
		n = sizeof t->bytes - t->len;
	memcpy(t->bytes + t->len, s, n);
	t->len += n;
}

/* A JSON string. Long ones are cut, bytes beyond ASCII replaced: what is left is always valid. */
static void add_string(struct text *t, const char *s)
{
	static const char hex[] = "0123456789abcdef";
	size_t budget = 1500;

	add(t, "\"");
	for (; *s && budget > 0; s++, budget--) {
		unsigned char c = (unsigned char)*s;
		char out[7] = { (char)c };

		if (c == '"' || c == '\\') {
			out[0] = '\\';
			out[1] = (char)c;
			budget -= budget > 1;
		} else if (c < 0x20) {
			memcpy(out, "\\u00", 4);
			out[4] = hex[c >> 4];
			out[5] = hex[c & 15];
			budget -= budget > 6 ? 5 : 0;
		} else if (c >= 0x7f) {
			out[0] = '?';
		}
		add(t, out);
	}
	add(t, "\"");
}

static void add_number(struct text *t, unsigned n)
{
	char digits[12];
	char *at = digits + sizeof digits - 1;

	*at = '\0';
	do {
		*--at = (char)('0' + n % 10);
		n /= 10;
	} while (n);
	add(t, at);
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);

	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* 0 once there is room, -ETIMEDOUT, or -errno. */
static int await_room(int fd, int64_t deadline)
{
	struct pollfd room = { .fd = fd, .events = POLLOUT };

	for (;;) {
		int64_t left = deadline - now_ms();
		int ret = poll(&room, 1, left > 0 ? (int)left : 0);

		if (ret > 0)
			return 0; /* or an error, which write() will tell */
		if (ret == 0)
			return -ETIMEDOUT;
		if (errno != EINTR)
			return -errno;
	}
}

/*
 * Writes pieces of at most PIPE_BUF, for which a pipe has room when poll() says so: so no write blocks for
 * longer than we wait, even when the descriptor is a blocking one.
 */
static int write_within(int fd, const char *text, size_t len, int patience_ms)
{
	int64_t deadline = now_ms() + patience_ms;

	while (len > 0) {
		int err = await_room(fd, deadline);
		ssize_t n;

		if (err)
			return err;
		n = write(fd, text, len < PIPE_BUF ? len : PIPE_BUF);
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return -errno;
		if (n < 0 && errno == EAGAIN)
			poll(NULL, 0, 1); /* there was room, and others were quicker */
		if (n > 0) {
			text += n;
			len -= (size_t)n;
		}
	}

	return 0;
}

int report_text(int fd, const char *text, size_t len)
{
	/* For the answer, and for the log. After a wait in vain there is no second one. */
	static int answer_ms = 10000, log_ms = 1000;
	int *patience_ms = fd == STDERR_FILENO ? &log_ms : &answer_ms;
	int err;

	progress_pause();
	err = write_within(fd, text, len, *patience_ms);
	progress_go_on();
	if (err)
		*patience_ms = 0;

	return err;
}

void report_error(unsigned code, const char *msg, const char *details)
{
	struct text t = { .len = 0 };

	if (!report_to_runtime) {
		add(&t, "luacni: ");
		add(&t, msg);
		if (*details) {
			add(&t, ": ");
			add(&t, details);
		}
		t.len -= t.len == sizeof t.bytes;
		add(&t, "\n");
		report_text(STDERR_FILENO, t.bytes, t.len);
		return;
	}

	add(&t, "{\n    \"cniVersion\": \"1.0.0\",\n    \"code\": ");
	add_number(&t, code);
	add(&t, ",\n    \"msg\": ");
	add_string(&t, msg);
	if (*details) {
		add(&t, ",\n    \"details\": ");
		add_string(&t, details);
	}
	add(&t, "\n}\n");
	report_text(STDOUT_FILENO, t.bytes, t.len);
}
