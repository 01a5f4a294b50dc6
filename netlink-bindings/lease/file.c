/* SPDX-License-Identifier: MIT */
/* Single files of a lease directory. */
#include "lease/file.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

/*
 * An extended attribute: the format of name and content belongs to the reference, and the clock
 * cannot be relied on to tell boots apart.
 */
#define BOOT_MARK "user.luacni.boot"

/*
 * The name under which a file is first written where O_TMPFILE is unknown, or when it is to replace another
 * file. One name will do, since we hold the lock. One that was left is removed by the next change.
 */
#define SPARE_NAME ".luacni-new"

bool lease_file_is_spare(const char *name)
{
	return strcmp(name, SPARE_NAME) == 0;
}

void lease_file_remove_spare(int dir)
{
	unlinkat(dir, SPARE_NAME, 0);
}

static ssize_t read_all(int fd, char *buf, size_t size)
{
	size_t len = 0;

	while (len < size) {
		ssize_t n = read(fd, buf + len, size - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += (size_t)n;
	}

	return (ssize_t)len;
}

int lease_file_slurp(int dir, const char *name, char *buf, size_t size)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
	ssize_t len;

	if (fd < 0)
		return -errno;
	len = read_all(fd, buf, size);
	close(fd);

	return len == (ssize_t)size ? -EFBIG : (int)len;
}

static bool is_id(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (!isalnum(c) && (i == 0 || !strchr("_.-", c)))
			return false;
	}

	return len > 0;
}

/*
 * The reference writes "ID CR LF IFNAME", older versions of it "ID"; both compare without the white space
 * around. A text that ends in CR or CR LF has been cut off.
 */
static enum lease_kind classify(struct lease_file *f, size_t raw_len)
{
	const char *end = f->text + raw_len, *start = f->text, *line;
	bool cut;

	if (memchr(start, '\0', raw_len))
		return LEASE_DEBRIS;
	while (start < end && isspace((unsigned char)*start))
		start++;
	while (end > start && isspace((unsigned char)end[-1]))
		end--;
	cut = end < f->text + raw_len && *end == '\r';

	f->len = (size_t)(end - start);
	memmove(f->text, start, f->len);
	f->text[f->len] = '\0';
	line = strstr(f->text, "\r\n");
	f->id_len = line ? (size_t)(line - f->text) : f->len;
	f->ifname = line ? line + 2 : NULL;
	if (f->len == 0 || (cut && !line))
		return LEASE_DEBRIS;

	return is_id(f->text, f->id_len) ? LEASE_OWNED : LEASE_NOTE;
}

/* The boot that a file is marked with; "": it has no mark, or one of another length, or can have none. */
static int read_boot(int fd, char boot[LEASE_BOOT_LEN + 1])
{
	ssize_t n = fgetxattr(fd, BOOT_MARK, boot, LEASE_BOOT_LEN);

	boot[n == LEASE_BOOT_LEN ? n : 0] = '\0';

	return n < 0 && errno != ENODATA && errno != ERANGE && errno != EOPNOTSUPP ? -errno : 0;
}

int lease_file_read(int dir, const char *name, bool with_boot, struct lease_file *ret)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	ssize_t n = 0;

	ret->len = ret->id_len = 0;
	ret->kind = LEASE_NOTE;
	ret->ifname = NULL;
	ret->boot[0] = '\0';
	/* A link or a socket is no lease, but keeps the address taken: it is in host-local's way too. */
	if (fd < 0)
		return errno == ELOOP || errno == ENXIO ? 0 : -errno;

	if (fstat(fd, &st) < 0)
		n = -errno;
	else if (S_ISREG(st.st_mode) && st.st_size <= LEASE_OWNER_MAX)
		n = read_all(fd, ret->text, (size_t)st.st_size);
	else
		n = -EISDIR;
	if (n >= 0) {
		ret->ctime = st.st_ctime;
		ret->kind = classify(ret, (size_t)n);
		if (with_boot)
			n = read_boot(fd, ret->boot);
	}
	close(fd);

	return n < 0 && n != -EISDIR ? (int)n : 0;
}

