/* SPDX-License-Identifier: MIT */
/***
@submodule netlink.sys
*/
/*
 * netlink.sys, files held under a lock: taken with a deadline, and still the file that its path
 * names once taken, so that whoever holds the lock may remove it.
 */
#include "sys/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lua.h>

#include "ns/ns.h"

#define FILE_HANDLE "netlink.sys.file"
#define READ_LIMIT (64 << 20)
#define LOCK_TIMEOUT_MS 60000

static void on_lock_timer(int sig)
{
	(void)sig; /* its only effect is that flock() returns EINTR */
}

/*
 * flock() with a deadline. A timer of our own interrupts the wait; it repeats, because a signal
 * that arrives just before flock() sleeps would otherwise be lost. No other timer or handler of
 * the process is disturbed.
 */
int sys_flock(int fd, int how, int64_t deadline)
{
	int sig = SIGRTMIN + 3;
	struct sigaction act = { .sa_handler = on_lock_timer }, old_act;
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = sig };
	struct itimerspec span = { .it_interval.tv_nsec = 20000000 };
	sigset_t unblock, old_mask;
	timer_t timer;
	int64_t left;
	int err = 0;

	while (flock(fd, how | LOCK_NB) < 0) {
		if (errno == EINTR)
			continue;
		if (errno != EWOULDBLOCK)
			return -errno;
		err = -EWOULDBLOCK;
		break;
	}
	left = deadline - sys_now_ms();
	if (!err || left <= 0)
		return err ? -ETIMEDOUT : 0;

	if (timer_create(CLOCK_MONOTONIC, &event, &timer) < 0)
		return -errno;
	sigaction(sig, &act, &old_act);
	sigemptyset(&unblock);
	sigaddset(&unblock, sig);
	sigprocmask(SIG_UNBLOCK, &unblock, &old_mask);
	span.it_value.tv_sec = left / 1000;
	span.it_value.tv_nsec = left % 1000 * 1000000;
	timer_settime(timer, 0, &span, NULL);

	do {
		err = flock(fd, how) < 0 ? -errno : 0;
	} while (err == -EINTR && sys_now_ms() < deadline);

	timer_delete(timer);
	sigprocmask(SIG_SETMASK, &old_mask, NULL);
	sigaction(sig, &old_act, NULL);

	return err == -EINTR ? -ETIMEDOUT : err;
}

/*
 * Opens and locks. Whoever removes a locked file does so under its lock, so a lock won on a file
 * that its path no longer names guards nothing: then start over with the file that is there now.
 */
static int open_and_lock(const char *path, int flags, int how, int timeout_ms, int *out)
{
	int64_t deadline = sys_now_ms() + timeout_ms;
	struct stat mine, named;
	int fd, err;

	for (;;) {
		fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
		if (fd < 0)
			return -errno;

		err = sys_flock(fd, how, deadline);
		if (!err && fstat(fd, &mine) < 0)
			err = -errno;
		if (err)
			break;

		if (lstat(path, &named) == 0) {
			if (mine.st_ino == named.st_ino && mine.st_dev == named.st_dev) {
				*out = fd;
				return 0;
			}
		} else if (errno != ENOENT) {
			err = -errno;
			break;
		}
		close(fd);
	}
	close(fd);

	return err;
}

struct file {
	int fd; /* -1 once closed */
};

/***
A file held under a lock. Closing it, or the end of the process, gives the lock back.
@type file
*/

static struct file *check_file(lua_State *L)
{
	struct file *f = luaL_checkudata(L, 1, FILE_HANDLE);

	luaL_argcheck(L, f->fd >= 0, 1, "the file is closed");

	return f;
}

/***
Close the file and give the lock back. Closing twice is fine.
@function file:close
*/
static int file_close(lua_State *L)
{
	struct file *f = luaL_checkudata(L, 1, FILE_HANDLE);
	int fd = f->fd;

	f->fd = -1;
	if (fd >= 0)
		close(fd);

	return 0;
}

