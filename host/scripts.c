/* SPDX-License-Identifier: MIT */
/***
@submodule host
*/
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <lauxlib.h>

#include "attr/attr.h"
#include "image.h"
#include "scripts.h"
#include "site.h"
#include "state.h"

/* Registry: what each type's script returned. */
#define SITE_PLUGINS "luacni.site_plugins"
#define BUILTIN_PLUGINS "luacni.builtin_plugins"

/* Names are never paths: letters and digits, and after the first also . _ - */
static int is_type_name(const char *name, size_t len)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				      "0123456789._-";

	return len > 0 && len < 200 && strspn(name, letters) == len && !strchr("._-", *name);
}

/*
 * The room a script runs in.
 */

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

/* Gives the chunk on top a room of its own. [-0, +0, m] */
static void set_room(lua_State *L)
{
	lua_createtable(L, 0, 16);
	luaL_newlib(L, room_meta);
	lua_pushboolean(L, 0);
	lua_setfield(L, -2, "__metatable");
	lua_setmetatable(L, -2);
	lua_setupvalue(L, -2, 1);
}

/*
 * Finding, loading, checking.
 */

/*
 * Pushes the path and the text of a script in one of the site's folders. 0: there is none, nothing is
 * pushed. -errno: it could not be read, and why is pushed. Raises when it is not to be trusted.
 * [-0, +(0|1|2), v]
 */
static int push_site_text(lua_State *L, const char *dir, const char *name)
{
	char small[8192], *text = small, path[300], why[600];
	size_t size = sizeof small, len = 0;
	int ret;

	snprintf(path, sizeof path, "%s/%s.lua", dir, name);
	while ((ret = site_read(path, text, size, &len, why, sizeof why)) == -E2BIG &&
	       size <= SITE_LIMIT) {
		size *= 8;
		text = lua_newuserdatauv(L, size, 0);
	}
	if (ret == -ENOENT)
		return 0;
	if (ret == -E2BIG || ret == -EPERM) {
		lua_pushfstring(L, "%s: refused: %s", path, ret == -E2BIG ? "it is too long" : why);
		lua_error(L);
	}
	if (ret < 0) {
		lua_pushfstring(L, "%s: %s: %s", path, why, strerror(-ret));
		return ret;
	}

	lua_pushstring(L, path);
	lua_pushlstring(L, text, len);

	return 1;
}

/* The modules whose `check` knows what a script has to return. */
#define A_PLUGIN "cni.engine.script"
#define A_HOOK "cni.engine.hooks"

/* Raises unless the value on top is what it has to be, called `file`; `own`: it came with us. [-0, +0, e] */
static void check_returned(lua_State *L, const char *what, const char *file, int own)
{
	state_push_global(L, "require");
	lua_pushstring(L, what);
	lua_call(L, 1, 1);
	lua_getfield(L, -1, "check");
	lua_remove(L, -2);
	lua_pushvalue(L, -2);
	lua_pushstring(L, file);
	lua_pushboolean(L, own);
	lua_call(L, 3, 0);
}

/* Runs the chunk on top in a room of its own: what it returns. [-1, +1, e] */
static void run_chunk(lua_State *L, const char *what, const char *file, int own)
{
	set_room(L);
	lua_call(L, 0, 1);
	check_returned(L, what, file, own);
}

/* Loads and runs a script of the site's. [-0, +1, e] */
static void run_text(lua_State *L, const char *what, const char *path, const char *text, size_t len)
{
	if (len && *text == *LUA_SIGNATURE) {
		lua_pushfstring(L, "%s: refused: it is bytecode, and only source text is run",
				path);
		lua_error(L);
	}
	if (luaL_loadbufferx(L, text, len, lua_pushfstring(L, "@%s", path), "t") != LUA_OK)
		lua_error(L);
	lua_remove(L, -2);
	run_chunk(L, what, path, 0);
}

/* Puts the plugin on top into a table of the registry. [-0, +0, m] */
static void keep_plugin(lua_State *L, const char *type, const char *table)
{
	luaL_getsubtable(L, LUA_REGISTRYINDEX, table);
	lua_pushvalue(L, -2);
	lua_setfield(L, -2, type);
	lua_pop(L, 1);
}

/* Pushes what a script returned before, or nothing. [-0, +(0|1), e] */
static int push_loaded(lua_State *L, const char *type, const char *table)
{
	luaL_getsubtable(L, LUA_REGISTRYINDEX, table);
	if (lua_getfield(L, -1, type) == LUA_TNIL) {
		lua_pop(L, 2);
		return 0;
	}
	lua_remove(L, -2);

	return 1;
}

