/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "site.h"

/* Says in `why` what is wrong with `path` up to `end`; returns -EPERM. */
static int refuse(char *why, size_t size, const char *path, const char *end, const char *reason)
{
	int len = end == path ? 1 : (int)(end - path);

	snprintf(why, size, "%.*s %s", len, path, reason);

	return -EPERM;
}

static int check_owner(const struct stat *st, int written, char *why, size_t size, const char *path,
		       const char *end)
{
	if (st->st_uid != 0)
		return refuse(why, size, path, end, "is not owned by root");
	if (written)
		return 0;
	if (st->st_mode & S_IWOTH)
		return refuse(why, size, path, end, "can be written by everybody");
	if (st->st_mode & S_IWGRP)
		return refuse(why, size, path, end, "can be written by its group");

	return 0;
}

/* Opens one step of the path below `dir`; a link is refused like anything else unexpected. */
static int open_step(int dir, const char *name, int flags, char *why, size_t size, const char *path,
		     const char *end)
{
	int fd = openat(dir, name, flags | O_NOFOLLOW | O_CLOEXEC, 0640);
	int err = errno;
	struct stat st;

	if (fd >= 0)
		return fd;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode))
		return refuse(why, size, path, end, "is a symbolic link");
	snprintf(why, size, "%.*s cannot be opened", (int)(end - path), path);

	return -err;
}

/*
 * Walks from the root to the file. An open descriptor or -errno. `written`: others may write to the folders
 * above the file's own, as a group of loggers may to /var/log: what they put there is not owned by root.
 */
static int open_trusted(const char *path, int flags, int written, char *why, size_t size)
{
	const char *at = path;
	char name[256];
	struct stat st;
	int err, dir = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	for (;;) {
		const char *end = strchrnul(at + 1, '/');
		int last = !*end, next;

		if (dir < 0)
			return -errno;
		err = fstat(dir, &st) < 0 ? -errno : check_owner(&st, written && !last, why, size, path, at);
		if (!err && end - at > (ptrdiff_t)sizeof name)
			err = -ENAMETOOLONG;
		if (err) {
			close(dir);
			return err;
		}
		memcpy(name, at + 1, (size_t)(end - at - 1));
		name[end - at - 1] = '\0';
		next = open_step(dir, name, last ? flags : O_PATH | O_DIRECTORY, why, size, path, end);
		close(dir);
		if (next < 0 || last)
			return next;
		dir = next;
		at = end;
	}
}

int site_has(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 || errno != ENOENT;
}

int site_read(const char *path, char *buf, size_t size, size_t *len, char *why, size_t why_size)
{
	size_t used = 0;
	struct stat st;
	int fd, err;

	/* The usual answer, in one system call. */
	if (!site_has(path))
		return -ENOENT;

	snprintf(why, why_size, "it cannot be read");
	fd = open_trusted(path, O_RDONLY | O_NONBLOCK, 0, why, why_size);
	if (fd < 0)
		return fd;

	err = fstat(fd, &st) < 0 ? -errno : 0;
	if (!err && !S_ISREG(st.st_mode))
		err = refuse(why, why_size, path, path + strlen(path), "is not a file");
	if (!err)
		err = check_owner(&st, 0, why, why_size, path, path + strlen(path));
	while (!err) {
		ssize_t n = read(fd, buf + used, size - used);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			err = -errno;
		if (n <= 0)
			break;
		used += (size_t)n;
		if (used == size)
			err = -E2BIG;
	}
	close(fd);
	*len = used;

	return err;
}

int site_open_append(const char *path, int make, char *why, size_t size)
{
	int flags = O_RDWR | O_APPEND | O_NONBLOCK | O_NOCTTY | (make ? O_CREAT : 0), fd, err;
	struct stat st;

	fd = open_trusted(path, flags, 1, why, size);
	if (fd < 0)
		return fd;

	err = fstat(fd, &st) < 0 ? -errno : 0;
	if (!err && !S_ISREG(st.st_mode))
		err = refuse(why, size, path, path + strlen(path), "is not a file");
	if (!err)
		return fd;
	close(fd);

	return err;
}

int site_list(const char *dir, char *buf, size_t size, size_t *len)
{
	struct dirent *entry;
	size_t used = 0;
	int err;
	DIR *folder = opendir(dir);

	*len = 0;
	if (!folder)
		return errno == ENOENT ? 0 : -errno;

	while (errno = 0, (entry = readdir(folder))) {
		size_t n = strlen(entry->d_name);

		if (n < 5 || strcmp(entry->d_name + n - 4, ".lua") != 0)
			continue;
		n -= 4;
		if (n + 1 > size - used) {
			errno = E2BIG;
			break;
		}
		memcpy(buf + used, entry->d_name, n);
		buf[used + n] = '\0';
		used += n + 1;
	}
	err = -errno;
	closedir(folder);
	*len = used;

	return err;
}
