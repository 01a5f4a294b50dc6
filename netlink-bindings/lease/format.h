/* SPDX-License-Identifier: MIT */
/*
 * The head of a lease index's file, and the state of an open index. lease/index.h says what is in the file,
 * lease/table.h where.
 */
#ifndef NETLINK_BINDINGS_LEASE_FORMAT_H
#define NETLINK_BINDINGS_LEASE_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LEASE_INDEX_WINDOW 64

/* How the directory looked when index and directory last agreed. */
struct lease_stamp {
	int64_t mtime_s, ctime_s;
	int64_t mtime_ns, ctime_ns;
};

/* Stored as it is, at the start of the file. */
struct lease_index_head {
	char magic[8];
	char boot[40];
	uint64_t dev, ino;
	struct lease_stamp stamp;
	int64_t cutoff;	   /* unmarked leases older than this are of an earlier boot; 0: none are */
	uint64_t seed;
	uint64_t leases;
	uint32_t clean;	   /* 0 while a change is under way */
	uint32_t debris;   /* files were seen that the next change is to remove */
	uint32_t unknown;  /* built from the files: some may be missing, until store:known() */
	uint32_t foreign;  /* somebody else has changed the directory since store:known() */
	uint32_t owner_cap, owners;
	uint32_t chunk_cap, chunks;
};

struct lease_index {
	int fd;		      /* -1: no file, the image is all there is */
	unsigned char *image; /* the whole content in memory, while it is being built */
	struct lease_index_head head;
	uint64_t window[LEASE_INDEX_WINDOW];
	uint32_t window_at;
	bool window_ok;
};

#endif
