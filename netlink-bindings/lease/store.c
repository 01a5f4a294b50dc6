/* SPDX-License-Identifier: MIT */
/***
Leases in host-local's own directory format, found and counted without reading the directory. What an
allocation is (ranges, gateways, order) is lua/cni/leases.lua's business.
@module netlink.store
*/
#include "bindings.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "lease/dir.h"
#include "nl/push.h"
#include "sys/sys.h"

#define STORE_HANDLE "netlink.store"
#define LOCK_TIMEOUT_MS 30000

/***
A lease directory, held under its lock. Closing it, or the end of the process, gives the lock back.
@type store
*/

static struct lease_dir *check_store(lua_State *L)
{
	struct lease_dir *d = luaL_checkudata(L, 1, STORE_HANDLE);

	luaL_argcheck(L, d->fd >= 0, 1, "the store is closed");

	return d;
}

static void check_addr(lua_State *L, int arg, struct lease_addr *addr)
{
	size_t len;
	const char *text = luaL_checklstring(L, arg, &len);

	luaL_argcheck(L, lease_addr_parse(text, len, addr), arg, "an IP address expected");
}

/* A span: two addresses of one family. */
static void check_span(lua_State *L, int arg, struct lease_addr *first, struct lease_addr *last)
{
	check_addr(L, arg, first);
	check_addr(L, arg + 1, last);
	luaL_argcheck(L, first->v6 == last->v6, arg + 1, "an address of the same family expected");
}

static unsigned check_set(lua_State *L, int arg)
{
	lua_Integer n = luaL_checkinteger(L, arg);

	luaL_argcheck(L, n >= 0 && n <= INT_MAX, arg, "the number of a range set expected");

	return (unsigned)n;
}

/* Push the text that a lease file of this owner has. [-0, +1, v] */
static const char *check_owner(lua_State *L, int arg, size_t *len, size_t *id_len)
{
	const char *id = luaL_checklstring(L, arg, id_len);
	const char *ifname = luaL_checkstring(L, arg + 1);

	luaL_argcheck(L, *id_len > 0 && strlen(id) == *id_len, arg, "a container ID expected");
	lua_pushfstring(L, "%s\r\n%s", id, ifname);

	return lua_tolstring(L, -1, len);
}

static int push_addr(lua_State *L, const struct lease_addr *addr)
{
	char text[LEASE_ADDR_TEXT];

	lease_addr_text(addr, text);
	lua_pushstring(L, text);

	return 1;
}

/* Append a list of addresses to the table on top. [-0, +0, m] */
static void append_list(lua_State *L, const struct lease_list *list)
{
	lua_Integer n = (lua_Integer)lua_rawlen(L, -1);

	for (size_t i = 0; i < list->n; i++) {
		push_addr(L, &list->at[i]);
		lua_rawseti(L, -2, ++n);
	}
}

/***
The addresses of one attachment.

Besides files with container ID and interface name, this finds those of old versions, which have the
ID alone.
@function store:find
@tparam string id container ID
@tparam string ifname
@treturn {string,...} addresses; empty when there are none
@treturn[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
*/
static int store_find(lua_State *L)
{
	struct lease_dir *d = check_store(L);
	size_t len, id_len;
	const char *owner = check_owner(L, 2, &len, &id_len);
	int err;

	lua_newtable(L);
	err = lease_dir_find(d, owner, len);
	if (!err) {
		append_list(L, &d->found);
		err = lease_dir_find(d, owner, id_len);
	}
	if (err)
		return push_failure(L, err, "find the leases of %s", owner);
	append_list(L, &d->found);

	return 1;
}

