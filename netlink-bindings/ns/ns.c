/* SPDX-License-Identifier: MIT */
/* netlink.ns: network namespaces as values, and their making. */

#include "ns/ns.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bindings.h"
#include "nl/push.h"

#define NS "netlink.ns"

struct netns {
	int fd; /* -1 once closed */
	int spare; /* the socket by which the cookie was read, for the next handle that is opened; or -1 */
	int sysctl[2]; /* what ns/sysctl.c keeps open */
};

static struct netns *check_open(lua_State *L, int arg)
{
	struct netns *ns = luaL_checkudata(L, arg, NS);

	luaL_argcheck(L, ns->fd >= 0, arg, "namespace is closed");
	return ns;
}

int netns_fd(lua_State *L, int idx)
{
	const struct netns *ns = luaL_testudata(L, idx, NS);

	return ns ? ns->fd : -1;
}

struct nl_place netns_place_arg(lua_State *L, int arg)
{
	struct netns *ns;

	if (lua_isnoneornil(L, arg))
		return (struct nl_place){ .fd = -1 };
	if (lua_type(L, arg) == LUA_TSTRING)
		return (struct nl_place){ .fd = -1, .path = lua_tostring(L, arg) };
	ns = check_open(L, arg);
	return (struct nl_place){ .fd = ns->fd, .spare = &ns->spare, .sysctl = ns->sysctl };
}

/* Push an ns object that is not open yet, and remembers its path. */
static struct netns *new_netns(lua_State *L, const char *path)
{
	struct netns *ns = lua_newuserdatauv(L, sizeof *ns, 1);

	ns->fd = ns->spare = ns->sysctl[0] = ns->sysctl[1] = -1;
	luaL_setmetatable(L, NS);
	lua_pushstring(L, path);
	lua_setiuservalue(L, -2, 1);
	return ns;
}

/***
Network namespaces.
@module netlink.ns
*/

/***
Open a network namespace by path.
@function ns.open
@tparam string path a file such as `/run/netns/blue` or `/proc/123/ns/net`
@treturn[1] ns
@return[2] nil
@treturn[2] string what went wrong; a file that is no network namespace is refused with EINVAL
@treturn[2] integer errno
*/
static int ns_open(lua_State *L)
{
	const char *path = luaL_checkstring(L, 1);
	struct netns *ns = new_netns(L, path);
	int fd;

	fd = netns_open(path);

	if (fd < 0)
		return push_failure(L, fd,
				    fd == -EINVAL ? "%s is not a network namespace"
						  : "open namespace %s",
				    path);
	ns->fd = fd;
	return 1;
}

/***
The namespace we are in.
@function ns.self
@treturn[1] ns
@return[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
*/
static int ns_self(lua_State *L)
{
	struct netns *ns = new_netns(L, NETNS_OWN);
	int fd;

	fd = netns_open_own();

	if (fd < 0)
		return push_failure(L, fd, "open %s", NETNS_OWN);
	ns->fd = fd;
	return 1;
}

static int identify(const struct netns *ns, struct stat *ret)
{
	return ns->fd < 0 ? -EBADF : fstat(ns->fd, ret) < 0 ? -errno : 0;
}

/***
A text that no other namespace has while this one lives: device and inode.
@function ns:id
@treturn string such as `4:4026531840`
*/
static int ns_id(lua_State *L)
{
	struct stat st;
	int err;

	err = identify(check_open(L, 1), &st);

	if (err)
		return push_failure(L, err, "stat namespace");
	lua_pushfstring(L, "%I:%I", (LUAI_UACINT)st.st_dev, (LUAI_UACINT)st.st_ino);
	return 1;
}

/*
 * Only a socket in the namespace knows the cookie. The socket is kept as the spare one: who asks for the
 * cookie mostly opens a netlink handle in the namespace next.
 */
static int read_cookie(struct netns *ns, uint64_t *ret)
{
	const struct nl_place place = { .fd = ns->fd };
	int home, err;

	if (ns->spare < 0) {
		err = netns_visit(&place, &home);
		if (err)
			return err;
		ns->spare = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
		err = ns->spare < 0 ? -errno : 0;
		netns_leave(home);
		if (err)
			return err;
	}
	return nl_cookie(ns->spare, ret);
}

/***
The cookie of a namespace, which no other one has while the machine runs. (The inode number in `id` is given
to another namespace once this one is gone.)
@function ns:cookie
@treturn string a number in text
@treturn[2] nil
@treturn[2] string what went wrong; ENOPROTOOPT before Linux 5.14
@treturn[2] int errno
@see socket(7)
*/
static int ns_cookie(lua_State *L)
{
	uint64_t cookie = 0;
	int err;

	err = read_cookie(check_open(L, 1), &cookie);

	if (err)
		return push_failure(L, err, "read namespace cookie");
	lua_pushfstring(L, "%I", (LUAI_UACINT)cookie);
	return 1;
}

