/* SPDX-License-Identifier: MIT */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "alloc.h"

/*
 * Blocks up to LARGE come from free lists by size class, refilled from the front of a chunk; Lua
 * tells the size of what it frees, so a block needs no header. Larger ones are malloc's.
 *
 * Touched pages are what memory costs at start-up (about 2 us each, as much as a small system
 * call), so the first chunk is a .bss array, packed densely, and nothing is touched beforehand.
 */
#define GRAIN 16
#define FINE 512 /* classes of 16 bytes up to here, then four to a doubling */
#define LARGE 65536
#define CLASSES (FINE / GRAIN + 7 * 4)
#define FIRST_CHUNK ((size_t)256 << 10)
#define CHUNK ((size_t)1 << 20)

/* Undoing what a script did needs memory too: a reserve, opened once the script has its error. */
#define RESERVE ((size_t)16 << 20)

static _Alignas(64) char first_chunk[FIRST_CHUNK];

static struct {
	char *next, *end;
	size_t used, limit;
	size_t refused; /* size refused last, 0 after a success */
	int exhausted;
	void *free[CLASSES];
} arena = {
	.next = first_chunk,
	.end = first_chunk + FIRST_CHUNK,
	.limit = ALLOC_LIMIT,
};

size_t alloc_used(void)
{
	return arena.used;
}

int alloc_exhausted(void)
{
	return arena.exhausted;
}

/* The class that holds `size` (1 to LARGE) bytes, and what a block of it really has. */
static unsigned class_of(size_t size, size_t *room)
{
	unsigned shift, quarter;

	if (size <= FINE) {
		unsigned class = (unsigned)((size - 1) / GRAIN);

		*room = ((size_t)class + 1) * GRAIN;
		return class;
	}
	shift = 63 - (unsigned)__builtin_clzll(size - 1);
	quarter = (unsigned)((size - 1) >> (shift - 2)) & 3;
	*room = ((size_t)quarter + 5) << (shift - 2);

	return FINE / GRAIN + (shift - 9) * 4 + quarter;
}

static void *take(size_t size)
{
	size_t room;
	unsigned class = class_of(size, &room);
	void *block = arena.free[class];

	if (block) {
		memcpy(&arena.free[class], block, sizeof block);
		return block;
	}
	if (room > (size_t)(arena.end - arena.next)) {
		/* What is left of the old chunk is lost: less than 1 block of this size. */
		char *chunk = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
				   -1, 0);

		if (chunk == MAP_FAILED)
			return NULL;
		arena.next = chunk;
		arena.end = chunk + CHUNK;
	}
	block = arena.next;
	arena.next += room;

	return block;
}

static void give(void *block, size_t size)
{
	size_t room;
	unsigned class = class_of(size, &room);

	memcpy(block, &arena.free[class], sizeof block);
	arena.free[class] = block;
}

static void *resize(void *ptr, size_t osize, size_t nsize)
{
	void *block;

#ifdef __SANITIZE_ADDRESS__
	return realloc(ptr, nsize); /* so that every block has its red zones */
#endif
	if (osize > LARGE && nsize > LARGE)
		return realloc(ptr, nsize);
	if (osize && osize <= LARGE && nsize <= LARGE) {
		size_t old_room, new_room;

		if (class_of(osize, &old_room) == class_of(nsize, &new_room))
			return ptr;
	}
	block = nsize > LARGE ? malloc(nsize) : take(nsize);
	if (!block || !ptr)
		return block;

	memcpy(block, ptr, osize < nsize ? osize : nsize);
	if (osize > LARGE)
		free(ptr);
	else
		give(ptr, osize);

	return block;
}

static void release(void *ptr, size_t osize)
{
#ifdef __SANITIZE_ADDRESS__
	free(ptr);
	return;
#endif
	if (osize > LARGE)
		free(ptr);
	else if (osize)
		give(ptr, osize);
}

/*
 * Lua asks once, collects all garbage, asks again for the same, and raises "not enough memory"
 * when that is refused as well. Then the reserve is opened.
 */
static void *refuse(size_t nsize)
{
	if (arena.refused == nsize && !arena.exhausted) {
		arena.exhausted = 1;
		arena.limit += RESERVE;
	}
	arena.refused = nsize;

	return NULL;
}

void *alloc_for_lua(void *ud, void *ptr, size_t osize, size_t nsize)
{
	void *block;

	(void)ud;
	if (!ptr)
		osize = 0; /* Lua passes the kind of object there */
	if (nsize == 0) {
		if (ptr)
			release(ptr, osize);
		arena.used -= osize;
		return NULL;
	}
	if (nsize > osize && nsize - osize > arena.limit - arena.used)
		return refuse(nsize);

	block = resize(ptr, osize, nsize);
	if (!block)
		return refuse(nsize);
	arena.used += nsize - osize;
	arena.refused = 0;

	return block;
}
