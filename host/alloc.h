/* SPDX-License-Identifier: MIT */
/*
 * Memory for the Lua state: fast, because most runs live a few milliseconds and free little;
 * counted, because a script that eats without end must end as an error; and, at build time, all
 * in one place, so that it can be stored (see image.h).
 */
#ifndef HOST_ALLOC_H
#define HOST_ALLOC_H

#include <stddef.h>

#include <lua.h>

#define ALLOC_LIMIT ((size_t)64 << 20)

/* A lua_Alloc. There is one arena; `ud` is not used. */
void *alloc_for_lua(void *ud, void *ptr, size_t osize, size_t nsize);

/* Whether a script has been refused memory for good, that is, has seen the error. */
int alloc_exhausted(void);

/* The state that the program was built with, or NULL. */
lua_State *alloc_stored_state(void);

/* Whether what is allocated is going to be stored. */
int alloc_storing(void);

/* From now on until alloc_end_image() everything goes into the section that is to be stored. */
void alloc_begin_image(void);

/*
 * From now on blocks of up to `most` bytes stay out of that section: the caller makes garbage, and
 * collects all of it before alloc_end_image().
 */
void alloc_litter(size_t most);

/* A lua_Alloc that never takes from the section: for another state at build time. */
void *alloc_outside(void *ud, void *ptr, size_t osize, size_t nsize);

/*
 * Note the state, and tell what to store: from *start, *size bytes. -1: it did not fit, or there is
 * litter.
 */
int alloc_end_image(lua_State *L, const void **start, size_t *size);

#endif
