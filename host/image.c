/* SPDX-License-Identifier: MIT */
#include <stdbool.h>
#include <string.h>

#include <lauxlib.h>

#include "alloc.h"
#include "image.h"

/* Registry of the stored state: chunk by script's address in the list of embedded files. */
#define CHUNKS "luacni.chunks"

const struct embedded *embedded_find(const struct embedded *list, size_t count, const char *name)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcmp(name, list[middle].name);

		if (order == 0)
			return &list[middle];
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}

	return NULL;
}

static bool forgotten;

lua_State *image_state(void)
{
	return forgotten ? NULL : alloc_stored_state();
}

void image_forget(void)
{
	forgotten = true;
}

static int add_piece(lua_State *L, const void *piece, size_t size, void *buffer)
{
	(void)L; /* the stored one; the buffer is another state's */
	luaL_addlstring(buffer, piece, size);

	return 0;
}

/* Push the bytes of a chunk of the stored state. Nobody else uses that state's stack. */
static void push_stored(lua_State *L, lua_State *stored, const struct embedded *file)
{
	luaL_Buffer b;

	lua_settop(stored, 0);
	lua_getfield(stored, LUA_REGISTRYINDEX, CHUNKS);
	lua_rawgetp(stored, 1, file);
	luaL_buffinit(L, &b);
	lua_dump(stored, add_piece, &b, 0);
	luaL_pushresult(&b);
}

void image_push_chunk(lua_State *L, const struct embedded *file, const char *name)
{
	lua_State *stored = alloc_stored_state();
	const char *code = file->code;
	size_t size = file->code_size;

	/* There is source of plugins, for people to read, and of modules that are not stored. */
	if (stored && file->source) {
		lua_pushfstring(L, "@%s.lua", name);
		code = file->source;
		size = file->source_size;
	} else if (stored) {
		push_stored(L, stored, file);
		code = lua_tolstring(L, -1, &size);
	} else {
		lua_pushstring(L, name);
	}
	if (luaL_loadbufferx(L, code, size, stored && file->source ? lua_tostring(L, -1) : name,
			     NULL) != LUA_OK)
		lua_error(L);
	lua_remove(L, -2);
	if (alloc_storing() && !file->source) {
		luaL_getsubtable(L, LUA_REGISTRYINDEX, CHUNKS);
		lua_pushvalue(L, -2);
		lua_rawsetp(L, -2, file);
		lua_pop(L, 1);
	}
}
