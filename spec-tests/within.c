/* SPDX-License-Identifier: MIT */
/*
 * within SECONDS NAMESPACE COMMAND [ARG...]
 *
 * Run a command in a network namespace (a path; "-": this one), and kill it and all it started
 * when the time is up. What timeout and nsenter do, in one small program without libraries: where
 * system calls are slow, starting a program is most of what a spec's command takes.
 *
 * Exit status: the command's; 128 + n when it ended by signal n; 125 when it could not be run.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void fail(const char *what)
{
	fprintf(stderr, "within: %s: %s\n", what, strerror(errno));
	exit(125);
}

static void enter(const char *path)
{
	if (!strcmp(path, "-"))
		return;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET))
		fail(path);
}

static void time_is_up(int signo)
{
	(void)signo;
	kill(0, SIGKILL);
}

int main(int argc, char **argv)
{
	int status;
	if (argc < 4) {
		fputs("within SECONDS NAMESPACE COMMAND [ARG...]\n", stderr);
		return 125;
	}
	setpgid(0, 0);
	pid_t child = fork();
	if (child < 0)
		fail("fork");
	if (!child) {
		enter(argv[2]);
		execvp(argv[3], argv + 3);
		fprintf(stderr, "within: %s: %s\n", argv[3], strerror(errno));
		_exit(errno == ENOENT ? 127 : 126);
	}
	signal(SIGALRM, time_is_up);
	alarm((unsigned int)atoi(argv[1]));
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			fail("wait");
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
