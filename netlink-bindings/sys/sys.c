/* SPDX-License-Identifier: MIT */
/***
System calls that plain Lua has no word for. Locked files: file.c; a program: exec.c; matching: regex.c.
@module netlink.sys
*/
#include "sys/sys.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lua.h>

#include "bindings.h"

#define READ_LIMIT (64u << 20)

/* Pushes nil, "<what> <path>: <reason>", errno. [-0, +3, m] */
int sys_fail(lua_State *L, int err, const char *what, const char *path)
{
	char reason[128];

	lua_pushnil(L);
	lua_pushfstring(L, "%s %s: %s", what, path, strerror_r(err, reason, sizeof reason));
	lua_pushinteger(L, err);

	return 3;
}

/* Pushes true for 0, else the three values of a failure. [-0, +(1|3), m] */
int sys_done(lua_State *L, int ret, const char *what, const char *path)
{
	if (ret < 0)
		return sys_fail(L, -ret, what, path);

	lua_pushboolean(L, 1);

	return 1;
}

/* Like done(), but the errno `quiet` is an answer, not a failure: false. [-0, +(1|3), m] */
static int done_unless(lua_State *L, int ret, int quiet, const char *what, const char *path)
{
	if (ret < 0 && ret != -quiet)
		return sys_fail(L, -ret, what, path);

	lua_pushboolean(L, ret == 0);

	return 1;
}

const char *sys_check_path(lua_State *L, int arg)
{
	size_t len;
	const char *path = luaL_checklstring(L, arg, &len);

	luaL_argcheck(L, len > 0 && len < PATH_MAX && strlen(path) == len, arg,
		      "a path without zero bytes expected");

	return path;
}

static mode_t opt_mode(lua_State *L, int arg, mode_t otherwise)
{
	lua_Integer mode = luaL_optinteger(L, arg, (lua_Integer)otherwise);

	luaL_argcheck(L, mode >= 0 && mode <= 07777, arg, "a mode within 0 and 07777 expected");

	return (mode_t)mode;
}

/* Milliseconds at `arg`; nil gives `otherwise`. */
int sys_opt_timeout(lua_State *L, int arg, int otherwise)
{
	lua_Integer ms = luaL_optinteger(L, arg, otherwise);

	luaL_argcheck(L, ms >= 0 && ms <= INT_MAX, arg, "milliseconds, 0 or more, expected");

	return (int)ms;
}

int64_t sys_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);

	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/*
 * Plain C below: 0 or -errno, nothing printed.
 */

static int write_all(int fd, const char *bytes, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, bytes, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		bytes += n;
		len -= (size_t)n;
	}

	return 0;
}

static int make_dirs(char *path, mode_t mode)
{
	char *slash = path;

	/* The usual call finds all but the last in place, or all: ask for the whole path first. */
	if (mkdir(path, mode) == 0)
		return 0;
	if (errno != ENOENT)
		return -errno;

	while ((slash = strchr(slash + 1, '/'))) {
		*slash = '\0';
		if (mkdir(path, mode) < 0 && errno != EEXIST)
			return -errno;
		*slash = '/';
	}

	return mkdir(path, mode) < 0 && errno != EEXIST ? -errno : 0;
}

/* Reads at most `size` bytes; *len == size says that there may be more. */
static int slurp(const char *path, char *buf, size_t size, size_t *len)
{
	size_t used = 0;
	int err = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;

	while (used < size) {
		ssize_t n = read(fd, buf + used, size - used);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			err = -errno;
		if (n <= 0)
			break;
		used += (size_t)n;
	}
	close(fd);
	if (!err)
		*len = used;

	return err;
}

/* Collects the names in a folder, each with its zero byte; -E2BIG when `size` is too small. */
static int list_names(const char *path, char *buf, size_t size, size_t *len)
{
	struct dirent *entry;
	size_t used = 0;
	int err = 0;
	DIR *dir = opendir(path);

	if (!dir)
		return -errno;

	while (errno = 0, (entry = readdir(dir))) {
		size_t n = strlen(entry->d_name) + 1;

		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (n > size - used) {
			errno = E2BIG;
			break;
		}
		memcpy(buf + used, entry->d_name, n);
		used += n;
	}
	err = -errno;
	closedir(dir);
	if (!err)
		*len = used;

	return err;
}

