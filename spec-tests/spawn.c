/* SPDX-License-Identifier: MIT */
/*
 * spawn, a Lua module: run a command in a network namespace and wait for it, with no shell or
 * other program in between; make namespaces without a program at all. Where system calls are
 * slow, starting programs is most of what a spec takes.
 */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lua.h>

extern char **environ;

enum { IN, OUT, ERR, PIPE, NETNS, PROCESS, FDS };

/* What a run holds; collected, it holds nothing any more. */
struct run {
	int fd[FDS];
};

static int run_close(lua_State *L)
{
	struct run *run = luaL_checkudata(L, 1, "spawn.run");

	for (int i = 0; i < FDS; i++) {
		if (run->fd[i] >= 0)
			close(run->fd[i]);
		run->fd[i] = -1;
	}
	return 0;
}

static struct run *run_new(lua_State *L)
{
	struct run *run = lua_newuserdatauv(L, sizeof(*run), 0);

	memset(run->fd, 0xff, sizeof(run->fd));
	if (luaL_newmetatable(L, "spawn.run")) {
		lua_pushcfunction(L, run_close);
		lua_setfield(L, -2, "__gc");
		lua_pushcfunction(L, run_close);
		lua_setfield(L, -2, "__close");
	}
	lua_setmetatable(L, -2);
	lua_toclose(L, -1);
	return run;
}

/* This process's environment; what a sanitizer preloads is for the interpreter alone. */
static char **own_env(lua_State *L)
{
	size_t count = 0, kept = 0;
	char **list;

	while (environ[count])
		count++;
	list = lua_newuserdatauv(L, (count + 1) * sizeof(*list), 0);
	for (size_t i = 0; i < count; i++)
		if (strncmp(environ[i], "LD_PRELOAD=", 11) != 0)
			list[kept++] = environ[i];
	list[kept] = NULL;
	return list;
}

/* A list of strings, kept by Lua, as exec takes it. */
static char **words(lua_State *L, int index)
{
	lua_Integer count = luaL_len(L, index);
	char **list = lua_newuserdatauv(L, ((size_t)count + 1) * sizeof(*list), 0);

	for (lua_Integer i = 0; i < count; i++) {
		if (lua_rawgeti(L, index, i + 1) != LUA_TSTRING)
			luaL_error(L, "word %d is no string", (int)i + 1);
		list[i] = (char *)(uintptr_t)lua_tostring(L, -1);
		lua_pop(L, 1);
	}
	list[count] = NULL;
	return list;
}

static bool open_all(struct run *run, const char *input, size_t length, const char *netns)
{
	int ends[2];

	run->fd[IN] = input ? memfd_create("in", MFD_CLOEXEC) : open("/dev/null", O_RDWR | O_CLOEXEC);
	if (run->fd[IN] < 0 || (input && (write(run->fd[IN], input, length) != (ssize_t)length ||
					  lseek(run->fd[IN], 0, SEEK_SET) < 0)))
		return false;
	run->fd[ERR] = memfd_create("err", MFD_CLOEXEC);
	if (run->fd[ERR] < 0 || pipe2(ends, O_CLOEXEC) < 0)
		return false;
	run->fd[PIPE] = ends[0];
	run->fd[OUT] = ends[1];
	if (netns)
		run->fd[NETNS] = open(netns, O_RDONLY | O_CLOEXEC);
	return !netns || run->fd[NETNS] >= 0;
}

/* The child has the memory of its parent, which waits until the exec. */
static pid_t start(const struct run *run, char **argv, char **env)
{
	pid_t pid = vfork();

	if (pid != 0)
		return pid;
	setpgid(0, 0);
	if (run->fd[NETNS] >= 0 && setns(run->fd[NETNS], CLONE_NEWNET) < 0)
		_exit(125);
	for (int i = IN; i <= ERR; i++)
		if (dup2(run->fd[i], i) < 0)
			_exit(125);
	execvpe(argv[0], argv, env);
	_exit(errno == ENOENT ? 127 : 126);
}

static bool ready(int fd, long long until)
{
	struct pollfd poller = { .fd = fd, .events = POLLIN };
	struct timespec now;
	long long left;

	clock_gettime(CLOCK_MONOTONIC, &now);
	left = until - now.tv_sec * 1000LL - now.tv_nsec / 1000000;
	return left > 0 && poll(&poller, 1, (int)left) != 0;
}

/* Until the end of the output and of the command, or the time is up. */
static bool gather(lua_State *L, struct run *run, pid_t pid, long long until)
{
	char bytes[8192];
	luaL_Buffer out;
	ssize_t got = 1;

	luaL_buffinit(L, &out);
	while (got > 0 && ready(run->fd[PIPE], until)) {
		got = read(run->fd[PIPE], bytes, sizeof(bytes));
		luaL_addlstring(&out, bytes, got > 0 ? (size_t)got : 0);
	}
	luaL_pushresult(&out);
	if (got > 0)
		return false;
	run->fd[PROCESS] = pidfd_open(pid, 0);
	return run->fd[PROCESS] >= 0 && ready(run->fd[PROCESS], until);
}

