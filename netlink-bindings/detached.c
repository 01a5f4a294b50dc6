/* SPDX-License-Identifier: MIT */
/*
 * The sender shares our memory, which spares the copy of it that fork() makes (0.2 ms), and for that
 * it is bound to much: it runs on a stack of its own, knows nothing but what its slot says, takes no
 * signal, calls nothing of libc (errno is ours), and returns nowhere. What it has copies of
 * (descriptors, working directory) it lets go of first: the caller may be waiting for them.
 */
#include "detached.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	SENDERS = 4, /* at a time: an attachment deletes two links at most */
	KEPT = 1 + NL_LEFT_OPEN,
};

struct sender {
	_Alignas(4096) char stack[3072];
	/* On the same page as what the sender needs of its stack. */
	char message[DETACHED_BYTES];
	size_t len;
	int sock;
	unsigned int keep[KEPT]; /* descriptors in ascending order */
	size_t kept;
	pid_t pid; /* 0: free */
};

static struct sender senders[SENDERS];

/*** In the sender ***/

#if defined(__x86_64__)
#define SHARED_MEMORY CLONE_VM
static long raw(long n, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "0"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}
#elif defined(__aarch64__)
#define SHARED_MEMORY CLONE_VM
static long raw(long n, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = n, x0 __asm__("x0") = a, x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c, x3 __asm__("x3") = d, x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ volatile("svc 0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory");
	return x0;
}
#else
/* A copy of our memory after all: then errno is a copy too. */
#define SHARED_MEMORY 0
static long raw(long n, long a, long b, long c, long d, long e, long f)
{
	return syscall(n, a, b, c, d, e, f);
}
#endif

/* The sanitizers know our stack and no other. */
#define ON_OTHER_STACK __attribute__((no_sanitize("address", "undefined")))

ON_OTHER_STACK static int send_and_end(void *data)
{
	const struct sender *s = data;
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	unsigned int from = 0;

	raw(SYS_setsid, 0, 0, 0, 0, 0, 0);
	raw(SYS_chdir, (long)"/", 0, 0, 0, 0, 0);
	for (size_t i = 0; i < s->kept; i++) {
		if (s->keep[i] > from)
			raw(SYS_close_range, from, s->keep[i] - 1, 0, 0, 0, 0);
		from = s->keep[i] + 1;
	}
	raw(SYS_close_range, from, UINT_MAX, 0, 0, 0, 0);
	raw(SYS_sendto, s->sock, (long)s->message, (long)s->len, 0, (long)&kernel, sizeof kernel);
	raw(SYS_exit_group, 0, 0, 0, 0, 0, 0);
	return 0;
}

/*** Here ***/

void detached_reap(void)
{
	for (size_t i = 0; i < SENDERS; i++)
		if (senders[i].pid && waitpid(senders[i].pid, NULL, WNOHANG) != 0)
			senders[i].pid = 0;
}

static struct sender *free_sender(void)
{
	detached_reap();
	for (size_t i = 0; i < SENDERS; i++)
		if (!senders[i].pid)
			return &senders[i];
	return NULL;
}

static int by_number(const void *a, const void *b)
{
	unsigned int x = *(const unsigned int *)a, y = *(const unsigned int *)b;

	return x < y ? -1 : x > y;
}

/* The socket, and what was left open for the sender to close (nl_leave_open). */
static void note_kept(struct sender *s, int sock)
{
	const int *late;
	size_t count = nl_left_open(&late);

	s->kept = 0;
	s->keep[s->kept++] = (unsigned int)sock;
	for (size_t i = 0; i < count; i++)
		s->keep[s->kept++] = (unsigned int)late[i];
	if (s->kept > 1)
		qsort(s->keep, s->kept, sizeof *s->keep, by_number);
}

int detached_send(const struct nl *nl, const void *msg, size_t len, int *ret_fd)
{
	struct sender *s = free_sender();
	sigset_t all, before;
	pid_t pid;
	int err;

	if (!s)
		return -EAGAIN;
	if (len > sizeof s->message)
		return -EMSGSIZE;
	memcpy(s->message, msg, len);
	s->len = len;
	s->sock = nl->fd;
	note_kept(s, nl->fd);

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = clone(send_and_end, s->stack + sizeof s->stack,
		    SHARED_MEMORY | CLONE_PIDFD | SIGCHLD, s, ret_fd);
	err = pid < 0 ? -errno : 0;
	sigprocmask(SIG_SETMASK, &before, NULL);
	s->pid = err ? 0 : pid;
	return err;
}
