/* SPDX-License-Identifier: MIT */
/*
 * A lease directory under its lock: whether its index is still true, and how it is built anew.
 *
 * Any foreign change to the directory (a file made, removed, renamed) alters its times. So after
 * our last change, still under the lock, the directory's mtime is set to a value that the kernel
 * does not produce by itself, and kept in the index: while directory and index agree on it, nobody
 * else was there. Before our first change the index is marked unclean; a call that is killed in between
 * leaves an index that the next call builds anew, from files that are each whole or absent.
 *
 * Nothing is flushed to disk: a power cut ends all network namespaces, so every lease is void
 * after it, and what it leaves of their files is reclaimed, whole or torn.
 */
#include "lease/dir.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "sys/sys.h"

/* How far the stamp is set back, so that with no granularity of clocks a later change has the same time. */
#define STAMP_AGE_S 10

/*
 * Lists
 */

int lease_list_add(struct lease_list *list, const struct lease_addr *addr)
{
	if (list->n == list->room) {
		size_t room = list->room ? list->room * 2 : 8;
		struct lease_addr *at = realloc(list->at, room * sizeof *at);

		if (!at)
			return -ENOMEM;
		list->at = at;
		list->room = room;
	}
	list->at[list->n++] = *addr;

	return 0;
}

static void list_free(struct lease_list *list)
{
	free(list->at);
	*list = (struct lease_list){ 0 };
}

/*
 * The index: fresh, rebuilt, or given up
 */

static struct lease_stamp stamp_of(const struct stat *st)
{
	return (struct lease_stamp){
		.mtime_s = st->st_mtim.tv_sec,
		.mtime_ns = st->st_mtim.tv_nsec,
		.ctime_s = st->st_ctim.tv_sec,
		.ctime_ns = st->st_ctim.tv_nsec,
	};
}

/* Whether the index was made in this boot and for this directory, whatever has changed since. */
static bool is_ours(const struct lease_dir *d, const struct stat *st)
{
	const struct lease_index_head *head = &d->index.head;

	return head->dev == st->st_dev && head->ino == st->st_ino &&
	       strcmp(head->boot, d->boot) == 0;
}

static bool is_fresh(const struct lease_dir *d, const struct stat *st)
{
	const struct lease_index_head *head = &d->index.head;
	struct lease_stamp stamp = stamp_of(st);

	return head->clean && memcmp(&stamp, &head->stamp, sizeof stamp) == 0;
}

/* Go on with the index in memory alone. */
static void give_up_file(struct lease_dir *d)
{
	if (d->index.fd < 0)
		return;
	close(d->index.fd);
	d->index.fd = -1;
	d->index.window_ok = false;
	unlink(d->index_path);
}

bool lease_dir_is_void(const struct lease_dir *d, const struct lease_file *file)
{
	if (file->kind != LEASE_OWNED || d->shared || !d->boot[0])
		return file->kind == LEASE_DEBRIS;
	if (file->boot[0])
		return strcmp(file->boot, d->boot) != 0;

	return file->ctime < d->index.head.cutoff;
}

/* Takes one file into the new index, or notes it as debris. */
static int scan_file(struct lease_dir *d, const char *name)
{
	struct lease_addr addr;
	uint32_t tag = 0;
	int err;

	if (!lease_addr_from_name(name, &addr)) {
		d->spare_left = d->spare_left || lease_file_is_spare(name);
		return 0;
	}
	err = lease_file_read(d->fd, name, true, &d->file);
	if (err)
		return err == -ENOENT ? 0 : err;
	if (lease_dir_is_void(d, &d->file))
		return lease_list_add(&d->debris, &addr);
	if (d->file.len)
		tag = lease_index_tag(&d->index, d->file.text, d->file.len);

	return lease_index_add(&d->index, &addr, tag);
}

