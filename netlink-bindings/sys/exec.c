/* SPDX-License-Identifier: MIT */
/***
@submodule netlink.sys
*/
/*
 * netlink.sys.exec: run a program without a shell, feed it, collect what it says, and be done at
 * a deadline whatever it or its children do; and when we are asked to end.
 */
#include "sys/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lua.h>

#include "ns/ns.h"

#define EXEC_LABEL "/proc/thread-self/attr/exec"
#define PROCESS_HANDLE "netlink.sys.process"
#define EXEC_TIMEOUT_MS 60000
#define EXEC_LIMIT (1 << 20)
#define STDERR_LIMIT (64 << 10)
/* How long a program may take to end when it is asked to; the longer one if its caller stays. */
#define LEAVE_MS 300
#define LEAVE_STAY_MS 1000
/* A child's descriptors: the standard ones, and one of a file. */
#define CHILD_FILE 3
#define CHILD_FDS 4

/* What a child says on one descriptor. */
struct capture {
	int fd; /* our end; -1 once it has ended */
	char *bytes;
	size_t len, room, limit;
	int cut; /* the rest beyond the limit is thrown away, not an error */
};

struct program {
	const char *path, *label; /* label: NULL for none */
	char **argv, **env;
	const char *file; /* what descriptor 3 gives; NULL: there is none */
	size_t file_len;
	struct nl_place place;
	int detached; /* it stays when we end, and nobody waits for it */
	int connection; /* with detached: what it reads and writes; -1: nothing */
};

struct process {
	pid_t pid; /* 0 when there is none to wait for */
	int pidfd;
	int in; /* our end of its standard input */
	int signals; /* readable when a signal asks us to end; -1: that is not heeded */
	int caller; /* who hangs up when nobody waits for the answer any more; not ours to close; or -1 */
	int leave_ms;
	struct capture out, err;
	int status;
};

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* Ends the child and everything it started, waits for it, lets go of all there is. */
static void process_release(struct process *p)
{
	if (p->pid > 0) {
		kill(-p->pid, SIGKILL);
		while (waitpid(p->pid, &p->status, 0) < 0 && errno == EINTR)
			;
		p->pid = 0;
	}
	close_fd(&p->pidfd);
	close_fd(&p->signals);
	close_fd(&p->in);
	close_fd(&p->out.fd);
	close_fd(&p->err.fd);
	free(p->out.bytes);
	free(p->err.bytes);
	p->out.bytes = p->err.bytes = NULL;
}

static int process_gc(lua_State *L)
{
	process_release(luaL_checkudata(L, 1, PROCESS_HANDLE));

	return 0;
}

/* Reads what is there. 0, or -EFBIG beyond the limit. The end closes the descriptor. */
static int capture_read(struct capture *c)
{
	for (;;) {
		char waste[4096];
		ssize_t n;

		if (c->len == c->room && c->room < c->limit) {
			size_t room = c->room ? c->room * 2 : 4096;
			char *bytes = realloc(c->bytes, room < c->limit ? room : c->limit);

			if (!bytes)
				return -ENOMEM;
			c->bytes = bytes;
			c->room = room < c->limit ? room : c->limit;
		}
		n = c->len < c->room ? read(c->fd, c->bytes + c->len, c->room - c->len)
				     : read(c->fd, waste, sizeof waste);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n <= 0) {
			close_fd(&c->fd);
			return n < 0 ? -errno : 0;
		}
		if (c->len < c->room)
			c->len += (size_t)n;
		else if (!c->cut)
			return -EFBIG;
	}
}

/* The three pipes: ours[] and theirs[] by the child's descriptor number. */
static int make_pipes(int ours[3], int theirs[CHILD_FDS])
{
	for (int i = 0; i < 3; i++) {
		int ends[2];

		if (pipe2(ends, O_CLOEXEC) < 0)
			return -errno;
		ours[i] = ends[i == 0];
		theirs[i] = ends[i != 0];
		if (fcntl(ours[i], F_SETFL, O_NONBLOCK) < 0)
			return -errno;
	}

	return 0;
}

