/* SPDX-License-Identifier: MIT */
/*
 * The room a script runs in: an environment with globals of its own, of which it sees some libraries and the
 * modules that are for scripts.
 */
#ifndef HOST_ROOM_H
#define HOST_ROOM_H

#include <lua.h>

/* Gives the chunk on top a room of its own. [-0, +0, m] */
void room_set(lua_State *L);

#endif
