/* SPDX-License-Identifier: MIT */
/***
@submodule netlink.ns
*/
/* /proc/sys of a namespace. It is that of the thread that looks: so one visit has many settings. */

#include "ns/ns.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "nl/push.h"

/*
 * Each namespace has folders net/ipv4 and net/ipv6 of its own, and the kernel looks among those of all
 * namespaces at each look-up: with 500 of them that is 0.6 ms, all else of a setting 0.01. So they stay
 * open for the next one. What goes wrong with the folder is found out again, and said, of the whole path.
 */
static int open_setting(int folders[2], const char *path, int flags)
{
	static const char *const families[] = { "net/ipv4/", "net/ipv6/" };
	char full[300];

	for (size_t i = 0; i < 2; i++) {
		size_t len = strlen(families[i]);

		if (strncmp(path, families[i], len))
			continue;
		snprintf(full, sizeof full, "/proc/sys/%s", families[i]);
		if (folders[i] < 0)
			folders[i] = open(full, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (folders[i] >= 0)
			return openat(folders[i], path + len, flags);
	}
	snprintf(full, sizeof full, "/proc/sys/%s", path);
	return open(full, flags);
}

void netns_close_sysctl(int folders[2])
{
	for (size_t i = 0; i < 2; i++) {
		if (folders[i] >= 0)
			close(folders[i]);
		folders[i] = -1;
	}
}

/* Read one file of /proc/sys; the path is checked. Returns bytes or -errno. */
static long read_setting(int folders[2], const char *path, char *data, size_t len)
{
	int fd = open_setting(folders, path, O_RDONLY | O_CLOEXEC);
	long n;

	if (fd < 0)
		return -errno;
	n = read(fd, data, len);
	n = n < 0 ? -errno : n;
	close(fd);
	return n;
}

/*
 * Whether there is no value to read: no such setting, one that can only be written, or a secret that
 * nobody has set (the kernel answers EIO).
 */
static bool has_no_value(const char *path, int err)
{
	const char *name = strrchr(path, '/');
	char full[300];
	struct stat st;

	snprintf(full, sizeof full, "/proc/sys/%s", path);
	return err == -ENOENT || err == -ENOTDIR || (err == -EIO && !strcmp(name, "/stable_secret")) ||
	       (err == -EACCES && stat(full, &st) == 0 && !(st.st_mode & 0444));
}

/* The path of a sysctl at `idx`; raises unless it is a plain path below net/. */
static const char *sysctl_path(lua_State *L, int idx, lua_Integer nth)
{
	size_t len = 0;
	const char *path = lua_type(L, idx) == LUA_TSTRING ? lua_tolstring(L, idx, &len) : NULL;

	if (!path || len > 250 || strlen(path) != len || strncmp(path, "net/", 4) ||
	    strstr(path, "//") || strstr(path, "/../") || strstr(path, "/./") ||
	    path[len - 1] == '/' || (len > 3 && !strcmp(path + len - 3, "/..")))
		luaL_error(L, "sysctl %I: '%s' is not a path below net/", (LUAI_UACINT)nth,
			   path ? path : luaL_typename(L, idx));
	return path;
}

struct setting {
	const char *path;
	const char *value;
	size_t len;
	bool optional;
};

/*
 * Whether a setting does not exist here, or cannot be set by us: only these errors are passed over. EINVAL
 * is not among them, it is what the kernel says of a value.
 */
static bool is_denied(int err)
{
	return err == -ENOENT || err == -ENOTDIR || err == -EROFS || err == -EACCES || err == -EPERM;
}

/* Write the value to the open file of a setting. Returns 0 or -errno. */
static int write_value(int fd, const struct setting *s)
{
	/* A write of no bytes does nothing at all; a line without words is the empty value. */
	const char *value = s->len ? s->value : "\n";
	size_t len = s->len ? s->len : 1;
	ssize_t n = write(fd, value, len);

	if (n < 0)
		return -errno;
	/* It has taken the first words, and knows nothing of the rest. */
	return (size_t)n < len ? -EINVAL : 0;
}

/* Returns 0 or -errno; -EINVAL: the kernel knows no such value. */
static int write_setting(int folders[2], const struct setting *s)
{
	int fd = open_setting(folders, s->path, O_WRONLY | O_CLOEXEC), err;
	char full[300];

	if (fd < 0)
		return -errno;
	err = write_value(fd, s);
	close(fd);

	/*
	 * The names of what the kernel has several of, such as congestion controls, are looked up when they
	 * are written: then it is the name that does not exist. Unless the setting has gone with its link.
	 */
	snprintf(full, sizeof full, "/proc/sys/%s", s->path);
	if (err == -ENOENT && access(full, F_OK) == 0)
		err = -EINVAL;
	return err;
}

/* Write them in order during one visit. *ret_failed: which was refused, from 1. */
static int write_settings(const struct nl_place *place, const struct setting *list, size_t count,
			  size_t *ret_failed)
{
	int passing[2] = { -1, -1 }, *folders = place->sysctl ? place->sysctl : passing;
	int home, err = netns_visit(place, &home);
	size_t i = 0;

	if (err)
		return err;
	for (; i < count; i++) {
		err = write_setting(folders, &list[i]);
		if (list[i].optional && is_denied(err))
			err = 0;
		if (err)
			break;
	}
	netns_close_sysctl(passing);
	netns_leave(home);
	if (err)
		*ret_failed = i + 1;
	return err;
}

/***
Write settings in order, all in one visit to the namespace.
@function ns.sysctl
@tparam nil|string|ns where
@tparam table list of `{ "net/ipv4/ip_forward", "1" }`; with a third element `true` the setting is passed over
  when it does not exist or may not be written; a value that the kernel does not know is refused all the same
@treturn[1] boolean true
@return[2] nil
@treturn[2] string what went wrong; the settings before it stay written
@treturn[2] integer errno; EINVAL: the kernel does not know the value, or the end of it
@treturn[2] integer|nil the index of the setting
@raise a path that is not below net/
*/
int netns_sysctl(lua_State *L)
{
	struct nl_place place = netns_place_arg(L, 1);
	struct setting *list;
	size_t count, failed = 0;
	int err;

	luaL_checktype(L, 2, LUA_TTABLE);
	lua_settop(L, 2);
	count = lua_rawlen(L, 2);
	luaL_argcheck(L, count <= 10000, 2, "too many settings");
	list = lua_newuserdatauv(L, (count + 1) * sizeof *list, 0);
	for (size_t i = 0; i < count; i++) {
		lua_Integer nth = (lua_Integer)i + 1;

		if (lua_rawgeti(L, 2, nth) != LUA_TTABLE)
			return luaL_error(L, "sysctl %I: expected a table", (LUAI_UACINT)nth);
		lua_rawgeti(L, -1, 1);
		list[i].path = sysctl_path(L, lua_gettop(L), nth);
		if (lua_rawgeti(L, -2, 2) != LUA_TSTRING)
			return luaL_error(L, "sysctl %I: the value of %s must be a string",
					  (LUAI_UACINT)nth, list[i].path);
		list[i].value = lua_tolstring(L, -1, &list[i].len);
		lua_rawgeti(L, -3, 3);
		list[i].optional = lua_toboolean(L, -1);
		/* The strings stay alive through the tables that hold them. */
		lua_settop(L, 3);
	}

	err = write_settings(&place, list, count, &failed);

	if (!err) {
		lua_pushboolean(L, 1);
		return 1;
	}
	if (!failed)
		return push_failure(L, err, "visit namespace%s%s", place.path ? " " : "",
				    place.path ? place.path : "");
	push_failure(L, err, "sysctl %s = %s", list[failed - 1].path, list[failed - 1].value);
	lua_pushinteger(L, (lua_Integer)failed);
	return 4;
}

struct reading {
	const char *path;
	long len;
	char value[256];
};

/* *ret_failed: which could not be read, from 1. */
static int read_settings(const struct nl_place *place, struct reading *list, size_t count,
			 size_t *ret_failed)
{
	int passing[2] = { -1, -1 }, *folders = place->sysctl ? place->sysctl : passing;
	int home, err = netns_visit(place, &home);

	if (err)
		return err;
	for (size_t i = 0; !err && i < count; i++) {
		struct reading *r = &list[i];

		r->len = read_setting(folders, r->path, r->value, sizeof r->value);
		if (r->len < 0 && !has_no_value(r->path, (int)r->len)) {
			err = (int)r->len;
			*ret_failed = i + 1;
		}
	}
	netns_close_sysctl(passing);
	netns_leave(home);
	return err;
}

/***
Read settings, all in one visit to the namespace.
@function ns.sysctl_get
@tparam nil|string|ns where
@tparam table paths list of paths below net/
@treturn[1] table a string without its newline, or false where there is none to read, for each
@return[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
*/
int netns_sysctl_get(lua_State *L)
{
	struct nl_place place = netns_place_arg(L, 1);
	struct reading *list;
	size_t count, failed = 0;
	int err;

	luaL_checktype(L, 2, LUA_TTABLE);
	lua_settop(L, 2);
	count = lua_rawlen(L, 2);
	luaL_argcheck(L, count <= 10000, 2, "too many settings");
	list = lua_newuserdatauv(L, (count + 1) * sizeof *list, 0);
	for (size_t i = 0; i < count; i++) {
		lua_rawgeti(L, 2, (lua_Integer)i + 1);
		list[i].path = sysctl_path(L, 4, (lua_Integer)i + 1);
		lua_settop(L, 3);
	}

	err = read_settings(&place, list, count, &failed);

	if (failed)
		return push_failure(L, err, "read sysctl %s", list[failed - 1].path);
	if (err)
		return push_failure(L, err, "visit namespace%s%s", place.path ? " " : "",
				    place.path ? place.path : "");
	lua_createtable(L, (int)count, 0);
	for (size_t i = 0; i < count; i++) {
		long len = list[i].len;

		while (len > 0 && list[i].value[len - 1] == '\n')
			len--;
		if (len < 0)
			lua_pushboolean(L, 0);
		else
			lua_pushlstring(L, list[i].value, (size_t)len);
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	return 1;
}
