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
 * call), so blocks lie densely and nothing is touched beforehand.
 */
#define GRAIN 16
#define FINE 512 /* classes of 16 bytes up to here, then four to a doubling */
#define LARGE 65536
#define CLASSES (FINE / GRAIN + 7 * 4)
#define FIRST_CHUNK ((size_t)256 << 10)
#define CHUNK ((size_t)1 << 20)
#if IMAGE
#define ROOM ((size_t)4 << 20) /* for the image at build time; only what is used is stored */
#define STORED __attribute__((section("luaimage")))
#else
#define ROOM GRAIN
#define STORED
#endif

/*
 * To undo what a script did takes memory too: this reserve is added to the limit once the script has
 * its error.
 */
#define RESERVE ((size_t)16 << 20)

static _Alignas(4096) char first_chunk[FIRST_CHUNK];

struct arena {
	char *next, *end;
	size_t used, limit;
	size_t refused; /* size refused last, 0 after a success */
	int exhausted;
	int storing; /* between alloc_begin_image() and alloc_end_image() */
	size_t litter; /* blocks up to this size lie outside of the section: they will be garbage; 0: none */
	size_t littered; /* how many such blocks there are */
	const char *stored; /* end of what is stored; behind it the heap may begin */
	lua_State *state;
	void *free[CLASSES];
};

/*
 * The section that the build stores: the arena itself, and the blocks that were taken from it during
 * the build.
 */
static STORED _Alignas(4096) struct {
	struct arena arena;
	_Alignas(GRAIN) char blocks[ROOM];
} image = {
	.arena = {
		.next = first_chunk,
		.end = first_chunk + FIRST_CHUNK,
		.limit = ALLOC_LIMIT,
	},
};

static struct arena *const arena = &image.arena;

void *__real_malloc(size_t size);
void *__real_realloc(void *ptr, size_t size);
void __real_free(void *ptr);
void *__wrap_malloc(size_t size);
void *__wrap_realloc(void *ptr, size_t size);
void __wrap_free(void *ptr);

int alloc_exhausted(void)
{
	return arena->exhausted;
}

lua_State *alloc_stored_state(void)
{
	return arena->state;
}

int alloc_storing(void)
{
	return arena->storing;
}

/* Whether a block lies in what is stored, or will be. */
static int is_stored(const void *ptr)
{
	const char *p = ptr;
	const char *end = arena->storing ? arena->end : arena->stored;

	return end && p >= image.blocks && p < end;
}

/* The class that holds `size` (1 to LARGE) bytes, and what a block of it really has. */
static unsigned class_of(size_t size, size_t *room)
{
	unsigned shift, quarter;

	if (size <= FINE) {
		unsigned fine = (unsigned)((size - 1) / GRAIN);

		*room = ((size_t)fine + 1) * GRAIN;
		return fine;
	}
	shift = 63 - (unsigned)__builtin_clzll(size - 1);
	quarter = (unsigned)((size - 1) >> (shift - 2)) & 3;
	*room = ((size_t)quarter + 5) << (shift - 2);

	return FINE / GRAIN + (shift - 9) * 4 + quarter;
}

/* Takes from the front of the chunk; what is left of a full one is lost. */
static void *carve(size_t room)
{
	char *block;

	if (room > (size_t)(arena->end - arena->next)) {
		size_t size = room > CHUNK ? room : CHUNK;
		char *chunk = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
				   -1, 0);

		if (chunk == MAP_FAILED)
			return NULL;
		arena->next = chunk;
		arena->end = chunk + size;
	}
	block = arena->next;
	arena->next += room;

	return block;
}

static void *take(size_t size)
{
	size_t room;
	unsigned class = class_of(size, &room);
	void *block = arena->free[class];

	if (size <= arena->litter) {
		arena->littered++;
		return __real_malloc(size);
	}
	if (!block)
		return carve(room);
	memcpy(&arena->free[class], block, sizeof block);

	return block;
}

static void give(void *block, size_t size)
{
	size_t room;
	unsigned class = class_of(size, &room);

	if (arena->litter) {
		arena->littered -= !is_stored(block);
		return;
	}
	memcpy(block, &arena->free[class], sizeof block);
	arena->free[class] = block;
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
	if (arena->refused == nsize && !arena->exhausted) {
		arena->exhausted = 1;
		arena->limit += RESERVE;
	}
	arena->refused = nsize;

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
		arena->used -= osize;
		return NULL;
	}
	if (nsize > osize && nsize - osize > arena->limit - arena->used)
		return refuse(nsize);

	block = resize(ptr, osize, nsize);
	if (!block)
		return refuse(nsize);
	arena->used += nsize - osize;
	arena->refused = 0;

	return block;
}

/*
 * The image.
 */

void alloc_begin_image(void)
{
	arena->storing = 1;
	arena->next = image.blocks;
	arena->end = image.blocks + ROOM;
}

void *alloc_outside(void *ud, void *ptr, size_t osize, size_t nsize)
{
	(void)ud;
	(void)osize;
	if (nsize)
		return __real_realloc(ptr, nsize);
	__real_free(ptr);

	return NULL;
}

void alloc_litter(size_t most)
{
	arena->litter = most;
}

int alloc_end_image(lua_State *L, const void **start, size_t *size)
{
	if (arena->end != image.blocks + ROOM || arena->littered)
		return -1;

	arena->stored = arena->next;
	*start = &image;
	*size = ((size_t)(arena->next - (char *)&image) + 4095) & ~(size_t)4095;
	/* Free blocks in the image are not used later: each would cost a copy of its page. */
	memset(arena->free, 0, sizeof arena->free);
	arena->storing = 0;
	arena->litter = 0;
	arena->next = first_chunk;
	arena->end = first_chunk + FIRST_CHUNK;
	arena->state = L;

	return 0;
}

/*
 * lua-cjson has buffers of its own, and those of a stored parser must be in the image too. So the
 * linker leads all calls of malloc() from what is linked statically to these functions. Stored blocks have
 * their size before them and are never freed.
 */
void *__wrap_malloc(size_t size)
{
	char *block;

	if (!arena->storing)
		return __real_malloc(size);
	block = carve((size + 2 * GRAIN - 1) / GRAIN * GRAIN);
	if (!block)
		return NULL;
	memcpy(block, &size, sizeof size);

	return block + GRAIN;
}

void *__wrap_realloc(void *ptr, size_t size)
{
	size_t old;
	void *block;

	if (!ptr || !is_stored(ptr))
		return ptr ? __real_realloc(ptr, size) : __wrap_malloc(size);
	memcpy(&old, (char *)ptr - GRAIN, sizeof old);
	block = __wrap_malloc(size);
	if (block)
		memcpy(block, ptr, old < size ? old : size);

	return block;
}

void __wrap_free(void *ptr)
{
	if (!is_stored(ptr))
		__real_free(ptr);
}
