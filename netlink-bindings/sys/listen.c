/* SPDX-License-Identifier: MIT */
/***
@submodule netlink.sys
*/
/*
 * netlink.sys, a Unix socket that others connect to. Who has connected is left to a program (sys/exec.c).
 */
#include "sys/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lua.h>

#define LISTENER_HANDLE "netlink.sys.listener"
#define WAITING_MOST 128

struct listener {
	int fd; /* -1 once closed */
	int other; /* who has connected last, and is not left to anybody yet; or -1 */
	int signals; /* readable when one waits that asks us to end, and that the caller holds back */
	dev_t dev;
	ino_t ino; /* of the socket that we have made */
	struct sockaddr_un at;
};

static void close_other(struct listener *l)
{
	if (l->other >= 0)
		close(l->other);
	l->other = -1;
}

/* The path may name another one's by now. */
static void listener_release(struct listener *l)
{
	struct stat st;

	close_other(l);
	if (l->signals >= 0)
		close(l->signals);
	l->signals = -1;
	if (l->fd < 0)
		return;
	if (lstat(l->at.sun_path, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->ino)
		unlink(l->at.sun_path);
	close(l->fd);
	l->fd = -1;
}

/* Whether nobody listens at a socket that is there: who made it has ended without removing it. */
static int is_left_over(const struct sockaddr_un *at)
{
	struct stat st;
	int fd, refused;

	/* Any other file refuses as well. */
	if (lstat(at->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return 0;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return 0;
	refused = connect(fd, (const struct sockaddr *)at, sizeof *at) < 0 && errno == ECONNREFUSED;
	close(fd);

	return refused;
}

/* For our own user alone. */
static int bind_here(int fd, const struct sockaddr_un *at)
{
	mode_t mask = umask(0177);
	int err = bind(fd, (const struct sockaddr *)at, sizeof *at) < 0 ? -errno : 0;

	umask(mask);

	return err;
}

static int listener_open(struct listener *l)
{
	struct stat st;
	sigset_t asking;
	int err;

	sigemptyset(&asking);
	sigaddset(&asking, SIGINT);
	sigaddset(&asking, SIGTERM);
	sigaddset(&asking, SIGHUP);
	sigaddset(&asking, SIGQUIT);
	l->signals = signalfd(-1, &asking, SFD_CLOEXEC);
	if (l->signals < 0)
		return -errno;
	l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (l->fd < 0)
		return -errno;
	err = bind_here(l->fd, &l->at);
	if (err == -EADDRINUSE && is_left_over(&l->at) && unlink(l->at.sun_path) == 0)
		err = bind_here(l->fd, &l->at);
	if (!err && lstat(l->at.sun_path, &st) < 0)
		err = -errno;
	if (err) {
		close(l->fd);
		l->fd = -1;
		return err;
	}
	l->dev = st.st_dev;
	l->ino = st.st_ino;
	if (listen(l->fd, WAITING_MOST) < 0) {
		err = -errno;
		listener_release(l);
	}

	return err;
}

static struct listener *check_listener(lua_State *L)
{
	struct listener *l = luaL_checkudata(L, 1, LISTENER_HANDLE);

	luaL_argcheck(L, l->fd >= 0, 1, "the listener is closed");

	return l;
}

/***
Wait until somebody connects. Who had connected before, and was left to no program (@{exec}), is sent away.
@function listener:accept
@int timeout_ms
@treturn boolean false: nobody has; or a signal that the caller holds back asks to end
@treturn[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
*/
static int listener_accept(lua_State *L)
{
	struct listener *l = check_listener(L);
	struct pollfd fds[] = {
		{ .fd = l->fd, .events = POLLIN },
		{ .fd = l->signals, .events = POLLIN },
	};
	int timeout_ms = sys_opt_timeout(L, 2, 0), err = 0;

	close_other(l);
	if (poll(fds, 2, timeout_ms) > 0 && !fds[1].revents) {
		l->other = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC);
		if (l->other < 0)
			err = errno;
	}
	/* Who has changed his mind, and a signal. */
	if (err && err != EAGAIN && err != ECONNABORTED && err != EINTR)
		return sys_fail(L, err, "accept at", l->at.sun_path);
	lua_pushboolean(L, l->other >= 0);

	return 1;
}

/***
Listen no more; the socket's file goes. Twice is fine.
@function listener:close
*/
static int listener_close(lua_State *L)
{
	listener_release(luaL_checkudata(L, 1, LISTENER_HANDLE));

	return 0;
}

static const luaL_Reg methods[] = {
	{ "accept", listener_accept }, { "close", listener_close }, { NULL, NULL },
};

/* Pushes one that is not open. [-0, +1, m] */
static struct listener *new_listener(lua_State *L)
{
	struct listener *l = lua_newuserdatauv(L, sizeof *l, 0);

	*l = (struct listener){ .fd = -1, .other = -1, .signals = -1, .at.sun_family = AF_UNIX };
	if (luaL_newmetatable(L, LISTENER_HANDLE)) {
		luaL_newlib(L, methods);
		lua_setfield(L, -2, "__index");
		lua_pushcfunction(L, listener_close);
		lua_setfield(L, -2, "__gc");
		lua_pushcfunction(L, listener_close);
		lua_setfield(L, -2, "__close");
		lua_pushboolean(L, 0);
		lua_setfield(L, -2, "__metatable");
	}
	lua_setmetatable(L, -2);

	return l;
}

/***
Listen at a Unix socket for streams, that our own user alone can connect to. One that is there, and that
nobody listens at, is replaced.
@function listen
@string path at most 107 bytes; its folder is there
@return the listener: see @{listener:accept}. Close it
@treturn[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno, EADDRINUSE where somebody listens there
@see unix(7)
*/
int sys_listen(lua_State *L)
{
	const char *path = sys_check_path(L, 1);
	struct listener *l = new_listener(L);
	int err = -ENAMETOOLONG;

	if (strlen(path) < sizeof l->at.sun_path) {
		strcpy(l->at.sun_path, path);
		err = listener_open(l);
	}
	if (err)
		return sys_fail(L, -err, "listen at", path);

	return 1;
}

/* The connection that waits in the listener at `arg`; -1: there is none. */
int sys_connection(lua_State *L, int arg)
{
	const struct listener *l = luaL_testudata(L, arg, LISTENER_HANDLE);

	return l ? l->other : -1;
}

/***
Read what comes at standard input, without waiting for its end.
@function receive
@int most bytes
@int timeout_ms
@treturn string empty at the end
@treturn[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno, ETIMEDOUT where nothing has come
*/
int sys_receive(lua_State *L)
{
	lua_Integer most = luaL_checkinteger(L, 1);
	int timeout_ms = sys_opt_timeout(L, 2, 0), ready;
	struct pollfd fd = { .fd = STDIN_FILENO, .events = POLLIN };
	char bytes[4096];
	ssize_t n = -1;

	luaL_argcheck(L, most > 0, 1, "nothing is asked for");
	ready = poll(&fd, 1, timeout_ms);
	if (ready > 0)
		n = read(STDIN_FILENO, bytes, most < (lua_Integer)sizeof bytes ? (size_t)most : sizeof bytes);
	if (n < 0)
		return sys_fail(L, ready ? errno : ETIMEDOUT, "read", "standard input");
	lua_pushlstring(L, bytes, (size_t)n);

	return 1;
}
