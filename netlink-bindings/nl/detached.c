/* SPDX-License-Identifier: MIT */
/*
 * The process is a plain child, a copy of us: that costs a fraction of a millisecond, and nothing that it
 * does can touch us. First it closes its copies of our descriptors and leaves our working directory: our
 * caller may be waiting for their end.
 */

#include "nl/detached.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	SENDERS = 4, /* at a time: an attachment deletes two links at most */
	KEPT = 2 + NL_SLOW,
};

/*
 * Several times what the kernel waits for. A socket that is closed earlier holds up whoever wants to change
 * the rules of the namespace, until the kernel is through with what was deleted.
 */
static const struct timespec close_delay = { .tv_nsec = 100000000 };

static pid_t senders[SENDERS]; /* 0: free */
static size_t handed;          /* how many of the sockets of nl_note_slow() a sender has */

/*** In the child ***/

static int by_number(const void *a, const void *b)
{
	unsigned int x = *(const unsigned int *)a, y = *(const unsigned int *)b;

	return x < y ? -1 : x > y;
}

/*
 * Leaves the session and the folder of our caller. Closes all descriptors but these two (-1: none) and the
 * sockets of nl_note_slow(), which close when it ends.
 */
static void let_go(int sock, int life)
{
	unsigned int keep[KEPT], from = 0;
	const int *late;
	size_t kept = 0, count = nl_slow(&late);

	setsid();
	if (chdir("/") < 0)
		_exit(1);
	if (sock >= 0)
		keep[kept++] = (unsigned int)sock;
	if (life >= 0)
		keep[kept++] = (unsigned int)life;
	for (size_t i = 0; i < count; i++)
		keep[kept++] = (unsigned int)late[i];
	qsort(keep, kept, sizeof *keep, by_number);
	for (size_t i = 0; i < kept; i++) {
		if (keep[i] > from)
			syscall(SYS_close_range, from, keep[i] - 1, 0);
		from = keep[i] + 1;
	}
	syscall(SYS_close_range, from, UINT_MAX, 0);
}

/* `life` stays open as long as the sender is there. */
_Noreturn static void send_and_end(int sock, int life, const void *msg, size_t len)
{
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };

	let_go(sock, life);
	sendto(sock, msg, len, 0, (const struct sockaddr *)&kernel, sizeof kernel);
	_exit(0);
}

/*** In the program ***/

void detached_reap(void)
{
	for (size_t i = 0; i < SENDERS; i++)
		if (senders[i] && waitpid(senders[i], NULL, WNOHANG) != 0)
			senders[i] = 0;
}

static pid_t *free_sender(void)
{
	detached_reap();
	for (size_t i = 0; i < SENDERS; i++)
		if (!senders[i])
			return &senders[i];
	return NULL;
}

int detached_send(const struct nl *nl, const void *msg, size_t len, int *ret_fd)
{
	pid_t *sender = free_sender(), pid;
	sigset_t all, before;
	const int *late;
	int life[2], err;

	if (!sender)
		return -EAGAIN;
	if (pipe2(life, O_CLOEXEC) < 0)
		return -errno;
	/* In the child all signals stay blocked: it finishes whatever becomes of us. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = fork();
	err = pid < 0 ? -errno : 0;
	if (pid == 0)
		send_and_end(nl->fd, life[1], msg, len);
	sigprocmask(SIG_SETMASK, &before, NULL);
	close(life[1]);
	if (err) {
		close(life[0]);
		return err;
	}
	*sender = pid;
	*ret_fd = life[0];
	handed = nl_slow(&late);
	return 0;
}

void detached_close(void)
{
	const int *late;
	size_t count = nl_slow(&late);
	bool sends = false;

	detached_reap();
	for (size_t i = 0; i < SENDERS; i++)
		sends |= senders[i] != 0;
	if (count == 0 || (sends && handed == count) || fork() != 0)
		return;
	let_go(-1, -1);
	nanosleep(&close_delay, NULL);
	_exit(0);
}
