/* SPDX-License-Identifier: MIT */
/*
 * What is asked of a lease directory, and what is changed in it. Each question goes to the index;
 * when that is found wrong, it is rebuilt from the files and asked once more.
 */
#include "lease/dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/*
 * Look-ups
 */

int lease_dir_free(struct lease_dir *d, const struct lease_addr *first,
		   const struct lease_addr *last, struct lease_addr *ret)
{
	int err = lease_index_free(&d->index, first, last, ret);

	if (err < 0)
		err = lease_dir_recover(d, err);
	else
		return err;

	return err ? err : lease_index_free(&d->index, first, last, ret);
}

int lease_dir_count(struct lease_dir *d, const struct lease_addr *first,
		    const struct lease_addr *last, uint64_t *ret)
{
	int err = lease_index_count(&d->index, first, last, ret);

	if (err)
		err = lease_dir_recover(d, err);
	else
		return 0;

	return err ? err : lease_index_count(&d->index, first, last, ret);
}

/* 1 taken, 0 free. */
static int is_taken(struct lease_dir *d, const struct lease_addr *addr)
{
	int err = lease_index_has(&d->index, addr);

	if (err < 0)
		err = lease_dir_recover(d, err);
	else
		return err;

	return err ? err : lease_index_has(&d->index, addr);
}

/*
 * Reads the lease that the index gives for an owner. 1: it is that owner's; 0: it is one of another owner
 * with the same tag; -ESTALE: the index is wrong.
 */
static int confirm(struct lease_dir *d, const struct lease_addr *addr, uint32_t tag,
		   const char *owner, size_t len)
{
	struct lease_file *file = &d->file;
	char name[LEASE_ADDR_TEXT];
	int err;

	lease_addr_text(addr, name);
	err = lease_file_read(d->fd, name, false, file);
	if (err)
		return err == -ENOENT ? -ESTALE : err;
	if (file->len == len && memcmp(file->text, owner, len) == 0)
		return 1;

	return lease_index_tag(&d->index, file->text, file->len) == tag ? 0 : -ESTALE;
}

static int find_once(struct lease_dir *d, const char *owner, size_t len)
{
	uint32_t tag = lease_index_tag(&d->index, owner, len), cursor = 0;
	struct lease_addr addr;
	int more, mine;

	d->found.n = 0;
	while ((more = lease_index_next(&d->index, tag, &cursor, &addr)) > 0) {
		mine = confirm(d, &addr, tag, owner, len);
		if (mine > 0)
			mine = lease_list_add(&d->found, &addr);
		if (mine < 0)
			return mine;
	}

	return more;
}

int lease_dir_find(struct lease_dir *d, const char *owner, size_t len)
{
	int err = find_once(d, owner, len);

	if (err == -ESTALE) {
		err = lease_dir_recover(d, err);
		if (!err)
			err = find_once(d, owner, len);
	}

	return err;
}

/*
 * Changes
 */

/* A file that cannot be removed keeps its address taken: else that would be offered again and again. */
static int remove_debris(struct lease_dir *d)
{
	char name[LEASE_ADDR_TEXT];
	int err = 0;

	for (size_t i = 0; !err && i < d->debris.n; i++) {
		lease_addr_text(&d->debris.at[i], name);
		if (unlinkat(d->fd, name, 0) < 0 && errno != ENOENT)
			err = lease_index_add(&d->index, &d->debris.at[i], 0);
	}
	if (d->spare_left)
		lease_file_remove_spare(d->fd);
	d->debris.n = 0;
	d->spare_left = false;
	d->index.head.debris = 0;
	d->index.head.cutoff = 0;

	return err;
}

/* Before the first change of an operation. */
static int begin(struct lease_dir *d)
{
	int err = 0;

	if (d->index.head.debris && !d->debris_known)
		err = lease_dir_recover(d, -ESTALE);
	if (err)
		return err;
	err = lease_index_dirty(&d->index);
	if (err)
		err = lease_dir_recover(d, err);
	if (err)
		return err;
	d->unsettled = true;

	return d->index.head.debris ? remove_debris(d) : 0;
}

