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
#include "room.h"
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
	room_set(L);
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