/* A file of memory, above the descriptors that the child's own are put at. */
static int make_file(const char *bytes, size_t left, int *ret)
{
	int low = memfd_create("file", MFD_CLOEXEC), err = 0;

	if (low < 0)
		return -errno;
	while (left > 0 && !err) {
		ssize_t n = write(low, bytes, left);

		if (n >= 0) {
			bytes += n;
			left -= (size_t)n;
		} else if (errno != EINTR) {
			err = -errno;
		}
	}
	if (!err)
		*ret = fcntl(low, F_DUPFD_CLOEXEC, CHILD_FDS);
	if (!err && *ret < 0)
		err = -errno;
	if (!err && lseek(*ret, 0, SEEK_SET) < 0)
		err = -errno;
	close(low);

	return err;
}

/* What a child does with the memory of its parent, up to its own: nothing that allocates. */
static _Noreturn void become(const struct program *what, const int theirs[CHILD_FDS], pid_t parent,
			     volatile int *ret_err)
{
	struct sigaction usual = { .sa_handler = SIG_DFL };
	sigset_t none;
	pid_t again;

	/* Before any is let in: a handler of our own would run with the parent's memory. */
	for (int sig = 1; sig <= SIGRTMAX; sig++)
		sigaction(sig, &usual, NULL);
	if (what->detached) {
		setsid();
		if (access(what->path, X_OK) < 0 || chdir("/") < 0) {
			*ret_err = errno;
			_exit(127);
		}
		/*
		 * Whoever waits for the child is not to wait for this: so it is a child of nobody. Not by
		 * vfork() within vfork(), which sanitizers keep one return address for.
		 */
		again = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
		if (again < 0)
			*ret_err = errno;
		if (again)
			_exit(0);
	} else {
		setpgid(0, 0);
		/* What is taken back must not be made meanwhile; who is killed ends nothing himself. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(127);
	}
	for (int i = 0; i < CHILD_FDS; i++)
		if (theirs[i] < 0)
			continue;
		else if (theirs[i] == i ? fcntl(i, F_SETFD, 0) < 0 : dup2(theirs[i], i) < 0) {
			*ret_err = errno;
			_exit(127);
		}
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execve(what->path, what->argv, what->env);
	*ret_err = errno;
	_exit(127);
}

/*
 * Starts the program in a process group of its own, with no signal blocked or ignored. It dies with us,
 * unless it is detached: then there is no *pid.
 */
static int spawn(const struct program *what, int theirs[CHILD_FDS], pid_t *pid)
{
	volatile int err = 0;
	pid_t parent = getpid(), child;
	sigset_t all, old;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &old);
	child = vfork();
	if (child == 0)
		become(what, theirs, parent, &err);
	if (child < 0)
		err = errno;
	sigprocmask(SIG_SETMASK, &old, NULL);
	if (child > 0 && (err || what->detached)) {
		while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
			;
	} else if (child > 0) {
		*pid = child;
	}

	return -err;
}

/* The security context of what this thread executes next; "" for none in particular. */
static int set_label(const char *label)
{
	int fd = open(EXEC_LABEL, O_WRONLY | O_CLOEXEC), err = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, label, strlen(label)) < 0)
		err = -errno;
	close(fd);

	return err;
}

/* A child begins where its parent is, and as what its parent says: so say it, and take it back. */
static int spawn_there(const struct program *what, int theirs[CHILD_FDS], pid_t *pid)
{
	int home, err = netns_visit(&what->place, &home);

	if (err)
		return err;
	if (what->label)
		err = set_label(what->label);
	if (!err)
		err = spawn(what, theirs, pid);
	if (what->label)
		set_label("");
	netns_leave(home);

	return err;
}

static int process_start(struct process *p, const struct program *what)
{
	int ours[3] = { -1, -1, -1 }, theirs[CHILD_FDS] = { -1, -1, -1, -1 };
	int err = make_pipes(ours, theirs);

	p->in = ours[0];
	p->out.fd = ours[1];
	p->err.fd = ours[2];
	if (!err && what->file)
		err = make_file(what->file, what->file_len, &theirs[CHILD_FILE]);
	if (!err)
		err = spawn_there(what, theirs, &p->pid);
	if (!err)
		p->pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);
	for (int i = 0; i < CHILD_FDS; i++)
		close_fd(&theirs[i]);

	return err;
}

