/* SPDX-License-Identifier: MIT */
/*
 * Single files of a lease directory: reading whose a lease is, writing one so that nobody ever
 * sees half of it, and telling leases of this boot from those of an earlier one. No Lua.
 */
#ifndef NETLINK_BINDINGS_LEASE_FILE_H
#define NETLINK_BINDINGS_LEASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LEASE_OWNER_MAX 4096
#define LEASE_BOOT_LEN 36

enum lease_kind {
	LEASE_OWNED,  /* names a container */
	LEASE_NOTE,   /* names none: somebody keeps the address for a purpose of their own */
	LEASE_DEBRIS, /* what a killed writer or a power cut leaves: empty, zeros, cut off */
};

struct lease_file {
	enum lease_kind kind;
	size_t len; /* of the text, without white space around it */
	size_t id_len;
	const char *ifname; /* NULL: written by an old version, with the container ID alone */
	int64_t ctime;
	char boot[LEASE_BOOT_LEN + 1]; /* the boot it is marked with, or "" */
	char text[LEASE_OWNER_MAX + 1];
};

/* Read a lease. -ENOENT: absent. The mark of the boot is only read when asked for. */
int lease_file_read(int dir, const char *name, bool with_boot, struct lease_file *ret);

/*
 * Create a file with this content, at once: before, there is none, afterwards it is whole.
 * -EEXIST when there is one. `boot` (may be "") is written as its mark, where the file system can.
 */
int lease_file_create(int dir, const char *name, const char *bytes, size_t len,
		      const char *boot);

/* The spare file, which a killed writer may leave: whether a name is that of the spare file; remove it. */
bool lease_file_is_spare(const char *name);
void lease_file_remove_spare(int dir);

/* Give a small file this content. A kill leaves the old or the new content, never a part. */
int lease_file_replace(int dir, const char *name, const char *bytes, size_t len);

/* Read a small file whole; -EFBIG when it does not fit. Returns its length or -errno. */
int lease_file_slurp(int dir, const char *name, char *buf, size_t size);

/* The kernel's name for this boot; "" where there is no /proc. */
void lease_boot_id(char boot[LEASE_BOOT_LEN + 1]);

/*
 * A time by which this boot had surely not begun any container: a file with an older ctime is of an
 * earlier boot. 0 when that cannot be said of any file.
 */
int64_t lease_boot_cutoff(void);

#endif