/***
Write a lease: the file appears whole, with its content.
@function store:reserve
@tparam string address
@tparam string id container ID
@tparam string ifname
@treturn boolean true, or false when the address is taken
@treturn[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
*/
static int store_reserve(lua_State *L)
{
	struct lease_dir *d = check_store(L);
	struct lease_addr addr;
	size_t len, id_len;
	const char *owner;
	int err;

	check_addr(L, 2, &addr);
	owner = check_owner(L, 3, &len, &id_len);

	err = lease_dir_reserve(d, &addr, owner, len);
	if (err && err != -EEXIST)
		return push_failure(L, err, "write the lease of %s", lua_tostring(L, 2));
	lua_pushboolean(L, !err);

	return 1;
}

/***
Remove a lease, whoever holds it.
@function store:release
@tparam string address
@treturn boolean true, or false when there was none
@treturn[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
*/
static int store_release(lua_State *L)
{
	struct lease_dir *d = check_store(L);
	struct lease_addr addr;
	int err;

	check_addr(L, 2, &addr);

	err = lease_dir_release(d, &addr);
	if (err && err != -ENOENT)
		return push_failure(L, err, "remove the lease of %s", lua_tostring(L, 2));
	lua_pushboolean(L, !err);

	return 1;
}

/***
Remove the leases of one attachment; files with the container ID alone only when it has no others.
@function store:release_owner
@tparam string id container ID
@tparam string ifname
@treturn {string,...} the addresses that are free now
@treturn[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
*/
static int store_release_owner(lua_State *L)
{
	struct lease_dir *d = check_store(L);
	size_t len, id_len;
	const char *owner = check_owner(L, 2, &len, &id_len);
	int err;

	lua_newtable(L);
	err = lease_dir_release_owner(d, owner, len);
	if (!err && d->found.n == 0)
		err = lease_dir_release_owner(d, owner, id_len);
	if (err)
		return push_failure(L, err, "remove the leases of %s", owner);
	append_list(L, &d->found);

	return 1;
}

/* The lowest free address behind *after (or from *first), leaving out *skip. */
static int search(struct lease_dir *d, struct lease_addr first, const struct lease_addr *last,
		  const struct lease_addr *after, const struct lease_addr *skip,
		  struct lease_addr *ret)
{
	int found;

	if (after) {
		if (after->n >= last->n)
			return 0;
		if (after->n >= first.n)
			first.n = after->n + 1;
	}
	found = lease_dir_free(d, &first, last, ret);
	if (found <= 0 || !skip || !lease_addr_equal(ret, skip))
		return found;
	if (ret->n == last->n)
		return 0;
	first.n = ret->n + 1;

	return lease_dir_free(d, &first, last, ret);
}

/***
The lowest free address of a span.
@function store:next_free
@tparam string first
@tparam string last
@tparam[opt] string after look only behind this address
@tparam[opt] string skip an address not to be given, such as the gateway
@treturn string|nil address; nil alone when all are taken
@treturn[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
*/
static int store_next_free(lua_State *L)
{
	struct lease_dir *d = check_store(L);
	bool has_after = !lua_isnoneornil(L, 4), has_skip = !lua_isnoneornil(L, 5);
	struct lease_addr first, last, after, skip, addr;
	int found;

	check_span(L, 2, &first, &last);
	if (has_after)
		check_addr(L, 4, &after);
	if (has_skip)
		check_addr(L, 5, &skip);

	found = search(d, first, &last, has_after ? &after : NULL, has_skip ? &skip : NULL, &addr);
	if (found < 0)
		return push_failure(L, found, "find a free address");
	if (found)
		return push_addr(L, &addr);
	lua_pushnil(L);

	return 1;
}

/***
How many addresses of a span are taken.
@function store:used
@tparam string first
@tparam string last
@treturn integer
@treturn[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
*/
static int store_used(lua_State *L)
{
	struct lease_dir *d = check_store(L);
	struct lease_addr first, last;
	uint64_t n;
	int err;

	check_span(L, 2, &first, &last);

	err = lease_dir_count(d, &first, &last, &n);
	if (err)
		return push_failure(L, err, "count the leases");
	lua_pushinteger(L, (lua_Integer)n);

	return 1;
}

