/* SPDX-License-Identifier: MIT */
/* A socket whose other end a spec holds, put in the place of a handle's: it plays the kernel. */
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <lua.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int luaopen_fake_kernel(lua_State *L);

/***
Put a socket in the place of descriptor `fd`.
@function take
@tparam integer fd
@treturn integer the kernel's end
*/
static int take(lua_State *L)
{
	int fd = (int)luaL_checkinteger(L, 1), pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0 ||
	    dup3(pair[0], fd, O_CLOEXEC) < 0)
		return luaL_error(L, "take: %s", strerror(errno));
	close(pair[0]);
	lua_pushinteger(L, pair[1]);
	return 1;
}

/***
Queue a datagram for the handle.
@function say
@tparam integer kernel
@tparam string bytes
*/
static int say(lua_State *L)
{
	size_t len;
	const char *bytes = luaL_checklstring(L, 2, &len);

	if (send((int)luaL_checkinteger(L, 1), bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return luaL_error(L, "say: %s", strerror(errno));
	return 0;
}

/***
The next datagram that the handle has sent.
@function heard
@tparam integer kernel
@treturn string|nil
*/
static int heard(lua_State *L)
{
	static char bytes[1 << 17];
	ssize_t n = recv((int)luaL_checkinteger(L, 1), bytes, sizeof bytes, MSG_DONTWAIT);

	if (n < 0)
		lua_pushnil(L);
	else
		lua_pushlstring(L, bytes, (size_t)n);
	return 1;
}

static int hang_up(lua_State *L)
{
	close((int)luaL_checkinteger(L, 1));
	return 0;
}

int luaopen_fake_kernel(lua_State *L)
{
	static const luaL_Reg functions[] = {
		{ "take", take },       { "say", say }, { "heard", heard },
		{ "hang_up", hang_up }, { NULL, NULL },
	};

	luaL_newlib(L, functions);
	return 1;
}