/* Puts bytes in place by rename, so that a reader sees the old file or the new, never a part. */
static int replace_file(const char *path, const char *bytes, size_t len, mode_t mode)
{
	char tmp[PATH_MAX];
	const char *base = strrchr(path, '/');
	int fd, err;

	base = base ? base + 1 : path;
	if (snprintf(tmp, sizeof tmp, "%.*s.%s.%d", (int)(base - path), path, base,
		     (int)getpid()) >= (int)sizeof tmp)
		return -ENAMETOOLONG;

	unlink(tmp); /* left by a killed process whose number has come round again */
	fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
	if (fd < 0)
		return -errno;

	err = fchmod(fd, mode) < 0 ? -errno : write_all(fd, bytes, len);
	if (close(fd) < 0 && !err)
		err = -errno;
	if (!err && rename(tmp, path) < 0)
		err = -errno;
	if (err)
		unlink(tmp);

	return err;
}

/*
 * Files and folders.
 */

/***
Make one folder.
@function mkdir
@tparam string path
@tparam[opt=493] integer mode permission bits; 493 is 0755
@treturn boolean true when made, false when it was there
@treturn[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
*/
static int sys_mkdir(lua_State *L)
{
	const char *path = sys_check_path(L, 1);
	mode_t mode = opt_mode(L, 2, 0755);
	int ret;

	ret = mkdir(path, mode) < 0 ? -errno : 0;

	return done_unless(L, ret, EEXIST, "make folder", path);
}

/***
Make a folder and whatever is missing above it.
@function mkdirs
@tparam string path
@tparam[opt=493] integer mode permission bits of every folder made; 493 is 0755
@treturn boolean true when made, false when it was there
@treturn[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
*/
static int sys_mkdirs(lua_State *L)
{
	const char *path = sys_check_path(L, 1);
	mode_t mode = opt_mode(L, 2, 0755);
	char copy[PATH_MAX];
	int ret;

	strcpy(copy, path);
	ret = make_dirs(copy, mode);

	return done_unless(L, ret, EEXIST, "make folder", path);
}

/***
Remove an empty folder.
@function rmdir
@tparam string path
@treturn boolean true when removed, false when absent
@treturn[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
*/
static int sys_rmdir(lua_State *L)
{
	const char *path = sys_check_path(L, 1);
	int ret;

	ret = rmdir(path) < 0 ? -errno : 0;

	return done_unless(L, ret, ENOENT, "remove folder", path);
}

/***
Remove a file.
@function unlink
@tparam string path
@treturn boolean true when removed, false when absent
@treturn[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
*/
static int sys_unlink(lua_State *L)
{
	const char *path = sys_check_path(L, 1);
	int ret;

	ret = unlink(path) < 0 ? -errno : 0;

	return done_unless(L, ret, ENOENT, "remove", path);
}

/***
Rename a file or folder, replacing what is there.
@function rename
@tparam string from
@tparam string to
@treturn boolean true
@treturn[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
*/
static int sys_rename(lua_State *L)
{
	const char *from = sys_check_path(L, 1);
	const char *to = sys_check_path(L, 2);
	int ret;

	ret = rename(from, to) < 0 ? -errno : 0;

	return sys_done(L, ret, "rename", from);
}

/***
The names in a folder, unsorted, without `.` and `..`.
@function list
@tparam string path
@treturn {string,...}
@treturn[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
*/
static int sys_list(lua_State *L)
{
	const char *path = sys_check_path(L, 1);
	char small[4096], *names = small;
	size_t size = sizeof small, len = 0;
	lua_Integer count = 0;
	int ret;

	while ((ret = list_names(path, names, size, &len)) == -E2BIG) {
		size *= 4;
		names = lua_newuserdatauv(L, size, 0);
	}
	if (ret < 0)
		return sys_fail(L, -ret, "list", path);

	lua_newtable(L);
	for (char *name = names; name < names + len; name += strlen(name) + 1) {
		lua_pushstring(L, name);
		lua_rawseti(L, -2, ++count);
	}

	return 1;
}