/***
The address that a range set gave last: the search goes on behind it.
@function store:last
@tparam integer n number of the range set, from 0
@treturn string|nil nil alone when there is none, or the file holds no address
@treturn[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
*/
static int store_last(lua_State *L)
{
	struct lease_dir *d = check_store(L);
	unsigned n = check_set(L, 2);
	struct lease_addr addr;
	int found = lease_dir_last(d, n, &addr);

	if (found < 0)
		return push_failure(L, found, "read last_reserved_ip.%d", (int)n);
	if (found)
		return push_addr(L, &addr);
	lua_pushnil(L);

	return 1;
}

/***
Write the address that a range set gave last.
@function store:set_last
@tparam integer n number of the range set, from 0
@tparam string address
@treturn boolean true
@treturn[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
*/
static int store_set_last(lua_State *L)
{
	struct lease_dir *d = check_store(L);
	unsigned n = check_set(L, 2);
	struct lease_addr addr;
	int err;

	check_addr(L, 3, &addr);

	err = lease_dir_set_last(d, n, &addr);
	if (err)
		return push_failure(L, err, "write last_reserved_ip.%d", (int)n);
	lua_pushboolean(L, 1);

	return 1;
}

static int next_lease(lua_State *L)
{
	struct lease_dir *d = check_store(L);
	struct lease_addr addr;
	int more = lease_dir_each(d, &addr);

	if (more < 0) {
		push_failure(L, more, "list the leases");
		lua_pushboolean(L, 0);
		lua_replace(L, -4);
		return 3;
	}
	if (!more) {
		lua_pushnil(L);
		return 1;
	}
	push_addr(L, &addr);
	lua_pushlstring(L, d->file.text, d->file.id_len);
	if (d->file.ifname)
		lua_pushstring(L, d->file.ifname);
	else
		lua_pushnil(L);

	return 3;
}

/***
Walk over all leases: `for address, id, ifname in store:each() do`.

It takes as long as reading the directory. What names no container is left out; ifname is nil in a
file of an old version. Leases may be removed meanwhile. One walk at a time: a new one ends the old.
A directory that cannot be read gives `false`, what went wrong, and the errno: the walk is over.
@function store:each
@treturn function iterator
@treturn store
*/
static int store_each(lua_State *L)
{
	lease_dir_each_end(check_store(L));
	lua_pushcfunction(L, next_lease);
	lua_pushvalue(L, 1);

	return 2;
}

/***
Whether somebody else has changed the directory since @{store:known}.
@function store:foreign
@treturn boolean
*/
static int store_foreign(lua_State *L)
{
	lua_pushboolean(L, check_store(L)->index.head.foreign != 0);

	return 1;
}

/***
Whether somebody else has changed the directory, or it is new to us: what is in it was read from its
files, and some that should be there may be missing. That holds until @{store:known}.
@function store:unknown
@treturn boolean
*/
static int store_unknown(lua_State *L)
{
	lua_pushboolean(L, check_store(L)->index.head.unknown != 0);

	return 1;
}

/***
Say that the directory has all that it should have.
@function store:known
*/
static int store_known(lua_State *L)
{
	struct lease_dir *d = check_store(L);

	d->index.head.unknown = d->index.head.foreign = 0;
	d->unsettled = true;

	return 0;
}

/***
Close the store and give the lock back. Closing twice is fine.
@function store:close
*/
static int store_close(lua_State *L)
{
	lease_dir_close(luaL_checkudata(L, 1, STORE_HANDLE));

	return 0;
}

static int store_tostring(lua_State *L)
{
	const struct lease_dir *d = luaL_checkudata(L, 1, STORE_HANDLE);

	lua_pushfstring(L, "lease store (%s)", d->fd < 0 ? "closed" : "open");

	return 1;
}

