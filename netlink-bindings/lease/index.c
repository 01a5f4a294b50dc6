/* SPDX-License-Identifier: MIT */
/* The index beside a lease directory. lease/index.h says how it is laid out, and what for. */
#include "lease/index.h"
#include "lease/table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define OWNER_CAP_MIN 128u
#define OWNER_CAP_MAX (1u << 28)
#define CHUNK_CAP_MIN 4u
#define CHUNK_CAP_MAX (1u << 20) /* a word of the owner table has 20 bits for the slot */

static const char magic[8] = "leases2";

static int put_head(struct lease_index *ix)
{
	return ix->fd < 0 ? 0 : lease_put_file(ix->fd, 0, &ix->head, sizeof ix->head);
}

uint32_t lease_index_tag(const struct lease_index *ix, const char *owner, size_t len)
{
	uint64_t h = ix->head.seed;
	uint32_t tag;

	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)owner[i]) * 0x100000001b3u;
	tag = (uint32_t)(lease_mix(h) >> 32);

	return tag ? tag : 1;
}

/* Whether there is an index. After a rebuild that failed there is none: that must not mean "all is free". */
static bool is_built(const struct lease_index *ix)
{
	return ix->head.chunk_cap > 0;
}

static uint32_t bit_of(const struct lease_addr *addr)
{
	return (uint32_t)addr->n & (CHUNK_SIZE - 1);
}

void lease_index_init(struct lease_index *ix)
{
	ix->fd = -1;
	ix->image = NULL;
	ix->window_ok = false;
	memset(&ix->head, 0, sizeof ix->head);
}

static void free_image(unsigned char *image, const struct lease_index_head *head)
{
	if (image)
		munmap(image, lease_whole_size(head));
}

void lease_index_close(struct lease_index *ix)
{
	free_image(ix->image, &ix->head);
	if (ix->fd >= 0)
		close(ix->fd);
	lease_index_init(ix);
}

static bool is_cap(uint32_t cap, uint32_t min, uint32_t max)
{
	return cap >= min && cap <= max && (cap & (cap - 1)) == 0;
}

int lease_index_load(struct lease_index *ix)
{
	const struct lease_index_head *head = &ix->head;
	struct stat st;
	ssize_t n;

	ix->window_ok = false;
	n = pread(ix->fd, &ix->head, sizeof ix->head, 0);
	if (n < 0 || fstat(ix->fd, &st) < 0)
		return -errno;
	if ((size_t)n == sizeof ix->head && memcmp(head->magic, magic, sizeof magic) == 0 &&
	    is_cap(head->owner_cap, OWNER_CAP_MIN, OWNER_CAP_MAX) &&
	    is_cap(head->chunk_cap, CHUNK_CAP_MIN, CHUNK_CAP_MAX) &&
	    (size_t)st.st_size == lease_whole_size(head))
		return 0;
	memset(&ix->head, 0, sizeof ix->head);

	return -EINVAL;
}

/* The size, at least `cap`, that keeps a table of so many words at most half full. */
static uint32_t owner_room(uint64_t words, uint32_t cap)
{
	while (cap < OWNER_CAP_MAX && words * 2 > cap)
		cap *= 2;

	return cap;
}

/*
 * The size that keeps a new chunk table at most a third full. It grows when it is half full, and until then
 * chunks whose leases are gone stay in it: so there has to be room for those.
 */
static uint32_t chunk_room(uint64_t chunks)
{
	uint32_t cap = CHUNK_CAP_MIN;

	while (cap < CHUNK_CAP_MAX && chunks * 3 > cap)
		cap *= 2;

	return cap;
}

static int new_image(struct lease_index *ix, uint32_t owner_cap, uint32_t chunk_cap)
{
	struct lease_index_head head = ix->head;
	unsigned char *image;

	memcpy(head.magic, magic, sizeof magic);
	head.owner_cap = owner_cap;
	head.chunk_cap = chunk_cap;
	head.owners = 0;
	head.chunks = 0;
	head.clean = 0;
	/* Not from the heap, which would keep the megabyte that a large directory takes. */
	image = mmap(NULL, lease_whole_size(&head), PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (image == MAP_FAILED)
		return -errno;
	ix->head = head;
	ix->image = image;
	ix->window_ok = false;

	return 0;
}

int lease_index_clear(struct lease_index *ix, uint32_t expected)
{
	struct lease_index old = *ix;
	uint64_t seed = 0;
	int err;

	if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) < 0)
		seed = (uint64_t)(uintptr_t)ix; /* before the pool is up: any seed is correct */
	err = new_image(ix, owner_room(expected, OWNER_CAP_MIN),
			chunk_room(expected / (CHUNK_SIZE / 4)));
	if (err)
		return err;
	free_image(old.image, &old.head);
	ix->head.seed = seed;
	ix->head.leases = 0;
	ix->head.debris = 0;

	return 0;
}

