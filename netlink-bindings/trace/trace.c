/* SPDX-License-Identifier: MIT */
/***
Run a program, and tell each of its system calls that says something to the kernel or changes something, also
those of its threads and children. It uses ptrace: a traced thread stops at each call until we let it go on.
@module netlink.trace
*/
#include "trace/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <linux/audit.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/ptrace.h> /* behind sys/ptrace.h, whose constants it has as macros */

#include "bindings.h"
#include "nl/push.h"

enum {
	/* How long processes that the program has left running are traced after its end, such as a detached
	 * sender (nl/detached.h). Then they are let go: one may be a server. */
	LINGER_MS = 500,
	SYSCALL_STOP = SIGTRAP | 0x80,
};

/* A program for another processor than ours, such as one of 32 bits, numbers its calls otherwise. */
#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#else
#define ARCH info.arch
#endif

/* Other calls are not told. */
static const struct {
	long number;
	const char *name;
} calls[] = {
#define CALL(call) { SYS_##call, #call }
	CALL(sendto), CALL(sendmsg), CALL(sendmmsg), CALL(write), CALL(writev),
	CALL(recvfrom), CALL(recvmsg), CALL(recvmmsg), CALL(read), CALL(readv),
	CALL(setns), CALL(unshare), CALL(mount), CALL(umount2), CALL(move_mount),
	CALL(openat), CALL(openat2), CALL(flock), CALL(ioctl), CALL(unlinkat), CALL(renameat),
	CALL(renameat2), CALL(mkdirat), CALL(symlinkat), CALL(linkat), CALL(execve), CALL(execveat),
#ifdef SYS_open
	CALL(open), CALL(creat), CALL(unlink), CALL(rename), CALL(mkdir), CALL(rmdir),
	CALL(symlink), CALL(link),
#endif
#undef CALL
};

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/*** Signals: those that ask us to end are for the program ***/

static volatile sig_atomic_t forward_to;
static const int forwarded[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
static struct sigaction old_actions[ARRAY_SIZE(forwarded)];

static void on_signal(int sig, siginfo_t *info, void *context)
{
	(void)context;
	/* A signal of the terminal has gone to the program too. */
	if (forward_to > 0 && info->si_code != SI_KERNEL)
		kill(forward_to, sig);
}

static void take_signals(pid_t pid)
{
	struct sigaction act = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART };

	forward_to = pid;
	for (size_t i = 0; i < ARRAY_SIZE(forwarded); i++)
		sigaction(forwarded[i], &act, &old_actions[i]);
}

static void give_signals_back(void)
{
	forward_to = 0;
	for (size_t i = 0; i < ARRAY_SIZE(forwarded); i++)
		sigaction(forwarded[i], &old_actions[i], NULL);
}

/*** Threads ***/

static struct tracee *find(struct trace *t, pid_t tid)
{
	for (size_t i = 0; i < t->count; i++)
		if (t->list[i].tid == tid)
			return &t->list[i];
	return NULL;
}

static pid_t process_of(pid_t tid)
{
	char line[128];
	int pid = tid;
	FILE *f;

	snprintf(line, sizeof line, "/proc/%d/status", (int)tid);
	f = fopen(line, "re");
	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "Tgid: %d", &pid) == 1)
			break;
	if (f)
		fclose(f);
	return pid;
}

/* NULL: no memory. */
static struct tracee *remember(struct trace *t, pid_t tid)
{
	struct tracee *known = find(t, tid);

	if (known)
		return known;
	if (t->count == t->room) {
		size_t room = t->room ? 2 * t->room : 16;
		struct tracee *more = realloc(t->list, room * sizeof *more);

		if (!more)
			return NULL;
		t->list = more;
		t->room = room;
	}
	known = &t->list[t->count++];
	*known = (struct tracee){ .tid = tid, .pid = process_of(tid) };
	return known;
}