static int start_detached(const struct program *what)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), err;
	int talk = what->connection >= 0 ? what->connection : null;
	int theirs[CHILD_FDS] = { talk, talk, null, -1 };
	pid_t none;

	if (null < 0)
		return -errno;
	err = spawn_there(what, theirs, &none);
	close(null);

	return err;
}

static int feed(struct process *p, const char **input, size_t *left)
{
	while (*left > 0) {
		ssize_t n = write(p->in, *input, *left);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0)
			break; /* EPIPE: it does not want the rest */
		*input += n;
		*left -= (size_t)n;
	}
	close_fd(&p->in);

	return 0;
}

/*
 * Asks the child to end, so that it can ask its own, which are in groups of theirs, in turn; what does not
 * is killed by process_release().
 */
static void ask_to_end(struct process *p)
{
	struct pollfd fd = { .fd = p->pidfd, .events = POLLIN };

	if (p->pid > 0 && kill(-p->pid, SIGTERM) == 0 && p->pidfd >= 0)
		poll(&fd, 1, p->leave_ms);
}

/*
 * Talks to the child until it has ended, or has closed both its outputs and ends then. A
 * grandchild that keeps the pipes open is not waited for. -EINTR: a signal has asked us to end, and waits.
 * -ECONNRESET: the caller has hung up.
 */
