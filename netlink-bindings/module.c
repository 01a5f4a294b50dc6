/* SPDX-License-Identifier: MIT */
/* The module `netlink`: its parts put together, and the ways in which all of them fail. */
#include "bindings.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/*
 * The same text whatever the locale, and from the C library: the program that embeds us never sets
 * one, so strerror() has no shared buffer to worry about.
 */
int push_failure(lua_State *L, int err, const char *fmt, ...)
{
	va_list args;

	err = abs(err);
	lua_pushnil(L);
	va_start(args, fmt);
	lua_pushvfstring(L, fmt, args);
	va_end(args);
	lua_pushfstring(L, "%s: %s", lua_tostring(L, -1), strerror(err));
	lua_remove(L, -2);
	lua_pushinteger(L, err);
	return 3;
}

int push_nl_failure(lua_State *L, const struct nl_failure *fail, const char *what)
{
	lua_pushnil(L);
	if (fail->text[0])
		lua_pushfstring(L, "%s: %s (%s)", what, strerror(fail->error), fail->text);
	else
		lua_pushfstring(L, "%s: %s", what, strerror(fail->error));
	lua_pushinteger(L, fail->error);
	return 3;
}

void new_handle_type(lua_State *L, const char *name, const luaL_Reg *methods, const luaL_Reg *meta)
{
	luaL_newmetatable(L, name);
	luaL_setfuncs(L, meta, 0);
	lua_newtable(L);
	luaL_setfuncs(L, methods, 0);
	lua_setfield(L, -2, "__index");
	lua_pushstring(L, name);
	lua_setfield(L, -2, "__metatable");
	lua_pop(L, 1);
}

/* A part that is not linked in is not there: the address of a weak function is then null. */
#pragma weak luaopen_netlink_nft
#pragma weak luaopen_netlink_sys
#pragma weak luaopen_netlink_store
#pragma weak luaopen_netlink_json

int luaopen_netlink(lua_State *L)
{
	static const struct {
		const char *name;
		lua_CFunction open;
	} parts[] = {
		{ "open", luaopen_netlink_rtnl },
		{ "ns", luaopen_netlink_ns },
		{ "ip", luaopen_netlink_ip },
		{ "nft", luaopen_netlink_nft },
		{ "sys", luaopen_netlink_sys },
		{ "store", luaopen_netlink_store },
		{ "json", luaopen_netlink_json },
		{ "describe", luaopen_netlink_describe },
	};

	lua_createtable(L, 0, ARRAY_SIZE(parts));
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		if (!parts[i].open)
			continue;
		lua_pushcfunction(L, parts[i].open);
		lua_call(L, 0, 1);
		lua_setfield(L, -2, parts[i].name);
	}
	return 1;
}
