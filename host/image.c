/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <lauxlib.h>

#include "alloc.h"
#include "image.h"
#include "report.h"
#include "scripts.h"
#include "state.h"

lua_State *image_state(void)
{
	return alloc_stored_state();
}

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

/* Loads everything there is. What a script does while it is loaded is done at build time. */
static int load_all(lua_State *L)
{
	state_open(L);
	state_push_global(L, "require");
	for (size_t i = 0; i < embedded_modules_count; i++) {
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
		report_error(REPORT_INTERNAL, "the image is full", "raise IMAGE in host/alloc.c");
		return 1;
	}
	if (write_file(path, start, size) < 0) {
		report_error(REPORT_INTERNAL, "cannot write the image", path);
		return 1;
	}

	return 0;
}