/* As push_site_text(), but pushes what the script returns. */
static int push_site_plugin(lua_State *L, const char *type)
{
	size_t len;
	const char *path, *text;
	int ret;

	if (push_loaded(L, type, SITE_PLUGINS))
		return 1;
	ret = push_site_text(L, SITE_DIR, type);
	if (ret <= 0)
		return ret;

	path = lua_tostring(L, -2);
	text = lua_tolstring(L, -1, &len);
	run_text(L, A_PLUGIN, path, text, len);
	keep_plugin(L, type, SITE_PLUGINS);

	return 1;
}

static int push_builtin_plugin(lua_State *L, const char *type)
{
	const struct embedded *file;

	if (push_loaded(L, type, BUILTIN_PLUGINS))
		return 1;
	if (image_state())
		return 0;
	file = embedded_find(embedded_plugins, embedded_plugins_count, type);
	if (!file)
		return 0;

	image_push_chunk(L, file, type);
	run_chunk(L, A_PLUGIN, type, 1);
	keep_plugin(L, type, BUILTIN_PLUGINS);

	return 1;
}

void scripts_prepare(lua_State *L, const char *type)
{
	if (push_builtin_plugin(L, type))
		lua_pop(L, 1);
}

/***
Load the script of a type: the site's own, else the built-in one. Loading twice gives the same
table.
@function load_plugin
@tparam string type
@tparam[opt] boolean builtin the built-in one, whether the site has its own or not
@treturn[1] table|nil what the script returned; nil alone when no script has this name
@return[2] nil
@treturn[2] string why the site's script could not be read
@treturn[2] integer errno
@raise text that begins with the file's name, when the script is refused, broken, or not a plugin
*/
int scripts_load(lua_State *L)
{
	size_t len;
	const char *type = luaL_checklstring(L, 1, &len);
	int builtin = lua_toboolean(L, 2), ret;

	lua_settop(L, 1);
	ret = is_type_name(type, len) && !builtin ? push_site_plugin(L, type) : 0;
	if (ret < 0) {
		lua_pushnil(L);
		lua_insert(L, -2);
		lua_pushinteger(L, -ret);
		return 3;
	}
	if (!ret && (!is_type_name(type, len) || !push_builtin_plugin(L, type)))
		lua_pushnil(L);

	return 1;
}

/***
Load a script that is not in the site's folder, for somebody who looks at it. It is not checked who owns it.
@function load_script
@tparam string path what to call it
@tparam string text
@tparam[opt] boolean hook it is a hook, and no plugin
@treturn table what the script returned
@raise as load_plugin
*/
int scripts_load_text(lua_State *L)
{
	size_t len;
	const char *path = luaL_checkstring(L, 1), *text = luaL_checklstring(L, 2, &len);

	run_text(L, lua_toboolean(L, 3) ? A_HOOK : A_PLUGIN, path, text, len);

	return 1;
}

/***
The site's hooks: the scripts in /etc/luacni/hooks.d.
@function hooks
@treturn {string,...}|nil their names, without .lua, in no order; nil alone when there is none
@treturn[2] nil
@treturn[2] string why the folder cannot be read
@treturn[2] integer errno
*/
int scripts_hooks(lua_State *L)
{
	char names[16384];
	size_t len;
	int ret = site_list(HOOK_DIR, names, sizeof names, &len);

	if (ret < 0) {
		lua_pushnil(L);
		lua_pushfstring(L, "list " HOOK_DIR ": %s", strerror(-ret));
		lua_pushinteger(L, -ret);
		return 3;
	}
	lua_newtable(L);
	for (const char *name = names; name < names + len; name += strlen(name) + 1) {
		/* An editor's, of a file that it has open. */
		if (*name == '.')
			continue;
		lua_pushstring(L, name);
		lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
	}
	if (!lua_rawlen(L, -1))
		lua_pushnil(L);

	return 1;
}