static int file_tostring(lua_State *L)
{
	const struct file *f = luaL_checkudata(L, 1, FILE_HANDLE);

	if (f->fd >= 0)
		lua_pushfstring(L, "locked file (descriptor %d)", f->fd);
	else
		lua_pushliteral(L, "locked file (closed)");

	return 1;
}

/***
The whole content.
@function file:read
@treturn string
@treturn[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
*/
static int file_read(lua_State *L)
{
	struct file *f = check_file(L);
	luaL_Buffer b;
	ssize_t n;
	off_t at = 0;

	luaL_buffinit(L, &b);
	do {
		char *room = luaL_prepbuffsize(&b, 16384);

		do {
			n = pread(f->fd, room, 16384, at);
		} while (n < 0 && errno == EINTR);
		if (n > 0) {
			luaL_addsize(&b, (size_t)n);
			at += n;
		}
	} while (n > 0 && at < (off_t)READ_LIMIT);
	if (n < 0)
		return sys_fail(L, errno, "read", "locked file");
	if (n > 0)
		return sys_fail(L, EFBIG, "read", "locked file");

	luaL_pushresult(&b);

	return 1;
}

/* Writes at `at`; on failure the file ends there again, so that no half record stays. */
static int write_at(int fd, const char *bytes, size_t len, off_t at)
{
	off_t start = at;

	while (len > 0) {
		ssize_t n = pwrite(fd, bytes, len, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			int err = -errno;

			return ftruncate(fd, start) < 0 ? -errno : err;
		}
		bytes += n;
		len -= (size_t)n;
		at += n;
	}

	return 0;
}

/***
Add bytes at the end: all of them, or on failure none.
@function file:append
@tparam string bytes
@treturn boolean true
@treturn[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
*/
static int file_append(lua_State *L)
{
	struct file *f = check_file(L);
	size_t len;
	const char *bytes = luaL_checklstring(L, 2, &len);
	struct stat st;
	int ret;

	ret = fstat(f->fd, &st) < 0 ? -errno : write_at(f->fd, bytes, len, st.st_size);

	return sys_done(L, ret, "append to", "locked file");
}

/***
Cut the file to a length.
@function file:truncate
@tparam[opt=0] integer length
@treturn boolean true
@treturn[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
*/
static int file_truncate(lua_State *L)
{
	struct file *f = check_file(L);
	lua_Integer length = luaL_optinteger(L, 2, 0);
	int ret;

	luaL_argcheck(L, length >= 0, 2, "a length, 0 or more, expected");

	ret = ftruncate(f->fd, (off_t)length) < 0 ? -errno : 0;

	return sys_done(L, ret, "truncate", "locked file");
}

/***
The descriptor's number, for tests.
@function file:fd
@treturn integer
*/
static int file_fd(lua_State *L)
{
	struct file *f = check_file(L);

	lua_pushinteger(L, f->fd);

	return 1;
}

static const luaL_Reg file_methods[] = {
	{ "read", file_read }, { "append", file_append }, { "truncate", file_truncate },
	{ "fd", file_fd },     { "close", file_close },   { NULL, NULL },
};

static const luaL_Reg file_meta[] = {
	{ "__gc", file_close },
	{ "__close", file_close },
	{ "__tostring", file_tostring },
	{ NULL, NULL },
};

/* Pushes a new, closed file. [-0, +1, m] */
static struct file *new_file(lua_State *L)
{
	struct file *f = lua_newuserdatauv(L, sizeof *f, 0);

	f->fd = -1;
	/* Made on first use: most runs of the program need none of it. */
	if (luaL_newmetatable(L, FILE_HANDLE)) {
		luaL_setfuncs(L, file_meta, 0);
		luaL_newlib(L, file_methods);
		lua_setfield(L, -2, "__index");
		lua_pushboolean(L, 0);
		lua_setfield(L, -2, "__metatable");
	}
	lua_setmetatable(L, -2);