int lease_index_flush(struct lease_index *ix)
{
	size_t size = lease_whole_size(&ix->head);
	int err;

	if (ix->fd < 0 || !ix->image)
		return 0;
	ix->head.clean = 0;
	memcpy(ix->image, &ix->head, sizeof ix->head);
	/* Every block is written, also the empty ones: later changes then need no space. */
	if (ftruncate(ix->fd, (off_t)size) < 0)
		return -errno;
	err = lease_put_file(ix->fd, 0, ix->image, size);
	if (err)
		return err;
	free_image(ix->image, &ix->head);
	ix->image = NULL;
	ix->window_ok = false;

	return 0;
}

int lease_index_dirty(struct lease_index *ix)
{
	if (!ix->head.clean)
		return 0;
	ix->head.clean = 0;

	return put_head(ix);
}

int lease_index_settle(struct lease_index *ix, const struct lease_stamp *stamp)
{
	int err = 0;

	if (ix->head.leases == 0 && ix->head.chunk_cap + ix->head.owner_cap >
				    CHUNK_CAP_MIN + OWNER_CAP_MIN) {
		uint32_t debris = ix->head.debris;

		err = lease_index_clear(ix, 0);
		ix->head.debris = debris;
		if (!err)
			err = lease_index_flush(ix);
	}
	if (err)
		return err;
	ix->head.stamp = *stamp;
	ix->head.clean = 1;

	return put_head(ix);
}

/* Chunks that hold a lease go to the new image, where they have other slots. */
static int move_chunks(struct lease_index *ix, struct lease_index *old, uint32_t *moved)
{
	struct lease_chunk c, none;
	int err = 0;

	for (uint32_t i = 0; !err && i < old->head.chunk_cap; i++) {
		err = lease_get(old, lease_chunk_at(&old->head, i), &c, sizeof c);
		if (err || !c.used || c.count == 0)
			continue;
		err = lease_find_chunk(ix, c.v6, lease_chunk_key(&c), &none, &moved[i]);
		if (!err)
			err = lease_put_chunk(ix, moved[i], &c);
		ix->head.chunks++;
	}

	return err > 0 ? -ESTALE : err;
}

static int move_words(struct lease_index *ix, struct lease_index *old, const uint32_t *moved)
{
	uint64_t word;
	int err = 0;

	for (uint32_t i = 0; !err && i < old->head.owner_cap; i++) {
		uint32_t slot;

		err = lease_get_word(old, i, &word);
		if (err || !word)
			continue;
		slot = (uint32_t)word >> CHUNK_SHIFT;
		if (slot >= old->head.chunk_cap)
			return -ESTALE;
		word = lease_word((uint32_t)(word >> 32), moved[slot], word & (CHUNK_SIZE - 1));
		err = lease_add_word(ix, word);
	}

	return err;
}

static int count_live(struct lease_index *ix, uint32_t *live)
{
	struct lease_chunk c;
	int err = 0;

	*live = 0;
	for (uint32_t i = 0; !err && i < ix->head.chunk_cap; i++) {
		err = lease_get(ix, lease_chunk_at(&ix->head, i), &c, sizeof c);
		*live += !err && c.used && c.count > 0;
	}

	return err;
}

/* Doubles the table that is half full. It walks over all leases, once in as many ADDs as there are leases. */
static int grow(struct lease_index *ix)
{
	struct lease_index old = *ix;
	uint32_t owner_cap = owner_room(ix->head.owners + 1, ix->head.owner_cap);
	uint32_t *moved = calloc(ix->head.chunk_cap, sizeof *moved);
	uint32_t live;
	int err = moved ? count_live(ix, &live) : -ENOMEM;

	if (!err)
		err = new_image(ix, owner_cap, chunk_room(live + 1));
	if (err)
		goto out;
	err = move_chunks(ix, &old, moved);
	if (!err)
		err = move_words(ix, &old, moved);
	if (err) {
		free_image(ix->image, &ix->head);
		*ix = old;
		goto out;
	}
	if (old.image)
		free_image(old.image, &old.head);
	else
		err = lease_index_flush(ix);
out:
	free(moved);

	return err;
}

int lease_index_add(struct lease_index *ix, const struct lease_addr *addr, uint32_t tag)
{
	lease_number key = addr->n >> CHUNK_SHIFT;
	uint32_t slot, bit = bit_of(addr);
	struct lease_chunk c;
	int found, err;

	if (!is_built(ix))
		return -ESTALE;
	if ((ix->head.owners + 1) * 2 > ix->head.owner_cap ||
	    (ix->head.chunks + 1) * 2 > ix->head.chunk_cap) {
		err = grow(ix);
		if (err)
			return err;
	}
	found = lease_find_chunk(ix, addr->v6, key, &c, &slot);
	if (found < 0)
		return found;
	if (!found) {
		memset(&c, 0, sizeof c);
		c.used = 1;
		c.v6 = addr->v6;
		c.key_high = (uint64_t)(key >> 64);
		c.key_low = (uint64_t)key;
		ix->head.chunks++;
	}
	if (lease_bit_is_set(&c, bit))
		return -ESTALE;
	c.bits[bit / 64] |= (uint64_t)1 << bit % 64;
	c.count++;
	ix->head.leases++;
	err = lease_put_chunk(ix, slot, &c);

	return err || !tag ? err : lease_add_word(ix, lease_word(tag, slot, bit));
}

