/* SPDX-License-Identifier: MIT */
/*
 * Preloaded into a plugin: the first DICE times that four random bytes are asked for, as for a
 * link's name, they are de ad be ef.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

ssize_t getrandom(void *bytes, size_t count, unsigned int flags)
{
	static int left = -1;

	if (left < 0)
		left = getenv("DICE") ? atoi(getenv("DICE")) : 0;
	if (count == 4 && flags == 0 && left > 0) {
		left--;
		memcpy(bytes, "\xde\xad\xbe\xef", count);
		return (ssize_t)count;
	}

	return syscall(SYS_getrandom, bytes, count, flags);
}
