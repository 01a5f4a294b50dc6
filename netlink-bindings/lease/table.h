/* SPDX-License-Identifier: MIT */
/*
 * The two tables of a lease index, in its file or in its image: where a word or chunk is, reading
 * it, writing it. For lease/index.c alone; its header says what they are for.
 */
#ifndef NETLINK_BINDINGS_LEASE_TABLE_H
#define NETLINK_BINDINGS_LEASE_TABLE_H

#include "lease/addr.h"
#include "lease/format.h"

#define CHUNK_SHIFT 12
#define CHUNK_SIZE (1u << CHUNK_SHIFT)
#define CHUNK_WORDS (CHUNK_SIZE / 64)

/* A slot of the chunk table. A chunk whose last lease is gone stays until the table grows. */
struct lease_chunk {
	uint32_t used;
	uint32_t v6;
	uint32_t count;
	uint32_t pad;
	uint64_t key_high, key_low; /* the address without its last 12 bits */
	uint64_t bits[CHUNK_WORDS];
};

/* Sizes of the file: where a chunk begins, and where the last one ends. */
size_t lease_chunk_at(const struct lease_index_head *head, uint32_t slot);
size_t lease_whole_size(const struct lease_index_head *head);

/* Read and write a place: in the image where there is one, else in the file. */
int lease_get(struct lease_index *ix, size_t at, void *buf, size_t len);
int lease_put(struct lease_index *ix, size_t at, const void *buf, size_t len);
int lease_put_file(int fd, size_t at, const void *buf, size_t len);

/* Spread a number over all 64 bits. */
uint64_t lease_mix(uint64_t h);

/*
 * The owner table: a word is tag << 32 | slot of the chunk << 12 | bit; 0 is an empty place. The
 * low bits of the tag are the word's home.
 */
uint64_t lease_word(uint32_t tag, uint32_t slot, uint32_t bit);
int lease_get_word(struct lease_index *ix, uint32_t pos, uint64_t *word);
int lease_add_word(struct lease_index *ix, uint64_t word);

/* -ESTALE: it is not there. */
int lease_del_word(struct lease_index *ix, uint64_t word);

/* Read the chunk of an address. 1: found; 0: absent, and *slot is where it would be. */
int lease_find_chunk(struct lease_index *ix, bool v6, lease_number key, struct lease_chunk *c,
		     uint32_t *slot);
int lease_put_chunk(struct lease_index *ix, uint32_t slot, const struct lease_chunk *c);

/* The address without its last 12 bits. */
lease_number lease_chunk_key(const struct lease_chunk *c);

bool lease_bit_is_set(const struct lease_chunk *c, uint32_t bit);

/* The lowest clear bit from `bit` on, CHUNK_SIZE for none. */
uint32_t lease_clear_bit(const struct lease_chunk *c, uint32_t bit);

/* How many bits are set from `first` to `last`. */
uint64_t lease_count_bits(const struct lease_chunk *c, uint32_t first, uint32_t last);

#endif