static const char *type_word(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return "file";
	case S_IFDIR:
		return "dir";
	case S_IFLNK:
		return "link";
	case S_IFSOCK:
		return "socket";
	case S_IFIFO:
		return "fifo";
	default:
		return "device";
	}
}

static void set_number(lua_State *L, const char *key, uint64_t value)
{
	lua_pushinteger(L, (lua_Integer)value);
	lua_setfield(L, -2, key);
}

static int push_stat(lua_State *L, int ret, const struct stat *st, const char *path)
{
	if (ret < 0)
		return sys_fail(L, -ret, "stat", path);

	lua_createtable(L, 0, 9);
	lua_pushstring(L, type_word(st->st_mode));
	lua_setfield(L, -2, "type");
	lua_pushnumber(L, (double)st->st_mtim.tv_sec + (double)st->st_mtim.tv_nsec / 1e9);
	lua_setfield(L, -2, "mtime");
	lua_pushnumber(L, (double)st->st_ctim.tv_sec + (double)st->st_ctim.tv_nsec / 1e9);
	lua_setfield(L, -2, "ctime");
	set_number(L, "size", (uint64_t)st->st_size);
	set_number(L, "mode", st->st_mode & 07777);
	set_number(L, "uid", st->st_uid);
	set_number(L, "gid", st->st_gid);
	set_number(L, "dev", st->st_dev);
	set_number(L, "ino", st->st_ino);

	return 1;
}

/***
What a path names, a symbolic link followed.
@function stat
@tparam string path
@treturn table `type` (file, dir, link, socket, fifo, device), `size`, `mode` (permission bits),
`uid`, `gid`, `mtime`, `ctime` (seconds), `dev`, `ino`
@treturn[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
*/
static int sys_stat(lua_State *L)
{
	const char *path = sys_check_path(L, 1);
	struct stat st;
	int ret;

	ret = stat(path, &st) < 0 ? -errno : 0;

	return push_stat(L, ret, &st, path);
}

/***
What a path names, a symbolic link itself included.
@function lstat
@tparam string path
@treturn table as of @{stat}
@treturn[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
*/
static int sys_lstat(lua_State *L)
{
	const char *path = sys_check_path(L, 1);
	struct stat st;
	int ret;

	ret = lstat(path, &st) < 0 ? -errno : 0;

	return push_stat(L, ret, &st, path);
}

/***
A whole file.
@function read_file
@tparam string path
@tparam[opt=67108864] integer limit a longer file is the error EFBIG
@treturn string
@treturn[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
*/
static int sys_read_file(lua_State *L)
{
	const char *path = sys_check_path(L, 1);
	lua_Integer limit = luaL_optinteger(L, 2, READ_LIMIT);
	char small[4096], *bytes = small;
	size_t size = sizeof small, len = 0;
	int ret;

	luaL_argcheck(L, limit >= 0 && limit <= READ_LIMIT, 2, "a limit up to 64 MiB expected");

	while ((ret = slurp(path, bytes, size, &len)) == 0 && len == size && len <= (size_t)limit) {
		size *= 8;
		bytes = lua_newuserdatauv(L, size, 0);
	}
	if (!ret && len > (size_t)limit)
		ret = -EFBIG;
	if (ret < 0)
		return sys_fail(L, -ret, "read", path);
	lua_pushlstring(L, bytes, len);

	return 1;
}

/***
Write a whole file in place by rename: a reader sees the old content or the new.
@function write_file
@tparam string path
@tparam string bytes
@tparam[opt=384] integer mode permission bits, whatever the umask; 384 is 0600
@treturn boolean true
@treturn[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
*/
static int sys_write_file(lua_State *L)
{
	const char *path = sys_check_path(L, 1);
	size_t len;
	const char *bytes = luaL_checklstring(L, 2, &len);
	mode_t mode = opt_mode(L, 3, 0600);
	int ret;

	ret = replace_file(path, bytes, len, mode);

	return sys_done(L, ret, "write", path);
}

/***
Create an empty file, or leave the one that is there as it is.
@function touch
@tparam string path
@tparam[opt=384] integer mode permission bits; 384 is 0600
@treturn boolean true
@treturn[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
*/
static int sys_touch(lua_State *L)
{
	const char *path = sys_check_path(L, 1);
	mode_t mode = opt_mode(L, 2, 0600);
	int fd, ret;

	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, mode);
	ret = fd < 0 ? -errno : 0;
	if (fd >= 0)
		close(fd);

	return sys_done(L, ret, "create", path);
}