DIR *lease_dir_listing(const struct lease_dir *d)
{
	int fd = openat(d->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (!dir && fd >= 0)
		close(fd);

	return dir;
}

/* Every name once, to know how large the index will be. */
static uint32_t count_names(DIR *dir)
{
	uint32_t n = 0;

	while (readdir(dir))
		n++;
	rewinddir(dir);

	return n;
}

static int scan(struct lease_dir *d, DIR *dir)
{
	const struct dirent *entry;
	int err = 0;

	while (!err) {
		errno = 0;
		entry = readdir(dir);
		if (!entry) {
			err = -errno;
			break;
		}
		err = scan_file(d, entry->d_name);
	}

	return err;
}

/*
 * Builds the index from the files. Debris counts as absent from here on, but is removed only by
 * the next change: looking at a directory must not alter it.
 */
static int rebuild(struct lease_dir *d, const struct stat *st)
{
	struct lease_index_head *head = &d->index.head;
	int64_t cutoff = is_ours(d, st) ? head->cutoff : lease_boot_cutoff();
	DIR *dir = lease_dir_listing(d);
	int err;

	if (!dir)
		return -errno;
	err = lease_index_clear(&d->index, count_names(dir));
	if (err)
		goto out;
	memset(head->boot, 0, sizeof head->boot);
	memcpy(head->boot, d->boot, sizeof d->boot);
	head->dev = st->st_dev;
	head->ino = st->st_ino;
	head->cutoff = cutoff;
	d->debris.n = 0;
	d->spare_left = false;
	err = scan(d, dir);
	if (err)
		goto out;
	d->debris_known = true;
	head->unknown = 1;
	head->debris = d->debris.n > 0 || d->spare_left;
	if (!head->debris)
		head->cutoff = 0;
	d->unsettled = true;
	if (lease_index_flush(&d->index))
		give_up_file(d);
out:
	closedir(dir);

	return err;
}

int lease_dir_recover(struct lease_dir *d, int why)
{
	struct stat st;
	int err;

	if (why != -ESTALE)
		give_up_file(d);
	err = fstat(d->fd, &st) < 0 ? -errno : rebuild(d, &st);
	if (err) {
		give_up_file(d);
		lease_index_close(&d->index);
	}

	return err;
}

/*
 * Where another machine may write, our times and boots prove nothing: then the directory is read
 * anew each time, and only what is torn is reclaimed.
 */
static bool is_shared(int fd)
{
	static const uint32_t kinds[] = {
		NFS_SUPER_MAGIC,  SMB_SUPER_MAGIC, 0xff534d42 /* cifs */, 0xfe534d42 /* smb2 */,
		CODA_SUPER_MAGIC, V9FS_MAGIC,	   CEPH_SUPER_MAGIC,	  OCFS2_SUPER_MAGIC,
		AFS_SUPER_MAGIC,  FUSE_SUPER_MAGIC, 0x01161970 /* gfs2 */, 0x0bd00bd0 /* lustre */,
		0x47504653 /* gpfs */,
	};
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0)
		return true;
	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
		if ((uint32_t)fs.f_type == kinds[i])
			return true;

	return false;
}

static int make_dirs(const char *path, mode_t mode)
{
	char copy[PATH_MAX];
	size_t len = strlen(path);

	if (len >= sizeof copy)
		return -ENAMETOOLONG;
	memcpy(copy, path, len + 1);
	for (size_t i = 1; i <= len; i++) {
		if (copy[i] != '/' && copy[i] != '\0')
			continue;
		copy[i] = '\0';
		if (mkdir(copy, mode) < 0 && errno != EEXIST)
			return -errno;
		copy[i] = i < len ? '/' : '\0';
	}

	return 0;
}

/* A descriptor; -1 when there can be no file: then the index is in memory, until the directory is closed. */
static int open_index(const char *index_dir, const char *path)
{
	int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW;
	int fd = open(path, flags);

	if (fd >= 0 || errno != ENOENT || make_dirs(index_dir, 0700))
		return fd;

	return open(path, flags | O_CREAT, 0600);
}

static int ready_index(struct lease_dir *d, const char *index_dir)
{
	struct stat st;
	int n, err;

	if (fstat(d->fd, &st) < 0)
		return -errno;
	n = snprintf(d->index_path, sizeof d->index_path, "%s/%llx-%llx", index_dir,
		     (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
	if (n < 0 || (size_t)n >= sizeof d->index_path)
		return -ENAMETOOLONG;

	lease_boot_id(d->boot);
	d->index.fd = open_index(index_dir, d->index_path);
	if (d->index.fd >= 0) {
		err = lease_index_load(&d->index);
		if (!err && is_ours(d, &st) && is_fresh(d, &st))
			return 0;
		if (err || !is_ours(d, &st))
			d->index.head.foreign = 0;
		else if (d->index.head.clean)
			d->index.head.foreign = 1;
	}
	d->shared = is_shared(d->fd);
	if (d->shared)
		give_up_file(d);

	return rebuild(d, &st);
}

static void settle(struct lease_dir *d)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT } };
	struct lease_stamp stamp;
	uint32_t noise = 0;
	struct stat st;

	if (!d->unsettled || d->index.fd < 0)
		return;
	if (getrandom(&noise, sizeof noise, GRND_NONBLOCK) < 0)
		noise = (uint32_t)getpid();
	clock_gettime(CLOCK_REALTIME, &times[1]);
	times[1].tv_sec -= STAMP_AGE_S;
	times[1].tv_nsec = noise % 1000000000;
	/* File systems round: what counts is what can be read back. */
	if (futimens(d->fd, times) < 0 || fstat(d->fd, &st) < 0)
		return;
	stamp = stamp_of(&st);
	lease_index_settle(&d->index, &stamp);
}