int lease_index_del(struct lease_index *ix, const struct lease_addr *addr, uint32_t tag)
{
	uint32_t slot, bit = bit_of(addr);
	struct lease_chunk c;
	int found = lease_find_chunk(ix, addr->v6, addr->n >> CHUNK_SHIFT, &c, &slot);
	int err;

	if (found < 0)
		return found;
	if (!found || !lease_bit_is_set(&c, bit))
		return -ESTALE;
	c.bits[bit / 64] &= ~((uint64_t)1 << bit % 64);
	c.count--;
	ix->head.leases--;
	err = lease_put_chunk(ix, slot, &c);

	return err || !tag ? err : lease_del_word(ix, lease_word(tag, slot, bit));
}

int lease_index_has(struct lease_index *ix, const struct lease_addr *addr)
{
	struct lease_chunk c;
	uint32_t slot;
	int found = lease_find_chunk(ix, addr->v6, addr->n >> CHUNK_SHIFT, &c, &slot);

	return found <= 0 ? found : lease_bit_is_set(&c, bit_of(addr));
}

int lease_index_next(struct lease_index *ix, uint32_t tag, uint32_t *cursor,
		     struct lease_addr *ret)
{
	uint32_t mask = ix->head.owner_cap - 1;
	struct lease_chunk c;
	uint64_t word;

	if (!is_built(ix))
		return -ESTALE;
	while (*cursor <= mask) {
		int err = lease_get_word(ix, (tag + (*cursor)++) & mask, &word);
		uint32_t slot = (uint32_t)word >> CHUNK_SHIFT;

		if (err)
			return err;
		if (!word)
			return 0;
		if (word >> 32 != tag)
			continue;
		err = slot < ix->head.chunk_cap ?
			      lease_get(ix, lease_chunk_at(&ix->head, slot), &c, sizeof c) :
			      -ESTALE;
		if (err)
			return err;
		ret->v6 = c.v6;
		ret->n = lease_chunk_key(&c) << CHUNK_SHIFT | (word & (CHUNK_SIZE - 1));
		return 1;
	}

	return 0;
}

int lease_index_free(struct lease_index *ix, const struct lease_addr *first,
		     const struct lease_addr *last, struct lease_addr *ret)
{
	lease_number n = first->n;
	struct lease_chunk c;
	uint32_t slot;

	while (n <= last->n) {
		lease_number key = n >> CHUNK_SHIFT;
		int found = lease_find_chunk(ix, first->v6, key, &c, &slot);
		uint32_t bit = CHUNK_SIZE;

		if (found < 0)
			return found;
		if (!found)
			bit = (uint32_t)n & (CHUNK_SIZE - 1);
		else if (c.count < CHUNK_SIZE)
			bit = lease_clear_bit(&c, (uint32_t)n & (CHUNK_SIZE - 1));
		if (bit < CHUNK_SIZE) {
			ret->v6 = first->v6;
			ret->n = key << CHUNK_SHIFT | bit;
			return ret->n <= last->n;
		}
		n = (key + 1) << CHUNK_SHIFT;
		if (n == 0)
			break;
	}

	return 0;
}

/* What a chunk contributes to the count of a span. */
static uint64_t count_in(const struct lease_chunk *c, lease_number first, lease_number last)
{
	lease_number low = lease_chunk_key(c) << CHUNK_SHIFT, high = low + (CHUNK_SIZE - 1);

	if (high < first || low > last)
		return 0;

	return lease_count_bits(c, low < first ? (uint32_t)(first - low) : 0,
			  high > last ? (uint32_t)(last - low) : CHUNK_SIZE - 1);
}

int lease_index_count(struct lease_index *ix, const struct lease_addr *first,
		      const struct lease_addr *last, uint64_t *ret)
{
	lease_number key = first->n >> CHUNK_SHIFT, end = last->n >> CHUNK_SHIFT;
	bool by_key = end - key < ix->head.chunk_cap;
	struct lease_chunk c;
	uint32_t slot;
	uint64_t n = 0;
	int err;

	if (!is_built(ix))
		return -ESTALE;
	for (; by_key && key <= end; key++) {
		err = lease_find_chunk(ix, first->v6, key, &c, &slot);
		if (err < 0)
			return err;
		n += err ? count_in(&c, first->n, last->n) : 0;
	}
	for (slot = 0; !by_key && slot < ix->head.chunk_cap; slot++) {
		err = lease_get(ix, lease_chunk_at(&ix->head, slot), &c, sizeof c);
		if (err)
			return err;
		if (c.used && c.v6 == first->v6)
			n += count_in(&c, first->n, last->n);
	}
	*ret = n;

	return 0;
}
