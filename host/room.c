/* SPDX-License-Identifier: MIT */
#include "room.h"

#include <string.h>

#include <lauxlib.h>

#include "attr/attr.h"
#include "image.h"
#include "state.h"

/* What a script may see of the base library and of ours. */
static const char *const plain_names[] = {
	"assert",       "error",    "getmetatable", "ipairs", "next",   "pairs",
	"pcall",        "print",    "rawequal",     "rawget", "rawlen", "select",
	"setmetatable", "tonumber", "tostring",     "type",   "xpcall",
};

/* Libraries, which a script can read but not change. */
static const char *const library_names[] = { "math", "string", "table", "utf8" };

static int is_among(const char *name, const char *const *names, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!strcmp(name, names[i]))
			return 1;

	return 0;
}

static int library_newindex(lua_State *L)
{
	return luaL_error(L, "a standard library cannot be changed (field '%s')",
			  luaL_tolstring(L, 2, NULL));
}

/* Pushes a table through which the library on top is read; takes the library. [-1, +1, m] */
static void wrap_library(lua_State *L)
{
	lua_newtable(L);
	lua_createtable(L, 0, 3);
	lua_pushvalue(L, -3);
	lua_setfield(L, -2, "__index");
	lua_pushcfunction(L, library_newindex);
	lua_setfield(L, -2, "__newindex");
	lua_pushboolean(L, 0);
	lua_setfield(L, -2, "__metatable");
	lua_setmetatable(L, -2);
	lua_remove(L, -2);
}

/*
 * The modules that a script may require are the files of lua/cni itself. What is in a folder below is the
 * program's own, and may change at any time.
 */
static int is_public(const char *name)
{
	return !strncmp(name, "cni.", 4) && !strchr(name + 4, '.') &&
	       embedded_find(embedded_modules, embedded_modules_count, name);
}

static int refuse_module(lua_State *L, const char *name)
{
	const char *names[64], *before = "", *near;
	size_t count = 0;
	luaL_Buffer b;

	luaL_buffinit(L, &b);
	for (size_t i = 0; i < embedded_modules_count; i++) {
		if (!is_public(embedded_modules[i].name))
			continue;
		if (count < ARRAY_SIZE(names) - 1)
			names[count++] = embedded_modules[i].name;
		luaL_addstring(&b, before);
		luaL_addstring(&b, embedded_modules[i].name);
		before = ", ";
	}
	names[count] = NULL;
	luaL_pushresult(&b);

	near = nearest_word(name, names);
	if (near)
		lua_pushfstring(L, " (did you mean '%s'?)", near);
	else
		lua_pushliteral(L, "");

	return luaL_error(L, "a plugin cannot require '%s'%s: what it does to a namespace goes through "
			     "req.host and req.pod, and the modules it can require are %s", name,
			  lua_tostring(L, -1), lua_tostring(L, -2));
}

/* Raises: a script has read a name that a module does not have. Upvalue 1 is the module's name. */
static int module_index(lua_State *L)
{
	const char *module = lua_tostring(L, lua_upvalueindex(1)), *names[64], *near;
	const char *key = luaL_tolstring(L, 2, NULL);
	size_t count = 0;

	lua_pushnil(L);
	while (lua_next(L, 1)) {
		lua_pop(L, 1);
		if (lua_type(L, -1) == LUA_TSTRING && count < ARRAY_SIZE(names) - 1)
			names[count++] = lua_tostring(L, -1);
	}
	names[count] = NULL;
	near = nearest_word(key, names);
	if (near)
		return luaL_error(L, "%s has no '%s' (did you mean '%s'?)", module, key, near);

	return luaL_error(L, "%s has no '%s'", module, key);
}

/* Makes it an error to read from the module on top what it does not have. [-0, +0, m] */
static void close_module(lua_State *L, const char *name)
{
	if (!lua_istable(L, -1) || lua_getmetatable(L, -1)) {
		lua_settop(L, 2);
		return;
	}
	lua_createtable(L, 0, 1);
	lua_pushstring(L, name);
	lua_pushcclosure(L, module_index, 1);
	lua_setfield(L, -2, "__index");
	lua_setmetatable(L, -2);
}

/*
 * pcall and xpcall for plugins: as the manual has them, but the error of a deadline that has passed is not
 * caught. A loop around one of them would never end.
 */

/* Raises when a call has failed because its time is over; the error is on top. [-0, +0, e] */
static void let_pass(lua_State *L)
{
	const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;

	if (!state_deadline_passed())
		return;
	if (text && strstr(text, STATE_STOPPED))
		lua_error(L);
	state_stop(L);
}

static int room_pcall(lua_State *L)
{
	int err;

	luaL_checkany(L, 1);
	err = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
	if (err)
		let_pass(L);
	lua_pushboolean(L, !err);
	lua_insert(L, 1);

	return lua_gettop(L);
}

/* Calls the handler that a script gave, in upvalue 1; but not where nothing could end it any more. */
static int room_handler(lua_State *L)
{
	if (state_deadline_passed())
		return 1;
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_insert(L, 1);
	lua_call(L, 1, 1);

	return 1;
}

