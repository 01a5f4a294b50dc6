/* SPDX-License-Identifier: MIT */
/* The parts that the module `netlink` is made of. */
#ifndef NETLINK_BINDINGS_BINDINGS_H
#define NETLINK_BINDINGS_BINDINGS_H

#include <lua.h>

int luaopen_netlink(lua_State *L);

/* Each pushes its one value: a function (rtnl, check, describe, nft) or a table (the others). */
int luaopen_netlink_rtnl(lua_State *L);
int luaopen_netlink_check(lua_State *L); /* after rtnl */
int luaopen_netlink_describe(lua_State *L);
int luaopen_netlink_ns(lua_State *L);
int luaopen_netlink_ip(lua_State *L);
int luaopen_netlink_nft(lua_State *L);
int luaopen_netlink_sys(lua_State *L);
int luaopen_netlink_store(lua_State *L);
int luaopen_netlink_json(lua_State *L);
int luaopen_netlink_dissect(lua_State *L);
int luaopen_netlink_trace(lua_State *L);
int luaopen_netlink_losses(lua_State *L);

#endif
