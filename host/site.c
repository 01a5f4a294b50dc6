/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "site.h"

/* More links than this are taken for a circle. */
#define MOST_LINKS 8

/* A way through the file system, gone step by step. */
struct walk {
	int dir;             /* the folder it has come to */
	char path[PATH_MAX]; /* that, and the step being taken; no link is in it */
	size_t len;          /* of the folder's part */
	char todo[PATH_MAX]; /* what is left of the way */
	int links;
	int flags;   /* that the file is opened with */
	int written; /* see open_trusted() */
	char *why; /* says what is wrong */
	size_t why_size;
};

/* Says what is wrong with the path, and what mends it: `remedy` and the path. Returns -EPERM. */
static int refuse(struct walk *w, const char *reason, const char *remedy)
{
	const char *path = *w->path ? w->path : "/";

	if (remedy)
		snprintf(w->why, w->why_size, "%s %s; %s %s mends it", path, reason, remedy, path);
	else
		snprintf(w->why, w->why_size, "%s %s", path, reason);

	return -EPERM;
}

static int check_owner(struct walk *w, const struct stat *st, int written)
{
	if (st->st_uid != 0)
		return refuse(w, "is not owned by root", "chown root");
	if (written)
		return 0;
	if (st->st_mode & S_IWOTH)
		return refuse(w, "can be written by everybody", "chmod go-w");
	if (st->st_mode & S_IWGRP)
		return refuse(w, "can be written by its group", "chmod go-w");

	return 0;
}

/* Takes the next name from what is left, for the path too. 0 when it fits. */
static int next_name(struct walk *w, char name[NAME_MAX + 1])
{
	char *start = w->todo + strspn(w->todo, "/");
	size_t len = strcspn(start, "/");

	if (len > NAME_MAX || w->len + 1 + len >= sizeof w->path)
		return -ENAMETOOLONG;
	memcpy(name, start, len);
	name[len] = '\0';
	snprintf(w->path + w->len, sizeof w->path - w->len, "/%s", name);
	start += len + strspn(start + len, "/");
	memmove(w->todo, start, strlen(start) + 1);

	return 0;
}

static int open_root(struct walk *w)
{
	w->dir = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	w->len = 0;
	w->path[0] = '\0';

	return w->dir < 0 ? -errno : 0;
}

/*
 * Puts the way that a link names before what is left. The link is in a folder that root alone can write:
 * nobody else can have made it, or can change it. The way that it names is checked like any other.
 */
static int follow(struct walk *w, const char *name)
{
	char to[PATH_MAX], rest[PATH_MAX];
	ssize_t len = readlinkat(w->dir, name, to, sizeof to - 1);

	if (len < 0)
		return -errno;
	to[len] = '\0';
	if (++w->links > MOST_LINKS)
		return refuse(w, "is a symbolic link behind too many others", NULL);
	memcpy(rest, w->todo, sizeof rest);
	if (snprintf(w->todo, sizeof w->todo, "%s%s%s", to, *rest ? "/" : "", rest) >= (int)sizeof w->todo)
		return -ENAMETOOLONG;
	w->path[w->len] = '\0';
	if (*to != '/')
		return 0;
	close(w->dir);

	return open_root(w);
}

/* Takes one step. Returns the file's descriptor when it was the last one; else 0, or -errno. */
static int step(struct walk *w)
{
	char name[NAME_MAX + 1];
	struct stat st;
	const char *rest = w->todo + strspn(w->todo, "/");
	int fd, flags, err = fstat(w->dir, &st) < 0 ? -errno : 0;

	if (!err)
		err = check_owner(w, &st, w->written && strchr(rest, '/'));
	if (!err)
		err = next_name(w, name);
	if (err)
		return err;
	flags = *w->todo ? O_PATH | O_DIRECTORY : w->flags;
	fd = openat(w->dir, name, flags | O_NOFOLLOW | O_CLOEXEC, 0640);
	err = errno;
	if (fd < 0 && fstatat(w->dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode))
		return w->written  ? refuse(w, "is a symbolic link", NULL)
		       : st.st_uid ? refuse(w, "is a symbolic link that is not root's", "chown -h root")
				   : follow(w, name);
	if (fd < 0 && err == ENOENT && w->links)
		return refuse(w, "is not there, and a symbolic link leads to it", NULL);
	if (fd < 0) {
		snprintf(w->why, w->why_size, "%s cannot be opened", w->path);
		return -err;
	}
	if (!*w->todo)
		return fd;
	close(w->dir);
	w->dir = fd;
	w->len = strlen(w->path);

	return 0;
}

/*
 * Walks from the root to the file. An open descriptor or -errno. `written`: others may write to the folders
 * above the file's own, as a group of loggers may to /var/log: what they put there is not owned by root. No
 * link is followed then, since they may have moved one of root's there.
 */
static int open_trusted(struct walk *w, const char *path, int flags, int written)
{
	int ret;

	w->flags = flags;
	w->written = written;
	if (snprintf(w->todo, sizeof w->todo, "%s", path) >= (int)sizeof w->todo)
		return -ENAMETOOLONG;
	ret = open_root(w);
	while (!ret)
		ret = step(w);
	if (w->dir >= 0)
		close(w->dir);

	return ret;
}

/* The same of what must be a regular file. */
static int open_file(struct walk *w, const char *path, int flags, int written, struct stat *st)
{
	int fd = open_trusted(w, path, flags, written), err;

	if (fd < 0)
		return fd;

	err = fstat(fd, st) < 0 ? -errno : 0;
	if (!err && !S_ISREG(st->st_mode))
		err = refuse(w, "is not a file", NULL);
	if (!err)
		return fd;
	close(fd);

	return err;
}

int site_has(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 || errno != ENOENT;
}

int site_read(const char *path, char *buf, size_t size, size_t *len, char *why, size_t why_size)
{
	struct walk w = { .dir = -1, .why = why, .why_size = why_size };
	size_t used = 0;
	struct stat st;
	int fd, err;

	/* The usual answer, in one system call. */
	if (!site_has(path))
		return -ENOENT;

	snprintf(why, why_size, "it cannot be read");
	fd = open_file(&w, path, O_RDONLY | O_NONBLOCK, 0, &st);
	if (fd < 0)
		return fd;

	err = check_owner(&w, &st, 0);
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
	int flags = O_RDWR | O_APPEND | O_NONBLOCK | O_NOCTTY | (make ? O_CREAT : 0);
	struct walk w = { .dir = -1, .why = why, .why_size = size };
	struct stat st;

	return open_file(&w, path, flags, 1, &st);
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
