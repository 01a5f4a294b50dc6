/* SPDX-License-Identifier: MIT */
/*
 * The Lua module `host`: what only the program itself can give. For main and cni.command alone;
 * everything else in lua/ runs under a plain Lua as well.
 */
#ifndef HOST_HOSTLIB_H
#define HOST_HOSTLIB_H

#include <lua.h>

int luaopen_host(lua_State *L);

/* Running a command for a person; see host/command.c. */
int command_run(lua_State *L);
int command_hold_signals(lua_State *L);
int command_held_signal(lua_State *L);

/* How those are told who watch; see host/watch.c. */
int watch_settings(lua_State *L);
int watch_append(lua_State *L);
int watch_datagram(lua_State *L);

#endif