/***
The path it was opened by.
@function ns:path
@treturn string
*/
static int ns_path(lua_State *L)
{
	luaL_checkudata(L, 1, NS);
	lua_getiuservalue(L, 1, 1);
	return 1;
}

/***
Close it. Closing twice is fine; so is leaving it to the collector.
@function ns:close
*/
static int ns_close(lua_State *L)
{
	struct netns *ns = luaL_checkudata(L, 1, NS);

	netns_close_sysctl(ns->sysctl);
	if (ns->spare >= 0)
		close(ns->spare);
	if (ns->fd >= 0)
		close(ns->fd);
	ns->fd = ns->spare = -1;
	return 0;
}

static int ns_eq(lua_State *L)
{
	const struct netns *a = luaL_testudata(L, 1, NS), *b = luaL_testudata(L, 2, NS);
	struct stat sa, sb;

	lua_pushboolean(L, a && b && !identify(a, &sa) && !identify(b, &sb) &&
				   sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino);
	return 1;
}

static int ns_tostring(lua_State *L)
{
	const struct netns *ns = luaL_checkudata(L, 1, NS);

	lua_getiuservalue(L, 1, 1);
	lua_pushfstring(L, ns->fd < 0 ? "ns %s (closed)" : "ns %s", lua_tostring(L, -1));
	return 1;
}

/*** Making namespaces ***/

static int make_netns(const char *path)
{
	int fd, home, err = 0;

	fd = open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	close(fd);
	home = netns_open_own();
	if (home < 0) {
		err = home;
	} else if (unshare(CLONE_NEWNET) < 0) {
		err = -errno;
		close(home);
	} else {
		if (mount(NETNS_OWN, path, "none", MS_BIND, NULL) < 0)
			err = -errno;
		netns_leave(home);
	}
	if (err)
		unlink(path);
	return err;
}

/***
Make a namespace and bind it to a new file, so that it lives until it is removed. Its `lo` is down.
@function ns.create
@tparam string path a file that does not exist, in a folder that does
@treturn[1] boolean true
@return[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
*/
static int ns_create(lua_State *L)
{
	const char *path = luaL_checkstring(L, 1);
	int err;

	err = make_netns(path);

	if (err)
		return push_failure(L, err, "make namespace %s", path);
	lua_pushboolean(L, 1);
	return 1;
}

/***
Undo `create`. The namespace itself goes with the last process in it.
@function ns.remove
@tparam string path
@treturn[1] boolean true
@return[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
*/
static int ns_remove(lua_State *L)
{
	const char *path = luaL_checkstring(L, 1);
	int err = 0;

	/* EINVAL: it is no mount any more. A removal that was interrupted leaves such a file. */
	if (umount2(path, MNT_DETACH) < 0 && errno != EINVAL)
		err = -errno;
	if (!err && unlink(path) < 0)
		err = -errno;

	if (err)
		return push_failure(L, err, "remove namespace %s", path);
	lua_pushboolean(L, 1);
	return 1;
}

/***
Move the whole process into a namespace, for good. It is for a child, before it executes a command.
@function ns.enter
@tparam string|ns where
@treturn[1] boolean true
@return[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
*/
static int ns_enter(lua_State *L)
{
	struct nl_place place = netns_place_arg(L, 1);
	int home, err;

	luaL_argcheck(L, place.fd >= 0 || place.path, 1, "a namespace expected");

	err = netns_visit(&place, &home);
	if (!err)
		close(home);

	if (err)
		return push_failure(L, err, "enter namespace%s%s", place.path ? " " : "",
				    place.path ? place.path : "");
	lua_pushboolean(L, 1);
	return 1;
}

int luaopen_netlink_ns(lua_State *L)
{
	static const luaL_Reg functions[] = {
		{ "open", ns_open },        { "self", ns_self },
		{ "sysctl", netns_sysctl }, { "sysctl_get", netns_sysctl_get },
		{ "create", ns_create },    { "remove", ns_remove },
		{ "enter", ns_enter },      { "tap", netns_tap },
		{ "frames", netns_frames }, { "datagrams", netns_datagrams },
		{ NULL, NULL },
	};
	static const luaL_Reg methods[] = {
		{ "id", ns_id },       { "cookie", ns_cookie }, { "path", ns_path },
		{ "close", ns_close }, { NULL, NULL },
	};
	static const luaL_Reg meta[] = {
		{ "__gc", ns_close },          { "__close", ns_close }, { "__eq", ns_eq },
		{ "__tostring", ns_tostring }, { NULL, NULL },
	};

	new_handle_type(L, NS, methods, meta);
	netns_new_wires(L);
	luaL_newlib(L, functions);
	return 1;
}
