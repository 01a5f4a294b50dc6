/* SPDX-License-Identifier: MIT */
/*
 * A lease directory in host-local's own format, under its lock:
 *
 *     <dataDir>/<network>/lock                  flock(2)ed over a whole operation
 *                         10.1.2.3              container ID, CR LF, interface name
 *                         last_reserved_ip.<n>  where the search of range set n goes on
 *
 * The files are the truth, and any other program may change them while we do not hold the lock.
 * What makes it quick is the index (lease/index.h). No policy in here, and no Lua.
 */
#ifndef NETLINK_BINDINGS_LEASE_DIR_H
#define NETLINK_BINDINGS_LEASE_DIR_H

#include <dirent.h>
#include <limits.h>

#include "lease/addr.h"
#include "lease/file.h"
#include "lease/index.h"

struct lease_list {
	struct lease_addr *at;
	size_t n, room;
};

struct lease_dir {
	int fd, lock;	   /* -1 when closed */
	bool shared;	   /* on a file system that other machines may write */
	bool unsettled;	   /* index and directory are to be matched when we are done */
	char boot[LEASE_BOOT_LEN + 1];
	char index_path[PATH_MAX];
	struct lease_index index;
	struct lease_list found;  /* what the last find or release met */
	struct lease_list debris; /* what the next change is to remove */
	bool debris_known, spare_left;
	DIR *each;
	struct lease_file file; /* the file that was read last */
};

/* Make it a closed one, which lease_dir_close() accepts. */
void lease_dir_init(struct lease_dir *d);

/*
 * Open and lock a directory, waiting at most timeout_ms (-ETIMEDOUT), and make its index ready.
 * Without `create` nothing is made, and -ENOENT says that there is no such directory.
 */
int lease_dir_open(struct lease_dir *d, const char *path, const char *index_dir, int timeout_ms,
		   bool create);

/*
 * Whether a directory, or what would have to be made for it, can be written: 0 or -errno. Looks only.
 */
int lease_dir_writable(const char *path);

/* Settle the index, give the lock back, free everything. Twice is fine. */
void lease_dir_close(struct lease_dir *d);

/*
 * Build the index anew: it was found wrong (-ESTALE), or could not be read or written (then it is kept in
 * memory from here on). On failure there is none.
 */
int lease_dir_recover(struct lease_dir *d, int why);

/* Whether a file that was read with its boot mark is void: debris, or of an earlier boot. */
bool lease_dir_is_void(const struct lease_dir *d, const struct lease_file *file);

/* A listing of the directory from its start, or NULL and errno. */
DIR *lease_dir_listing(const struct lease_dir *d);

int lease_list_add(struct lease_list *list, const struct lease_addr *addr);

/* The addresses of an owner's text go into d->found. */
int lease_dir_find(struct lease_dir *d, const char *owner, size_t len);

/* Write a lease. -EEXIST: taken. */
int lease_dir_reserve(struct lease_dir *d, const struct lease_addr *addr, const char *owner,
		      size_t len);

/* Remove a lease, whoever holds it. -ENOENT: there is none. */
int lease_dir_release(struct lease_dir *d, const struct lease_addr *addr);

/* Remove an owner's leases; they are in d->found, also on failure. */
int lease_dir_release_owner(struct lease_dir *d, const char *owner, size_t len);

/* As lease_index_free() and lease_index_count(). */
int lease_dir_free(struct lease_dir *d, const struct lease_addr *first,
		   const struct lease_addr *last, struct lease_addr *ret);
int lease_dir_count(struct lease_dir *d, const struct lease_addr *first,
		    const struct lease_addr *last, uint64_t *ret);

/* Range set n's last address. 1, or 0 when none is written or what is there is no address. */
int lease_dir_last(struct lease_dir *d, unsigned n, struct lease_addr *ret);
int lease_dir_set_last(struct lease_dir *d, unsigned n, const struct lease_addr *addr);

/*
 * Walk over the leases that name a container: 1 with the next one in *addr and d->file, 0 at the
 * end, after which it starts over.
 */
int lease_dir_each(struct lease_dir *d, struct lease_addr *addr);

/* Stop walking. */
void lease_dir_each_end(struct lease_dir *d);

#endif
