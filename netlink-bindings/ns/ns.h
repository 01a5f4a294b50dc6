/* SPDX-License-Identifier: MIT */
/* Network namespaces as arguments of Lua functions, and what is done inside one. */
#ifndef NETLINK_BINDINGS_NS_NS_H
#define NETLINK_BINDINGS_NS_NS_H

#include <lua.h>

#include "nl/nl.h"

/* Check the argument that says which namespace: none or nil (our own), a path, or an ns object. */
struct nl_place netns_place_arg(lua_State *L, int arg);

/* The descriptor of the ns object at `idx`, or -1 when it is none or closed. [-0, +0, -] */
int netns_fd(lua_State *L, int idx);

/* netlink.ns.sysctl and sysctl_get, in ns/sysctl.c. */
int netns_sysctl(lua_State *L);
int netns_sysctl_get(lua_State *L);

/* Close what is kept open of a place's settings. */
void netns_close_sysctl(int folders[2]);

/* netlink.ns.tap, in ns/tap.c. */
int netns_tap(lua_State *L);

/* netlink.ns.frames and datagrams, in ns/wire.c; and the handles that they give. */
int netns_frames(lua_State *L);
int netns_datagrams(lua_State *L);
void netns_new_wires(lua_State *L);

#endif