static const luaL_Reg store_methods[] = {
	{ "find", store_find },
	{ "reserve", store_reserve },
	{ "release", store_release },
	{ "release_owner", store_release_owner },
	{ "next_free", store_next_free },
	{ "used", store_used },
	{ "last", store_last },
	{ "set_last", store_set_last },
	{ "each", store_each },
	{ "foreign", store_foreign },
	{ "unknown", store_unknown },
	{ "known", store_known },
	{ "close", store_close },
	{ NULL, NULL },
};

static const luaL_Reg store_meta[] = {
	{ "__gc", store_close },
	{ "__close", store_close },
	{ "__tostring", store_tostring },
	{ NULL, NULL },
};

/* Push a closed store. [-0, +1, m] */
static struct lease_dir *new_store(lua_State *L)
{
	struct lease_dir *d = lua_newuserdatauv(L, sizeof *d, 0);

	lease_dir_init(d);
	/* The type is made on first use: most runs of the program need no lease. */
	if (luaL_getmetatable(L, STORE_HANDLE) == LUA_TNIL) {
		lua_pop(L, 1);
		new_handle_type(L, STORE_HANDLE, store_methods, store_meta);
		luaL_getmetatable(L, STORE_HANDLE);
	}
	lua_setmetatable(L, -2);

	return d;
}

static int open_store(lua_State *L, bool create)
{
	const char *path = sys_check_path(L, 1);
	const char *index_dir = sys_check_path(L, 2);
	int timeout_ms = sys_opt_timeout(L, 3, LOCK_TIMEOUT_MS);
	struct lease_dir *d = new_store(L);
	int err;

	err = lease_dir_open(d, path, index_dir, timeout_ms, create);

	return err ? push_failure(L, err, "open the leases in %s", path) : 1;
}

/***
Functions
@section functions
*/

/***
Open a lease directory and hold its lock, the one that the reference takes too.

The directory is made (0755) where it is absent. The index is in a file of its own, and is built anew when
somebody else has changed the directory.
@function open
@tparam string path the directory
@tparam string index_dir where indexes are kept; dies with the boot
@tparam[opt=30000] integer timeout_ms how long to wait for the lock
@treturn store
@treturn[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno; ETIMEDOUT when somebody else holds the lock
*/
static int open_or_create(lua_State *L)
{
	return open_store(L, true);
}

/***
As @{open}, but an absent directory is the error ENOENT, and nothing is made.
@function open_existing
@tparam string path
@tparam string index_dir
@tparam[opt=30000] integer timeout_ms
@treturn store
@treturn[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
*/
static int open_existing(lua_State *L)
{
	return open_store(L, false);
}

/***
How many addresses a span has.
@function size
@tparam string first
@tparam string last
@treturn number a float where an integer has no room for it
*/
static int span_size(lua_State *L)
{
	struct lease_addr first, last;
	lease_number n;

	check_span(L, 1, &first, &last);
	n = last.n < first.n ? 0 : last.n - first.n + 1;
	if (n >> 63 == 0 && (n || last.n < first.n))
		lua_pushinteger(L, (lua_Integer)n);
	else
		lua_pushnumber(L, n ? (lua_Number)n : 0x1p128);

	return 1;
}

/***
Whether leases could be written: the directory, or the nearest one above that exists, can be written,
and its file system has room.
@function writable
@tparam string path the directory
@treturn boolean true
@treturn[2] nil
@treturn[2] string what is in the way
@treturn[2] integer errno
*/
static int writable(lua_State *L)
{
	const char *path = sys_check_path(L, 1);
	int err = lease_dir_writable(path);

	if (err)
		return push_failure(L, err, "%s", path);
	lua_pushboolean(L, 1);

	return 1;
}

int luaopen_netlink_store(lua_State *L)
{
	static const luaL_Reg functions[] = {
		{ "open", open_or_create },
		{ "open_existing", open_existing },
		{ "size", span_size },
		{ "writable", writable },
		{ NULL, NULL },
	};

	luaL_newlib(L, functions);

	return 1;
}
