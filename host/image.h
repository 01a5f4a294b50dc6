/* SPDX-License-Identifier: MIT */
/*
 * The Lua state as it is once every script of the program has been loaded, stored in the program
 * itself. Loading scripts anew at each start took 0.4 ms, a third of all of it.
 *
 * The chunks of the scripts are kept in it too, which costs little beside their functions, for a state
 * that is made anew after all (afresh.c).
 *
 * The build links the program, runs it once to have it fill its state and write down the memory,
 * and puts those bytes into the section they came from. All pointers stay right because the
 * program is linked to fixed addresses and everything Lua owns lies in that one section: see
 * alloc.c. Without the bytes (with sanitizers, or before that step) the program loads its scripts
 * one by one as they are required, and does the same otherwise.
 */
#ifndef HOST_IMAGE_H
#define HOST_IMAGE_H

#include <lua.h>

#include "state.h"

/* The stored state, or NULL. */
lua_State *image_state(void);

/* Push the compiled script of an embedded file, or raise. [-0, +1, e] */
void image_push_chunk(lua_State *L, const struct embedded *file, const char *name);

/* From now on there is none. To be called before it was asked for. */
void image_forget(void);

/* Build time: fill a state and write the section's bytes to a file. An exit status. */
int image_make(const char *path);

#endif
