/* SPDX-License-Identifier: MIT */
/***
What only the program itself can give to the library.
@module host
*/
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <lauxlib.h>

#include "afresh.h"
#include "hostlib.h"
#include "pages.h"
#include "place.h"
#include "progress.h"
#include "report.h"
#include "scripts.h"
#include "state.h"

#ifndef VERSION
#define VERSION "unknown"
#endif

static int failure(lua_State *L, int err, const char *what)
{
	lua_pushnil(L);
	lua_pushfstring(L, "%s: %s", what, strerror(err));
	lua_pushinteger(L, err);

	return 3;
}

/***
An environment variable.
@function getenv
@tparam string name
@treturn string|nil
*/
static int host_getenv(lua_State *L)
{
	lua_pushstring(L, getenv(luaL_checkstring(L, 1)));

	return 1;
}

/***
The whole environment.
@function environ
@treturn {string,...} entries `NAME=value`
*/
static int host_environ(lua_State *L)
{
	lua_Integer count = 0;

	lua_newtable(L);
	for (char **entry = environ; *entry; entry++) {
		lua_pushstring(L, *entry);
		lua_rawseti(L, -2, ++count);
	}

	return 1;
}

/***
Standard input up to its end.
@function read_stdin
@tparam integer limit a longer input is the error EFBIG
@treturn string
@treturn[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
*/
static int host_read_stdin(lua_State *L)
{
	lua_Integer limit = luaL_checkinteger(L, 1);
	size_t used = 0;
	luaL_Buffer b;

	luaL_argcheck(L, limit >= 0 && limit <= INT_MAX, 1, "a number of bytes expected");

	luaL_buffinit(L, &b);
	for (;;) {
		char *room = luaL_prepbuffsize(&b, 2048);
		ssize_t n = read(STDIN_FILENO, room, 2048);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return failure(L, errno, "read standard input");
		if (n == 0)
			break;
		luaL_addsize(&b, (size_t)n);
		used += (size_t)n;
		if (used > (size_t)limit)
			return failure(L, EFBIG, "read standard input");
	}
	luaL_pushresult(&b);

	return 1;
}

/***
Write all bytes to a descriptor.
@function write
@tparam integer fd
@tparam string bytes
@treturn boolean true
@treturn[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno; EPIPE when nobody reads any more
*/
static int host_write(lua_State *L)
{
	lua_Integer fd = luaL_checkinteger(L, 1);
	size_t len;
	const char *bytes = luaL_checklstring(L, 2, &len);
	int ret;

	luaL_argcheck(L, fd >= 0 && fd <= INT_MAX, 1, "a descriptor expected");

	ret = report_text((int)fd, bytes, len);
	if (ret < 0)
		return failure(L, -ret, "write");

	lua_pushboolean(L, 1);

	return 1;
}

/***
Write one line to standard error. It may have in it what other programs say: what a terminal would take for
a command becomes a question mark.
@function log
@tparam string text without the end of line
*/
static int host_log(lua_State *L)
{
	size_t len;
	const char *text = luaL_checklstring(L, 1, &len);
	luaL_Buffer line;
	char *copy = luaL_buffinitsize(L, &line, len + 1);

	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		copy[i] = (c < ' ' && c != '\n' && c != '\t') || c == 0x7f ? '?' : text[i];
	}
	copy[len] = '\n';
	report_text(STDERR_FILENO, copy, len + 1);

	return 0;
}

/***
The path of the running program.
@function exe
@treturn string
@treturn[2] nil
@treturn[2] string what went wrong
@treturn[2] integer errno
*/
static int host_exe(lua_State *L)
{
	char path[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", path, sizeof path);

	if (len < 0)
		return failure(L, errno, "read /proc/self/exe");

	lua_pushlstring(L, path, (size_t)len);

	return 1;
}

/***
Start the deadline anew: whatever runs this many seconds from now gets an error.
@function deadline
@tparam integer seconds 0 takes it off
*/
static int host_deadline(lua_State *L)
{
	lua_Integer seconds = luaL_checkinteger(L, 1);

	luaL_argcheck(L, seconds >= 0 && seconds <= 86400, 1, "0 to 86400 seconds expected");
	state_deadline(L, (unsigned)seconds);

	return 0;
}

/***
Call a function that may never end by itself. The deadline of the whole call goes on meanwhile, and is in
force again afterwards.
@function bounded
@tparam integer seconds
@tparam function f
@param ... what it is given
@return what it returns
@raise what it raises; after so many seconds that it was stopped, with the line of the script that ran
*/
static int host_bounded(lua_State *L)
{
	lua_Integer seconds = luaL_checkinteger(L, 1);
	struct deadline outer;
	bool is_nearer;
	int err;

	luaL_argcheck(L, seconds > 0 && seconds <= 86400, 1, "1 to 86400 seconds expected");
	luaL_checktype(L, 2, LUA_TFUNCTION);

	lua_remove(L, 1);
	is_nearer = state_deadline_within(L, (unsigned)seconds, &outer);
	err = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
	if (is_nearer)
		state_deadline_again(&outer);

	return err ? lua_error(L) : lua_gettop(L);
}

/***
Whether the deadline has passed.
@function is_over
@treturn boolean
*/
static int host_is_over(lua_State *L)
{
	lua_pushboolean(L, state_deadline_passed());

	return 1;
}

/***
How long this call may still run: to the deadline, or to the end of the program once it has passed.
@function time_left
@treturn number|nil seconds; nil without a deadline
*/
static int host_time_left(lua_State *L)
{
	double left = state_time_left();

	if (left > 0)
		lua_pushnumber(L, left);
	else
		lua_pushnil(L);

	return 1;
}

/***
Say what is being done, for somebody who waits for more than a second at a terminal. Anything else that is
written takes its place.
@function progress
@tparam[opt] string text one line; nil: it is done
*/
static int host_progress(lua_State *L)
{
	progress_say(luaL_optstring(L, 1, NULL));

	return 0;
}

/***
Free what is used no more, now: for who does not end, and is to stay small. (Others end before that pays.)
@function collect
*/
static int host_collect(lua_State *L)
{
	lua_gc(L, LUA_GCCOLLECT);

	return 0;
}

static const luaL_Reg functions[] = {
	{ "afresh", afresh },
	{ "append", watch_append },
	{ "bounded", host_bounded },
	{ "collect", host_collect },
	{ "datagram", watch_datagram },
	{ "deadline", host_deadline },
	{ "environ", host_environ },
	{ "exe", host_exe },
	{ "getenv", host_getenv },
	{ "has_plugin", scripts_has },
	{ "held_signal", command_held_signal },
	{ "hold_signals", command_hold_signals },
	{ "hooks", scripts_hooks },
	{ "is_over", host_is_over },
	{ "load_hook", scripts_load_hook },
	{ "load_plugin", scripts_load },
	{ "load_script", scripts_load_text },
	{ "log", host_log },
	{ "page", pages_get },
	{ "pages", pages_list },
	{ "progress", host_progress },
	{ "read_stdin", host_read_stdin },
	{ "run", command_run },
	{ "script_at", place_at },
	{ "script_line", place_line },
	{ "script_raised", place_raised },
	{ "settings", watch_settings },
	{ "source", scripts_source },
	{ "text", pages_text },
	{ "time_left", host_time_left },
	{ "types", scripts_types },
	{ "write", host_write },
	{ NULL, NULL },
};

int luaopen_host(lua_State *L)
{
	luaL_newlib(L, functions);
	lua_pushliteral(L, VERSION);
	lua_setfield(L, -2, "version");

	return 1;
}
