/* SPDX-License-Identifier: MIT */
/* Making the stored state, when the program is built; image.h says what it is for. */
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#include <lauxlib.h>

#include "alloc.h"
#include "image.h"
#include "make_image.h"
#include "report.h"
#include "scripts.h"
#include "state.h"

/*
 * Lua's table of strings doubles when it is full, and moving every string of the image to its new
 * place touches, and so copies, nearly all pages: have it grow here, to hold a call's strings too.
 */
static void grow_string_table(lua_State *L)
{
	enum { STRINGS = 2048 };

	for (int i = 0; i < STRINGS; i++) {
		lua_pushfstring(L, "~%d", i);
		lua_pop(L, 1);
	}
}

/*
 * A table that is used as a metatable notes in itself which metamethods it lacks: at run time that would copy
 * its page. So every table is used as one here, for each metamethod that it lacks; but for those that have
 * __gc.
 */
static void use_as_metatable(lua_State *L, int t)
{
	static const char *const asked[] = { "__gc", "__index", "__newindex", "__len", "__eq" };
	bool lacks[sizeof asked / sizeof *asked];

	for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
		lua_pushstring(L, asked[i]);
		lacks[i] = lua_rawget(L, t) == LUA_TNIL;
		lua_pop(L, 1);
	}
	if (!lacks[0])
		return;
	lua_newtable(L);
	lua_pushvalue(L, t);
	lua_setmetatable(L, -2); /* asks for __gc */
	if (lacks[1]) {
		lua_getfield(L, -1, "x");
		lua_pop(L, 1);
	}
	if (lacks[2]) {
		lua_pushboolean(L, 1);
		lua_setfield(L, -2, "x");
	}
	if (lacks[3])
		luaL_len(L, -1);
	if (lacks[4]) {
		lua_newtable(L);
		lua_compare(L, -1, -2, LUA_OPEQ);
		lua_pop(L, 1);
	}
	lua_pop(L, 1);
}

/* Adds an address to a set. Whether it was new. */
static bool is_new(lua_State *set, const void *address)
{
	bool known = lua_rawgetp(set, LUA_REGISTRYINDEX, address) != LUA_TNIL;

	lua_pop(set, 1);
	lua_pushboolean(set, 1);
	lua_rawsetp(set, LUA_REGISTRYINDEX, address);

	return !known;
}

/* Visits the value on top, and all that can be reached from it. [-1, +0, e] */
static void visit(lua_State *L, lua_State *seen)
{
	int value = lua_gettop(L);

	luaL_checkstack(L, 8, "image");
	if ((!lua_istable(L, value) && !lua_isfunction(L, value)) ||
	    !is_new(seen, lua_topointer(L, value))) {
		lua_settop(L, value - 1);
		return;
	}
	if (lua_isfunction(L, value)) {
		for (int i = 1; lua_getupvalue(L, value, i); i++)
			visit(L, seen);
		lua_settop(L, value - 1);
		return;
	}
	if (lua_getmetatable(L, value))
		visit(L, seen);
	use_as_metatable(L, value);
	lua_settop(L, value);
	lua_pushnil(L);
	while (lua_next(L, value)) {
		visit(L, seen);
		lua_pushvalue(L, -1);
		visit(L, seen);
	}
	lua_settop(L, value - 1);
}

/* What is seen is noted in a state of its own, outside of the image. */
static void use_metatables(lua_State *L)
{
	lua_State *seen = lua_newstate(alloc_outside, NULL);

	if (!seen)
		luaL_error(L, "not enough memory");
	lua_pushvalue(L, LUA_REGISTRYINDEX);
	visit(L, seen);
	lua_close(seen);
}

/* Loads everything that is stored. What a script does while it is loaded is done at build time. */
static int load_all(lua_State *L)
{
	state_open(L);
	state_push_global(L, "require");
	for (size_t i = 0; i < embedded_modules_count; i++) {
		if (embedded_modules[i].source)
			continue;
		lua_pushvalue(L, -1);
		lua_pushstring(L, embedded_modules[i].name);
		lua_call(L, 1, 0);
		lua_gc(L, LUA_GCCOLLECT); /* what the next one needs fills the holes */
	}
	for (size_t i = 0; i < embedded_plugins_count; i++) {
		scripts_prepare(L, embedded_plugins[i].name);
		lua_gc(L, LUA_GCCOLLECT);
	}
	for (const char *const *name = state_libraries; *name; name++) {
		state_push_global(L, *name);
		lua_pop(L, 1);
	}
	/* From here on there is garbage only, but for the table of strings. */
	alloc_litter(64);
	use_metatables(L);
	grow_string_table(L);

	return 0;
}

static int write_file(const char *path, const void *start, size_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	int ret;

	if (fd < 0)
		return -1;
	ret = report_text(fd, start, size);

	return close(fd) < 0 || ret < 0 ? -1 : 0;
}

int image_make(const char *path)
{
	const void *start;
	size_t size;
	lua_State *L;

	alloc_begin_image();
	L = state_new();
	if (!L)
		return 1;
	lua_pushcfunction(L, load_all);
	if (lua_pcall(L, 0, 0, 0) != LUA_OK) {
		report_error(REPORT_INTERNAL, "cannot load the scripts", lua_tostring(L, -1));
		return 1;
	}
	lua_settop(L, 0);
	lua_gc(L, LUA_GCCOLLECT);
	state_delay_gc(L);
	if (alloc_end_image(L, &start, &size) < 0) {
		report_error(REPORT_INTERNAL, "the image is full", "raise ROOM in host/alloc.c");
		return 1;
	}
	if (write_file(path, start, size) < 0) {
		report_error(REPORT_INTERNAL, "cannot write the image", path);
		return 1;
	}

	return 0;
}
