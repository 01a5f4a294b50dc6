/* SPDX-License-Identifier: MIT */
/*
 * The whole C surface of the module `netlink` on one page: the parts it is made of, how failures
 * are returned, and network namespaces as every part needs them.
 */
#ifndef NETLINK_BINDINGS_BINDINGS_H
#define NETLINK_BINDINGS_BINDINGS_H

#include <lauxlib.h>
#include <lua.h>

#include "nl.h"

int luaopen_netlink(lua_State *L);

/* Each part pushes its one value: a function (rtnl, describe, nft) or a table (the others). */
int luaopen_netlink_rtnl(lua_State *L);
int luaopen_netlink_describe(lua_State *L);
int luaopen_netlink_ns(lua_State *L);
int luaopen_netlink_ip(lua_State *L);
int luaopen_netlink_nft(lua_State *L);
int luaopen_netlink_sys(lua_State *L);
int luaopen_netlink_store(lua_State *L);
int luaopen_netlink_json(lua_State *L);

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

/* Check the argument that says which namespace: none or nil (here), a path, or an ns object. */
struct nl_place netns_place_arg(lua_State *L, int arg);

/* The descriptor of the ns object at `idx`, or -1 when it is none or closed. [-0, +0, -] */
int netns_fd(lua_State *L, int idx);

/* netlink.ns.sysctl and sysctl_get, in sysctl.c. */
int netns_sysctl(lua_State *L);
int netns_sysctl_get(lua_State *L);

/* netlink.ns.tap, in tap.c. */
int netns_tap(lua_State *L);

/* Create a metatable: methods in __index, metamethods beside them, __metatable set. [-0, +0, m] */
void new_handle_type(lua_State *L, const char *name, const luaL_Reg *methods, const luaL_Reg *meta);

/*
 * Addresses. ip_parse() is strict: no leading zeros, no zone, v4-mapped becomes 4 bytes; returns
 * 4, 16, or 0 for "not an address". ip_format() writes the canonical text (RFC 5952).
 */
size_t ip_parse(const char *text, size_t len, uint8_t bytes[16]);
#define IP_TEXT_MAX 48
void ip_format(const void *bytes, size_t len, char text[IP_TEXT_MAX]);

#endif