static int push_errors(lua_State *L, int fd)
{
	off_t length = lseek(fd, 0, SEEK_END);
	luaL_Buffer err;
	ssize_t got = pread(fd, luaL_buffinitsize(L, &err, (size_t)length), (size_t)length, 0);

	luaL_pushresultsize(&err, got > 0 ? (size_t)got : 0);
	return 1;
}

/***
 * Run a command and wait for it.
 * @function run
 * @tparam {string,...} argv the program, looked for in PATH, and its arguments
 * @tparam[opt] {string,...} env "NAME=value" entries, instead of this process's
 * @tparam[opt] string netns path of the network namespace to run in
 * @tparam[opt] string input what it reads
 * @tparam[opt=60] number seconds it may take; it is killed then, with all it started
 * @treturn string its output
 * @treturn integer exit status; 128 + n: ended by signal n; 125: not started; 126, 127: no program
 * @treturn string what it said on stderr
 * @raise when there are no descriptors or processes, or no such namespace
 */
static int spawn_run(lua_State *L)
{
	size_t length = 0;
	const char *netns = luaL_optstring(L, 3, NULL), *input = luaL_optlstring(L, 4, NULL, &length);
	lua_Number seconds = luaL_optnumber(L, 5, 60);
	char **argv = words(L, 1), **env = lua_isnoneornil(L, 2) ? own_env(L) : words(L, 2);
	struct run *run = run_new(L);
	struct timespec now;
	int status;
	pid_t pid;

	if (!open_all(run, input, length, netns))
		return luaL_error(L, "%s: %s", netns ? netns : argv[0], strerror(errno));
	pid = start(run, argv, env);
	if (pid < 0)
		return luaL_error(L, "%s: %s", argv[0], strerror(errno));
	close(run->fd[OUT]);
	run->fd[OUT] = -1;
	clock_gettime(CLOCK_MONOTONIC, &now);
	if (!gather(L, run, pid, now.tv_sec * 1000LL + (long long)(seconds * 1000)))
		kill(-pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	lua_pushinteger(L, WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
	push_errors(L, run->fd[ERR]);
	return 3;
}

/* `ip link set lo up`, and down again when `down`. */
static bool lo_up(bool down)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool good = sock >= 0 && ioctl(sock, SIOCSIFFLAGS, &request) == 0;

	request.ifr_flags = 0;
	good = good && (!down || ioctl(sock, SIOCSIFFLAGS, &request) == 0);
	close(sock);
	return good;
}

static pid_t make_netns(const char *path, const char *lo)
{
	pid_t pid = vfork();

	if (pid != 0)
		return pid;
	if (unshare(CLONE_NEWNET) < 0 || (lo && !lo_up(strcmp(lo, "down") == 0)) ||
	    mount("/proc/self/ns/net", path, "none", MS_BIND, NULL) < 0)
		_exit(1);
	_exit(0);
}

/***
 * Make a network namespace with a name, as `ip netns add` does in a process of its own.
 * @function add_netns
 * @tparam string path where to: /run/netns/NAME
 * @tparam[opt] string lo "up": its link lo is up; "down": it was up, so that it has its addresses
 * @raise when there is something of that name, or the kernel refuses
 */
static int spawn_add_netns(lua_State *L)
{
	const char *path = luaL_checkstring(L, 1), *lo = luaL_optstring(L, 2, NULL);
	int status = -1, fd = open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0);
	pid_t pid = fd < 0 ? -1 : make_netns(path, lo);

	if (fd >= 0)
		close(fd);
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (status != 0)
		return luaL_error(L, "%s: no namespace: %s", path, fd < 0 ? strerror(errno) : "refused");
	return 0;
}

/***
 * Take a namespace's name away, and it with the last process in it.
 * @function del_netns
 * @tparam string path /run/netns/NAME
 * @treturn boolean whether it was there
 */
static int spawn_del_netns(lua_State *L)
{
	const char *path = luaL_checkstring(L, 1);

	umount2(path, MNT_DETACH);
	lua_pushboolean(L, unlink(path) == 0);
	return 1;
}

int luaopen_spawn(lua_State *L);

int luaopen_spawn(lua_State *L)
{
	lua_newtable(L);
	lua_pushcfunction(L, spawn_run);
	lua_setfield(L, -2, "run");
	lua_pushcfunction(L, spawn_add_netns);
	lua_setfield(L, -2, "add_netns");
	lua_pushcfunction(L, spawn_del_netns);
	lua_setfield(L, -2, "del_netns");
	return 1;
}