/***
A 64-bit digest for names and look-ups (FNV-1a). It is no defence against a forger.
@function hash64
@tparam string bytes
@treturn string 16 hexadecimal digits
*/
static int sys_hash64(lua_State *L)
{
	size_t len;
	const char *bytes = luaL_checklstring(L, 1, &len);
	uint64_t hash = 0xcbf29ce484222325u;
	char hex[17];

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ (unsigned char)bytes[i]) * 0x100000001b3u;
	snprintf(hex, sizeof hex, "%016" PRIx64, hash);

	lua_pushstring(L, hex);

	return 1;
}

/***
Bytes nobody can predict.
@function random
@tparam integer count 1 to 256
@treturn string
@treturn[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
*/
static int sys_random(lua_State *L)
{
	lua_Integer count = luaL_checkinteger(L, 1);
	char bytes[256];
	ssize_t n;

	luaL_argcheck(L, count >= 1 && count <= (lua_Integer)sizeof bytes, 1, "1 to 256 expected");

	do {
		n = getrandom(bytes, (size_t)count, 0);
	} while (n < 0 && errno == EINTR);
	if (n != count)
		return sys_fail(L, n < 0 ? errno : EIO, "read", "random bytes");

	lua_pushlstring(L, bytes, (size_t)count);

	return 1;
}

/***
The number of this process.
@function pid
@treturn integer
*/
static int sys_pid(lua_State *L)
{
	lua_pushinteger(L, getpid());

	return 1;
}

/***
The words for an errno.
@function strerror
@tparam integer errno
@treturn string
*/
static int sys_strerror(lua_State *L)
{
	lua_Integer err = luaL_checkinteger(L, 1);
	char reason[128];

	luaL_argcheck(L, err >= 0 && err <= INT_MAX, 1, "an errno expected");

	lua_pushstring(L, strerror_r((int)err, reason, sizeof reason));

	return 1;
}

/* The errno table fills itself on demand, and tells a misspelt name from an absent one. */
static int errno_index(lua_State *L)
{
	const char *name = luaL_checkstring(L, 2);

	for (int err = 1; err < 200; err++) {
		const char *known = strerrorname_np(err);

		if (known && !strcmp(known, name)) {
			lua_pushinteger(L, err);
			return 1;
		}
	}

	return luaL_error(L, "sys.errno has no '%s'", name);
}

static const luaL_Reg functions[] = {
	{ "mkdir", sys_mkdir },
	{ "mkdirs", sys_mkdirs },
	{ "rmdir", sys_rmdir },
	{ "unlink", sys_unlink },
	{ "rename", sys_rename },
	{ "list", sys_list },
	{ "stat", sys_stat },
	{ "lstat", sys_lstat },
	{ "readlink", sys_readlink }, { "symlink", sys_symlink },
	{ "read_file", sys_read_file },
	{ "write_file", sys_write_file },
	{ "touch", sys_touch },
	{ "open_locked", sys_open_locked },
	{ "open_locked_existing", sys_open_locked_existing }, { "lock_netns", sys_lock_netns },
	{ "unlock_netns", sys_unlock_netns }, { "hash64", sys_hash64 },
	{ "random", sys_random },
	{ "clock", sys_clock },
	{ "uptime", sys_uptime },
	{ "time", sys_time },
	{ "sleep", sys_sleep },
	{ "pid", sys_pid },
	{ "exec", sys_exec },
	{ "listen", sys_listen },
	{ "receive", sys_receive },
	{ "matches", sys_matches },
	{ "strerror", sys_strerror },
	{ NULL, NULL },
};

int luaopen_netlink_sys(lua_State *L)
{
	luaL_newlib(L, functions);

	lua_newtable(L);
	lua_createtable(L, 0, 1);
	lua_pushcfunction(L, errno_index);
	lua_setfield(L, -2, "__index");
	lua_setmetatable(L, -2);
	lua_setfield(L, -2, "errno");

	return 1;
}