static int fill(int fd, const char *bytes, size_t len, const char *boot)
{
	while (len > 0) {
		ssize_t n = write(fd, bytes, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		bytes += n;
		len -= (size_t)n;
	}
	/* It may fail: without the mark the age of a lease decides, as for those of the reference. */
	if (boot[0])
		fsetxattr(fd, BOOT_MARK, boot, LEASE_BOOT_LEN, 0);

	return 0;
}

/* The short way needs a capability (CAP_DAC_READ_SEARCH), the other one /proc. */
static int name_file(int fd, int dir, const char *name)
{
	char path[40];

	if (linkat(fd, "", dir, name, AT_EMPTY_PATH) == 0)
		return 0;
	if (errno != ENOENT && errno != EPERM)
		return -errno;
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	if (linkat(AT_FDCWD, path, dir, name, AT_SYMLINK_FOLLOW) == 0)
		return 0;

	return errno == ENOENT || errno == EPERM ? -EOPNOTSUPP : -errno;
}

/* The file has no name until it is whole. */
static int create_unnamed(int dir, const char *name, const char *bytes, size_t len,
			  const char *boot)
{
	int fd = openat(dir, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
	int err;

	if (fd < 0)
		return errno == EISDIR || errno == EINVAL || errno == ENOENT ? -EOPNOTSUPP : -errno;

	err = fill(fd, bytes, len, boot);
	if (!err)
		err = name_file(fd, dir, name);
	close(fd);

	return err;
}

static int create_spare(int dir, const char *bytes, size_t len, const char *boot)
{
	int fd, err;

	/* Never reopen a left one: it may be a second name of a lease. */
	unlinkat(dir, SPARE_NAME, 0);
	fd = openat(dir, SPARE_NAME, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	err = fill(fd, bytes, len, boot);
	close(fd);
	if (err)
		unlinkat(dir, SPARE_NAME, 0);

	return err;
}

int lease_file_create(int dir, const char *name, const char *bytes, size_t len,
		      const char *boot)
{
	int err = create_unnamed(dir, name, bytes, len, boot);

	if (err != -EOPNOTSUPP)
		return err;

	err = create_spare(dir, bytes, len, boot);
	if (err)
		return err;
	if (renameat2(dir, SPARE_NAME, dir, name, RENAME_NOREPLACE) < 0) {
		err = -errno;
		if (err == -EINVAL || err == -ENOSYS)
			err = linkat(dir, SPARE_NAME, dir, name, 0) < 0 ? -errno : 0;
		unlinkat(dir, SPARE_NAME, 0);
	}

	return err;
}

/*
 * Overwriting is one write of less than a page, which a kill does not divide; only a text that gets
 * shorter would need a second step, and takes the way of a new file. (A rename each time would
 * cost 0.2 ms on ext4, which starts writing out the new file there and then.)
 */
static int overwrite(int dir, const char *name, const char *bytes, size_t len)
{
	int fd = openat(dir, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;
	ssize_t n;
	int err = 0;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0) {
		err = -errno;
	} else if (st.st_size > (off_t)len) {
		err = -EOPNOTSUPP;
	} else {
		do {
			n = pwrite(fd, bytes, len, 0);
		} while (n < 0 && errno == EINTR);
		err = n < 0 ? -errno : (size_t)n == len ? 0 : -EIO;
	}
	close(fd);

	return err;
}

int lease_file_replace(int dir, const char *name, const char *bytes, size_t len)
{
	int err = overwrite(dir, name, bytes, len);

	if (err == -ENOENT)
		return lease_file_create(dir, name, bytes, len, "");
	if (err != -EOPNOTSUPP && err != -ELOOP)
		return err;

	err = create_spare(dir, bytes, len, "");
	if (err)
		return err;
	if (renameat(dir, SPARE_NAME, dir, name) == 0)
		return 0;
	err = -errno;
	unlinkat(dir, SPARE_NAME, 0);

	return err;
}