static void forget(struct trace *t, pid_t tid)
{
	struct tracee *known = find(t, tid);

	if (known)
		*known = t->list[--t->count];
}

/*** Start ***/

/* In the child: never returns. It waits until it is traced, so that its failures are told as well. */
static void become(char **argv, int gate)
{
	char go;

	signal(SIGPIPE, SIG_DFL);
	signal(SIGXFSZ, SIG_DFL);
	if (read(gate, &go, 1) != 1)
		_exit(126);
	execvp(argv[0], argv);
	_exit(errno == ENOENT ? 127 : 126);
}

/* 0 or -errno. */
static int start(struct trace *t, char **argv)
{
	static const long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL | PTRACE_O_TRACEFORK |
				    PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC;
	int gate[2], err = 0;
	pid_t pid;

	if (pipe2(gate, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid == 0) {
		close(gate[1]);
		become(argv, gate[0]);
	}
	err = pid < 0 ? -errno : 0;
	close(gate[0]);
	if (!err && (ptrace(PTRACE_SEIZE, pid, NULL, options) < 0 ||
		     ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) < 0))
		err = -errno;
	if (!err && !remember(t, pid))
		err = -ENOMEM;
	if (!err && write(gate[1], "", 1) != 1)
		err = -errno;
	close(gate[1]);
	if (err && pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	} else if (!err) {
		t->root = pid;
		t->begun = now_ns();
		take_signals(pid);
	}
	return err;
}

/*** Following ***/

/* Let a thread go on. It may have been killed meanwhile, which is told when it is waited for. */
static void go_on(const struct trace *t, pid_t tid, int sig)
{
	ptrace(t->leaving ? PTRACE_DETACH : PTRACE_SYSCALL, tid, NULL, (long)sig);
}

/* From now on every thread is let go at its next stop, and stops soon. */
static void leave(struct trace *t)
{
	t->leaving = true;
	for (size_t i = 0; i < t->count; i++)
		ptrace(PTRACE_INTERRUPT, t->list[i].tid, NULL, NULL);
}

/* As waitpid(); LINGER_MS after the program's end it lets the others go. -1: there is nobody left. */
static pid_t wait_for(struct trace *t, int *status)
{
	static const struct timespec nap = { .tv_nsec = 1000000 };

	for (;;) {
		pid_t tid = waitpid(-1, status, __WALL | (t->root_ended ? WNOHANG : 0));

		if (tid > 0 || (tid < 0 && errno != EINTR))
			return tid;
		if (tid == 0 && !t->leaving && now_ns() >= t->leave_at)
			leave(t);
		if (tid == 0)
			nanosleep(&nap, NULL);
	}
}

static const char *name_of(uint64_t number)
{
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
		if ((uint64_t)calls[i].number == number)
			return calls[i].name;
	return NULL;
}

/* At the border of a call: 1 when one that is of interest has ended, else 0; -ENOSYS: it cannot be told. */
static int at_call(struct trace *t, struct tracee *who)
{
	struct ptrace_syscall_info info;

	if (ptrace(PTRACE_GET_SYSCALL_INFO, who->tid, sizeof info, &info) <= 0)
		return errno == ESRCH ? 0 : -ENOSYS;
	if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
		who->call = info.arch == ARCH ? name_of(info.entry.nr) : NULL;
		for (size_t i = 0; i < TRACE_ARGS; i++)
			who->args[i] = info.entry.args[i];
		who->since = now_ns();
	} else if (info.op == PTRACE_SYSCALL_INFO_EXIT && who->call) {
		t->event = (struct trace_event){
			.kind = TRACE_CALL, .who = *who, .at = who->since,
			.took = now_ns() - who->since, .result = info.exit.rval,
		};
		who->call = NULL;
		return 1;
	}
	return 0;
}

