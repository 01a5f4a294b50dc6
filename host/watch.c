/* SPDX-License-Identifier: MIT */
/***
@submodule host
*/
/*
 * How those are told who watch the calls of a node: lines at the end of a file, a datagram. When this fails,
 * a call neither waits nor fails for it.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <lauxlib.h>

#include "hostlib.h"
#include "site.h"
#include "sys/sys.h"

/* How long a call waits for others that append: each needs some microseconds. */
#define TURN_MS 100

static int failure(lua_State *L, const char *path, const char *why, int err)
{
	lua_pushnil(L);
	if (err == EPERM && *why)
		lua_pushfstring(L, "%s: refused: %s", path, why);
	else
		lua_pushfstring(L, "%s: %s", path, strerror(err));
	lua_pushinteger(L, err);

	return 3;
}

/***
The text of /etc/luacni/settings.json.
@function settings
@treturn string|nil nil alone when there is no such file
@treturn[2] nil
@treturn[2] string why it is refused, or cannot be read
@treturn[2] integer errno
*/
int watch_settings(lua_State *L)
{
	char text[8192], why[PATH_MAX + 64] = "";
	size_t len = 0;
	int ret = site_read(SITE_SETTINGS, text, sizeof text, &len, why, sizeof why);

	if (ret == -E2BIG)
		return failure(L, SITE_SETTINGS, "", EFBIG);
	if (ret < 0 && ret != -ENOENT)
		return failure(L, SITE_SETTINGS, why, -ret);
	if (ret < 0)
		lua_pushnil(L);
	else
		lua_pushlstring(L, text, len);

	return 1;
}

/*
 * Appends in one write. Under the file's lock a write for which the disk has no room can be taken back whole;
 * when the lock is not to be had in time, we write all the same. When the file ends in half a line, of a
 * writer that was killed, a newline comes first.
 */
static int append(int fd, const char *bytes, size_t len)
{
	int locked = sys_flock(fd, LOCK_EX, sys_now_ms() + TURN_MS) == 0;
	off_t end = lseek(fd, 0, SEEK_END);
	char last = '\n';
	struct iovec parts[2] = {
		{ .iov_base = (char[]){ '\n' } },
		{ .iov_base = (char *)bytes, .iov_len = len },
	};
	ssize_t n;

	if (end > 0 && pread(fd, &last, 1, end - 1) == 1 && last != '\n')
		parts[0].iov_len = 1;
	do {
		n = writev(fd, parts, 2);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if ((size_t)n == len + parts[0].iov_len)
		return 0;

	return locked && ftruncate(fd, end) < 0 ? -errno : -ENOSPC;
}

/***
Append to a file, which is made (0640) when it is not there; its folders have to be root's. All of it gets
there in one piece, whoever else appends.
@function append
@tparam string path absolute
@tparam[opt] string bytes nil: only see whether it could be done, and make no file
@treturn boolean true
@treturn[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno; EPERM: the file or a folder is not to be trusted
*/
int watch_append(lua_State *L)
{
	char why[PATH_MAX + 64] = "";
	const char *path = sys_check_path(L, 1);
	size_t len = 0;
	const char *bytes = luaL_optlstring(L, 2, NULL, &len);
	int fd, ret;

	luaL_argcheck(L, *path == '/', 1, "an absolute path expected");

	fd = site_open_append(path, bytes != NULL, why, sizeof why);
	if (fd < 0)
		return failure(L, path, why, -fd);
	ret = bytes ? append(fd, bytes, len) : 0;
	close(fd);
	if (ret < 0)
		return failure(L, path, "", -ret);

	lua_pushboolean(L, 1);

	return 1;
}

/***
Send a datagram, if it can be done at once.
@function datagram
@tparam string path of a socket
@tparam string bytes
@treturn boolean true
@treturn[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno: ECONNREFUSED or ENOENT when nobody is there, EAGAIN when it would have to wait
*/
int watch_datagram(lua_State *L)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	const char *path = sys_check_path(L, 1);
	size_t len;
	const char *bytes = luaL_checklstring(L, 2, &len);
	int fd, err = 0;

	luaL_argcheck(L, strlen(path) < sizeof to.sun_path, 1, "a socket's path is shorter");

	strcpy(to.sun_path, path);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return failure(L, path, "", errno);
	if (sendto(fd, bytes, len, MSG_NOSIGNAL, (struct sockaddr *)&to, sizeof to) < 0)
		err = errno;
	close(fd);
	if (err)
		return failure(L, path, "", err);

	lua_pushboolean(L, 1);

	return 1;
}
