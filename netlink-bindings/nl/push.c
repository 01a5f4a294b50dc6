/* SPDX-License-Identifier: MIT */
/* How every part of `netlink` tells Lua that something failed, makes its handles, takes arguments. */

#include "nl/push.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/*
 * The texts of errors are the C library's, and the same everywhere: a program that embeds us never sets a
 * locale. For known errnos strerror() uses no shared buffer then.
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

char **argv_arg(lua_State *L, int arg)
{
	size_t count;
	char **argv;

	luaL_checktype(L, arg, LUA_TTABLE);
	count = lua_rawlen(L, arg);
	luaL_argcheck(L, count > 0, arg, "a command expected");
	argv = lua_newuserdatauv(L, (count + 1) * sizeof *argv, 0);
	for (size_t i = 0; i < count; i++) {
		lua_rawgeti(L, arg, (lua_Integer)i + 1);
		luaL_argcheck(L, lua_type(L, -1) == LUA_TSTRING, arg, "a list of strings expected");
		argv[i] = (char *)lua_tostring(L, -1); /* kept alive by the list */
		lua_pop(L, 1);
	}
	argv[count] = NULL;
	return argv;
}
