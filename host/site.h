/* SPDX-License-Identifier: MIT */
/*
 * A site's files, opened with distrust: scripts, settings, and files that are appended to. No Lua in here.
 */
#ifndef HOST_SITE_H
#define HOST_SITE_H

#include <stddef.h>

#define SITE_SETTINGS "/etc/luacni/settings.json"
#define SITE_LIMIT ((size_t)1 << 20)

/*
 * Read the script at an absolute path. 0, -ENOENT when there is none, -E2BIG when `size` is too
 * small for it, and -EPERM for "not to be trusted", or another -errno, with the reason in `why`.
 * Folders and file are opened one by one, and checked when they are open, so that nothing can be swapped
 * between the check and the reading. The way to which a link leads is walked in the same manner, from the
 * root or from the link's folder.
 */
int site_read(const char *path, char *buf, size_t size, size_t *len, char *why, size_t why_size);

/*
 * Open a file to append to; with `make` it is made when it is not there. Returns a descriptor; -EPERM for
 * "not to be trusted" or not a file, or another -errno, with the reason in `why`. It is checked as above,
 * except that folders above the file's own need only be root's, and that no link is followed.
 */
int site_open_append(const char *path, int make, char *why, size_t size);

/* Whether anything is there, which may be refused by site_read(). */
int site_has(const char *path);

/*
 * Collect the names of the scripts in a folder, without ".lua", each with its zero byte. 0 or
 * -errno; -E2BIG when they do not fit.
 */
int site_list(const char *dir, char *buf, size_t size, size_t *len);

#endif
