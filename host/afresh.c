/* SPDX-License-Identifier: MIT */
/***
@submodule host
*/
/*
 * The stored state (image.h) always has the same seed for its hashes: so an attacker can choose strings that
 * all have the same hash. A thousand of them cost nothing, a megabyte costs minutes. So for long texts the
 * program starts once more without that state, with a new seed.
 */
#include "afresh.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <lauxlib.h>

#include "image.h"
#include "report.h"

static const char word[] = "--afresh";
static char *name;

int afresh_asked(int argc, char **argv)
{
	name = argc > 0 ? argv[0] : NULL;

	return argc == 2 && !strcmp(argv[1], word);
}

/* Make standard input a file with these bytes, to be read from its beginning. -1: that cannot be done. */
static int refill(const char *bytes, size_t len)
{
	int fd = memfd_create("stdin", MFD_CLOEXEC), ret;

	if (fd < 0)
		return -1;
	ret = report_text(fd, bytes, len) < 0 || lseek(fd, 0, SEEK_SET) < 0 ||
			      dup2(fd, STDIN_FILENO) < 0
		      ? -1
		      : 0;
	close(fd);

	return ret;
}

/***
Start the call over again in a state whose hashes nobody can foresee. Nothing may have been done yet.
It returns only when this state is such a one already, or when none can be had.
@function afresh
@tparam string stdin what was read of standard input
*/
int afresh(lua_State *L)
{
	size_t len;
	const char *bytes = luaL_checklstring(L, 1, &len);

	if (image_state() && name && refill(bytes, len) == 0)
		execve("/proc/self/exe", (char *[]){ name, (char *)(size_t)word, NULL }, environ);

	return 0;
}