/***
Load a hook of the site's.
@function load_hook
@tparam string name
@treturn table|nil what the script returned; nil alone when there is none of this name
@return[2] nil
@treturn[2] string why it could not be read
@treturn[2] integer errno
@raise text that begins with the file's name, when the script is refused, broken, or no hook
*/
int scripts_load_hook(lua_State *L)
{
	size_t len;
	const char *name = luaL_checklstring(L, 1, &len), *path, *text;
	int ret;

	if (!is_type_name(name, len))
		return luaL_error(L, HOOK_DIR "/%s.lua: a hook's name has letters and digits, and behind the "
				     "first also . _ -", name);
	ret = push_site_text(L, HOOK_DIR, name);
	if (ret < 0) {
		lua_pushnil(L);
		lua_insert(L, -2);
		lua_pushinteger(L, -ret);
		return 3;
	}
	if (!ret) {
		lua_pushnil(L);
		return 1;
	}
	path = lua_tostring(L, -2);
	text = lua_tolstring(L, -1, &len);
	run_text(L, A_HOOK, path, text, len);

	return 1;
}

/***
Whether a type has a script, which may be a refused or a broken one.
@function has_plugin
@tparam string type
@treturn boolean
*/
int scripts_has(lua_State *L)
{
	size_t len;
	const char *type = luaL_checklstring(L, 1, &len);
	char path[300];
	int found = 0;

	if (is_type_name(type, len)) {
		snprintf(path, sizeof path, SITE_DIR "/%s.lua", type);
		found = site_has(path) ||
			embedded_find(embedded_plugins, embedded_plugins_count, type);
	}
	lua_pushboolean(L, found);

	return 1;
}

/***
The text of a type's script. An empty one of the site's does not count: a shell has just made the file, for
the built-in script to be copied into it.
@function source
@tparam string type
@treturn string|nil nil when no script has this name
@treturn string where it is: a path, or `built in`
@raise text, when the site's script is refused or cannot be read
*/
int scripts_source(lua_State *L)
{
	size_t len;
	const char *type = luaL_checklstring(L, 1, &len);
	const struct embedded *file;
	int ret;

	if (!is_type_name(type, len)) {
		lua_pushnil(L);
		return 1;
	}
	ret = push_site_text(L, SITE_DIR, type);
	if (ret < 0)
		lua_error(L);
	file = embedded_find(embedded_plugins, embedded_plugins_count, type);
	if (ret && (lua_rawlen(L, -1) || !file)) {
		lua_insert(L, -2);
		return 2;
	}
	if (!file) {
		lua_pushnil(L);
		return 1;
	}

	lua_pushlstring(L, file->source, file->source_size);
	lua_pushliteral(L, "built in");

	return 2;
}

/* Adds { name, origin } for a type to the list at `list`, unless `seen` has it. [-0, +0, m] */
static void add_type(lua_State *L, int list, int seen, const char *name, const char *origin)
{
	if (lua_getfield(L, seen, name) == LUA_TNIL) {
		lua_createtable(L, 0, 2);
		lua_pushstring(L, name);
		lua_setfield(L, -2, "name");
		lua_pushstring(L, origin);
		lua_setfield(L, -2, "origin");
		lua_rawseti(L, list, (lua_Integer)lua_rawlen(L, list) + 1);
		lua_pushboolean(L, 1);
		lua_setfield(L, seen, name);
	}
	lua_pop(L, 1);
}

static int by_name(lua_State *L)
{
	lua_getfield(L, 1, "name");
	lua_getfield(L, 2, "name");
	lua_pushboolean(L, strcmp(lua_tostring(L, -2), lua_tostring(L, -1)) < 0);

	return 1;
}

/***
All types there are, by name.
@function types
@treturn {{name=string,origin=string},...} origin is the path of the site's script, or `built in`
@treturn[2] nil
@treturn[2] string why the site's folder cannot be read
*/
int scripts_types(lua_State *L)
{
	char names[16384], path[300];
	size_t len;
	int ret;

	ret = site_list(SITE_DIR, names, sizeof names, &len);
	if (ret < 0) {
		lua_pushnil(L);
		lua_pushfstring(L, "list " SITE_DIR ": %s", strerror(-ret));
		return 2;
	}

	lua_settop(L, 0);
	lua_newtable(L);
	lua_newtable(L);
	for (const char *name = names; name < names + len; name += strlen(name) + 1) {
		if (!is_type_name(name, strlen(name)))
			continue;
		snprintf(path, sizeof path, SITE_DIR "/%.200s.lua", name);
		add_type(L, 1, 2, name, path);
	}
	for (size_t i = 0; i < embedded_plugins_count; i++)
		add_type(L, 1, 2, embedded_plugins[i].name, "built in");
	state_push_global(L, "table");
	lua_getfield(L, -1, "sort");
	lua_pushvalue(L, 1);
	lua_pushcfunction(L, by_name);
	lua_call(L, 2, 0);
	lua_settop(L, 1);

	return 1;
}
