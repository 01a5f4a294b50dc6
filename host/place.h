/* SPDX-License-Identifier: MIT */
/* Where in a script the program is: what errors name. */
#ifndef HOST_PLACE_H
#define HOST_PLACE_H

#include <lua.h>

/*
 * Push FILE:LINE of the innermost function of a script that is being run, or with `only` of the function at
 * that level of the stack. Returns 0 and pushes nothing when it is no script's. [-0, +(0|1), m]
 */
int place_push(lua_State *L, int only);

/* Functions of the Lua module `host`; see the comments above them. */
int place_at(lua_State *L);
int place_line(lua_State *L);
int place_raised(lua_State *L);

#endif
