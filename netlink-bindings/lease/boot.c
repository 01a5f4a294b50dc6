/* SPDX-License-Identifier: MIT */
/*
 * Which leases are of this boot. Network namespaces end with the boot, so a lease of an earlier
 * one is void, while giving away an address of this one would make two containers share it.
 *
 * Our own leases carry the kernel's boot ID, which decides. Those of the reference carry nothing,
 * so their age decides: lease_boot_cutoff(). It is asked once for each boot and directory, when the
 * index is first made; a lease that is found later was already alive then, or is younger.
 */
#include "lease/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <time.h>
#include <unistd.h>

#define SLACK_S 2
#define ENTRIES_MAX 4096

/* "" when it cannot be read: then no lease is of another boot, and none is marked. */
void lease_boot_id(char boot[LEASE_BOOT_LEN + 1])
{
	char text[64];
	int n = lease_file_slurp(AT_FDCWD, "/proc/sys/kernel/random/boot_id", text, sizeof text);

	if (n < LEASE_BOOT_LEN)
		n = 0;
	else
		n = LEASE_BOOT_LEN;
	memcpy(boot, text, (size_t)n);
	boot[n] = '\0';
}

static bool in_memory(const char *path)
{
	struct statfs fs;

	return statfs(path, &fs) == 0 &&
	       (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC);
}

static int64_t older(int64_t a, int64_t b)
{
	return b < a ? b : a;
}

/* The older of `oldest` and a file's times; 0, which is older than anything, when they cannot be read. */
static int64_t oldest_at(int dir, const char *name, int64_t oldest)
{
	struct statx stx;

	if (statx(dir, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_CTIME | STATX_BTIME,
		  &stx) < 0)
		return errno == ENOENT ? oldest : 0;
	if (stx.stx_mask & STATX_CTIME)
		oldest = older(oldest, stx.stx_ctime.tv_sec);
	if (stx.stx_mask & STATX_BTIME)
		oldest = older(oldest, stx.stx_btime.tv_sec);

	return oldest;
}

/* The oldest time seen on a file system that was empty when the machine started. */
static int64_t oldest_in(const char *path, int64_t oldest)
{
	const struct dirent *entry;
	DIR *dir = opendir(path);

	if (!dir)
		return 0;
	oldest = oldest_at(dirfd(dir), ".", oldest);
	for (int i = 0; i < ENTRIES_MAX; i++) {
		errno = 0;
		entry = readdir(dir);
		if (!entry) {
			oldest = errno ? 0 : oldest;
			break;
		}
		if (strcmp(entry->d_name, "..") != 0)
			oldest = oldest_at(dirfd(dir), entry->d_name, oldest);
	}
	closedir(dir);

	return oldest;
}

/*
 * "Now minus uptime" is when the boot began, by the present clock. When the clock was put forward
 * since (no clock chip, then NTP), files of containers that started before that look older than the boot.
 * But so do the files that were put into /run at start-up, before any container: so the limit is the oldest
 * of those, or the begin of the boot if that is older. A clock that was put back only makes this boot's files
 * look younger. When /run is not in memory its files say nothing, and /dev is looked at; without either,
 * nothing is judged by age.
 */
int64_t lease_boot_cutoff(void)
{
	const char *witness = in_memory("/run") ? "/run" : in_memory("/dev") ? "/dev" : NULL;
	struct timespec now, up;

	if (!witness || clock_gettime(CLOCK_REALTIME, &now) < 0 ||
	    clock_gettime(CLOCK_BOOTTIME, &up) < 0)
		return 0;

	return oldest_in(witness, now.tv_sec - up.tv_sec) - SLACK_S;
}
