/* SPDX-License-Identifier: MIT */
/* The modules in C that `require` finds beside those in Lua. */
#include <lauxlib.h>

#include "bindings.h"
#include "hostlib.h"
#include "state.h"

int luaopen_cjson(lua_State *L);
int luaopen_cjson_safe(lua_State *L);

const luaL_Reg state_modules[] = {
	{ "cjson", luaopen_cjson },
	{ "cjson.safe", luaopen_cjson_safe },
	{ "host", luaopen_host },
	{ "netlink", luaopen_netlink },
	{ NULL, NULL },
};