	return f;
}

static int lock_file(lua_State *L, int flags)
{
	static const char *const words[] = { "exclusive", "shared", "try", NULL };
	const char *path = sys_check_path(L, 1);
	int word = luaL_checkoption(L, 2, "exclusive", words);
	int how = word == 1 ? LOCK_SH : LOCK_EX;
	int timeout_ms = word == 2 ? 0 : sys_opt_timeout(L, 3, LOCK_TIMEOUT_MS);
	struct file *f = new_file(L);
	int ret;

	ret = open_and_lock(path, flags, how, timeout_ms, &f->fd);

	return ret < 0 ? sys_fail(L, -ret, "lock", path) : 1;
}

/***
Open a file, creating it (0600) where it is absent, and hold its lock (see flock(2)).

The path names the locked file when this returns: a file removed or replaced while we waited is
let go and the new one taken. Remove such a file only while holding its exclusive lock.
@function open_locked
@tparam string path
@tparam[opt="exclusive"] string how `exclusive`, `shared`, or `try`: exclusive without waiting
@tparam[opt=60000] integer timeout_ms how long to wait
@treturn file
@treturn[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno: ETIMEDOUT when someone else holds it, and nothing else then
*/
int sys_open_locked(lua_State *L)
{
	return lock_file(L, O_CREAT);
}

/***
As @{open_locked}, but an absent file is the error ENOENT and nothing is created.
@function open_locked_existing
@tparam string path
@tparam[opt="exclusive"] string how
@tparam[opt=60000] integer timeout_ms
@treturn file
@treturn[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
*/
int sys_open_locked_existing(lua_State *L)
{
	return lock_file(L, 0);
}

/***
Where a symbolic link points, as it is written there.
@function readlink
@tparam string path
@treturn string
@treturn[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno; EINVAL: it is no symbolic link
*/
int sys_readlink(lua_State *L)
{
	const char *path = sys_check_path(L, 1);
	char target[PATH_MAX];
	ssize_t len;

	len = readlink(path, target, sizeof target);

	if (len < 0)
		return sys_fail(L, errno, "read link", path);
	lua_pushlstring(L, target, (size_t)len);
	return 1;
}

/***
Make a symbolic link. What is there already is an error, EEXIST.
@function symlink
@tparam string target
@tparam string path
@treturn boolean true
@treturn[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
*/
int sys_symlink(lua_State *L)
{
	const char *target = sys_check_path(L, 1);
	const char *path = sys_check_path(L, 2);
	int ret;

	ret = symlink(target, path) < 0 ? -errno : 0;

	return sys_done(L, ret, "make link", path);
}

/***
Keep others who do the same out of a network namespace, until `unlock_netns`, or until it is closed.
It is the lock of the file that a namespace is (see flock(2)), which the reference's sbr takes too;
nothing is left of it.
@function lock_netns
@tparam ns ns
@tparam[opt=60000] integer timeout_ms how long to wait
@treturn boolean true
@treturn[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno: ETIMEDOUT when someone else holds it, and nothing else then
*/
int sys_lock_netns(lua_State *L)
{
	int fd = netns_fd(L, 1);
	int timeout_ms = sys_opt_timeout(L, 2, LOCK_TIMEOUT_MS);

	luaL_argcheck(L, fd >= 0, 1, "an open namespace expected");

	return sys_done(L, sys_flock(fd, LOCK_EX, sys_now_ms() + timeout_ms), "lock", "namespace");
}

/***
Let go of what `lock_netns` holds; without a lock it does nothing.
@function unlock_netns
@tparam ns ns
@treturn boolean true
@treturn[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
*/
int sys_unlock_netns(lua_State *L)
{
	int fd = netns_fd(L, 1);

	luaL_argcheck(L, fd >= 0, 1, "an open namespace expected");

	return sys_done(L, flock(fd, LOCK_UN) < 0 ? -errno : 0, "unlock", "namespace");
}