int lease_dir_reserve(struct lease_dir *d, const struct lease_addr *addr, const char *owner,
		      size_t len)
{
	char name[LEASE_ADDR_TEXT];
	int err = len > LEASE_OWNER_MAX ? -ENAMETOOLONG : begin(d);

	if (err)
		return err;
	err = is_taken(d, addr);
	if (err)
		return err < 0 ? err : -EEXIST;

	lease_addr_text(addr, name);
	err = lease_file_create(d->fd, name, owner, len, d->shared ? "" : d->boot);
	if (err == -EEXIST) {
		/* The index did not know the file. Only an error of the rebuild may replace this answer. */
		err = lease_dir_recover(d, -ESTALE);
		return err ? err : -EEXIST;
	}
	if (err)
		return err;
	err = lease_index_add(&d->index, addr, lease_index_tag(&d->index, owner, len));
	if (err)
		err = lease_dir_recover(d, err);
	if (err)
		unlinkat(d->fd, name, 0);

	return err;
}

static int remove_lease(struct lease_dir *d, const struct lease_addr *addr)
{
	char name[LEASE_ADDR_TEXT];
	uint32_t tag = 0;
	int err = begin(d);

	lease_addr_text(addr, name);
	if (!err)
		err = lease_file_read(d->fd, name, false, &d->file);
	if (!err && unlinkat(d->fd, name, 0) < 0)
		err = -errno;
	if (err)
		return err;
	if (d->file.len)
		tag = lease_index_tag(&d->index, d->file.text, d->file.len);
	err = lease_index_del(&d->index, addr, tag);

	return err ? lease_dir_recover(d, err) : 0;
}

int lease_dir_release(struct lease_dir *d, const struct lease_addr *addr)
{
	int taken = is_taken(d, addr);

	if (taken <= 0)
		return taken ? taken : -ENOENT;

	return remove_lease(d, addr);
}

int lease_dir_release_owner(struct lease_dir *d, const char *owner, size_t len)
{
	int err = lease_dir_find(d, owner, len);

	for (size_t i = 0; !err && i < d->found.n; i++) {
		err = remove_lease(d, &d->found.at[i]);
		if (err == -ENOENT)
			err = 0;
	}

	return err;
}

/*
 * Where the search goes on
 */

static void last_name(unsigned n, char name[32])
{
	snprintf(name, 32, "last_reserved_ip.%u", n);
}

int lease_dir_last(struct lease_dir *d, unsigned n, struct lease_addr *ret)
{
	char name[32], text[LEASE_ADDR_TEXT];
	int len;

	last_name(n, name);
	len = lease_file_slurp(d->fd, name, text, sizeof text);
	if (len < 0)
		return len == -ENOENT || len == -EFBIG ? 0 : len;
	text[len] = '\0';

	return lease_addr_parse(text, (size_t)len, ret);
}

int lease_dir_set_last(struct lease_dir *d, unsigned n, const struct lease_addr *addr)
{
	char name[32], text[LEASE_ADDR_TEXT];
	int err = begin(d);

	if (err)
		return err;
	last_name(n, name);
	lease_addr_text(addr, text);

	return lease_file_replace(d->fd, name, text, strlen(text));
}

/*
 * All of them
 */

int lease_dir_each(struct lease_dir *d, struct lease_addr *addr)
{
	const struct dirent *entry;
	int err = 0;

	if (!d->each)
		d->each = lease_dir_listing(d);
	if (!d->each)
		return -errno;
	while (!err) {
		errno = 0;
		entry = readdir(d->each);
		if (!entry) {
			err = -errno;
			break;
		}
		if (!lease_addr_from_name(entry->d_name, addr))
			continue;
		err = lease_file_read(d->fd, entry->d_name, true, &d->file);
		if (!err && d->file.kind == LEASE_OWNED && !lease_dir_is_void(d, &d->file))
			return 1;
		if (err == -ENOENT)
			err = 0;
	}
	lease_dir_each_end(d);

	return err;
}
