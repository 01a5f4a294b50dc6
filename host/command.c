/* SPDX-License-Identifier: MIT */
/***
@submodule host
*/
/*
 * Running a command for a person inside a namespace. What was set up for it must be taken down whatever
 * happens: so signals that would end us are held back, and sent to the command.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <lauxlib.h>

#include "hostlib.h"
#include "nl/push.h"

/*
 * The signals that ask us to end, but for those that our caller has us ignore (nohup, a shell's
 * background).
 */
static void held_signals(sigset_t *set)
{
	static const int asking[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
	struct sigaction now;

	sigemptyset(set);
	for (size_t i = 0; i < sizeof asking / sizeof *asking; i++)
		if (sigaction(asking[i], NULL, &now) < 0 || now.sa_handler != SIG_IGN)
			sigaddset(set, asking[i]);
}

/***
From now on hold back the signals that ask us to end: INT, TERM, HUP, QUIT; but not those that we were started
to ignore.
@function hold_signals
*/
int command_hold_signals(lua_State *L)
{
	sigset_t set;

	(void)L;
	held_signals(&set);
	sigprocmask(SIG_BLOCK, &set, NULL);

	return 0;
}

/***
Take a signal that was held back.
@function held_signal
@treturn integer|nil its number, nil when there is none
*/
int command_held_signal(lua_State *L)
{
	struct timespec now = { 0 };
	sigset_t set;
	int sig;

	held_signals(&set);
	sig = sigtimedwait(&set, NULL, &now);
	if (sig > 0)
		lua_pushinteger(L, sig);
	else
		lua_pushnil(L);

	return 1;
}

/*
 * In the child: never returns. The reason of a failure goes through the pipe. When luacni is killed it can
 * take the command's network down no more: so the command is killed with it.
 */
static void become(char **argv, int ns, int report, pid_t parent)
{
	sigset_t none;
	int err;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() != parent)
		raise(SIGKILL);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGXFSZ, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (ns < 0 || setns(ns, CLONE_NEWNET) == 0)
		execvp(argv[0], argv);
	err = errno;
	if (write(report, &err, sizeof err) < 0)
		_exit(126);
	_exit(127);
}

/* Waits for the child's end; a signal from outside goes on to it. */
static int await(pid_t pid, int *status)
{
	sigset_t set;

	held_signals(&set);
	sigaddset(&set, SIGCHLD);
	for (;;) {
		siginfo_t info;
		int sig = sigwaitinfo(&set, &info);

		if (sig < 0 && errno != EINTR)
			return -errno;
		if (sig == SIGCHLD) {
			pid_t ended = waitpid(pid, status, WNOHANG);

			if (ended != 0)
				return ended < 0 ? -errno : 0;
		} else if (sig > 0 && info.si_code != SI_KERNEL) {
			kill(pid, sig); /* a signal of the terminal has gone to the command too */
		}
	}
}

/* 0 and a wait status, or -errno; a failure inside the child counts as ours. */
static int run(char **argv, const char *ns_path, int *status)
{
	int report[2], ns = -1, err = 0, child_err = 0;
	sigset_t chld, old;
	pid_t pid, parent = getpid();

	if (pipe2(report, O_CLOEXEC) < 0)
		return -errno;
	if (ns_path) {
		ns = open(ns_path, O_RDONLY | O_CLOEXEC);
		err = ns < 0 ? -errno : 0;
	}
	if (err) {
		close(report[0]);
		close(report[1]);
		return err;
	}

	held_signals(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, &old);
	pid = fork();
	if (pid == 0)
		become(argv, ns, report[1], parent);
	err = pid < 0 ? -errno : 0;
	close(report[1]);
	if (ns >= 0)
		close(ns);
	if (!err && read(report[0], &child_err, sizeof child_err) == sizeof child_err)
		err = -child_err;
	close(report[0]);
	if (pid > 0) {
		int ret = await(pid, status);

		err = err ? err : ret;
	}
	sigprocmask(SIG_SETMASK, &old, NULL);

	return err;
}

/***
Run a command with our own standard input, output and error, and wait for it.
@function run
@tparam {string,...} argv the program, looked up in PATH, and its arguments
@tparam[opt] string namespace path of the network namespace to run in
@treturn integer exit status, for a command that a signal ended 128 plus its number
@treturn[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
*/
int command_run(lua_State *L)
{
	const char *ns_path = luaL_optstring(L, 2, NULL);
	int status = 0, ret;
	char **argv;

	lua_settop(L, 2);
	argv = argv_arg(L, 1);
	ret = run(argv, ns_path, &status);
	if (ret < 0) {
		lua_pushnil(L);
		lua_pushfstring(L, "run %s: %s", argv[0], strerror(-ret));
		lua_pushinteger(L, -ret);
		return 3;
	}

	lua_pushinteger(L, WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));

	return 1;
}
