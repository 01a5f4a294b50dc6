/* SPDX-License-Identifier: MIT */
/*
 * The index beside a lease directory: who holds which address, and which addresses are taken, so
 * that neither question reads the directory.
 *
 *     header | owner table: tag of owner -> address | chunk table: 4096 addresses a bitmap
 *
 * Both tables are open addressing, at most half full. A look-up reads a few hundred bytes with
 * pread(2), wherever they are: memory use does not depend on the number of leases, and a full
 * /run is an error code where a mapping would be a SIGBUS. The index holds nothing that is not in
 * the lease directory: a call that finds it marked unclean, or made for another state of the
 * directory, builds it anew. It is only ever touched under the directory's lock. No Lua.
 */
#ifndef NETLINK_BINDINGS_LEASE_INDEX_H
#define NETLINK_BINDINGS_LEASE_INDEX_H

#include "lease/addr.h"
#include "lease/format.h"

void lease_index_init(struct lease_index *ix);

/* Free the image and close the file. */
void lease_index_close(struct lease_index *ix);

/* Read the header of ix->fd. -EINVAL: not an index, or a damaged one. */
int lease_index_load(struct lease_index *ix);

/*
 * Start an empty image with room for so many leases; dev, ino, boot and cutoff of the header are
 * the caller's to fill.
 */
int lease_index_clear(struct lease_index *ix, uint32_t expected);

/* Write the image to ix->fd, still marked unclean, and let go of it. Without a file: keep it. */
int lease_index_flush(struct lease_index *ix);

/* Mark the file unclean. To be called before the first change to the directory. */
int lease_index_dirty(struct lease_index *ix);

/* Mark it clean for this state of the directory. Gives memory back when no lease is left. */
int lease_index_settle(struct lease_index *ix, const struct lease_stamp *stamp);

/* The tag of an owner's text, never 0. Two owners may share one: the lease file decides. */
uint32_t lease_index_tag(const struct lease_index *ix, const char *owner, size_t len);

/* Add and remove an address. A tag of 0: taken, and nobody's. -ESTALE: the index is wrong. */
int lease_index_add(struct lease_index *ix, const struct lease_addr *addr, uint32_t tag);
int lease_index_del(struct lease_index *ix, const struct lease_addr *addr, uint32_t tag);

/* 1 taken, 0 free, or -errno. */
int lease_index_has(struct lease_index *ix, const struct lease_addr *addr);

/* The next address under a tag: 1, 0 at the end, -errno. *cursor starts at 0. */
int lease_index_next(struct lease_index *ix, uint32_t tag, uint32_t *cursor,
		     struct lease_addr *ret);

/* The lowest free address from *first to *last: 1, 0 when all are taken, -errno. */
int lease_index_free(struct lease_index *ix, const struct lease_addr *first,
		     const struct lease_addr *last, struct lease_addr *ret);

/* How many from *first to *last are taken. */
int lease_index_count(struct lease_index *ix, const struct lease_addr *first,
		      const struct lease_addr *last, uint64_t *ret);

#endif
