/* SPDX-License-Identifier: MIT */
/*
 * Memory for the Lua state: fast, because most runs live a few milliseconds and free little, and
 * counted, because a script that eats without end must end as an error.
 */
#ifndef HOST_ALLOC_H
#define HOST_ALLOC_H

#include <stddef.h>

#define ALLOC_LIMIT ((size_t)64 << 20)

/* A lua_Alloc. There is one arena; `ud` is not used. */
void *alloc_for_lua(void *ud, void *ptr, size_t osize, size_t nsize);

/* Bytes in use now. */
size_t alloc_used(void);

/* Whether a script has been refused memory for good, that is, has seen the error. */
int alloc_exhausted(void);

#endif
