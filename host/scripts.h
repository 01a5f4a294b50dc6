/* SPDX-License-Identifier: MIT */
/*
 * Plugin scripts: found by type, a site's own before the built-in ones. Each runs in a
 * *room* (room.h). A site script runs as root, so it is checked first who could have written it.
 */
#ifndef HOST_SCRIPTS_H
#define HOST_SCRIPTS_H

#include <lua.h>

#define SITE_DIR "/etc/luacni/plugins"
#define HOOK_DIR "/etc/luacni/hooks.d"

/* Run a built-in script ahead of its use. [-0, +0, e] */
void scripts_prepare(lua_State *L, const char *type);

/* Functions of the Lua module `host`; see the comments above them. */
int scripts_hooks(lua_State *L);
int scripts_load(lua_State *L);
int scripts_load_hook(lua_State *L);
int scripts_has(lua_State *L);
int scripts_load_text(lua_State *L);
int scripts_source(lua_State *L);
int scripts_types(lua_State *L);

#endif