/*
 * Open and close
 */

void lease_dir_init(struct lease_dir *d)
{
	memset(d, 0, sizeof *d);
	d->fd = d->lock = -1;
	lease_index_init(&d->index);
}

void lease_dir_each_end(struct lease_dir *d)
{
	if (d->each)
		closedir(d->each);
	d->each = NULL;
}

void lease_dir_close(struct lease_dir *d)
{
	if (d->fd >= 0)
		settle(d);
	lease_dir_each_end(d);
	lease_index_close(&d->index);
	list_free(&d->found);
	list_free(&d->debris);
	if (d->lock >= 0) {
		/* To close it is not enough: a child forked meanwhile may still hold the descriptor. */
		flock(d->lock, LOCK_UN);
		close(d->lock);
	}
	if (d->fd >= 0)
		close(d->fd);
	d->fd = d->lock = -1;
	d->unsettled = d->debris_known = d->spare_left = d->shared = false;
}

/* -EAGAIN: the directory or its lock was removed while we waited for it. */
static int take_lock(struct lease_dir *d, const char *path, int64_t deadline)
{
	struct stat dir, mine, named;
	int err;

	d->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (d->fd < 0)
		return -errno;
	d->lock = openat(d->fd, "lock",
			 O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0750);
	if (d->lock < 0)
		return errno == ENOENT ? -EAGAIN : -errno;
	err = sys_flock(d->lock, LOCK_EX, deadline);
	if (err)
		return err;
	if (fstat(d->fd, &dir) < 0 || fstat(d->lock, &mine) < 0)
		return -errno;
	if (fstatat(d->fd, "lock", &named, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? -EAGAIN : -errno;

	return dir.st_nlink == 0 || named.st_ino != mine.st_ino ? -EAGAIN : 0;
}

static void let_go(struct lease_dir *d)
{
	if (d->lock >= 0)
		close(d->lock);
	if (d->fd >= 0)
		close(d->fd);
	d->fd = d->lock = -1;
}

int lease_dir_open(struct lease_dir *d, const char *path, const char *index_dir, int timeout_ms,
		   bool create)
{
	int64_t deadline = sys_now_ms() + timeout_ms;
	int err;

	for (;;) {
		err = take_lock(d, path, deadline);
		if (err == 0)
			break;
		let_go(d);
		if (err == -ENOENT && create)
			err = make_dirs(path, 0755);
		else if (err == -EAGAIN)
			err = 0;
		if (!err && sys_now_ms() > deadline)
			err = -ETIMEDOUT;
		if (err)
			return err;
	}
	err = ready_index(d, index_dir);
	if (err)
		lease_dir_close(d);

	return err;
}

/* There is no room when an unprivileged writer has none: what is reserved for root is too little to count. */
int lease_dir_writable(const char *path)
{
	char copy[PATH_MAX];
	size_t len = strlen(path);
	struct statvfs fs;

	if (len >= sizeof copy)
		return -ENAMETOOLONG;
	memcpy(copy, path, len + 1);
	while (faccessat(AT_FDCWD, copy, W_OK | X_OK, AT_EACCESS) < 0) {
		char *slash = strrchr(copy, '/');

		if (errno != ENOENT)
			return -errno;
		if (!slash)
			memcpy(copy, ".", 2);
		else
			slash[slash == copy] = '\0';
	}
	if (statvfs(copy, &fs) < 0)
		return -errno;

	return fs.f_bavail == 0 || (fs.f_files > 0 && fs.f_ffree == 0) ? -ENOSPC : 0;
}
