/* SPDX-License-Identifier: MIT */
/*
 * The Lua state as it is once every script of the program has been loaded, stored in the program
 * itself. Loading scripts anew at each start took 0.4 ms, a third of all of it.
 *
 * It also has the compiled scripts, for a state that is made anew after all (afresh.c): that costs little,
 * since their functions are in it anyway.
 *
 * The build links the program, runs it once to have it fill its state and write down the memory,
 * and puts those bytes into the section they came from. All pointers stay right because the
 * program is linked to fixed addresses and everything Lua owns lies in that one section: see
 * alloc.c. Without those bytes (with sanitizers, or before that step) the program works in the same way, but
 * loads each script when it is first required.
 */
#ifndef HOST_IMAGE_H
#define HOST_IMAGE_H

#include <stddef.h>

#include <lua.h>


/* A file that was put into the program when it was built: build/embedded.c has them by name. */
struct embedded {
	const char *name; /* "main" for a module, "bridge" for a plugin */
	const char *code; /* precompiled, with debug information */
	size_t code_size;
	/* The text of a plugin, of a module that is not stored, or of a page, which has no code. */
	const char *source;
	size_t source_size;
};

extern const struct embedded embedded_modules[], embedded_plugins[], embedded_pages[];
extern const size_t embedded_modules_count, embedded_plugins_count, embedded_pages_count;

/* Look a name up in one of the lists above, which are sorted. NULL: not there. */
const struct embedded *embedded_find(const struct embedded *list, size_t count, const char *name);

/* The stored state, or NULL. */
lua_State *image_state(void);

/* Push the compiled script of an embedded file, or raise. [-0, +1, e] */
void image_push_chunk(lua_State *L, const struct embedded *file, const char *name);

/* From now on image_state() gives none. To be called before it is first asked. */
void image_forget(void);

#endif