/* Take note of a thread that has ended. True when its process has. */
static bool at_end(struct trace *t, pid_t tid, int status)
{
	struct tracee *known = find(t, tid);
	struct tracee who = known ? *known : (struct tracee){ .tid = tid, .pid = tid };

	forget(t, tid);
	if (tid == t->root) {
		t->root_status = status;
		t->root_ended = true;
		t->leave_at = now_ns() + (int64_t)LINGER_MS * 1000000;
	}
	t->event = (struct trace_event){
		.kind = TRACE_EXIT, .who = who, .at = now_ns(), .result = status,
	};
	return who.tid == who.pid;
}

/* At a stop that is not at a call: which signal the thread gets; -1: it stays stopped. */
static int at_stop(int status)
{
	int sig = WSTOPSIG(status), event = status >> 16;

	if (!event)
		return sig;
	/* A stop of the whole process, as by ^Z: it goes on when it is continued. */
	return event == PTRACE_EVENT_STOP && sig != SIGTRAP ? -1 : 0;
}

/* Take one report of waitpid(). Returns 1 when t->event tells of it, 0 when nothing does, or -errno. */
static int take(struct trace *t, pid_t tid, int status)
{
	struct tracee *who;
	int ret, sig;

	if (!WIFSTOPPED(status))
		return at_end(t, tid, status);
	who = remember(t, tid);
	if (!who)
		return -ENOMEM;
	if (t->leaving)
		forget(t, tid);
	if (!t->leaving && WSTOPSIG(status) == SYSCALL_STOP) {
		ret = at_call(t, who);
		if (ret) {
			t->stopped = tid;
			return ret;
		}
		go_on(t, tid, 0);
		return 0;
	}
	if (!t->leaving && status >> 16 == PTRACE_EVENT_EXEC) {
		who->call = NULL;
		t->event = (struct trace_event){ .kind = TRACE_EXEC, .who = *who, .at = now_ns() };
		t->stopped = tid;
		return 1;
	}
	sig = WSTOPSIG(status) == SYSCALL_STOP ? 0 : at_stop(status);
	if (sig < 0 && !t->leaving)
		ptrace(PTRACE_LISTEN, tid, NULL, NULL);
	else
		go_on(t, tid, sig < 0 ? 0 : sig);
	return 0;
}

/* Wait for the next event, t->event. 0 or -errno. */
static int next(struct trace *t)
{
	int status, ret = 0;
	pid_t tid;

	if (t->stopped)
		go_on(t, t->stopped, 0);
	t->stopped = 0;
	while (!ret) {
		tid = wait_for(t, &status);
		if (tid < 0) {
			t->event = (struct trace_event){ .kind = TRACE_END, .at = now_ns(),
							 .result = t->root_status };
			give_signals_back();
			t->root = 0;
			return 0;
		}
		ret = take(t, tid, status);
	}
	return ret < 0 ? ret : 0;
}

/* Kill what is still there, and what is just being born. */
static void end(struct trace *t)
{
	int status;
	pid_t tid;

	if (t->root) {
		give_signals_back();
		for (size_t i = 0; i < t->count; i++)
			kill(t->list[i].pid, SIGKILL);
		while ((tid = waitpid(-1, &status, __WALL)) > 0)
			if (WIFSTOPPED(status))
				kill(tid, SIGKILL);
	}
	free(t->list);
	*t = (struct trace){ 0 };
}

/*** Lua ***/

static void set_number(lua_State *L, const char *key, lua_Integer value)
{
	lua_pushinteger(L, value);
	lua_setfield(L, -2, key);
}

static void set_ms(lua_State *L, const char *key, int64_t ns)
{
	lua_pushnumber(L, (double)ns / 1e6);
	lua_setfield(L, -2, key);
}

