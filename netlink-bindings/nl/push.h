/* SPDX-License-Identifier: MIT */
/* How every part of `netlink` tells Lua that something failed, makes its handles, takes arguments. */
#ifndef NETLINK_BINDINGS_NL_PUSH_H
#define NETLINK_BINDINGS_NL_PUSH_H

#include <lauxlib.h>
#include <lua.h>

#include "nl/nl.h"

/*
 * Return nil, "<text>: <strerror>", errno: `return push_failure(L, err, "open %s", path)`. The
 * error may be given as errno or -errno; the format is lua_pushfstring's. [-0, +3, m]
 */
int push_failure(lua_State *L, int err, const char *fmt, ...);

/*
 * The same for an answer of the kernel: its extended acknowledgement comes behind the text of the
 * errno. `fail` must be filled in. [-0, +3, m]
 */
int push_nl_failure(lua_State *L, const struct nl_failure *fail, const char *what);

/* Create a metatable: methods in __index, metamethods beside them, __metatable set. [-0, +0, m] */
void new_handle_type(lua_State *L, const char *name, const luaL_Reg *methods, const luaL_Reg *meta);

/*
 * The list of strings at an argument, the program first, as execvp() wants it. It is valid as long as the
 * list and the pushed value live. Raises when it is no such list, or empty. [-0, +1, v]
 */
char **argv_arg(lua_State *L, int arg);

#endif
