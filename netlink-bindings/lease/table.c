/* SPDX-License-Identifier: MIT */
/* The two tables of a lease index. */
#include "lease/table.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define OWNERS_AT 256

/*
 * Where things are
 */

size_t lease_chunk_at(const struct lease_index_head *head, uint32_t slot)
{
	return OWNERS_AT + (size_t)head->owner_cap * 8 + (size_t)slot * sizeof(struct lease_chunk);
}

size_t lease_whole_size(const struct lease_index_head *head)
{
	return lease_chunk_at(head, head->chunk_cap);
}

int lease_get(struct lease_index *ix, size_t at, void *buf, size_t len)
{
	ssize_t n;

	if (ix->image) {
		memcpy(buf, ix->image + at, len);
		return 0;
	}
	do {
		n = pread(ix->fd, buf, len, (off_t)at);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;

	return (size_t)n == len ? 0 : -ESTALE;
}

int lease_put_file(int fd, size_t at, const void *buf, size_t len)
{
	const char *bytes = buf;

	while (len > 0) {
		ssize_t n = pwrite(fd, bytes, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		bytes += n;
		at += (size_t)n;
		len -= (size_t)n;
	}

	return 0;
}

int lease_put(struct lease_index *ix, size_t at, const void *buf, size_t len)
{
	if (!ix->image)
		return lease_put_file(ix->fd, at, buf, len);
	memcpy(ix->image + at, buf, len);

	return 0;
}

uint64_t lease_mix(uint64_t h)
{
	h = (h ^ h >> 33) * 0xff51afd7ed558ccdu;
	h = (h ^ h >> 33) * 0xc4ceb9fe1a85ec53u;

	return h ^ h >> 33;
}

/*
 * The owner table
 */

uint64_t lease_word(uint32_t tag, uint32_t slot, uint32_t bit)
{
	return (uint64_t)tag << 32 | slot << CHUNK_SHIFT | bit;
}

static uint32_t home_of(const struct lease_index *ix, uint64_t word)
{
	return (uint32_t)(word >> 32) & (ix->head.owner_cap - 1);
}

int lease_get_word(struct lease_index *ix, uint32_t pos, uint64_t *word)
{
	uint32_t at = pos & ~(LEASE_INDEX_WINDOW - 1u);
	int err;

	if (ix->image)
		return lease_get(ix, OWNERS_AT + (size_t)pos * 8, word, 8);

	if (!ix->window_ok || ix->window_at != at) {
		ix->window_ok = false;
		err = lease_get(ix, OWNERS_AT + (size_t)at * 8, ix->window, sizeof ix->window);
		if (err)
			return err;
		ix->window_at = at;
		ix->window_ok = true;
	}
	*word = ix->window[pos - at];

	return 0;
}

static int put_word(struct lease_index *ix, uint32_t pos, uint64_t word)
{
	if (ix->window_ok && pos - ix->window_at < LEASE_INDEX_WINDOW)
		ix->window[pos - ix->window_at] = word;

	return lease_put(ix, OWNERS_AT + (size_t)pos * 8, &word, 8);
}

/* The place of a word, or with a word of 0 the first empty place from `start` on. */
static int seek_word(struct lease_index *ix, uint64_t wanted, uint32_t start, uint32_t *pos)
{
	uint32_t mask = ix->head.owner_cap - 1;
	uint64_t word;

	for (uint32_t i = 0; i <= mask; i++) {
		int err = lease_get_word(ix, (start + i) & mask, &word);

		if (err)
			return err;
		if (word == wanted) {
			*pos = (start + i) & mask;
			return 0;
		}
		if (!word)
			break;
	}

	return -ESTALE;
}

int lease_add_word(struct lease_index *ix, uint64_t word)
{
	uint32_t pos;
	int err = seek_word(ix, 0, home_of(ix, word), &pos);

	if (err)
		return err;
	ix->head.owners++;

	return put_word(ix, pos, word);
}

/* Removes a word and closes the gap: words behind it move back, unless that brings them before their home. */
int lease_del_word(struct lease_index *ix, uint64_t word)
{
	uint32_t mask = ix->head.owner_cap - 1, gap, pos;
	int err = seek_word(ix, word, home_of(ix, word), &gap);

	if (err)
		return err;
	ix->head.owners--;
	for (pos = (gap + 1) & mask; pos != gap; pos = (pos + 1) & mask) {
		err = lease_get_word(ix, pos, &word);
		if (err || !word)
			break;
		if (((pos - home_of(ix, word)) & mask) < ((pos - gap) & mask))
			continue;
		err = put_word(ix, gap, word);
		if (err)
			break;
		gap = pos;
	}

	return err ? err : put_word(ix, gap, 0);
}

/*
 * The chunk table
 */

int lease_find_chunk(struct lease_index *ix, bool v6, lease_number key, struct lease_chunk *c,
		      uint32_t *slot)
{
	uint64_t high = (uint64_t)(key >> 64), low = (uint64_t)key;
	uint32_t mask = ix->head.chunk_cap - 1;
	uint32_t start = (uint32_t)lease_mix(low ^ lease_mix(high ^ v6));

	for (uint32_t i = 0; i <= mask; i++) {
		int err;

		*slot = (start + i) & mask;
		err = lease_get(ix, lease_chunk_at(&ix->head, *slot), c, sizeof *c);
		if (err)
			return err;
		if (!c->used)
			return 0;
		if (c->v6 == v6 && c->key_high == high && c->key_low == low)
			return 1;
	}

	return -ESTALE;
}

int lease_put_chunk(struct lease_index *ix, uint32_t slot, const struct lease_chunk *c)
{
	return lease_put(ix, lease_chunk_at(&ix->head, slot), c, sizeof *c);
}

lease_number lease_chunk_key(const struct lease_chunk *c)
{
	return (lease_number)c->key_high << 64 | c->key_low;
}

bool lease_bit_is_set(const struct lease_chunk *c, uint32_t bit)
{
	return c->bits[bit / 64] >> bit % 64 & 1;
}

uint32_t lease_clear_bit(const struct lease_chunk *c, uint32_t bit)
{
	uint64_t clear = ~c->bits[bit / 64] & ~(uint64_t)0 << bit % 64;

	for (uint32_t word = bit / 64;;) {
		if (clear)
			return word * 64 + (uint32_t)__builtin_ctzll(clear);
		if (++word == CHUNK_WORDS)
			return CHUNK_SIZE;
		clear = ~c->bits[word];
	}
}

uint64_t lease_count_bits(const struct lease_chunk *c, uint32_t first, uint32_t last)
{
	uint64_t n = 0;

	if (first == 0 && last == CHUNK_SIZE - 1)
		return c->count;
	for (uint32_t word = first / 64; word <= last / 64; word++) {
		uint64_t bits = c->bits[word];

		if (word == first / 64)
			bits &= ~(uint64_t)0 << first % 64;
		if (word == last / 64)
			bits &= ~(uint64_t)0 >> (63 - last % 64);
		n += (uint64_t)__builtin_popcountll(bits);
	}

	return n;
}
