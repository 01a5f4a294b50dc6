/* SPDX-License-Identifier: MIT */
/*
 * pour FROM TO ADDRESS SECONDS [BIND]
 *
 * Pour bytes by TCP from one network namespace to an address in another, as fast as they go, and print how
 * many came in each second from the first byte on, a line each. BIND: the address to pour from. Status 1, and
 * why on standard error, when no connection comes about.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PORT = 7878, MOST_SECONDS = 60, PATIENCE_MS = 5000 };

static char bytes[256 * 1024];

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "pour: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void enter(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
		fail(path);
	close(fd);
}

static socklen_t parse(const char *text, int port, struct sockaddr_storage *ret)
{
	struct sockaddr_in *four = (void *)ret;
	struct sockaddr_in6 *six = (void *)ret;

	memset(ret, 0, sizeof(*ret));
	if (inet_pton(AF_INET, text, &four->sin_addr) == 1) {
		four->sin_family = AF_INET;
		four->sin_port = htons((uint16_t)port);
		return sizeof(*four);
	}
	if (inet_pton(AF_INET6, text, &six->sin6_addr) != 1)
		fail(text);
	six->sin6_family = AF_INET6;
	six->sin6_port = htons((uint16_t)port);
	return sizeof(*six);
}

static int new_socket(const char *ns, int family)
{
	int fd, on = 1;

	enter(ns);
	fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		fail(ns);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	return fd;
}

static void await(int fd, short events, const char *what)
{
	struct pollfd poll_fd = { .fd = fd, .events = events };

	if (poll(&poll_fd, 1, PATIENCE_MS) == 1)
		return;
	errno = ETIMEDOUT;
	fail(what);
}

static int connected(int from, int listener, const struct sockaddr_storage *to, socklen_t len)
{
	int error = 0, to_fd;
	socklen_t size = sizeof(error);

	if (connect(from, (const void *)to, len) < 0 && errno != EINPROGRESS)
		fail("connect");
	await(from, POLLOUT, "connect");
	getsockopt(from, SOL_SOCKET, SO_ERROR, &error, &size);
	errno = error;
	if (error)
		fail("connect");
	await(listener, POLLIN, "accept");
	to_fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (to_fd < 0)
		fail("accept");
	return to_fd;
}

static void pour(int from, int to, int seconds, uint64_t *counts)
{
	struct pollfd fds[] = { { .fd = from, .events = POLLOUT }, { .fd = to, .events = POLLIN } };
	int64_t first = 0, begun = now_ms();

	for (;;) {
		int64_t now;

		if (poll(fds, 2, 100) < 0 && errno != EINTR)
			fail("poll");
		now = now_ms();
		if (first ? now - first >= seconds * 1000 : now - begun >= PATIENCE_MS)
			return;
		if (fds[0].revents & POLLOUT && write(from, bytes, sizeof(bytes)) < 0 && errno != EAGAIN)
			fail("write");
		if (fds[1].revents & POLLIN) {
			ssize_t n = read(to, bytes, sizeof(bytes));

			if (n < 0 && errno != EAGAIN)
				fail("read");
			first = first ? first : now;
			counts[(now - first) / 1000] += n > 0 ? (uint64_t)n : 0;
		}
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_storage to, bound;
	uint64_t counts[MOST_SECONDS] = { 0 };
	int listener, from, seconds;
	socklen_t len;

	if (argc < 5 || argc > 6) {
		fprintf(stderr, "usage: pour FROM TO ADDRESS SECONDS [BIND]\n");
		return 2;
	}
	seconds = atoi(argv[4]);
	if (seconds < 1 || seconds > MOST_SECONDS)
		return 2;
	len = parse(argv[3], PORT, &to);
	listener = new_socket(argv[2], to.ss_family);
	if (bind(listener, (void *)&to, len) < 0 || listen(listener, 1) < 0)
		fail("listen");
	from = new_socket(argv[1], to.ss_family);
	if (argc == 6) {
		len = parse(argv[5], 0, &bound);
		if (bind(from, (void *)&bound, len) < 0)
			fail(argv[5]);
	}
	pour(from, connected(from, listener, &to, len), seconds, counts);
	for (int i = 0; i < seconds; i++)
		printf("%llu\n", (unsigned long long)counts[i]);
	return 0;
}
