/* SPDX-License-Identifier: MIT */
/* Functions of the Lua module `host`; see the comments above them. */
#ifndef HOST_PAGES_H
#define HOST_PAGES_H

#include <lua.h>

int pages_get(lua_State *L);
int pages_list(lua_State *L);
int pages_text(lua_State *L);

#endif