static void push_event(lua_State *L, const struct trace *t)
{
	static const char *const kinds[] = { "call", "exec", "exit", "end" };
	const struct trace_event *e = &t->event;

	lua_createtable(L, 0, 10);
	lua_pushstring(L, kinds[e->kind]);
	lua_setfield(L, -2, "kind");
	set_number(L, "tid", e->who.tid);
	set_number(L, "pid", e->who.pid);
	set_ms(L, "at", e->at - t->begun);
	if (e->kind == TRACE_EXIT || e->kind == TRACE_END) {
		int status = (int)e->result;
		bool killed = WIFSIGNALED(status);

		set_number(L, killed ? "signal" : "status",
			   killed ? WTERMSIG(status) : WEXITSTATUS(status));
	}
	if (e->kind != TRACE_CALL)
		return;
	lua_pushstring(L, e->who.call);
	lua_setfield(L, -2, "call");
	set_ms(L, "took", e->took);
	set_number(L, "result", e->result);
	if (e->result < 0 && e->result >= -4095) {
		const char *name = strerrorname_np((int)-e->result);

		/* Numbers from 512 on are the kernel's own: a signal comes first, and the call after it. */
		lua_pushstring(L, name ? name : "EINTR");
		lua_setfield(L, -2, "error");
		lua_pushstring(L, strerror((int)-e->result));
		lua_setfield(L, -2, "meaning");
	}
	for (int i = 0; i < TRACE_ARGS; i++) {
		lua_pushinteger(L, (lua_Integer)e->who.args[i]);
		lua_rawseti(L, -2, i + 1);
	}
}

/***
Wait for what the program does next. Its thread stands still until this is called again.
@function trace:next
@treturn[1] table `kind`: "call", "exec" (it has become another program), "exit" (of a process), or
"end" (of all of them); `tid`, `pid`; `at`, milliseconds since the start. A call has `call` (its name),
its arguments in 1 to 6, `took` (milliseconds), `result` (negative: `error`, the name of its errno, and
`meaning`). What has ended has `status` or `signal`, at the end the program's own.
@return[2] nil
@treturn[2] string what went wrong
@treturn[2] int errno; ENOSYS: the kernel cannot tell calls apart
*/
static int trace_next(lua_State *L)
{
	struct trace *t = luaL_checkudata(L, 1, TRACE_HANDLE);
	int err;

	luaL_argcheck(L, t->root, 1, "it has ended");
	err = next(t);
	if (err)
		return push_failure(L, err, "trace");
	push_event(L, t);
	return 1;
}

/***
Kill what is still traced; twice is fine.
@function trace:close
*/
static int trace_close(lua_State *L)
{
	end(luaL_checkudata(L, 1, TRACE_HANDLE));
	return 0;
}

/***
Run a program with our own standard streams, and trace it. Until its end, signals that ask us to end
(INT, TERM, HUP, QUIT) go to it. Every child of this process is waited for then: it must have no others.
A program that cannot be run ends with 127 (there is none) or 126, without an event "exec" before.
@function trace
@tparam {string,...} argv the program, looked up in PATH, and its arguments
@treturn[1] trace
@return[2] nil
@treturn[2] string what went wrong
@treturn[2] int errno; EPERM: we may not trace
*/
static int trace_start(lua_State *L)
{
	struct trace *t;
	char **argv;
	int err;

	argv = argv_arg(L, 1);
	t = lua_newuserdatauv(L, sizeof *t, 0);
	*t = (struct trace){ 0 };
	luaL_setmetatable(L, TRACE_HANDLE);

	err = start(t, argv);
	return err ? push_failure(L, err, "trace %s", argv[0]) : 1;
}

int luaopen_netlink_trace(lua_State *L)
{
	static const luaL_Reg methods[] = {
		{ "next", trace_next },   { "text", trace_text },
		{ "bytes", trace_bytes }, { "datagrams", trace_datagrams },
		{ "socket", trace_socket }, { "close", trace_close },
		{ NULL, NULL },
	};
	static const luaL_Reg meta[] = {
		{ "__gc", trace_close },
		{ "__close", trace_close },
		{ NULL, NULL },
	};

	new_handle_type(L, TRACE_HANDLE, methods, meta);
	lua_pushcfunction(L, trace_start);
	return 1;
}
