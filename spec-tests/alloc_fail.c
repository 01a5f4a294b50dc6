/* SPDX-License-Identifier: MIT */
/*
 * Run a Lua chunk in a state of its own whose allocator refuses allocation n and all that follow,
 * until the error reaches us; then close the state and count what it left open.
 */
#include <dirent.h>
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

int luaopen_alloc_fail(lua_State *L);

struct limit {
	bool armed;
	lua_Integer left;
	lua_Integer used;
};

static void *limited(void *ud, void *ptr, size_t old_size, size_t new_size)
{
	struct limit *limit = ud;

	if (!new_size) {
		free(ptr);
		return NULL;
	}
	/* Lua takes it for granted that shrinking works. */
	if (limit->armed && (!ptr || new_size > old_size)) {
		if (limit->left <= 0)
			return NULL;
		limit->left--;
		limit->used++;
	}
	return realloc(ptr, new_size);
}

static int open_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int count = 0;

	while (dir && readdir(dir))
		count++;
	if (dir)
		closedir(dir);
	return count;
}

static int libraries(lua_State *L)
{
	luaL_openlibs(L);
	return 0;
}

/* Prepare with plenty, then run with `allow` allocations. Returns what happened, as text. */
static const char *attempt(struct limit *limit, const char *setup, const char *body,
			   lua_Integer allow, char *message, size_t size)
{
	lua_State *L = lua_newstate(limited, limit);
	const char *how = "setup";
	int status;

	if (!L)
		return "setup";
	lua_pushcfunction(L, libraries);
	status = lua_pcall(L, 0, 0, 0);
	if (!status)
		status = luaL_loadstring(L, setup) || lua_pcall(L, 0, 1, 0);
	if (!status)
		status = luaL_loadstring(L, body);
	if (!status) {
		lua_insert(L, -2);
		limit->armed = true;
		limit->left = allow;
		status = lua_pcall(L, 1, 0, 0);
		limit->armed = false;
		how = status == LUA_ERRMEM ? "memory" : status ? "error" : "done";
	}
	message[0] = '\0';
	if (status && lua_isstring(L, -1))
		strncat(message, lua_tostring(L, -1), size - 1);
	lua_close(L);
	return how;
}

/***
Run `body` with what `setup` returns as its argument, in a fresh state that may allocate so often.
@function run
@tparam string setup
@tparam string body
@tparam integer allow allocations after which all fail
@treturn string `done`, `memory` (ended by the failure), `error`, `setup`
@treturn integer descriptors left open
@treturn string message of an error
*/
static int run(lua_State *L)
{
	const char *setup = luaL_checkstring(L, 1), *body = luaL_checkstring(L, 2), *how;
	lua_Integer allow = luaL_checkinteger(L, 3);
	struct limit limit = { 0 };
	char message[512];
	int before = open_descriptors();

	how = attempt(&limit, setup, body, allow, message, sizeof message);
	lua_pushstring(L, how);
	lua_pushinteger(L, open_descriptors() - before);
	lua_pushstring(L, message);
	return 3;
}

int luaopen_alloc_fail(lua_State *L)
{
	static const luaL_Reg functions[] = {
		{ "run", run },
		{ NULL, NULL },
	};

	luaL_newlib(L, functions);
	return 1;
}