static int room_xpcall(lua_State *L)
{
	int count = lua_gettop(L), err;

	luaL_checktype(L, 2, LUA_TFUNCTION);
	lua_pushvalue(L, 2);
	lua_pushcclosure(L, room_handler, 1);
	lua_replace(L, 2);
	lua_pushvalue(L, 1);
	lua_insert(L, 3);
	err = lua_pcall(L, count - 2, LUA_MULTRET, 2);
	if (err)
		let_pass(L);
	lua_pushboolean(L, !err);
	lua_replace(L, 2);

	return lua_gettop(L) - 1;
}

/* require for plugins: the library made for them, and nothing else. */
static int room_require(lua_State *L)
{
	size_t len;
	const char *name = luaL_checklstring(L, 1, &len);

	if (strlen(name) != len || !is_public(name))
		return refuse_module(L, name);
	lua_settop(L, 1);
	state_push_global(L, "require");
	lua_pushvalue(L, 1);
	lua_call(L, 1, 1);
	close_module(L, name);

	return 1;
}

#define NO_CODE "a script is one file; what several types need, req:delegate(type) has another one do"

/* Names that Lua has elsewhere, or that an author may expect, and what to write here. */
static const struct {
	const char *name, *instead;
} remedies[] = {
	{ "_G", "there are no globals of a script's own: declare it local" },
	{ "bit", "integers have the operators & | ~ << >>" },
	{ "bit32", "integers have the operators & | ~ << >>" },
	{ "collectgarbage", "memory is given back by itself" },
	{ "coroutine", "what is to happen later is a verb: await_up, await_addrs" },
	{ "debug", "req.log(text) prints a line on standard error" },
	{ "dofile", NO_CODE },
	{ "host", "write req.host, of what the function is given: add = function(req)" },
	{ "io", "files are for a program, which req:call { program = ... } runs; req.log(text) prints a line "
		"on standard error" },
	{ "load", NO_CODE },
	{ "loadfile", NO_CODE },
	{ "loadstring", NO_CODE },
	{ "log", "write req.log(text)" },
	{ "os", "programs are run by req:call { program = ... }; who is attached, and where, is in req "
		"(`luacni doc req`)" },
	{ "package", "`luacni doc` lists the modules that a script can require" },
	{ "pod", "write req.pod, of what the function is given: add = function(req)" },
	{ "rawset", "write t[key] = value" },
	{ "req", "it is what the function is given: add = function(req)" },
	{ "unpack", "write table.unpack" },
};

/* Raises for a global that does not exist, and says what to write in its place, or the nearest name. */
static int refuse_global(lua_State *L, const char *name)
{
	const char *names[ARRAY_SIZE(plain_names) + ARRAY_SIZE(library_names) + 2], *near;
	size_t count = 0;

	for (size_t i = 0; i < ARRAY_SIZE(remedies); i++)
		if (!strcmp(name, remedies[i].name))
			return luaL_error(L, "global '%s' is not defined: %s", name,
					  remedies[i].instead);
	if (is_public(lua_pushfstring(L, "cni.%s", name)))
		return luaL_error(L, "global '%s' is not defined: local %s = require \"cni.%s\"", name,
				  name, name);
	for (size_t i = 0; i < ARRAY_SIZE(plain_names); i++)
		names[count++] = plain_names[i];
	for (size_t i = 0; i < ARRAY_SIZE(library_names); i++)
		names[count++] = library_names[i];
	names[count++] = "require";
	names[count] = NULL;
	near = nearest_word(name, names);
	if (near)
		return luaL_error(L, "global '%s' is not defined (did you mean '%s'?)", name, near);

	return luaL_error(L, "global '%s' is not defined", name);
}

/* A room starts empty; what the script names is put into it at first use. */
static int room_index(lua_State *L)
{
	const char *name = luaL_checkstring(L, 2);

	if (!strcmp(name, "pcall")) {
		lua_pushcfunction(L, room_pcall);
	} else if (!strcmp(name, "xpcall")) {
		lua_pushcfunction(L, room_xpcall);
	} else if (is_among(name, plain_names, ARRAY_SIZE(plain_names))) {
		state_push_global(L, name);
	} else if (is_among(name, library_names, ARRAY_SIZE(library_names))) {
		state_push_global(L, name);
		wrap_library(L);
	} else if (!strcmp(name, "require")) {
		lua_pushcfunction(L, room_require);
	} else {
		return refuse_global(L, name);
	}
	lua_pushvalue(L, 2);
	lua_pushvalue(L, -2);
	lua_rawset(L, 1);

	return 1;
}

static int room_newindex(lua_State *L)
{
	return luaL_error(L, "assignment to global '%s': declare it local",
			  luaL_tolstring(L, 2, NULL));
}

static const luaL_Reg room_meta[] = {
	{ "__index", room_index },
	{ "__newindex", room_newindex },
	{ NULL, NULL },
};

void room_set(lua_State *L)
{
	lua_createtable(L, 0, 16);
	luaL_newlib(L, room_meta);
	lua_pushboolean(L, 0);
	lua_setfield(L, -2, "__metatable");
	lua_setmetatable(L, -2);
	lua_setupvalue(L, -2, 1);
}
