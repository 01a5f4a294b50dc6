/* SPDX-License-Identifier: MIT */
/*
 * luacni: the process is made fit to run scripts as root, the Lua state is made, and lua/main.lua is called,
 * which finds out who called us and with what. An error that nobody caught is told in the form that the
 * caller can read.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include <lauxlib.h>

#include "afresh.h"
#include "alloc.h"
#include "image.h"
#include "make_image.h"
#include "nl/detached.h"
#include "report.h"
#include "state.h"

/* How long a runtime's call may run; a script's waits all have shorter limits of their own. */
#ifndef DEADLINE_SECONDS
#define DEADLINE_SECONDS 60
#endif

struct invocation {
	int argc;
	char **argv;
	int status;
};

/*
 * Open what the caller has closed: otherwise the next socket would be a standard stream. Standard output is
 * opened for reading only, so that to write is an error: nobody would have the answer.
 */
static int fill_descriptors(void)
{
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 && errno == EBADF &&
		    open("/dev/null", fd == STDOUT_FILENO ? O_RDONLY : O_RDWR) != fd)
			return -1;

	return 0;
}

static void set_signals(void)
{
	/* A reader that left, or a file that may not grow, is an error of write(). */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	/* Children must be there to be waited for. */
	signal(SIGCHLD, SIG_DFL);
}

/* Says where an error that nobody caught came from; other values keep what they are. */
static int with_traceback(lua_State *L)
{
	if (lua_type(L, 1) == LUA_TSTRING)
		luaL_traceback(L, L, lua_tostring(L, 1), 1);
	else
		luaL_tolstring(L, 1, NULL);

	return 1;
}

static int run(lua_State *L)
{
	struct invocation *inv = lua_touserdata(L, 1);
	const char *name = inv->argc > 0 ? inv->argv[0] : "luacni";
	const char *slash = strrchr(name, '/');

	lua_settop(L, 0);
	if (!image_state())
		state_open(L);
	if (report_to_runtime)
		state_deadline(L, DEADLINE_SECONDS);

	state_push_global(L, "require");
	lua_pushliteral(L, "main");
	lua_call(L, 1, 1);
	lua_getfield(L, -1, "main");
	lua_pushstring(L, slash ? slash + 1 : name);
	lua_createtable(L, inv->argc, 0);
	for (int i = 1; i < inv->argc; i++) {
		lua_pushstring(L, inv->argv[i]);
		lua_rawseti(L, -2, i);
	}
	lua_call(L, 2, 1);
	inv->status = (int)lua_tointeger(L, -1);

	return 0;
}

static int fail(lua_State *L)
{
	if (alloc_exhausted())
		report_error(REPORT_INTERNAL, "the script needs too much memory",
			     "the limit is 64 MiB");
	else
		report_error(REPORT_INTERNAL, "uncaught error",
			     lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "");

	return 1;
}

int main(int argc, char **argv)
{
	struct invocation inv = { .argc = argc, .argv = argv, .status = 1 };
	const char *command = getenv("CNI_COMMAND");
	lua_State *L;

	report_to_runtime = command && *command;
	if (getauxval(AT_SECURE)) {
		report_error(REPORT_INTERNAL, "refused to run with more rights than the caller has",
			     "remove the set-user-ID bit or the file capabilities of the program");
		return 1;
	}
	if (fill_descriptors() < 0) {
		report_error(REPORT_INTERNAL, "/dev/null cannot be opened in place of a standard stream", "");
		return 1;
	}
	set_signals();

	if (afresh_asked(argc, argv))
		image_forget();
	L = image_state();
	if (!L && argc == 3 && !strcmp(argv[1], "--make-image"))
		return image_make(argv[2]);
	if (!L)
		L = state_new();
	if (!L) {
		report_error(REPORT_INTERNAL, "there is no memory to start with", "");
		return 1;
	}
	lua_pushcfunction(L, with_traceback);
	lua_pushcfunction(L, run);
	lua_pushlightuserdata(L, &inv);
	if (lua_pcall(L, 1, 0, 1) != LUA_OK)
		inv.status = fail(L);
	detached_close();

#ifdef __SANITIZE_ADDRESS__
	lua_close(L); /* so that what is left over is a leak */
	return inv.status;
#else
	_exit(inv.status); /* the kernel takes everything back faster than we can give it */
#endif
}
