/* SPDX-License-Identifier: MIT */
/***
@submodule host
*/
#include <stdbool.h>
#include <string.h>

#include <lauxlib.h>

#include "attr/attr.h"
#include "image.h"
#include "place.h"

/* Whether a chunk is a script's, in whatever folder: it is from a file, and no module of the library. */
static int is_script(const char *source)
{
	char name[200];
	size_t len = strlen(source);

	if (*source != '@')
		return 0;
	if (len < 6 || len - 5 >= sizeof name || strcmp(source + len - 4, ".lua") != 0)
		return 1;
	for (size_t i = 0; i < len - 5; i++)
		name[i] = source[i + 1] == '/' ? '.' : source[i + 1];
	name[len - 5] = '\0';

	return !embedded_find(embedded_modules, embedded_modules_count, name);
}

int place_push(lua_State *L, int only)
{
	lua_Debug ar;

	for (int level = 0; lua_getstack(L, level, &ar); level++) {
		lua_getinfo(L, "Sl", &ar);
		if ((only < 0 || level == only) && ar.currentline > 0 && is_script(ar.source)) {
			lua_pushfstring(L, "%s:%d", ar.short_src, ar.currentline);
			return 1;
		}
	}

	return 0;
}

/***
The line at which a script is being run: that of its innermost function on the stack.
@function script_line
@tparam[opt] function|integer f a function: the line where it begins. A number: only the function at this
  level of the stack counts
@treturn string|nil `FILE:LINE`; nil when no function of a script is being run
*/
int place_line(lua_State *L)
{
	lua_Integer only = lua_isinteger(L, 1) ? lua_tointeger(L, 1) : -1;
	lua_Debug ar;

	lua_settop(L, 1);
	if (lua_isfunction(L, 1)) {
		lua_getinfo(L, ">S", &ar);
		lua_pushfstring(L, "%s:%d", ar.short_src, ar.linedefined);
		return 1;
	}
	if (!place_push(L, (int)only))
		lua_pushnil(L);

	return 1;
}

/***
Which line of a script is being run, and what it has called there. It is asked at every verb: so it is quick,
and makes no text of what it finds.
@function script_at
@tparam function f one of the script's
@treturn[1] integer line of the innermost function of that script's that is being run
@treturn[1] string|nil name of what it has called, if it has one
@return[2] nil none is being run
*/
int place_at(lua_State *L)
{
	lua_Debug script, ar, callee;

	luaL_checktype(L, 1, LUA_TFUNCTION);
	lua_settop(L, 1);
	lua_getinfo(L, ">S", &script);
	for (int level = 0; lua_getstack(L, level, &ar); level++) {
		lua_getinfo(L, "S", &ar);
		/* All functions of a chunk share one text for its name: so the pointers can be compared. */
		if (ar.source == script.source) {
			lua_getinfo(L, "l", &ar);
			lua_pushinteger(L, ar.currentline);
			lua_getinfo(L, "n", &callee);
			lua_pushstring(L, callee.name);
			return 2;
		}
		callee = ar;
	}

	return 0;
}

/* Whether the function on top is one that a script raises an error with. [-1, +0, m] */
static bool is_raiser(lua_State *L)
{
	static const char *const names[] = { "error", "assert" };
	bool found = false;

	lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		lua_getfield(L, -1, names[i]);
		found = found || lua_rawequal(L, -1, -3);
		lua_pop(L, 1);
	}
	lua_pop(L, 2);

	return found;
}

/***
Whether a script has raised an error itself, by `error` or `assert`; to be asked by a message handler.
@function script_raised
@treturn boolean false: Lua has, or the library
*/
int place_raised(lua_State *L)
{
	lua_Debug raiser, caller;
	bool by_script = false;

	/* 0 is this function, 1 the handler. */
	if (lua_getstack(L, 2, &raiser) && lua_getinfo(L, "ft", &raiser) && is_raiser(L)) {
		by_script = raiser.istailcall;
		if (!by_script && lua_getstack(L, 3, &caller)) {
			lua_getinfo(L, "S", &caller);
			by_script = is_script(caller.source);
		}
	}
	lua_pushboolean(L, by_script);

	return 1;
}