static int process_talk(struct process *p, const char *input, size_t left, int timeout_ms)
{
	int64_t deadline = sys_now_ms() + timeout_ms;
	int err = feed(p, &input, &left);

	while (!err) {
		struct pollfd fds[] = {
			{ .fd = p->pidfd, .events = POLLIN },
			{ .fd = p->in, .events = POLLOUT },
			{ .fd = p->out.fd, .events = POLLIN },
			{ .fd = p->err.fd, .events = POLLIN },
			{ .fd = p->signals, .events = POLLIN },
			{ .fd = p->caller }, /* the end of what it says is not the end of its waiting */
		};
		int64_t wait = deadline - sys_now_ms();
		int ended;

		if (p->pidfd < 0 && p->out.fd < 0 && p->err.fd < 0)
			break;
		if (wait <= 0) {
			ask_to_end(p);
			return -ETIMEDOUT;
		}
		if (poll(fds, sizeof fds / sizeof *fds, (int)wait) < 0 && errno != EINTR)
			return -errno;

		ended = fds[0].revents != 0;
		if ((fds[4].revents || fds[5].revents) && !ended) {
			ask_to_end(p);
			return fds[4].revents ? -EINTR : -ECONNRESET;
		}
		if (fds[1].revents)
			err = feed(p, &input, &left);
		if (!err && p->out.fd >= 0 && (fds[2].revents || ended))
			err = capture_read(&p->out);
		if (!err && p->err.fd >= 0 && (fds[3].revents || ended))
			err = capture_read(&p->err);
		if (ended)
			break;
	}
	if (err)
		return err;

	while (waitpid(p->pid, &p->status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	p->pid = 0;

	return 0;
}

/*
 * Has the signals that ask to end wait, so that the child can be ended before we are. Those that the caller
 * holds back anyway are heeded when it says so, and left to it.
 */
static void hold_signals(struct process *p, int heed, sigset_t *old)
{
	static const int asking[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
	struct sigaction now;
	sigset_t held;

	sigemptyset(&held);
	sigprocmask(SIG_SETMASK, NULL, old);
	p->leave_ms = LEAVE_MS;
	for (size_t i = 0; i < sizeof asking / sizeof *asking; i++) {
		int is_blocked = sigismember(old, asking[i]);

		if (is_blocked)
			p->leave_ms = LEAVE_STAY_MS;
		if (is_blocked && !heed)
			continue;
		if (sigaction(asking[i], NULL, &now) < 0 || now.sa_handler != SIG_IGN)
			sigaddset(&held, asking[i]);
	}
	sigprocmask(SIG_BLOCK, &held, NULL);
	p->signals = signalfd(-1, &held, SFD_CLOEXEC);
}

/* SIGPIPE would end us when the child does not read its input; the old state is put back. */
static int process_run(struct process *p, const struct program *what, const char *input,
		       size_t left, int timeout_ms, int heed)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN }, old;
	sigset_t mask;
	int err;

	sigaction(SIGPIPE, &ignore, &old);
	hold_signals(p, heed, &mask);
	err = process_start(p, what);
	if (!err)
		err = process_talk(p, input, left, timeout_ms);
	/* A signal that waits may end us now: nothing that we started may be left. */
	if (err)
		process_release(p);
	sigprocmask(SIG_SETMASK, &mask, NULL);
	sigaction(SIGPIPE, &old, NULL);

	return err;
}

/* Pushes a block holding the NULL-ended strings of list field `key`. [-0, +1, v] */
static char **check_strings(lua_State *L, int arg, const char *key)
{
	lua_Integer count = 0;
	char **block;

	if (lua_getfield(L, arg, key) != LUA_TNIL) {
		if (!lua_istable(L, -1))
			luaL_error(L, "exec: %s must be a list of strings", key);
		count = (lua_Integer)lua_rawlen(L, -1);
	}
	block = lua_newuserdatauv(L, ((size_t)count + 1) * sizeof *block, 0);
	for (lua_Integer i = 1; i <= count; i++) {
		size_t len;
		const char *text;

		if (lua_rawgeti(L, -2, i) != LUA_TSTRING)
			luaL_error(L, "exec: %s[%d] must be a string", key, (int)i);
		text = lua_tolstring(L, -1, &len);
		if (strlen(text) != len)
			luaL_error(L, "exec: %s[%d] holds a zero byte", key, (int)i);
		block[i - 1] = (char *)text; /* kept alive by the list */
		lua_pop(L, 1);
	}
	block[count] = NULL;
	lua_remove(L, -2);

	return block;
}

static void check_exec_keys(lua_State *L, int arg)
{
	static const char *const keys[] = { "path",       "argv",         "env",   "stdin",
					    "timeout_ms", "stdout_limit", "label", "ns",
					    "heed",       "file",         "detached", "connection",
					    "heard" };

	lua_pushnil(L);
	while (lua_next(L, arg)) {
		const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
		int known = 0;

		for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
			known |= !strcmp(key, keys[i]);
		if (!known)
			luaL_error(L,
				   "exec: unknown key '%s' (path, argv, env, stdin, timeout_ms, "
				   "stdout_limit, label, ns, heed, file, detached, connection and heard are "
				   "known)",
				   key);
		lua_pop(L, 1);
	}
}

static lua_Integer exec_number(lua_State *L, int arg, const char *key, lua_Integer otherwise)
{
	lua_Integer value = otherwise;
	int ok = 1;

	if (lua_getfield(L, arg, key) != LUA_TNIL)
		value = lua_tointegerx(L, -1, &ok);
	if (!ok || value < 0 || value > INT_MAX)
		luaL_error(L, "exec: %s must be a whole number, 0 or more", key);
	lua_pop(L, 1);

	return value;
}

/* Pushes a process that is not there yet. [-0, +1, m] */
static struct process *new_process(lua_State *L)
{
	struct process *p = lua_newuserdatauv(L, sizeof *p, 0);

	*p = (struct process){ .pidfd = -1, .in = -1, .signals = -1, .caller = -1,
				 .out.fd = -1, .err.fd = -1 };
	if (luaL_newmetatable(L, PROCESS_HANDLE)) {
		lua_pushcfunction(L, process_gc);
		lua_setfield(L, -2, "__gc");
		lua_pushboolean(L, 0);
		lua_setfield(L, -2, "__metatable");
	}
	lua_setmetatable(L, -2);

	return p;
}

static void set_status(lua_State *L, const char *key, int value)
{
	lua_pushinteger(L, value);
	lua_setfield(L, -2, key);
}

/***
Run a program, without a shell, and wait for it.

It runs in a process group of its own, which is killed as a whole when time is up. Its output is
read until it ends; a background process it leaves behind is not waited for. When we are killed, it is killed
too: what it was about to make would come after somebody has taken back the rest.

A signal that would end us (INT, TERM, HUP, QUIT) ends the program before: with TERM, so that it can end what
it has started, and then with KILL.
@function exec
@tparam table what `path` of the program (required); `argv`, a list, by default just the path;
`env`, a list of `"KEY=value"`, by default empty; `stdin`, a string; `timeout_ms` (60000);
`stdout_limit` in bytes (1 MiB; more is the error EFBIG); `ns`, the network namespace (object or
path) it runs in, by default ours; `label`, its security context, as SELinux takes it; `heed`: when a
signal of those comes that the caller holds back, end the program, leave the signal to the caller, and
give the error EINTR; `heard`: when who is at the other end of our standard input, a socket, has closed it,
end the program, and give the error ECONNRESET; `file`, a string that it finds at descriptor 3, to read; `detached`: it is only
started, with nothing to read and nobody to write to, in `/` and in a session of its own, and goes on when we
have ended; `connection`: it reads and writes to who has connected to this listener (see @{listen}). Of
standard error the first 64 KiB are kept.
@treturn table empty when detached, else `status` (exit status, nil when a signal ended it), `signal` (nil
when it exited), `stdout`, `stderr`
@treturn[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno, ETIMEDOUT among them
*/
int sys_exec(lua_State *L)
{
	struct process *p;
	struct program what = { .place.fd = -1, .connection = -1 };
	char *just_path[2] = { NULL, NULL };
	const char *path, *input = "";
	size_t input_len = 0;
	int timeout_ms, heed, ret;

	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 1);
	check_exec_keys(L, 1);
	if (lua_getfield(L, 1, "path") != LUA_TSTRING)
		return luaL_error(L, "exec: path must be a string");
	path = sys_check_path(L, 2);
	if (lua_getfield(L, 1, "stdin") == LUA_TSTRING)
		input = lua_tolstring(L, 3, &input_len);
	else if (!lua_isnil(L, 3))
		return luaL_error(L, "exec: stdin must be a string");
	if (lua_getfield(L, 1, "file") == LUA_TSTRING)
		what.file = lua_tolstring(L, -1, &what.file_len);
	else if (!lua_isnil(L, -1))
		return luaL_error(L, "exec: file must be a string");
	what.path = path;
	what.argv = check_strings(L, 1, "argv");
	if (!what.argv[0]) {
		just_path[0] = (char *)path;
		what.argv = just_path;
	}
	what.env = check_strings(L, 1, "env");
	lua_getfield(L, 1, "ns");
	what.place = netns_place_arg(L, lua_gettop(L));
	if (lua_getfield(L, 1, "label") != LUA_TNIL)
		what.label = luaL_checkstring(L, -1);
	lua_getfield(L, 1, "heed");
	heed = lua_toboolean(L, -1);
	timeout_ms = (int)exec_number(L, 1, "timeout_ms", EXEC_TIMEOUT_MS);
	lua_getfield(L, 1, "detached");
	what.detached = lua_toboolean(L, -1);
	if (lua_getfield(L, 1, "connection") != LUA_TNIL) {
		what.connection = sys_connection(L, -1);
		if (what.connection < 0 || !what.detached)
			return luaL_error(L, "exec: connection must be a listener to whom somebody has "
					     "connected, and is for what is detached");
	}
	p = new_process(L);
	p->out.limit = (size_t)exec_number(L, 1, "stdout_limit", EXEC_LIMIT);
	p->err.limit = STDERR_LIMIT;
	p->err.cut = 1;
	lua_getfield(L, 1, "heard");
	p->caller = lua_toboolean(L, -1) ? STDIN_FILENO : -1;

	ret = what.detached ? start_detached(&what)
			    : process_run(p, &what, input, input_len, timeout_ms, heed);
	if (ret < 0)
		return sys_fail(L, -ret, "run", path);

	lua_createtable(L, 0, 3);
	if (what.detached)
		return 1;
	if (WIFSIGNALED(p->status))
		set_status(L, "signal", WTERMSIG(p->status));
	else
		set_status(L, "status", WEXITSTATUS(p->status));
	lua_pushlstring(L, p->out.bytes ? p->out.bytes : "", p->out.len);
	lua_setfield(L, -2, "stdout");
	lua_pushlstring(L, p->err.bytes ? p->err.bytes : "", p->err.len);
	lua_setfield(L, -2, "stderr");
	process_release(p);

	return 1;
}
