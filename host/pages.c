/* SPDX-License-Identifier: MIT */
/***
@submodule host
*/
/* What the comments of modules say to authors of scripts: put into the program by host/embed.lua. */
#include "pages.h"

#include <lauxlib.h>

#include "image.h"

/***
The comments of a module that scripts may use, each with the line that it is above, a line of --- between
them. The first is what the module says of itself.
@function page
@tparam string name such as `schema` or `handle`
@treturn string|nil nil when there is no such module
*/
int pages_get(lua_State *L)
{
	const char *name = luaL_checkstring(L, 1);
	const struct embedded *page = embedded_find(embedded_pages, embedded_pages_count, name);

	if (!page)
		return 0;
	lua_pushlstring(L, page->source, page->source_size);
	return 1;
}

/***
The text of a module that is kept as text: its comments are left out, lines are where they were.
@function text
@tparam string module such as `luacni.spec`
@treturn string|nil nil when there is none, or it is not kept so
*/
int pages_text(lua_State *L)
{
	const char *name = luaL_checkstring(L, 1);
	const struct embedded *file = embedded_find(embedded_modules, embedded_modules_count, name);

	if (!file || !file->source)
		return 0;
	lua_pushlstring(L, file->source, file->source_size);
	return 1;
}

/***
The names that `page` has something for.
@function pages
@treturn {string,...} sorted
*/
int pages_list(lua_State *L)
{
	lua_newtable(L);
	for (size_t i = 0; i < embedded_pages_count; i++) {
		lua_pushstring(L, embedded_pages[i].name);
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	return 1;
}
